//! What is not Tollgate's business stays as it is: other names, and everybody without a tag.

use tollgate_tests::bed::world::GREETING;
use tollgate_tests::host::Host;

#[test]
fn names_that_are_not_awss_reach_the_outside_world_untouched() {
    let host = Host::shared();
    let agent = host.agent("splice");
    let world = host.info.world_root.display();
    let answers = agent.probe(&format!(
        r#"
connection = tls("spliced.example.org", WEB, roots="{world}")
show(issuer(connection))
show(ask(connection, b"GET / HTTP/1.1\r\nHost: spliced.example.org\r\n\r\n"))
show(ask(plain(WEB), b"GET / HTTP/1.1\r\nHost: spliced.example.org\r\n\r\n"))
"#
    ));
    assert_eq!(answers[0], "Test outside world");
    for answer in &answers[1..] {
        assert_eq!(answer[0], 200);
        assert!(answer[1].as_str().expect("text").ends_with(GREETING), "{answer}");
    }
    assert!(host.world().iter().any(|e| e["name"] == "spliced.example.org"), "{:?}", host.world());
    let timeline = agent.timeline();
    assert!(timeline.exchanges.is_empty(), "{timeline:#?}");
    for destination in ["203.0.113.5:443", "203.0.113.5:80"] {
        let told = timeline.events.iter().find(|e| e.field("TOLLGATE_DESTINATION") == destination);
        let told = told.unwrap_or_else(|| panic!("nothing about {destination} in {timeline:#?}"));
        assert!(told.kind == "spliced" && told.reason().starts_with("spliced.example.org: "), "{told:?}");
    }
}

#[test]
fn a_process_without_a_tag_sees_no_change_at_all() {
    let host = Host::shared();
    let name = "untagged-probe.us-east-1.amazonaws.com";
    let world = host.info.world_root.display();
    let script = format!(
        r#"
connection = tls("{name}", roots="{world}")
show(issuer(connection), connection.getpeername()[0])
show(ask(connection, b"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n"))
def failure(f):
    try: return f() and None
    except OSError as e: return type(e).__name__
show(failure(lambda: imds("/latest/meta-data/")))
try: tls("{name}")
except ssl.SSLError as e: show("verify failed" in str(e))
show(os.path.exists(os.path.expanduser("~/.aws")), os.path.getsize("/etc/ssl/certs/ca-certificates.crt"))
"#
    );
    let answers = host.outsider("untagged").probe(&script);
    assert_eq!(answers[0], serde_json::json!(["Test outside world", "198.51.100.7"]));
    assert_eq!(answers[1][0], 200);
    assert!(answers[1][1].as_str().expect("text").ends_with(GREETING));
    assert!(answers[2].is_string(), "there is no metadata service in the bed: {answers:?}");
    assert_eq!(answers[3], true, "the host's roots do not have Tollgate's");
    let size = std::fs::metadata("/etc/ssl/certs/ca-certificates.crt").expect("a bundle").len();
    assert_eq!(answers[4], serde_json::json!([false, size]));
    assert!(host.world().iter().any(|e| e["name"] == name), "{:?}", host.world());
    // Neither the record nor the journal knows of it.
    assert!(!host.tollgate(&["events", "--json", "--limit", "10000"]).ok().contains("untagged-probe"));
    assert!(!host.daemon_log().contains("untagged-probe"));
}

#[test]
fn listed_names_are_refused() {
    let host = Host::start(tollgate_tests::host::Settings {
        egress: "default = \"refuse\"\nallow = [\"*.allowed.example.org\", \"ok.example.org\"]".into(),
        ..Default::default()
    });
    let agent = host.agent("egress");
    let world = host.info.world_root.display();
    let answers = agent.probe(&format!(
        r#"
def reach(name):
    try: return issuer(tls(name, WEB, roots="{world}"))
    except OSError as e: return type(e).__name__
show(reach("ok.example.org"))
show(reach("other.example.org"))
show(ask(plain(WEB), b"GET / HTTP/1.1\r\nHost: other.example.org\r\n\r\n")[0])
"#
    ));
    assert_eq!(answers[0], "Test outside world");
    assert_ne!(answers[1], "Test outside world");
    assert_ne!(answers[2], 200);
    agent.timeline().event("refused", "`other.example.org` is not in `egress.allow`");
    assert!(!host.world().iter().any(|e| e["name"] == "other.example.org"), "{:?}", host.world());
}
