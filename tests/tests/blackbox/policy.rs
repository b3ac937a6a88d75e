//! A no reaches each client as the native error of its protocol, with the sentence that says who said no and why.

use serde_json::Value;
use tollgate_tests::host::{Agent, Host, Settings};

/// Codes by which the clients' users recognise a denial, by protocol.
fn code(protocol: &str) -> &'static str {
    match protocol.split(',').next().expect("a protocol") {
        "ec2" => "UnauthorizedOperation",
        "json" | "rest-json" | "cbor" => "AccessDeniedException",
        _ => "AccessDenied",
    }
}

/// The sentence names the policy, its reason and the session.
#[track_caller]
fn is_ours(message: &str, agent: &Agent<'_>, action: &str) {
    let session = agent.timeline().id().to_owned();
    let wanted = [
        format!("Tollgate denied {action}"),
        "Sessions of this name may do nothing here.".into(),
        "policy tests-deny".into(),
        format!("session {session}"),
    ];
    for part in wanted {
        assert!(message.contains(&part), "`{part}` is not in: {message}");
    }
}

#[test]
fn a_denial_is_access_denied_to_the_cli() {
    let host = Host::shared();
    let agent = host.agent("denied-cli");
    for (protocol, action, argv) in [
        ("query", "sts:GetCallerIdentity", &["sts", "get-caller-identity"][..]),
        ("query", "iam:ListUsers", &["iam", "list-users"]),
        ("ec2", "ec2:DescribeInstances", &["ec2", "describe-instances"]),
        ("json", "dynamodb:ListTables", &["dynamodb", "list-tables"]),
        ("json", "sqs:ListQueues", &["sqs", "list-queues"]),
        ("rest-json", "lambda:ListFunctions", &["lambda", "list-functions"]),
        ("rest-xml", "s3:ListBucket", &["s3api", "list-objects-v2", "--bucket", "tollgate-test"]),
        ("rest-xml", "s3:ListBucket", &["s3", "ls", "s3://tollgate-test"]),
    ] {
        let text = agent.run(&[&["aws"], argv].concat()).failed();
        assert!(text.contains(&format!("({}) when calling", code(protocol))), "{text}");
        is_ours(&text.replace("&quot;", "\""), &agent, action);
        let timeline = agent.timeline();
        let exchange = timeline.only(action);
        assert_eq!((exchange.decision.as_str(), exchange.status), ("deny", Some(403)), "{exchange:?}");
        assert_eq!(exchange.policies, ["tests-deny"]);
        let event = timeline.event("blocked", "Sessions of this name");
        assert_eq!((event.field("AWS_ACTION"), event.field("TOLLGATE_POLICY")), (action, "tests-deny"));
    }
    // A HEAD has no body to say why; the status must do.
    let text = agent.run(&["aws", "s3api", "head-object", "--bucket", "tollgate-test", "--key", "x"]).failed();
    assert!(text.contains("(403)"), "{text}");
}

#[test]
fn a_denial_is_a_client_error_of_boto3() {
    let host = Host::shared();
    let agent = host.agent("denied-boto3");
    let script = host.dir().join("clients/denied.py");
    let text = agent.run(&["python3", script.to_str().expect("UTF-8")]).ok();
    let lines: Vec<[Option<String>; 4]> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 10, "{text}");
    for [protocol, class, got, message] in lines.map_each() {
        assert_eq!(got, code(&protocol), "{protocol}: {message}");
        // Services that model the error raise its own class, the others the general one.
        assert!(class == "ClientError" || class == got, "{protocol}: {class}");
        is_ours(&message, &agent, "");
    }
    nothing_was_stored(host);
}

#[test]
fn a_denial_is_an_exception_of_its_own_name_in_javascript() {
    let host = Host::shared();
    let agent = host.agent("denied-js");
    let script = host.dir().join("clients/js/denied.mjs");
    let text = agent.run(&["node", script.to_str().expect("UTF-8")]).ok();
    let lines: Vec<[Option<String>; 3]> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines.len(), 8, "{text}");
    for [protocol, name, message] in lines.map_each() {
        assert_eq!(name, code(&protocol), "{protocol}: {message}");
        if protocol == "rest-json" {
            // A token is what that operation is for, so it is denied before any policy is asked.
            let session = format!("(session {}, ", agent.timeline().id());
            assert!(message.contains("its answer carries credentials") && message.contains(&session), "{message}");
        } else {
            is_ours(&message, &agent, "");
        }
    }
    nothing_was_stored(host);
}

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

fn nothing_was_stored(host: &Host) {
    assert!(!host.dir().join("s3/tollgate-test/denied").exists(), "a denied upload was stored");
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

/// All fields there.
trait MapEach<const N: usize> {
    fn map_each(self) -> Vec<[String; N]>;
}

impl<const N: usize> MapEach<N> for Vec<[Option<String>; N]> {
    fn map_each(self) -> Vec<[String; N]> {
        self.into_iter().map(|line| line.map(|field| field.expect("it should have been denied"))).collect()
    }
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
