//! Tables of policies and questions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::catalog::{AnyAction, Listed};
use super::*;
use crate::aws::operation::Need;
use crate::aws::{AccessLevel, Protocol};

fn catalog() -> Arc<dyn ActionCatalog> {
    use AccessLevel::{List, PermissionsManagement, Read, Tagging, Write};
    Arc::new(Listed::from_iter([
        ("s3:GetObject", Read),
        ("s3:ListBucket", List),
        ("s3:PutObject", Write),
        ("s3:DeleteObject", Write),
        ("s3:PutObjectTagging", Tagging),
        ("ec2:RunInstances", Write),
        ("ec2:DescribeInstances", List),
        ("iam:PutRolePolicy", PermissionsManagement),
        ("secretsmanager:GetSecretValue", Read),
        ("sts:GetCallerIdentity", Read),
        ("sts:AssumeRole", Write),
        ("sts:AssumeRoleWithSAML", Write),
        ("sts:AssumeRoleWithWebIdentity", Write),
        ("sts:AssumeRoot", Write),
    ]))
}

fn set(text: &str) -> PolicySet {
    PolicySet::from_sources(&[("t.cedar", text)], Mode::Enforce, catalog()).unwrap_or_else(|e| panic!("{e:#?}"))
}

fn errors(text: &str) -> Vec<String> {
    match PolicySet::from_sources(&[("t.cedar", text)], Mode::Enforce, catalog()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn alice() -> Principal {
    Principal {
        issuer: Some("https://idp.example".into()),
        subject: "alice".into(),
        groups: vec!["readers".into()],
        claims: BTreeMap::from([("team".into(), json!("red")), ("realm".into(), json!({"roles": ["ops", "dev"]}))]),
        expires: None,
        token: None,
    }
}

pub(super) fn operation(actions: &[&str], resources: &[&str]) -> Operation {
    let service = actions.first().and_then(|a| a.split(':').next()).unwrap_or("unknown");
    Operation {
        service: service.into(),
        name: "Op".into(),
        signing_name: service.into(),
        region: "eu-central-1".into(),
        partition: "aws",
        protocol: Protocol::RestXml,
        needs: actions.iter().map(|a| Need::new(*a, resources.iter().map(|r| (*r).to_owned()).collect())).collect(),
        access: AccessLevel::Unknown,
        parameters: serde_json::Map::new(),
        input: None,
        credentials_in_output: false,
    }
}

pub(super) fn ask(set: &PolicySet, principal: &Principal, operation: &Operation) -> Decision {
    set.decide(&Question {
        principal,
        operation,
        session: SessionFacts { id: "s-0123456789abcdef", name: "nightly" },
        process: ProcessFacts { exe: "/usr/bin/aws", pid: 42, uid: 1000 },
        credential: CredentialFacts {
            kind: "derived",
            account: "111122223333",
            arn: "arn:aws:sts::111122223333:assumed-role/deploy/run",
            operation: "sts:AssumeRole",
        },
        endpoint: "s3.eu-central-1.amazonaws.com",
    })
}

const OBJECT: &str = "arn:aws:s3:::demo/a/b.txt";

/// The effect of one policy text on `s3:GetObject` of [`OBJECT`] by alice.
fn effect(text: &str) -> Effect {
    ask(&set(text), &alice(), &operation(&["s3:GetObject"], &[OBJECT])).effect
}

/// The effect of a condition on a permit.
fn holds(condition: &str) -> bool {
    effect(&format!("permit(principal, action, resource) when {{ {condition} }};")) == Effect::Allow
}

fn with_parameters(text: &str, parameters: Value) -> Decision {
    let mut operation = operation(&["ec2:RunInstances"], &["*"]);
    let Value::Object(parameters) = parameters else { panic!("not an object") };
    operation.parameters = parameters;
    ask(&set(text), &alice(), &operation)
}

#[test]
fn nothing_is_permitted_by_default() {
    let decision = ask(&set(""), &alice(), &operation(&["s3:PutObject"], &[OBJECT]));
    assert_eq!(decision.effect, Effect::Deny);
    assert!(decision.policies.is_empty());
    assert_eq!(
        decision.reason,
        "no policy permits s3:PutObject on arn:aws:s3:::demo/a/b.txt for alice; add a permit for it, or ask whoever keeps the policies"
    );
    let decision = ask(&set(""), &Principal::unidentified(), &operation(&["s3:PutObject"], &[OBJECT]));
    assert!(decision.reason.contains("no verified identity: start it with a token"), "{}", decision.reason);
}

#[test]
fn what_was_permitted_once_is_so_again_for_the_same_question_only() {
    let alone = set("@id(\"reds\") permit(principal, action == AWS::Action::\"s3:GetObject\", resource) when
         { principal.hasTag(\"team\") && principal.getTag(\"team\").contains(\"red\") && resource.arn like \"*demo/a/*\" };");
    let get =
        |who: &Principal, object: &str| ask(&alone, who, &operation(&["s3:GetObject"], &[object])).policies.join(" ");
    let blue = Principal { claims: BTreeMap::from([("team".into(), json!("blue"))]), ..alice() };
    let alice = alice();
    for n in 0..300 {
        assert_eq!(get(&alice, OBJECT), "reds");
        assert_eq!(get(&blue, OBJECT), "");
        assert_eq!(get(&alice, "arn:aws:s3:::demo/b"), "");
        // More than are kept.
        assert_eq!(get(&alice, &format!("arn:aws:s3:::demo/a/{n}")), "reds");
    }
    // What the context says may be another the next time.
    let small = set("permit(principal, action, resource) when
         { context.parameters has MaxCount && context.parameters.MaxCount < 2 };");
    for (count, expected) in [(1, Effect::Allow), (2, Effect::Deny), (1, Effect::Allow)] {
        let mut asked = operation(&["ec2:RunInstances"], &["*"]);
        asked.parameters.insert("MaxCount".into(), json!(count));
        assert_eq!(ask(&small, &alice, &asked).effect, expected, "{count}");
    }
}

#[test]
fn scopes_match_what_they_name() {
    for (scope, expected) in [
        ("principal, action, resource", true),
        (r#"principal, action == AWS::Action::"s3:GetObject", resource"#, true),
        (r#"principal, action == AWS::Action::"s3:PutObject", resource"#, false),
        (r#"principal, action in [AWS::Action::"s3:PutObject", AWS::Action::"s3:GetObject"], resource"#, true),
        (r#"principal, action in AWS::Action::"s3:*", resource"#, true),
        (r#"principal, action in AWS::Action::"s3:Get*", resource"#, true),
        (r#"principal, action in AWS::Action::"s3:Put*", resource"#, false),
        (r#"principal, action in AWS::Action::"*:Get*", resource"#, true),
        (r#"principal, action in AWS::Action::"level:Read", resource"#, true),
        (r#"principal, action in AWS::Action::"level:Write", resource"#, false),
        (r#"principal in Tollgate::Group::"readers", action, resource"#, true),
        (r#"principal in Tollgate::Group::"writers", action, resource"#, false),
        (r#"principal == Tollgate::Principal::"https://idp.example#alice", action, resource"#, true),
        (r#"principal == Tollgate::Principal::"https://idp.example#bob", action, resource"#, false),
        (r#"principal == Tollgate::Principal::"unidentified", action, resource"#, false),
        (r#"principal, action, resource == AWS::Resource::"arn:aws:s3:::demo/a/b.txt""#, true),
        (r#"principal, action, resource in AWS::Resource::"arn:aws:s3:::demo""#, true),
        (r#"principal, action, resource in AWS::Resource::"arn:aws:s3:::dem""#, false),
        (r#"principal, action, resource == AWS::Resource::"*""#, false),
    ] {
        assert_eq!(effect(&format!("permit({scope});")) == Effect::Allow, expected, "{scope}");
    }
}

#[test]
fn conditions_see_principal_resource_and_context() {
    for (condition, expected) in [
        ("principal.identified", true),
        (r#"principal.issuer == "https://idp.example" && principal.subject like "al*""#, true),
        (r#"principal.hasTag("team") && principal.getTag("team").contains("red")"#, true),
        (r#"principal.hasTag("realm.roles") && principal.getTag("realm.roles").containsAll(["ops", "dev"])"#, true),
        (r#"principal.hasTag("absent") && principal.getTag("absent").contains("x")"#, false),
        (r#"resource.arn like "arn:aws:s3:::demo/a/*""#, true),
        (r#"resource.service == "s3" && resource.type == "object" && resource.name == "demo/a/b.txt""#, true),
        (r#"resource.account == "" && resource.region == "" && resource.partition == "aws""#, true),
        (r#"context.region == "eu-central-1" && context.service == "s3" && context.operation == "Op""#, true),
        (r#"context.endpoint like "*.amazonaws.com""#, true),
        (r#"context.session.name == "nightly" && context.session.id like "s-*""#, true),
        (r#"context.process.exe == "/usr/bin/aws" && context.process.uid == 1000 && context.process.pid > 1"#, true),
        (r#"context.process.uid == 0"#, false),
        (r#"action == AWS::Action::"s3:GetObject""#, true),
        (r#"action in AWS::Action::"level:Read""#, true),
        ("context == context", true),
    ] {
        assert_eq!(holds(condition), expected, "{condition}");
    }
}

#[test]
fn parameters_are_read_as_what_they_are_compared_with() {
    let permit = |c: &str| format!("permit(principal, action, resource) when {{ {c} }};");
    let kind = "context.parameters has InstanceType && context.parameters.InstanceType == \"t3.micro\"";
    let count = "context.parameters has MaxCount && context.parameters.MaxCount <= 2";
    let nested = "context.parameters has Placement.Tenancy && context.parameters.Placement.Tenancy == \"default\"";
    let groups = "context.parameters has SecurityGroupId && context.parameters.SecurityGroupId.contains(\"sg-1\")";
    let flag = "context.parameters has DryRun && context.parameters.DryRun";
    for (condition, parameters, expected) in [
        (kind, json!({"InstanceType": "t3.micro"}), Effect::Allow),
        (kind, json!({"InstanceType": "p5.48xlarge"}), Effect::Deny),
        (kind, json!({}), Effect::Deny),
        (kind, json!({"InstanceType": null}), Effect::Deny),
        (count, json!({"MaxCount": 2}), Effect::Allow),
        (count, json!({"MaxCount": "2"}), Effect::Allow),
        (count, json!({"MaxCount": "3"}), Effect::Deny),
        (count, json!({"MaxCount": "two"}), Effect::Deny),
        (nested, json!({"Placement": {"Tenancy": "default", "Other": 1.5}}), Effect::Allow),
        (nested, json!({"Placement": {}}), Effect::Deny),
        (groups, json!({"SecurityGroupId": ["sg-2", "sg-1"]}), Effect::Allow),
        (groups, json!({"SecurityGroupId": "sg-1"}), Effect::Deny),
        (flag, json!({"DryRun": "true"}), Effect::Allow),
        (flag, json!({"DryRun": false}), Effect::Deny),
    ] {
        assert_eq!(
            with_parameters(&permit(condition), parameters.clone()).effect,
            expected,
            "{condition} {parameters}"
        );
    }
}

#[test]
fn a_policy_that_cannot_be_evaluated_never_helps_a_request() {
    let forbid = r#"permit(principal, action, resource);
        @id("few") forbid(principal, action, resource) when { context.parameters has MaxCount && context.parameters.MaxCount > 2 };"#;
    assert_eq!(with_parameters(forbid, json!({"MaxCount": 1})).effect, Effect::Allow);
    assert_eq!(with_parameters(forbid, json!({"MaxCount": 3})).effect, Effect::Deny);
    let broken = with_parameters(forbid, json!({"MaxCount": "many"}));
    assert_eq!((broken.effect, broken.policies), (Effect::Deny, vec!["few".to_owned()]));
    assert!(broken.reason.contains("policy `few`, which may forbid ec2:RunInstances on *, cannot be evaluated"));
    let permit = "permit(principal, action, resource) when { context.parameters has MaxCount && context.parameters.MaxCount > 2 };";
    let broken = with_parameters(permit, json!({"MaxCount": "many"}));
    assert_eq!(broken.effect, Effect::Deny);
    assert!(broken.reason.contains("policy `t.cedar#1` could not be evaluated"), "{}", broken.reason);
}

#[test]
fn a_forbid_wins_and_gives_its_reason() {
    let policies = set(r#"
        permit(principal, action, resource);
        @id("quiet") forbid(principal, action == AWS::Action::"s3:PutObject", resource);
        @id("loud") @reason("Not on Fridays.") forbid(principal, action in AWS::Action::"level:Write", resource);
    "#);
    let denied = ask(&policies, &alice(), &operation(&["s3:PutObject"], &[OBJECT]));
    assert_eq!(denied.effect, Effect::Deny);
    assert_eq!(denied.policies, ["quiet", "loud"]);
    assert_eq!(denied.reason, "Not on Fridays.");
    assert_eq!(denied.obligations, Obligations::default());
    let allowed = ask(&policies, &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!((allowed.effect, allowed.policies), (Effect::Allow, vec!["t.cedar#1".to_owned()]));
}

#[test]
fn an_unrecognised_operation_is_covered_only_where_it_is_named() {
    let unknown = operation(&["unknown:unknown"], &["*"]);
    for (text, expected) in [
        ("permit(principal, action, resource);", Effect::Deny),
        (r#"permit(principal, action in [AWS::Action::"s3:*", AWS::Action::"*:*Object"], resource);"#, Effect::Deny),
        (r#"permit(principal, action in AWS::Action::"level:Unknown", resource);"#, Effect::Deny),
        (r#"permit(principal, action in AWS::Action::"level:Write", resource);"#, Effect::Deny),
        (r#"permit(principal, action, resource) when { action == AWS::Action::"unknown:unknown" };"#, Effect::Deny),
        (r#"permit(principal, action == AWS::Action::"unknown:unknown", resource);"#, Effect::Allow),
        (r#"permit(principal, action in [AWS::Action::"unknown:unknown"], resource);"#, Effect::Allow),
        (
            r#"permit(principal, action == AWS::Action::"unknown:unknown", resource);
               forbid(principal, action, resource) when { context.endpoint like "s3*" };"#,
            Effect::Deny,
        ),
        (
            r#"permit(principal, action == AWS::Action::"unknown:unknown", resource);
               forbid(principal, action in AWS::Action::"level:Write", resource);"#,
            Effect::Deny,
        ),
    ] {
        assert_eq!(ask(&set(text), &alice(), &unknown).effect, expected, "{text}");
    }
    let everything = set("permit(principal, action, resource);");
    for actions in
        [&[][..], &["unknown:unknown"], &["s3:unknown"], &["unknown:GetObject"], &["s3:GetObject", "unknown:unknown"]]
    {
        let decision = ask(&everything, &alice(), &operation(actions, &[OBJECT]));
        assert_eq!(decision.effect, Effect::Deny, "{actions:?}");
    }
    let decision = ask(&everything, &alice(), &unknown);
    assert!(decision.reason.contains("is not recognised as an AWS operation"), "{}", decision.reason);
}

#[test]
fn an_action_of_unknown_level_counts_as_a_write() {
    let new = operation(&["newservice:DoIt"], &["*"]);
    for (level, expected) in [("Write", Effect::Allow), ("Unknown", Effect::Allow), ("Read", Effect::Deny)] {
        let text = format!("permit(principal, action in AWS::Action::\"level:{level}\", resource);");
        assert_eq!(ask(&set(&text), &alice(), &new).effect, expected, "{level}");
    }
    // The operation's own level stands in where the catalog knows none.
    let mut reading = new.clone();
    reading.access = AccessLevel::Read;
    let reads = set(r#"permit(principal, action in AWS::Action::"level:Read", resource);"#);
    assert_eq!(ask(&reads, &alice(), &reading).effect, Effect::Allow);
    assert_eq!(ask(&reads, &alice(), &new).effect, Effect::Deny);
}

#[test]
fn every_action_on_every_resource_must_be_permitted() {
    let policies = set(r#"
        @id("get") permit(principal, action == AWS::Action::"s3:GetObject", resource in AWS::Resource::"arn:aws:s3:::demo");
        @id("put") permit(principal, action == AWS::Action::"s3:PutObject", resource in AWS::Resource::"arn:aws:s3:::demo");
    "#);
    let (inside, outside) = (OBJECT, "arn:aws:s3:::other/x");
    let both = ask(&policies, &alice(), &operation(&["s3:GetObject", "s3:PutObject"], &[inside]));
    assert_eq!((both.effect, both.policies), (Effect::Allow, vec!["get".to_owned(), "put".to_owned()]));
    for (actions, resources, missing) in [
        (&["s3:GetObject", "s3:DeleteObject"][..], &[inside][..], "s3:DeleteObject on arn:aws:s3:::demo/a/b.txt"),
        (&["s3:GetObject"], &[inside, outside], "s3:GetObject on arn:aws:s3:::other/x"),
        (&["s3:GetObject"], &[], "s3:GetObject on *"),
    ] {
        let decision = ask(&policies, &alice(), &operation(actions, resources));
        assert_eq!(decision.effect, Effect::Deny);
        assert!(decision.reason.contains(missing), "{}", decision.reason);
    }
}

#[test]
fn a_permit_with_approval_holds_unless_another_permits() {
    let held = r#"@id("ask") @approval("leads") @reason("Ask a lead.") permit(principal, action, resource);"#;
    let decision = ask(&set(held), &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!(decision.effect, Effect::Hold);
    assert_eq!(decision.reason, "Ask a lead.");
    assert_eq!(decision.obligations.approval.as_deref(), Some("leads"));
    let free = format!("{held} @id(\"free\") permit(principal, action in AWS::Action::\"s3:Get*\", resource);");
    let decision = ask(&set(&free), &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!((decision.effect, decision.policies), (Effect::Allow, vec!["free".to_owned()]));
    assert_eq!(decision.obligations.approval, None);
    // One action is free, the other is not: the request as a whole waits.
    let decision = ask(&set(&free), &alice(), &operation(&["s3:GetObject", "s3:PutObject"], &[OBJECT]));
    assert_eq!(decision.effect, Effect::Hold);
    assert_eq!(decision.policies, ["free", "ask"]);
    // Two actions that need different approvers need both.
    let two = r#"@approval("a") permit(principal, action == AWS::Action::"s3:GetObject", resource);
                 @approval("b") permit(principal, action == AWS::Action::"s3:PutObject", resource);"#;
    let decision = ask(&set(two), &alice(), &operation(&["s3:GetObject", "s3:PutObject"], &[OBJECT]));
    assert_eq!(decision.obligations.approval.as_deref(), Some("a,b"));
    let unnamed = ask(&set(two), &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!(unnamed.reason, "policy `t.cedar#1` needs the approval of `a`");
}

#[test]
fn the_terms_of_an_approval_are_those_of_all_permits_that_are_needed() {
    let text = r#"
        @approval("a") @min_approvals("2") @approval_deadline("30m") @justification("both") @break_glass("oncall")
        permit(principal, action == AWS::Action::"s3:GetObject", resource);
        @approval("b") @required_groups("legal a") @approval_window("none")
        permit(principal, action == AWS::Action::"s3:PutObject", resource);"#;
    let one = ask(&set(text), &alice(), &operation(&["s3:GetObject"], &[OBJECT])).obligations.terms;
    assert_eq!((one.groups.clone(), one.people, one.deadline, one.window), (vec!["a".into()], 2, Some(1800), None));
    assert!(one.agent_says_why && one.approver_says_why && one.break_glass == ["oncall"]);
    let both = ask(&set(text), &alice(), &operation(&["s3:GetObject", "s3:PutObject"], &[OBJECT])).obligations.terms;
    assert_eq!((both.groups.join(" ").as_str(), both.people, both.window), ("a b legal", 2, Some(0)));
    assert!(both.break_glass.is_empty(), "the other permit knows no emergency");
}

#[test]
fn masks_and_records_add_up_over_all_matching_permits() {
    let text = r#"
        @mask("secrets") @record("full") @approval("x") permit(principal, action, resource);
        @record("metadata") permit(principal, action, resource);
        @mask("pii") permit(principal, action, resource);
    "#;
    let decision = ask(&set(text), &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!(decision.effect, Effect::Allow);
    assert_eq!(
        decision.obligations,
        Obligations { mask: Some("secrets,pii".into()), record_full: true, ..Obligations::default() }
    );
    let plain = ask(&set("permit(principal, action, resource);"), &alice(), &operation(&["s3:GetObject"], &[OBJECT]));
    assert_eq!(plain.obligations, Obligations::default());
}

#[test]
fn one_principal_is_never_taken_for_another() {
    let policies = set(r#"permit(principal in Tollgate::Group::"readers", action, resource);"#);
    let get = operation(&["s3:GetObject"], &[OBJECT]);
    let mut someone = alice();
    assert_eq!(ask(&policies, &someone, &get).effect, Effect::Allow);
    // The same place in memory, another principal.
    someone.groups.clear();
    assert_eq!(ask(&policies, &someone, &get).effect, Effect::Deny);
    someone = Principal::unidentified();
    assert_eq!(ask(&policies, &someone, &get).effect, Effect::Deny);
}

#[test]
fn errors_name_place_and_fix() {
    for (text, expected) in [
        (
            "\n\npermit(principal, action == AWS::Action::\"s3:GetObjekt\", resource);",
            "t.cedar:3:43: there is no action `s3:GetObjekt`; write \"s3:GetObject\"",
        ),
        (
            "permit(principal, action == AWS::Action::\"s3:getobject\", resource);",
            "t.cedar:1:43: there is no action `s3:getobject`; write \"s3:GetObject\"",
        ),
        (
            "permit(principal, action == AWS::Action::\"nosuch:Thing\", resource);",
            "t.cedar:1:43: there is no action `nosuch:Thing`; check the service's prefix and the action's name as IAM writes them",
        ),
        (
            "permit(principal, action, resource) when { action == AWS::Action::\"s3:Putobject\" };",
            "t.cedar:1:68: there is no action `s3:Putobject`; write \"s3:PutObject\"",
        ),
        (
            "permit(principal, action in AWS::Action::\"s3:Gte*\", resource);",
            "t.cedar:1:43: no action matches `s3:Gte*`; check the service's prefix and the pattern",
        ),
        (
            "permit(principal, action in AWS::Action::\"level:Writes\", resource);",
            "t.cedar:1:43: there is no access level `level:Writes`; write \"level:Write\"",
        ),
        (
            "permit(principal, action == AWS::Action::\"s3:*\", resource);",
            "t.cedar:1:43: `action == AWS::Action::\"s3:*\"` compares with a group; write `action in`",
        ),
        (
            "permit(principal, action in AWS::Action::\"*\", resource);",
            "t.cedar:1:43: `AWS::Action::\"*\"` would be every action; write `action` alone in the scope",
        ),
        (
            "// é\n  @aproval(\"x\") permit(principal, action, resource);",
            "t.cedar:2:3: there is no annotation `@aproval`; write `@approval`",
        ),
        (
            "@approval(\"x\") forbid(principal, action, resource);",
            "t.cedar:1:1: `@approval` is on a forbid, which lets nothing through; put it on a permit",
        ),
        (
            "@approval(\"a,b\") permit(principal, action, resource);",
            "t.cedar:1:1: `@approval(\"a,b\")` is not a name; use letters, digits and -_.:/@# only, at most 128",
        ),
        (
            "@approval(\"a\") @min_aprovals(\"2\") permit(principal, action, resource);",
            "t.cedar:1:16: there is no annotation `@min_aprovals`; write `@min_approvals`",
        ),
        (
            "\n@min_approvals(\"2\") permit(principal, action, resource);",
            "t.cedar:2:1: `@min_approvals` is about an approval, and nobody's is asked for; add `@approval(\"group\")` to this permit, or leave it out",
        ),
        (
            "@approval(\"a\") @min_approvals(\"0\") permit(principal, action, resource);",
            "t.cedar:1:16: `@min_approvals(\"0\")` is not a number of people; write a whole number from 1 to 20",
        ),
        (
            "@approval(\"a\") @required_groups(\"x,y\") permit(principal, action, resource);",
            "t.cedar:1:16: `@required_groups(\"x,y\")` does not name groups; write their names with spaces between them; letters, digits and -_.:/@# only",
        ),
        (
            "@approval(\"a\") @approval_deadline(\"15\") permit(principal, action, resource);",
            "t.cedar:1:16: `@approval_deadline(\"15\")` is not a length of time; write a number and s, m or h: `90s`, `15m`, `2h`",
        ),
        (
            "@approval(\"a\") @approval_window(\"25h\") permit(principal, action, resource);",
            "t.cedar:1:16: `@approval_window(\"25h\")` is longer than a day, or nothing; write at most `24h`",
        ),
        (
            "@approval(\"a\") @justification(\"me\") permit(principal, action, resource);",
            "t.cedar:1:16: `@justification(\"me\")` names nobody who could say why; write `agent`, `approver` or `both`",
        ),
        (
            "@break_glass(\"x\") forbid(principal, action, resource);",
            "t.cedar:1:1: `@break_glass` is on a forbid, which lets nothing through; put it on a permit",
        ),
        (
            "@record(\"all\") permit(principal, action, resource);",
            "t.cedar:1:1: `@record(\"all\")` is neither `full` nor `metadata`; use one of them",
        ),
        (
            "permit(principal == Tollgate::Principal::\"alice\", action, resource);",
            "t.cedar:1:43: `Tollgate::Principal::\"alice\"` can be nobody; write \"<issuer>#<subject>\", or compare `principal.subject`",
        ),
        (
            "permit(principal, action, resource == AWS::Resource::\"arn:aws:s3:::b/*\");",
            "t.cedar:1:55: `AWS::Resource::\"arn:aws:s3:::b/*\"` can be no resource: it must be one whole ARN, without wildcards; for a pattern, write `when { resource.arn like \"…\" }`",
        ),
        (
            "@id(\"a\") permit(principal, action, resource);\n@id(\"a\") forbid(principal, action, resource);",
            "t.cedar:2:1: the id `a` is also that of the policy at t.cedar:1; give each policy an `@id` of its own",
        ),
        (
            "permit(principal == ?principal, action, resource);",
            "t.cedar:1:21: policy `policy0` is a template, and nothing links it; write `principal` or `resource` without a slot",
        ),
        (
            "permit(principal, action, resource) when { context.parameters.X == 1 || context.parameters.X == \"a\" };",
            "t.cedar:1:44: `context.parameters.X` is used as a number and as text; use it in one way only",
        ),
    ] {
        assert_eq!(errors(text), [expected], "{text}");
    }
}

#[test]
fn cedars_own_findings_have_a_place_too() {
    for (text, place, words) in [
        ("permit(principal, action, resource)", "t.cedar:1:36: ", "unexpected end of input"),
        (
            "permit(principal, action, resource);\npermit(principal action, resource);",
            "t.cedar:2:18: ",
            "unexpected token `action`",
        ),
        ("permit(principal, action, resource) when { principal.email == \"x\" };", "t.cedar:1:44: ", "email"),
        ("permit(principal, action, resource) when { resource.account == 1 };", "t.cedar:1:", "types"),
        ("permit(principal, action, resource) when { context.parameters.X == \"a\" };", "t.cedar:1:44: ", "X"),
        (
            "permit(principal, action, resource) when { principal.getTag(\"x\").contains(\"y\") };",
            "t.cedar:1:44: ",
            "tag",
        ),
        ("permit(principal is User, action, resource);", "t.cedar:1:", "User"),
        ("permit(principal, action, resource in AWS::Bucket::\"b\");", "t.cedar:1:", "AWS::Bucket"),
        ("permit(principal, action, resource) when { context.process.name == \"x\" };", "t.cedar:1:", "name"),
        ("permit(principal, action == Action::\"s3:GetObject\", resource);", "t.cedar:1:", "Action"),
    ] {
        let errors = errors(text);
        assert!(errors[0].starts_with(place) && errors[0].contains(words), "{text}: {errors:#?}");
    }
}

#[test]
fn all_errors_of_all_files_are_told_at_once() {
    let sources = [
        (
            "a.cedar",
            "permit(principal, action == AWS::Action::\"s3:X\", resource);\n@idd(\"x\") permit(principal, action, resource);",
        ),
        ("b.cedar", "permit("),
    ];
    let errors = PolicySet::from_sources(&sources, Mode::Enforce, catalog()).unwrap_err();
    assert_eq!(
        errors.iter().map(|e| (e.file.as_str(), e.line)).collect::<Vec<_>>(),
        [("a.cedar", 1), ("a.cedar", 2), ("b.cedar", 1)]
    );
}

#[test]
fn odd_policies_are_warned_of() {
    let policies = set("permit(principal, action, resource) when { resource.arn == \"a\" && false };");
    assert_eq!(policies.warnings().len(), 1, "{:?}", policies.warnings());
    assert!(set("permit(principal, action, resource);").warnings().is_empty());
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tollgate-policies-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
    fn load(&self) -> Result<PolicySet, Vec<PolicyError>> {
        PolicySet::load(&self.0, Mode::Observe, catalog())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn loads_a_directory_in_the_order_of_names() {
    let dir = Directory::new();
    let empty = dir.load().unwrap();
    assert!(empty.is_empty());
    assert!(empty.warnings()[0].to_string().contains("no policies, so everything is denied"));
    dir.put("20-b.cedar", "@description(\"all of it\") permit(principal, action, resource);");
    dir.put("10-a.cedar", "forbid(principal, action, resource);\n\n@id(\"x\") forbid(principal, action, resource);");
    dir.put(".hidden.cedar", "nonsense");
    dir.put("README.md", "nonsense");
    let set = dir.load().unwrap();
    assert_eq!(set.mode(), Mode::Observe);
    assert_eq!(set.len(), 3);
    let listed: Vec<_> =
        set.summaries().map(|s| (s.id.to_owned(), s.line, s.forbids, s.description.is_some())).collect();
    assert_eq!(
        listed,
        [
            ("10-a.cedar#1".into(), 1, true, false),
            ("x".into(), 3, true, false),
            ("20-b.cedar#1".into(), 1, false, true)
        ]
    );
    dir.put("30-c.cedar", [0xff, 0xfe]);
    dir.put("40-d.cedar", vec![b' '; (MAX_FILE + 1) as usize]);
    let errors = dir.load().unwrap_err();
    assert!(errors[0].to_string().contains("30-c.cedar: cannot read the policy file"), "{errors:?}");
    assert!(errors[1].to_string().contains("40-d.cedar: the file has 1048577 bytes; split it below 1 MiB"));
}

#[test]
fn a_missing_directory_is_an_error() {
    let errors = PolicySet::load(Path::new("/nonexistent/policies"), Mode::Enforce, catalog()).unwrap_err();
    assert!(errors[0].to_string().starts_with("/nonexistent/policies: cannot read the policy directory: "));
    assert!(errors[0].to_string().ends_with("; check `[policy] dir`, and that the daemon may read it"));
}

#[test]
fn the_shipped_policies_do_what_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    for catalog in [catalog(), Arc::new(AnyAction)] {
        let policies = PolicySet::load(&dir, Mode::Enforce, catalog).unwrap_or_else(|e| panic!("{e:#?}"));
        assert!(policies.warnings().is_empty(), "{:?}", policies.warnings());
        let person =
            |groups: &[&str]| Principal { groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..alice() };
        let demo = "arn:aws:s3:::tollgate-demo/x";
        for (who, action, resource, expected) in [
            (Principal::unidentified(), "sts:GetCallerIdentity", "*", "unidentified"),
            (person(&[]), "sts:GetCallerIdentity", "*", "who-am-i"),
            (person(&[]), "s3:GetObject", OBJECT, ""),
            (person(&["s3-readers"]), "s3:GetObject", OBJECT, "s3-readers"),
            (person(&["s3-readers"]), "s3:PutObject", OBJECT, ""),
            (person(&["s3-writers"]), "s3:PutObject", demo, "s3-demo-writers"),
            (person(&["s3-writers"]), "s3:PutObject", OBJECT, ""),
            (person(&["operators"]), "ec2:RunInstances", "*", "no-instances"),
            (person(&["operators"]), "secretsmanager:GetSecretValue", "*", "no-secrets"),
            (person(&["operators"]), "unknown:unknown", "*", ""),
            (person(&[]), "sts:AssumeRoleWithWebIdentity", "arn:aws:iam::1:role/x", "web-identity"),
            (person(&["deployers"]), "sts:AssumeRole", "arn:aws:iam::111122223333:role/deploy", "deployers-role"),
            (person(&["deployers"]), "sts:AssumeRole", "arn:aws:iam::444455556666:role/deploy", "foreign-roles"),
            (person(&["deployers"]), "sts:AssumeRole", "arn:aws:iam::111122223333:role/other", ""),
        ] {
            let decision = ask(&policies, &who, &operation(&[action], &[resource]));
            assert_eq!(decision.policies.join(" "), expected, "{action} by {:?}: {}", who.groups, decision.reason);
        }
    }
    let policies = PolicySet::load(&dir, Mode::Enforce, catalog()).unwrap();
    let operator = Principal { groups: vec!["operators".into()], ..alice() };
    let held = ask(&policies, &operator, &operation(&["iam:PutRolePolicy"], &["*"]));
    assert_eq!((held.effect, held.obligations.approval.as_deref()), (Effect::Hold, Some("security")));
    let looked = ask(&policies, &operator, &operation(&["ec2:DescribeInstances"], &["*"]));
    assert_eq!(looked.effect, Effect::Allow);
}

#[test]
fn credentials_are_in_the_context() {
    for (condition, expected) in [
        (r#"context.credential.kind == "derived""#, Effect::Allow),
        (r#"context.credential.kind == "binding""#, Effect::Deny),
        (r#"context.credential.account == "111122223333""#, Effect::Allow),
        (r#"context.credential.arn like "*:assumed-role/deploy/*""#, Effect::Allow),
        (r#"context.credential.operation == "sts:AssumeRole""#, Effect::Allow),
    ] {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        assert_eq!(effect(&text), expected, "{condition}");
    }
}

#[test]
fn policies_on_trial_are_judged_beside_those_that_bind() {
    let both = set(r#"
        @id("read") permit (principal, action == AWS::Action::"s3:GetObject", resource);
        @id("stop") @observe forbid (principal, action, resource) when { resource.arn like "*/a/*" };
        @id("write") @observe permit (principal, action == AWS::Action::"s3:PutObject", resource);
    "#);
    let question = |action: &str, resource: &str| {
        let operation = operation(&[action], &[resource]);
        let asked = Question {
            principal: &alice(),
            operation: &operation,
            session: SessionFacts { id: "s", name: "n" },
            process: ProcessFacts { exe: "x", pid: 1, uid: 1 },
            credential: CredentialFacts::default(),
            endpoint: "e",
        };
        (both.decide(&asked), both.try_out(&asked).expect("some are on trial"))
    };
    let (binding, trial) = question("s3:GetObject", OBJECT);
    assert_eq!((binding.effect, trial.effect), (Effect::Allow, Effect::Deny));
    assert_eq!((binding.policies, trial.policies), (vec!["read".to_owned()], vec!["stop".to_owned()]));
    let (binding, trial) = question("s3:PutObject", "arn:aws:s3:::demo/b");
    assert_eq!((binding.effect, trial.effect), (Effect::Deny, Effect::Allow));
    let (binding, trial) = question("s3:GetObject", "arn:aws:s3:::demo/b");
    assert_eq!((binding.effect, trial.effect), (Effect::Allow, Effect::Allow));
    assert_eq!((both.len(), both.on_trial()), (3, 2));
    assert_eq!(set("permit(principal, action, resource);").on_trial(), 0);
    let wrong = errors(r#"@observe("please") permit(principal, action, resource);"#);
    assert!(wrong[0].contains("says more than it can mean"), "{wrong:?}");
}

#[test]
fn a_directory_on_trial_is_read_with_its_name_and_binds_nothing() {
    let dir = std::env::temp_dir().join(format!("tollgate-trial-{:016x}", rand::random::<u64>()));
    for name in ["policies", "next"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        std::fs::write(
            dir.join(name).join("a.cedar"),
            "permit(principal, action == AWS::Action::\"s3:GetObject\", resource);",
        )
        .unwrap();
    }
    let load =
        |trial: &str| PolicySet::load_both(&dir.join("policies"), Some(&dir.join(trial)), Mode::Enforce, catalog());
    let both = load("next").unwrap();
    let ids: Vec<_> = both.summaries().map(|s| (s.id.to_owned(), s.observed)).collect();
    assert_eq!(ids, [("a.cedar#1".to_owned(), false), ("next/a.cedar#1".to_owned(), true)]);
    let errors = load("nowhere").unwrap_err();
    assert!(errors.len() == 1 && errors[0].message.contains("cannot read the policy directory"), "{errors:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}
