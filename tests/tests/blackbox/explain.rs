//! Policies that explain themselves: `tollgate policy` on a real record, and policies that only observe.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Host, Settings, Timeline, unique};

const PROVIDER: u16 = 9471;

/// Alice reads the test's bucket below `in/`, and may write with a size; secrets are nobody's.
const POLICIES: &str = r#"
@id("who")
permit (principal, action == AWS::Action::"sts:GetCallerIdentity", resource);

@id("alice-reads")
permit (principal in Tollgate::Group::"s3-readers", action in AWS::Action::"s3:Get*", resource in AWS::Resource::"arn:aws:s3:::tollgate-test")
when { resource.arn like "arn:aws:s3:::tollgate-test/in/*" };

@id("writes")
permit (principal in Tollgate::Group::"s3-readers", action == AWS::Action::"s3:PutObject", resource in AWS::Resource::"arn:aws:s3:::tollgate-test");

@id("copies")
permit (principal in Tollgate::Group::"s3-readers", action in [AWS::Action::"ec2:CreateSecurityGroup"], resource)
when { context.parameters has GroupName && context.parameters.GroupName like "team-*" };

@id("no-secrets")
@reason("Not these.")
forbid (principal, action, resource)
when { resource.arn like "*secret*" };
"#;

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let extra = format!(
            "[[identity.issuer]]\nurl = \"http://127.0.0.1:{PROVIDER}\"\naudience = [\"tollgate\"]\ngroups_claim = \"groups\"\n"
        );
        Host::start(Settings { policies: POLICIES.into(), extra, ..Settings::default() })
    })
}

/// Alice's session: some calls that are permitted, some that are not.
fn recorded() -> &'static Timeline {
    static TIMELINE: OnceLock<Timeline> = OnceLock::new();
    TIMELINE.get_or_init(|| {
        static PROVIDER_OF_IT: OnceLock<tollgate_tests::host::Provider> = OnceLock::new();
        let provider = PROVIDER_OF_IT.get_or_init(|| host().provider(PROVIDER));
        let token = host().file("token", provider.issue("alice", "tollgate", 3600).as_bytes());
        let agent = host().agent("records").flags(&["--identity-token-file", token.to_str().expect("text")]);
        let script = format!(
            r#"
import boto3
from botocore.exceptions import ClientError
s3, ec2, sts = (boto3.client(n, region_name="us-east-1") for n in ("s3", "ec2", "sts"))
def denied(f, **more):
    try: f(**more)
    except ClientError as e: assert "Tollgate denied" in str(e) or "403" in str(e), e
    else: raise SystemExit("it was not denied")
sts.get_caller_identity()
for n in range(5):
    s3.put_object(Bucket="{BUCKET}", Key=f"in/2026/{{n}}", Body=b"x")
    s3.get_object(Bucket="{BUCKET}", Key=f"in/2026/{{n}}")["Body"].read()
ec2.create_security_group(GroupName="team-a", Description="d")
denied(s3.get_object, Bucket="{BUCKET}", Key="out/1")
denied(s3.get_object, Bucket="{BUCKET}", Key="in/secret")
denied(ec2.create_security_group, GroupName="other", Description="d")
denied(s3.copy_object, Bucket="{BUCKET}", Key="in/copy", CopySource="elsewhere/k")
"#
        );
        agent.python(&script).ok();
        agent.timeline()
    })
}

fn policy(argv: &[&str]) -> tollgate_tests::host::Output {
    host().tollgate(&[&["policy"], argv].concat())
}

/// A directory with one policy file.
fn directory(policies: &str) -> PathBuf {
    let dir = host().dir().join(unique("policies-of-a-test"));
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("a.cedar"), policies).expect("a file");
    dir
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// The number of the only exchange of which `sessions show --json` says this.
fn exchange(what: impl Fn(&Value) -> bool) -> String {
    let shown: Value =
        serde_json::from_str(&host().tollgate(&["sessions", "show", recorded().id(), "--json"]).ok()).expect("JSON");
    let all = shown["exchanges"].as_array().expect("a list");
    let found: Vec<&Value> = all.iter().filter(|e| what(e)).collect();
    assert_eq!(found.len(), 1, "{all:#?}");
    found[0]["id"].to_string()
}

