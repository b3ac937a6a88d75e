//! What a policy denies stays undone, whichever way it is asked for.

use serde_json::Value;
use tollgate_tests::bed::ACCOUNT;
use tollgate_tests::host::{Host, POLICIES, Settings};

use crate::errors::nothing_was_stored;

/// A client that does not wait for `100 Continue` is still sending when the answer is there.
#[test]
fn a_denial_of_a_large_upload_can_be_read() {
    let host = Host::shared();
    let agent = host.agent("denied-large");
    let answers = agent.probe(
        r#"
body = b"x" * (16 << 20)
line, fields = signed(S3, body, "PUT", "/tollgate-test/denied", "s3", s3=True)
for _ in range(3):
    show(ask(tls(S3), message(line, fields, body))[0])
    show(curl(f"https://{S3}/tollgate-test/denied", fields, "--http1.1", "-H", "Expect:", "-T", "/dev/stdin", data=body)[0])
    show(curl(f"https://{S3}/tollgate-test/denied", fields, "-T", "/dev/stdin", data=body)[0])
"#,
    );
    for (n, answer) in answers.iter().enumerate() {
        assert!([Value::from(403), "1.1 403".into(), "2 403".into()].contains(answer), "{n}: {answers:?}");
    }
    nothing_was_stored(host);
}

/// Case 16: what cannot be recognised is covered by no policy that does not name it.
#[test]
fn an_unknown_operation_is_denied_though_everything_known_is_allowed() {
    let host = Host::shared();
    let agent = host.agent("unknown");
    let answers = agent.probe(
        r#"
keys = placeholder()
for host, service, path, body in [
    (STS, "sts", "/somewhere/else", WHO),
    (STS, "sts", "/", "Version=2011-06-15"),
    (STS, "sts", "/", "Action=GetEverything&Version=2011-06-15"),
    ("nobody.us-east-1.amazonaws.com", "nobody", "/", WHO),
]:
    show(ask(tls(host), message(*signed(host, body, path=path, service=service, keys=keys), body)))
"#,
    );
    assert_eq!(answers.len(), 4);
    for answer in &answers {
        assert_eq!(answer[0], 403, "{answer}");
        assert!(answer[1].as_str().expect("text").contains("not recognised as an AWS operation"), "{answer}");
    }
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.len(), 4, "{timeline:#?}");
    assert!(timeline.exchanges.iter().all(|e| e.action == "unknown:unknown" && e.decision == "deny"), "{timeline:#?}");
    timeline.event("blocked", "not recognised");
}

