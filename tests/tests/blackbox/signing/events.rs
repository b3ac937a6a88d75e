//! Event streams both ways: the JavaScript SDK signs each event, the server verifies each of ours.

use tollgate_tests::host::Host;

/// Case 15: every event is signed anew, and neither way waits for the other to end.
#[test]
fn the_javascript_sdk_converses_in_signed_events() {
    let host = Host::shared();
    let agent = host.agent("events");
    let client = host.dir().join("clients/signing/client.mjs");
    let said = agent.run(&["node", client.to_str().expect("UTF-8"), "converse", "amazon.nova-sonic-v1:0"]).ok();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["one", "one+", "one++", "end"]);
    let timeline = agent.timeline();
    let [exchange] = timeline.exchanges.as_slice() else { panic!("{timeline:#?}") };
    assert_eq!(exchange.operation, "bedrock:InvokeModelWithBidirectionalStream", "{exchange:?}");
    assert_eq!((exchange.status, exchange.error.as_deref()), (Some(200), None), "{exchange:?}");
    assert!(exchange.bytes_sent.is_some_and(|n| n > 0) && exchange.bytes_received.is_some_and(|n| n > 0));
}

/// Case 15: what was altered goes no further, also when the answer has long begun.
#[test]
fn an_altered_event_ends_the_conversation() {
    let host = Host::shared();
    let agent = host.agent("events-altered");
    let answers = agent.probe(
        r#"
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
path = "/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream"
said = ['{"bytes":"b25l"}', '{"bytes":"dHdv"}', '{"bytes":"dGhyZWU="}']
def converse(spoil=None):
    line, fields, frames = events(HOST, path, said)
    if spoil: spoil(frames)
    return heard(tls(HOST), line, fields, frames)
show(converse())
def altered(frames):
    import zlib
    text = frames[1][:-4].replace(b"dHdv", b"dHdw")
    frames[1] = text + struct.pack(">I", zlib.crc32(text))
show(converse(altered))
show(converse(lambda frames: frames.pop(0)))
show(converse(lambda frames: frames.pop(1)))
"#,
    );
    let text = |n: usize| answers[n].as_str().expect("text");
    for whole in ["200 OK", "b25l", "dHdv", "dGhyZWU="] {
        assert!(text(0).contains(whole), "{}", text(0));
    }
    assert!(text(0).ends_with("0\r\n\r\n"), "the first has an end: {}", text(0));
    assert!(text(1).contains("b25l") && !text(1).contains("dHd") && !text(1).contains("dGhy"), "{}", text(1));
    // The endpoint answers the head of a request, so its own head may be there first.
    let refused = text(2).contains("the signature of event 1 does not match");
    assert!(refused || text(2).contains("200 OK") && !text(2).contains("bytes"), "{}", text(2));
    assert!(refused || !text(2).ends_with("0\r\n\r\n"), "an answer that was cut looks whole: {}", text(2));
    assert!(text(3).contains("b25l") && !text(3).contains("dGhy"), "{}", text(3));
    for n in [1, 3] {
        assert!(!text(n).ends_with("0\r\n\r\n"), "an answer that was cut looks whole: {}", text(n));
    }
    agent.timeline().event("refused", "the signature of event 2 does not match");
    let timeline = agent.timeline();
    let errors: Vec<_> = timeline.exchanges.iter().map(|e| e.error.as_deref().unwrap_or_default()).collect();
    assert_eq!(errors[0], "", "{timeline:#?}");
    for (n, event) in [(1, 2), (2, 1), (3, 2)] {
        let expected = format!("the signature of event {event} does not match");
        assert!(errors[n].contains(&expected), "{n}: {errors:?}");
    }
}
