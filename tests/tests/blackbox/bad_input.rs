//! Malformed input: whoever sent it is told, an event says so, and the daemon goes on.

use serde_json::Value;
use tollgate_tests::host::{Agent, Host, Settings};

/// Runs a script in a session of its own, and sees that the daemon serves the next one.
fn probe(name: &str, script: &str) -> (Agent<'static>, Vec<Value>) {
    let host = Host::shared();
    let agent = host.agent(name);
    let answers = agent.probe(script);
    assert!(host.daemon_is_running(), "{}", host.daemon_log());
    let alive = host.agent("alive").probe("show(ask(tls(STS), message(*signed(STS, WHO), WHO))[0])");
    assert_eq!(alive[0], 200);
    assert!(!host.daemon_log().contains("panicked"), "{}", host.daemon_log());
    (agent, answers)
}

#[test]
fn malformed_tls_gets_an_alert() {
    let (agent, answers) = probe(
        "tls",
        r#"
hello = client_hello(STS)
def answer(data):
    connection = plain(port=443)
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    return list(everything(connection)[:1])
show(answer(b"\x16\x03\x01\x00\x20" + b"\xff" * 32))
show(answer(b"\x16\x03\x01\xff\xff" + b"\x01" * 70000))
show(answer(hello[:60] + bytes(len(hello) - 60)))
"#,
    );
    for answer in &answers {
        assert_eq!(answer, &serde_json::json!([0x15]), "{answers:?}");
    }
    let timeline = agent.timeline();
    assert!(timeline.events.iter().filter(|e| e.kind == "refused").count() >= 3, "{timeline:#?}");
    assert!(timeline.exchanges.is_empty());
}

#[test]
fn what_is_neither_tls_nor_http_is_refused() {
    let (agent, answers) = probe(
        "neither",
        r#"
show(ask(plain(port=443), b"SSH-2.0-OpenSSH_9.2\r\n")[1])
show(ask(plain(port=443), b"\x00\x01\x02\x03")[1])
show(ask(plain(port=80), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[1])
"#,
    );
    assert!(answers.iter().all(|a| a.as_str().is_some_and(|text| !text.contains("outside world"))), "{answers:?}");
    agent.timeline().event("refused", "neither TLS nor HTTP");
}

#[test]
fn malformed_http_gets_a_400() {
    let (agent, answers) = probe(
        "http",
        r#"
for data in [
    f"GET / HTTP/1.1\r\nHost: {STS}\r\nno colon here\r\n\r\n",
    f"GET / HTTP/9.9\r\nHost: {STS}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: {STS}\r\nX: {'x' * 1000000}\r\n\r\n",
    f"POST / HTTP/1.1\r\nHost: {STS}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    f"POST / HTTP/1.1\r\nHost: {STS}\r\nContent-Length: -5\r\n\r\n",
    f"POST / HTTP/1.1\r\nHost: {STS}\r\nTransfer-Encoding: gzip\r\n\r\n",
]:
    show(ask(tls(STS), data.encode())[0])
"#,
    );
    for (n, answer) in answers.iter().enumerate() {
        assert!(matches!(answer.as_u64(), Some(400 | 431 | 505)), "{n}: {answers:?}");
    }
    agent.timeline().event("refused", "malformed HTTP");
}

#[test]
fn a_request_that_can_be_read_two_ways_is_refused() {
    let (agent, answers) = probe(
        "twice",
        r#"
keys = placeholder()
EC2 = "ec2.us-east-1.amazonaws.com"
def case(line, fields): show(ask(tls(STS), message(line, fields, WHO)))
line, fields = signed(STS, WHO, keys=keys)
# Host is not the connection's.
case(*signed(EC2, WHO, keys=keys))
# Two of them.
case(line, [*fields, ("Host", STS)])
case(line, [*fields, ("Host", EC2)])
# None.
case(line, [f for f in fields if f[0] != "Host"])
# A target in absolute form.
case(line.replace(" /", f" https://{STS}/"), fields)
case(line.replace(" /", f" https://{EC2}/"), fields)
# Signed for another service, and for another region.
case(*signed(STS, WHO, service="ec2", keys=keys))
case(*signed(STS, WHO, region="eu-central-1", keys=keys))
# Members twice, and in two places.
double = WHO + "&Action=GetSessionToken"
show(ask(tls(STS), message(*signed(STS, double, keys=keys), double)))
line, fields = signed(STS, WHO, path="/?Action=GetSessionToken&Version=2011-06-15", keys=keys)
show(ask(tls(STS), message(line, fields, WHO)))
# Two targets.
show(ask(tls(STS), message(*signed(STS, WHO, keys=keys, headers={"Connection": "x-amz-date"}), WHO)))
"#,
    );
    assert_eq!(answers.len(), 11);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer[0], 400, "{n}: {answer}");
        assert!(answer[1].as_str().expect("text").contains("<Message>"), "{n}: in AWS's shape: {answer}");
    }
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.decision == "refuse"), "{timeline:#?}");
    for reason in ["more than one Host", "but the connection was made to", "absolute form", "no Host header"] {
        timeline.event("refused", reason);
    }
    // What nobody can say the meaning of is blocked as whatever it may be, and its bytes are in the record.
    let event = timeline.event("blocked", "twice");
    assert_eq!(event.field("AWS_ACTION"), "unknown:unknown", "{event:?}");
    let recorded: Vec<_> = timeline.exchanges.iter().filter(|e| e.parameters.contains("tollgate:body")).collect();
    assert!(recorded.iter().all(|e| e.action == "unknown:unknown") && recorded.len() >= 2, "{timeline:#?}");
}