#[test]
fn a_request_without_a_signature_is_denied() {
    let host = Host::shared();
    let agent = host.agent("unsigned");
    let answers = agent.probe(r#"show(ask(tls(STS), message("POST / HTTP/1.1", [("Host", STS)], WHO)))"#);
    assert_eq!(answers[0][0], Value::from(403));
    assert!(answers[0][1].as_str().expect("text").contains("not signed"), "{answers:?}");
    agent.timeline().event("refused", "not signed");
}

/// Case 19: what an agent may write to is a matter of the resource, whoever's it is.
#[test]
fn somebody_elses_bucket_on_an_allowed_host_is_denied() {
    let host = Host::shared();
    std::fs::create_dir_all(host.dir().join("s3/attacker")).expect("a bucket");
    let agent = host.agent("bucket-own");
    let file = host.file("loot", b"loot");
    let file = file.to_str().expect("UTF-8");
    agent.run(&["aws", "s3", "cp", file, "s3://tollgate-test/mine"]).ok();
    for to in ["s3://attacker/loot", "s3://tollgate-test.attacker/loot", "s3://tollgate-test-2/loot"] {
        let text = agent.run(&["aws", "s3", "cp", file, to]).failed();
        assert!(text.contains("stay in the bucket tollgate-test"), "{text}");
    }
    // The same by path, by the other addressing style, and by a key that climbs.
    let answers = agent.probe(
        r#"
keys = placeholder()
def put(host, path):
    line, fields = signed(host, b"loot", "PUT", path, "s3", s3=True, keys=keys)
    show(ask(tls(host), message(line, fields, b"loot")))
put(S3, "/attacker/loot")
put("attacker." + S3, "/loot")
put("attacker." + S3, "/tollgate-test/loot")
put(S3, "/tollgate-test/../attacker/loot")
put(S3, "/tollgate-test/%2e%2e/attacker/loot")
put(S3, "//attacker/loot")
"#,
    );
    for answer in &answers[..3] {
        assert_eq!(answer[0], 403, "{answers:?}");
    }
    for answer in &answers[3..5] {
        assert_eq!(answer[0], 400, "{answers:?}");
        assert!(answer[1].as_str().expect("text").contains("leads out of the bucket"), "{answers:?}");
    }
    assert_ne!(answers[5][0], 200, "{answers:?}");
    let attacker = host.dir().join("s3/attacker");
    assert_eq!(std::fs::read_dir(attacker).expect("a bucket").count(), 0, "something was stored there");
}

/// Case 19: a role of the attacker's account is the way to the attacker's buckets. The shipped baseline closes it, also
/// for who may do everything else.
#[test]
fn roles_of_other_accounts_are_denied_by_the_shipped_baseline() {
    let baseline = include_str!("../../../policies/00-baseline.cedar")
        .replace("unless { principal.identified }", "when { false }");
    let host = Host::start(Settings { policies: format!("{POLICIES}\n{baseline}"), ..Settings::default() });
    let agent = host.agent("role");
    let log = || std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log");
    let before = log();
    let role = "arn:aws:iam::666666666666:role/attacker";
    let text = agent.run(&["aws", "sts", "assume-role", "--role-arn", role, "--role-session-name", "xyz"]).failed();
    assert!(text.contains("(AccessDenied)") && text.contains("The role is of another account"), "{text}");
    assert_eq!(agent.timeline().only("sts:AssumeRole").policies, ["foreign-roles"]);
    assert_eq!(log(), before, "it was sent");
    let role = format!("arn:aws:iam::{ACCOUNT}:role/own");
    agent.run(&["aws", "sts", "assume-role", "--role-arn", &role, "--role-session-name", "xyz"]).ok();
}

#[test]
fn observe_mode_lets_through_and_says_so() {
    let host = Host::start(Settings { policy: "mode = \"observe\"".into(), ..Settings::default() });
    let agent = host.agent("denied-observed");
    let text = agent.run(&["aws", "sts", "get-caller-identity"]).ok();
    assert!(text.contains("user/held"), "{text}");
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("deny", Some(200)), "{exchange:?}");
    timeline.event("observed", "may do nothing here");
    // What is not a matter of policy is refused all the same.
    let foreign =
        host.agent("foreign").env("AWS_ACCESS_KEY_ID", "AKIAFOREIGNFOREIGN00").env("AWS_SECRET_ACCESS_KEY", "x");
    assert!(foreign.run(&["aws", "sts", "get-caller-identity"]).failed().contains("was not issued by Tollgate"));
}

#[test]
fn a_role_is_passed_only_where_a_policy_says_so() {
    let policies = r#"
        permit(principal, action == AWS::Action::"states:CreateStateMachine", resource);
        permit(principal, action == AWS::Action::"iam:PassRole", resource == AWS::Resource::"arn:aws:iam::123456789012:role/builder");
    "#;
    let host = Host::start(Settings { policies: policies.into(), ..Settings::default() });
    let agent = host.agent("passes");
    let create = |role: &str| {
        let role = format!("arn:aws:iam::123456789012:role/{role}");
        let definition = r#"{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}"#;
        let argv = ["stepfunctions", "create-state-machine", "--name", "m", "--definition", definition, "--role-arn"];
        agent.run(&[&["aws"], &argv[..], &[role.as_str()]].concat())
    };
    let text = create("admin").failed();
    assert!(text.contains("no policy permits iam:PassRole on arn:aws:iam::123456789012:role/admin"), "{text}");
    // Each run is a session of its own, and the timeline is the newest one's.
    let decided = |decision: &str| {
        let timeline = agent.timeline();
        let found: Vec<_> = timeline.exchanges.iter().map(|e| (e.decision.as_str(), e.action.as_str())).collect();
        assert_eq!(found, [(decision, "states:CreateStateMachine iam:PassRole")]);
    };
    decided("deny");
    create("builder").ok();
    decided("allow");
}
