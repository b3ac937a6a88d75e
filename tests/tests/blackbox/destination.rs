//! Case 20: the name decides where a request goes, and a connection that names nobody goes nowhere.

use serde_json::Value;
use tollgate_tests::host::Host;

/// The outside world's log has nobody there but those that tests of other modules send there on purpose.
#[track_caller]
fn nobody_got_out(host: &Host, name: &str) {
    let out: Vec<Value> = host.world().into_iter().filter(|e| e["name"] == name).collect();
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn a_name_of_awss_at_another_address_goes_to_where_the_name_points() {
    let host = Host::shared();
    let agent = host.agent("elsewhere");
    let answers = agent.probe(
        r#"
for address in (WEB, AWS6, "::ffff:" + WEB, "192.0.2.77"):
    connection = tls(STS, address)
    show(issuer(connection), connection.getpeername()[0], *ask(connection, message(*signed(STS, WHO), WHO)))
"#,
    );
    assert_eq!(answers.len(), 4);
    for answer in &answers {
        assert!(answer[0].as_str().expect("an issuer").contains("Tollgate"), "{answer}");
        assert_eq!(answer[2], 200, "{answer}");
        assert!(answer[3].as_str().expect("text").contains("user/held"), "{answer}");
    }
    // The agent sees the peer that it asked for.
    assert_eq!(answers[0][1], "203.0.113.5");
    nobody_got_out(host, "sts.us-east-1.amazonaws.com");
}

#[test]
fn a_connection_without_a_server_name_is_refused() {
    let host = Host::shared();
    let agent = host.agent("nameless");
    let answers = agent.probe(
        r#"
try: tls(None, verify=False); show("connected")
except OSError as e: show(str(e))
show(ask(plain(port=443), client_hello(None))[0])
"#,
    );
    assert!(answers[0].as_str().expect("text").contains("unrecognized name"), "an alert says why: {answers:?}");
    agent.timeline().event("refused", "it carries no server name");
}

#[test]
fn an_encrypted_client_hello_is_refused() {
    let host = Host::shared();
    let agent = host.agent("ech");
    let answers = agent.probe(
        r#"
def answer(data):
    connection = plain(port=443)
    connection.sendall(data)
    return list(connection.recv(5))[:1]
hello = client_hello(STS)
show(answer(hello))
# Outer hello, HKDF-SHA256, AES-128-GCM, configuration 7, an encapsulated key, a payload.
hidden = b"\0\0\1\0\1\7" + b"\0\x20" + b"k" * 32 + b"\0\x40" + b"p" * 64
show(answer(with_extension(hello, 0xfe0d, hidden)))
show(answer(with_extension(hello, 0xfa0a, hidden)))
"#,
    );
    // A handshake record to an ordinary one and to one with an unknown extension; an alert to the encrypted.
    assert_eq!(answers[0], serde_json::json!([0x16]));
    assert_eq!(answers[1], serde_json::json!([0x15]));
    assert_eq!(answers[2], serde_json::json!([0x16]));
    agent.timeline().event("refused", "it carries an encrypted ClientHello");
}

#[test]
fn plain_http_to_an_endpoint_is_judged_and_sent_on_as_tls() {
    let host = Host::shared();
    let script = r#"
body = b"by plain HTTP"
path = "/tollgate-test/plain"
line, fields = signed(S3, body, "PUT", path, "s3", s3=True)
show(ask(plain(AWS), message(line, fields, body)))
line, fields = signed(S3, b"", "GET", path, "s3", s3=True)
show(ask(plain(WEB), message(line, fields)))
"#;
    let agent = host.agent("plain");
    let answers = agent.probe(script);
    assert_eq!((&answers[0][0], &answers[1][0]), (&Value::from(200), &Value::from(200)), "{answers:?}");
    assert!(answers[1][1].as_str().expect("text").ends_with("by plain HTTP"), "{answers:?}");
    // The stand-in ends TLS only: it has come to it as TLS.
    assert_eq!(std::fs::read(host.dir().join("s3/tollgate-test/plain")).expect("stored"), b"by plain HTTP");
    agent.timeline().only("s3:PutObject");
    let denied = host.agent("denied-plain").probe(script);
    assert_eq!(denied[0][0], 403, "{denied:?}");
    assert!(denied[0][1].as_str().expect("text").contains("Sessions of this name"), "{denied:?}");
}

#[test]
fn an_address_in_place_of_a_name_is_refused() {
    let host = Host::shared();
    let agent = host.agent("literal");
    let answers = agent.probe(
        r#"
show(ask(plain(AWS), f"GET /literal HTTP/1.1\r\nHost: {AWS}\r\n\r\n".encode())[0])
show(ask(plain(AWS6), f"GET /literal HTTP/1.1\r\nHost: [{AWS6}]:80\r\n\r\n".encode())[0])
try: tls(AWS, verify=False); show("connected")
except OSError as e: show("refused")
"#,
    );
    assert_ne!(answers[0], 200, "{answers:?}");
    assert_ne!(answers[1], 200, "{answers:?}");
    assert_eq!(answers[2], "refused", "{answers:?}");
    agent.timeline().event("refused", "address");
}