/// RFC 9112 §6.3: the chunks count and the length is ignored. What matters is that the endpoint sees no request but those
/// that were judged, wherever a second one hides: each hidden one is signed, allowed, and would succeed on its own.
#[test]
fn a_length_beside_chunks_smuggles_nothing() {
    // Its own, so that moto's log holds what this agent got through and nothing else.
    let host = Host::start(Settings::default());
    let agent = host.agent("smuggle");
    let upstream = || {
        let log = std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log");
        log.lines().filter(|line| line.contains("\"POST / HTTP/1.1\"")).count()
    };
    let before = upstream();
    let script = |more: &str| {
        agent.probe(&format!(
            r#"
keys = placeholder()
line, fields = signed(STS, WHO, keys=keys)
hidden = message(*signed(STS, WHO, keys=keys), WHO)
def chunked(data): return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
def both(length, line, fields, body, name=STS):
    length, chunks = ("Content-Length", length), ("Transfer-Encoding", "chunked")
    for extra in ([length, chunks], [chunks, length]):
        show(ask(tls(name), head(line, [*fields, *extra]) + body))
{more}"#
        ))
    };
    let statuses = |answers: &[Value]| -> Vec<usize> {
        answers.iter().map(|a| a[1].as_str().expect("text").matches("HTTP/1.1 200").count()).collect()
    };
    // Honestly sent, the hidden one is answered and counted: one alone, and one behind another.
    let honest = script(
        "show(ask(tls(STS), hidden))\nshow(ask(tls(STS), head(line, [*fields, (\"Content-Length\", len(WHO))]) + WHO.encode() + hidden))",
    );
    assert_eq!(statuses(&honest), [1, 2], "{honest:?}");
    assert_eq!((upstream() - before, agent.timeline().exchanges.len()), (3, 3));

    // Behind the chunks, where the length would still cover it.
    let before = upstream();
    let answers = script("both(len(chunked(WHO.encode()) + hidden), line, fields, chunked(WHO.encode()) + hidden)");
    let timeline = agent.timeline();
    // The one before it is judged and answered, and the connection closed, as the RFC asks.
    assert_eq!(statuses(&answers), [1, 1], "{answers:?}");
    assert_eq!((upstream() - before, timeline.exchanges.len()), (2, 2), "{timeline:#?}");

    // Inside of a chunk, where the length has ended: it is nothing but the bytes of an object.
    let answers = script(
        r#"
def put(path, **more): return signed(S3, "loot" if not more else "", "PUT", path, "s3", s3=True, keys=keys, **more)
def loot(path): return message(*put(path), "loot")
show(ask(tls(S3), loot("/tollgate-test/honest")))
hidden = loot("/tollgate-test/smuggled")
both(len(b"%x\r\n" % len(hidden)), *put("/tollgate-test/cover", payload="UNSIGNED-PAYLOAD"), chunked(hidden), S3)
"#,
    );
    let bucket = host.dir().join("s3/tollgate-test");
    let timeline = agent.timeline();
    let targets: Vec<&str> = timeline.exchanges.iter().map(|e| e.target.as_str()).collect();
    let [honest, cover] = ["/tollgate-test/honest", "/tollgate-test/cover"];
    assert_eq!(targets, [honest, cover, cover], "{answers:?}");
    // S3 wants a length, and the one that was sent has gone: it reached the endpoint as chunks or not at all.
    assert!(answers[1..].iter().all(|a| a[0] == 411), "{answers:?}");
    assert_eq!(std::fs::read(bucket.join("honest")).expect("it would have been stored"), b"loot");
    assert!(!bucket.join("smuggled").exists(), "it was smuggled");
}

#[test]
fn a_client_that_says_nothing_is_cut_off() {
    let (agent, answers) = probe(
        "silent",
        r#"
connection = plain(port=443)
start = time.monotonic()
connection.sendall(client_hello(STS)[:20])
show(everything(connection).hex(), time.monotonic() - start)
"#,
    );
    assert!(answers[0][1].as_f64().is_some_and(|seconds| (4.0..20.0).contains(&seconds)), "{answers:?}");
    agent.timeline().event("refused", "gateway.handshake_timeout");
}
