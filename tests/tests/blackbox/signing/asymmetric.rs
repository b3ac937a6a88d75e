//! SigV4A: the JavaScript SDK's own signer at a multi-region access point, whose server verifies with other code.

use std::fs;

use tollgate_tests::host::Host;

const ARN: &str = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap";

/// Case 14.
#[test]
fn the_javascript_sdk_reaches_a_multi_region_access_point() {
    let host = Host::shared();
    let agent = host.agent("mrap");
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let (from, to) = (host.file("from", &bytes), host.work("to"));
    let client = host.dir().join("clients/signing/client.mjs");
    let [client, from, to] = [&client, &from, &to].map(|p| p.to_str().expect("UTF-8").to_owned());
    assert_eq!(agent.run(&["node", &client, "mrap", ARN, &from, &to]).ok(), "done");
    for n in ["0", "1"] {
        assert!(fs::read(format!("{to}{n}")).expect("downloaded") == bytes, "object {n} came back as another");
    }
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.len(), 4, "{timeline:#?}");
    for exchange in &timeline.exchanges {
        assert_eq!((exchange.decision.as_str(), exchange.status), ("allow", Some(200)), "{exchange:?}");
        let resource = &exchange.resources[0];
        assert!(resource.starts_with(&format!("{ARN}/object/")), "{resource}");
    }
}

/// Case 14: its streaming forms, which no SDK sends over TLS; altered ones are caught.
#[test]
fn signed_chunks_of_sigv4a_are_verified_and_signed_anew() {
    let host = Host::shared();
    let agent = host.agent("mrap-chunks");
    let answers = agent.probe(
        r#"
HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
keys = placeholder()
chunks = [b"a" * 70000, b"b" * 10]
crc = ("x-amz-checksum-crc32", "AAAAAA==")
def put(*given, **more): return ask(tls(HOST), message(*multiregion(HOST, "/k%20k", *given, keys=keys, **more)))
show(put(chunks))
show(put(chunks, crc))
def flip(n):
    def spoil(parts): parts[n] = b"x" + parts[n][1:]
    return spoil
show(put(chunks, spoil=flip(1)))
show(put(chunks, crc, spoil=lambda parts: parts.__setitem__(9, parts[9].replace(b"AAAA", b"BBBB", 1))))
show(put(chunks, region_set="us-east-1"))
show(ask(tls(HOST), message(*multiregion(HOST, "/k", chunks, keys={**keys, "SecretAccessKey": "x" * 40}))))
# An endpoint of one region that the set does not have.
show(ask(tls(S3), message(*multiregion(S3, "/tollgate-test/k", chunks, keys=keys, region_set="eu-west-1"))))
"#,
    );
    let cases = [
        (200, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD\r\n"),
        (200, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"),
        (403, "the signature of chunk 1 does not match"),
        (403, "the signature of the trailer does not match"),
        // Taken by us, for the access point to judge: it wants all regions.
        (403, "wrong credential or region set"),
        (403, "SignatureDoesNotMatch"),
        (400, "signed for region `eu-west-1`"),
    ];
    assert_eq!(answers.len(), cases.len());
    for (answer, (status, text)) in answers.iter().zip(cases) {
        assert_eq!(answer[0], status, "{answer}");
        assert!(answer[1].as_str().expect("text").contains(text), "{answer}\n not {text}");
    }
}