fn denied_on(resource: &str) -> String {
    exchange(|e| e["decision"] == "deny" && e["resources"][0] == resource)
}

#[test]
fn an_exchange_is_explained_by_the_clause_that_failed_and_what_would_do() {
    let told = policy(&["explain", &denied_on(&format!("arn:aws:s3:::{BUCKET}/out/1"))]).ok();
    for expected in [
        "decided   deny, by no policy",
        "nearly    permit `alice-reads` (tests.cedar:5)",
        r#"when resource.arn like "arn:aws:s3:::tollgate-test/in/*": does not hold"#,
        r#"resource.arn is "arn:aws:s3:::tollgate-test/out/1""#,
        r#"action == AWS::Action::"s3:GetObject","#,
        r#"resource == AWS::Resource::"arn:aws:s3:::tollgate-test/out/1""#,
    ] {
        assert!(told.contains(expected), "{expected} in\n{told}");
    }
    // With the groups of the token: they are in the record.
    assert!(!told.contains("its groups is none"), "{told}");
    let told = policy(&["explain", &denied_on(&format!("arn:aws:s3:::{BUCKET}/in/secret"))]).ok();
    assert!(
        told.contains("matches   forbid `no-secrets`") && told.contains("matches   permit `alice-reads`"),
        "{told}"
    );
    assert!(told.contains("to the forbid `no-secrets`, before its semicolon, add"), "{told}");
    let group = exchange(|e| e["decision"] == "deny" && e["operation"] == "ec2:CreateSecurityGroup");
    let told = policy(&["explain", &group]).ok();
    assert!(told.contains(r#"context.parameters.GroupName is "other""#), "{told}");
    // Each action on its own resources.
    let copy = exchange(|e| e["operation"] == "s3:CopyObject");
    let told = policy(&["explain", &copy]).ok();
    assert!(told.contains(&format!("s3:PutObject on arn:aws:s3:::{BUCKET}/in/copy: allow")), "{told}");
    assert!(told.contains("s3:GetObject on arn:aws:s3:::elsewhere/k: deny"), "{told}");
    // What it says would do, does.
    let json: Value = serde_json::from_str(&policy(&["explain", &copy, "--json"]).ok()).expect("JSON");
    let permit = json["explanation"]["remedy"]["permits"].as_str().expect("a permit");
    let dir = directory(&format!("{POLICIES}\n{permit}"));
    let told = policy(&["explain", &copy, "--policies", text(&dir)]).ok();
    assert!(told.contains("by now    allow"), "{told}");
    // By the request id, which is in the agent's own error message.
    let denied = recorded().exchanges.iter().find(|e| e.operation == "s3:CopyObject").expect("the copy");
    let told = policy(&["explain", denied.request_id.as_deref().expect("an id")]).ok();
    assert!(told.starts_with(&format!("exchange {copy}: ")), "{told}");
    for (bad, expected) in [
        ("999999", "there is no exchange 999999"),
        ("no-such-request", "there is no exchange"),
        ("a/b", "neither a request id"),
    ] {
        assert!(policy(&["explain", bad]).failed().contains(expected));
    }
}

#[test]
fn what_a_session_did_is_suggested_as_policies_that_permit_just_that() {
    let id = recorded().id();
    let cedar = policy(&["suggest", "--session", id]).ok();
    let dir = directory(&cedar);
    let checked = policy(&["check", text(&dir), "--strict"]).ok();
    assert!(checked.contains("0 warning(s)"), "{checked}");
    assert!(cedar.contains(r#"resource.arn like "arn:aws:s3:::tollgate-test/in/2026/*""#), "{cedar}");
    // By the suggestion, the session's calls are decided as they were: those denied stay denied.
    let again = policy(&["test", text(&dir), "--from-session", id]).ok();
    assert!(again.contains("16 calls, 0 would be decided otherwise"), "{again}\n{cedar}");
    let iam: Value =
        serde_json::from_str(&policy(&["suggest", "--session", id, "--format", "iam"]).ok()).expect("JSON");
    let statements = iam["Statement"].as_array().expect("a list");
    let put =
        statements.iter().find(|s| s["Resource"][0] == "arn:aws:s3:::tollgate-test/in/2026/*").expect("the objects");
    assert_eq!(put["Action"], serde_json::json!(["s3:GetObject", "s3:PutObject"]));
    let group = statements.iter().find(|s| s["Action"][0] == "ec2:CreateSecurityGroup").expect("the group");
    assert_eq!(group["Effect"], "Allow");
    assert!(policy(&["suggest", "--session", "s-0000000000000000"]).failed().contains("there is no session"));
}

#[test]
fn a_change_of_policy_shows_which_past_calls_would_change() {
    let id = recorded().id();
    let same = policy(&["test", text(&directory(POLICIES)), "--from-session", id]).ok();
    assert!(same.contains("0 would be decided otherwise"), "{same}");
    let stricter = directory(&POLICIES.replace("s3:Get*", "s3:GetObjectTagging").replace("\"team-*\"", "\"*\""));
    let output = policy(&["test", text(&stricter), "--from-session", id]);
    assert_eq!(output.status.code(), Some(1), "{output}");
    let told = output.failed();
    assert!(told.contains("16 calls, 6 would be decided otherwise"), "{told}");
    assert!(told.contains("allow by alice-reads") && told.contains("deny by no policy"), "{told}");
    assert!(told.lines().any(|l| l.contains("deny by no policy") && l.contains("allow by copies")), "{told}");
    // Saved, they are cases, also for somebody without a daemon.
    let dir = directory(POLICIES);
    let saved = policy(&["test", text(&dir), "--from-session", id, "--save", text(&dir.join("tests"))]);
    assert!(saved.stderr.contains("saved"), "{saved}");
    let without = as_nobody(&["policy", "test", text(&dir)]);
    assert!(without.0 == Some(0) && without.1.contains("16 cases, 0 wrong"), "{without:?}");
    std::fs::copy(stricter.join("a.cedar"), dir.join("a.cedar")).expect("copied");
    let without = as_nobody(&["policy", "test", text(&dir)]);
    assert!(without.0 == Some(1) && without.1.contains("16 cases, 6 wrong"), "{without:?}");
}

/// An ordinary user, without a daemon.
fn as_nobody(argv: &[&str]) -> (Option<i32>, String) {
    let output = host().outsider("policies").run(&[&["tollgate"], argv].concat());
    (output.status.code(), output.text())
}

#[test]
fn a_directory_is_checked_by_an_ordinary_user_without_a_daemon() {
    let dead =
        r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { resource.service == "ec2" };"#;
    let dir = directory(dead);
    let (code, told) = as_nobody(&["policy", "check", text(&dir)]);
    assert!(code == Some(0) && told.contains("warning: a.cedar:1:76") && told.contains("can never match"), "{told}");
    assert_eq!(as_nobody(&["policy", "check", text(&dir), "--strict"]).0, Some(1));
    std::fs::write(dir.join("b.cedar"), "permit (principal,\n  action == AWS::Action::\"s3:GetObjekt\", resource);")
        .expect("written");
    let (code, told) = as_nobody(&["policy", "check", text(&dir), "--json"]);
    let json: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &json["good"], &json["findings"][0]["line"]), (Some(1), &false.into(), &2.into()));
    assert_eq!(json["findings"][0]["fix"], "write \"s3:GetObject\"");
    assert_eq!(as_nobody(&["policy", "check", "/nonexistent"]).0, Some(2));
}

#[test]
fn policies_on_trial_are_told_and_do_not_bind() {
    let policies = r#"
        @id("all") permit (principal, action in [AWS::Action::"sts:*", AWS::Action::"s3:*"], resource);
        @id("next") @observe @reason("Not for long.") forbid (principal, action == AWS::Action::"sts:GetCallerIdentity", resource);
        @id("soon") @observe permit (principal, action in AWS::Action::"ec2:*", resource);"#;
    let host = Host::start(Settings { policies: policies.into(), ..Settings::default() });
    assert!(host.event("daemon", "ready").reason().contains("2 policies are ON TRIAL"));
    let agent = host.agent("trial");
    agent.run(&["aws", "sts", "get-caller-identity"]).ok();
    let timeline = agent.timeline();
    let one = timeline.only("sts:GetCallerIdentity");
    assert_eq!((one.decision.as_str(), one.status, one.policies.join(" ").as_str()), ("deny", Some(200), "next"));
    assert_eq!(timeline.event("observed", "NOT ENFORCED (on trial): Not for long.").field("PRIORITY"), "4");
    let shown = host.tollgate(&["sessions", "show", timeline.id()]).ok();
    assert!(shown.contains("OBSERVED") && shown.contains("NOT ENFORCED (on trial)"), "{shown}");
    let dir = host.dir().join("policies");
    let same = host.tollgate(&["policy", "test", text(&dir), "--from-session", timeline.id()]).ok();
    assert!(same.contains("1 calls, 0 would be decided otherwise"), "{same}");
    let told = host.tollgate(&["policy", "explain", "1"]).ok();
    assert!(told.contains("decided   deny (only observed: it was let through), by next"), "{told}");
    assert!(told.contains("binding   allow, by all") && told.contains("on trial: it does not count"), "{told}");
    // A permit on trial permits nothing.
    let other = host.agent("trial-permit");
    assert!(other.run(&["aws", "ec2", "describe-vpcs"]).failed().contains("no policy permits"));
    other.timeline().event("observed", "on trial: it would be permitted");
}

#[test]
fn an_observed_session_is_let_through_and_no_other_rule_is_relaxed() {
    let extra = "[[policy.observe]]\nsession = \"seen-*\"\n";
    let host = Host::start(Settings { policies: "".into(), extra: extra.into(), ..Settings::default() });
    let who = ["aws", "sts", "get-caller-identity"];
    let seen = host.agent("seen-a");
    seen.run(&who).ok();
    let timeline = seen.timeline();
    let one = timeline.only("sts:GetCallerIdentity");
    assert_eq!((one.decision.as_str(), one.status), ("deny", Some(200)));
    timeline.event("observed", "NOT ENFORCED (an observed session): what policies deny");
    timeline.event("observed", "NOT ENFORCED (an observed session): no policy permits sts:GetCallerIdentity");
    let other = host.agent("other");
    assert!(other.run(&who).failed().contains("no policy permits"));
    assert!(other.timeline().events.iter().all(|e| e.kind != "observed"));
    // Another's keys, another session's placeholder, an altered request, what would carry credentials away.
    let foreign =
        host.agent("seen-foreign").env("AWS_ACCESS_KEY_ID", "AKIAFOREIGNFOREIGN00").env("AWS_SECRET_ACCESS_KEY", "x");
    assert!(foreign.run(&who).failed().contains("was not issued by Tollgate"));
    let answers = host.agent("seen-altered").probe(
        r#"
line, fields = signed(STS, WHO)
show(ask(tls(STS), message(line, fields, WHO + "&X=1")))
"#,
    );
    assert_eq!(answers[0][0], 403, "{answers:?}");
    assert!(answers[0][1].as_str().expect("text").contains("SignatureDoesNotMatch"), "{answers:?}");
    let token = host.agent("seen-credentials");
    let text = token.run(&["aws", "ecr", "get-login-password"]).failed();
    assert!(text.contains("its answer carries credentials"), "{text}");
    assert_eq!(token.timeline().only("ecr:GetAuthorizationToken").decision, "deny");
}
