//! A no reaches each client as the native error of its protocol, is not tried again, and says who said no and why; the
//! request id that comes with it leads to the record.

use serde_json::Value;
use tollgate_tests::host::{Agent, Host};

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
    cli("aws");
}

#[test]
fn a_denial_is_access_denied_to_the_cli_v2() {
    cli("aws2");
}

fn cli(program: &str) {
    let host = Host::shared();
    let agent = host.agent(&format!("denied-{program}"));
    for (protocol, action, argv) in [
        ("query", "sts:GetCallerIdentity", &["sts", "get-caller-identity"][..]),
        ("query", "iam:ListUsers", &["iam", "list-users"]),
        ("ec2", "ec2:DescribeInstances", &["ec2", "describe-instances"]),
        ("json", "dynamodb:ListTables", &["dynamodb", "list-tables"]),
        ("json", "sqs:ListQueues", &["sqs", "list-queues"]),
        ("rest-json", "lambda:ListFunctions", &["lambda", "list-functions"]),
        ("cbor", "cloudwatch:ListMetrics", &["cloudwatch", "list-metrics"]),
        ("rest-xml", "route53:ListHostedZones", &["route53", "list-hosted-zones"]),
        ("rest-xml", "s3:ListBucket", &["s3api", "list-objects-v2", "--bucket", "tollgate-test"]),
        ("rest-xml", "s3:ListBucket", &["s3", "ls", "s3://tollgate-test"]),
    ] {
        let text = agent.run(&[&[program], argv].concat()).failed();
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
    let text = agent.run(&[program, "s3api", "head-object", "--bucket", "tollgate-test", "--key", "x"]).failed();
    assert!(text.contains("(403)"), "{text}");
}

/// One call of a client's, as its script in `clients/` prints it.
struct Denied {
    name: String,
    /// Class of the exception, where the language has classes for them.
    class: Option<String>,
    code: String,
    message: String,
    request_id: String,
}

/// Runs a client's denied calls, and checks what is the same for all clients.
#[track_caller]
fn denied(host: &Host, client: &str, argv: &[&str], read: fn(&[String]) -> Denied) -> Vec<Denied> {
    let agent = host.agent(&format!("denied-{client}"));
    let text = agent.run(argv).ok();
    let lines: Vec<Vec<Option<String>>> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let calls: Vec<Denied> = lines
        .into_iter()
        .map(|line| line.into_iter().collect::<Option<Vec<String>>>().unwrap_or_else(|| panic!("not denied: {text}")))
        .map(|line| read(&line))
        .collect();
    let timeline = agent.timeline();
    for call in &calls {
        assert_eq!(call.code, code(&call.name), "{}: {}", call.name, call.message);
        is_ours(&call.message, &agent, "");
        let mut found = timeline.exchanges.iter().filter(|e| e.request_id.as_ref() == Some(&call.request_id));
        let exchange =
            found.next().unwrap_or_else(|| panic!("{} of {} is not in {timeline:#?}", call.request_id, call.name));
        assert!(found.next().is_none(), "two of {}", call.request_id);
        assert!(call.message.contains(&exchange.action), "{}: {exchange:?}", call.name);
    }
    // As many as were called: none was tried again.
    assert_eq!(timeline.exchanges.len(), calls.len(), "{timeline:#?}");
    nothing_was_stored(host);
    calls
}

#[test]
fn a_denial_is_a_client_error_of_boto3() {
    let host = Host::shared();
    let script = host.dir().join("clients/denied.py").display().to_string();
    let calls = denied(host, "boto3", &["python3", &script], |line| match line {
        [name, class, code, message, id] => Denied {
            name: name.clone(),
            class: Some(class.clone()),
            code: code.clone(),
            message: message.clone(),
            request_id: id.clone(),
        },
        _ => panic!("{line:?}"),
    });
    assert_eq!(calls.len(), 11);
    for call in calls {
        // Services that model the error raise its own class, the others the general one.
        let class = call.class.expect("Python has classes");
        assert!(class == "ClientError" || class == call.code, "{}: {class}", call.name);
    }
}

#[test]
fn a_denial_is_an_exception_of_its_own_name_in_javascript() {
    let host = Host::shared();
    let script = host.dir().join("clients/js/denied.mjs").display().to_string();
    let calls = denied(host, "js", &["node", &script], |line| match line {
        [name, code, message, id, attempts] => {
            assert_eq!(attempts, "1", "{name}");
            plain(&[name.clone(), code.clone(), message.clone(), id.clone()])
        }
        _ => panic!("{line:?}"),
    });
    assert_eq!(calls.len(), 10);
}

fn plain(line: &[String]) -> Denied {
    match line {
        [name, code, message, id] => Denied {
            name: name.clone(),
            class: None,
            code: code.clone(),
            message: message.clone(),
            request_id: id.clone(),
        },
        _ => panic!("{line:?}"),
    }
}

#[test]
fn a_denial_is_a_service_error_in_rust() {
    assert_eq!(denied(Host::shared(), "rust", &["tollgate-rust-client", "denied"], plain).len(), 4);
}

#[test]
fn a_denial_is_an_error_of_the_api_in_go() {
    assert_eq!(denied(Host::shared(), "go", &["go-client", "denied"], plain).len(), 5);
}

#[test]
fn a_denial_is_a_service_exception_in_java() {
    assert_eq!(denied(Host::shared(), "java", &["java-client", "denied"], plain).len(), 5);
}

/// It has no errors of its own to raise: the answer is what its user reads.
#[test]
fn a_denial_is_a_status_and_a_body_to_curl() {
    let host = Host::shared();
    let agent = host.agent("denied-curl");
    let script = host.dir().join("clients/curl.sh").display().to_string();
    let text = agent.run(&["sh", &script, "dynamodb"]).failed();
    assert!(text.contains("403"), "{text}");
    let (body, _) = text.split_once("curl:").expect("what curl says itself");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert!(body["__type"].as_str().is_some_and(|t| t.ends_with("AccessDeniedException")), "{body}");
    is_ours(body["message"].as_str().or(body["Message"].as_str()).expect("a message"), &agent, "dynamodb:ListTables");
}

pub(crate) fn nothing_was_stored(host: &Host) {
    assert!(!host.dir().join("s3/tollgate-test/denied").exists(), "a denied upload was stored");
}
