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
