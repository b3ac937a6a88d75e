//! Uploads in signed chunks: verified against the placeholder and signed anew while they stream. s3s verifies ours.

use std::fs;
use std::time::Duration;

use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Host, Settings, unique};

/// Case 5. The Rust SDK signs its chunks and the trailer behind them where the endpoint is plain HTTP.
#[test]
fn the_rust_sdk_uploads_signed_chunks_with_a_signed_trailer() {
    let host = Host::shared();
    let agent = host.agent("chunks-rust").env("AWS_ENDPOINT_URL_S3", "http://s3.us-east-1.amazonaws.com");
    let bytes: Vec<u8> = (0..5_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    let (from, to, key) = (host.file("from", &bytes), host.work("to"), unique("chunked"));
    let path = |p: &std::path::Path| p.to_str().expect("UTF-8").to_owned();
    agent.run(&["tollgate-rust-client", "s3", BUCKET, &key, &path(&from), &path(&to)]).ok();
    assert!(fs::read(&to).expect("downloaded") == bytes, "the bytes that came back are not those that were sent");
    let stored = fs::read(host.dir().join("s3").join(BUCKET).join(&key)).expect("stored");
    assert!(stored == bytes, "what is stored is not what was sent: the envelope of the chunks, perhaps");
    let timeline = agent.timeline();
    let put = timeline.only("s3:PutObject");
    assert_eq!((put.status, put.error.as_deref()), (Some(200), None));
    // The envelope is part of what was sent.
    assert!(put.bytes_sent.is_some_and(|n| n > 5_000_001), "{put:?}");
}

/// Case 5: a chunk's head may come in any pieces; both spellings, with and without a trailer.
#[test]
fn chunks_split_anywhere_are_stored_as_they_were_meant() {
    let host = Host::shared();
    let agent = host.agent("chunks-split");
    let answers = agent.probe(
        r#"
keys = placeholder()
data = bytes(range(256)) * 300
chunks = [data[:65536], data[65536:]]
crc = ("x-amz-checksum-crc32", __import__("base64").b64encode(struct.pack(">I", __import__("zlib").crc32(data))).decode())
for trailer in (None, crc):
    for name, pieces in (("bytes", [1] * 100 + [65400] + [1] * 200), ("whole", [])):
        line, fields, body = chunked(f"/tollgate-test/chunks-{name}", chunks, trailer, keys)
        show(slowly(tls(S3), line, fields, body, pieces)[0])
# Nothing at all, and a checksum that s3s finds wrong.
show(ask(tls(S3), message(*chunked("/tollgate-test/chunks-empty", [], None, keys)))[0])
show(ask(tls(S3), message(*chunked("/tollgate-test/chunks-wrong", chunks, ("x-amz-checksum-crc32", "AAAAAA=="), keys)))[0])
# HTTP/1.1 without a length, and HTTP/2.
line, fields, body = chunked("/tollgate-test/chunks-te", chunks, crc, keys)
te = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:70000], body[70000:])) + b"0\r\n\r\n"
show(ask(tls(S3), head(line, [*fields, ("Transfer-Encoding", "chunked"), ("Connection", "close")]) + te)[0])
line, fields, body = chunked("/tollgate-test/chunks-h2", chunks, crc, keys)
show(curl(f"https://{S3}/tollgate-test/chunks-h2", fields, "-X", "PUT", "--data-binary", "@-", "-H", "Content-Type:", data=body)[0])
"#,
    );
    let expected: Vec<serde_json::Value> =
        vec![200.into(), 200.into(), 200.into(), 200.into(), 200.into(), 400.into(), 200.into(), "2 200".into()];
    assert_eq!(answers, expected);
    let data: Vec<u8> = (0..300).flat_map(|_| 0..=255_u8).collect();
    for name in ["bytes", "whole", "te", "h2"] {
        let stored = fs::read(host.dir().join(format!("s3/{BUCKET}/chunks-{name}"))).expect("stored");
        assert!(stored == data, "{name}: {} bytes are stored", stored.len());
    }
    assert_eq!(fs::read(host.dir().join(format!("s3/{BUCKET}/chunks-empty"))).expect("stored"), b"");
}

/// Case 5: nothing of it is complete upstream, the agent reads why, and the record and the journal have it.
#[test]
fn a_bad_chunk_after_bytes_were_forwarded_ends_the_upload() {
    let host = Host::shared();
    let agent = host.agent("chunks-bad");
    let answers = agent.probe(
        r#"
keys = placeholder()
chunks = [bytes([n]) * 65536 for n in range(8)]
crc = ("x-amz-checksum-crc32", "AAAAAA==")
def flip(n):
    def spoil(parts):
        parts[n] = bytes([parts[n][0] ^ 1]) + parts[n][1:]
    return spoil
def put(name, trailer=None, keys=keys, **more):
    return ask(tls(S3), message(*chunked("/tollgate-test/" + name, chunks, trailer, keys, **more)))
show(put("chunks-bad-data", spoil=flip(3 * 6 + 1)))
show(put("chunks-bad-last", spoil=lambda parts: parts.__setitem__(24, parts[24].replace(b"=", b"=0", 1)[:-3] + b"\r\n")))
show(put("chunks-bad-trailer", crc, spoil=lambda parts: parts.__setitem__(27, parts[27].replace(b"AAAAAA", b"BAAAAA"))))
show(put("chunks-bad-short", spoil=lambda parts: parts.__delitem__(slice(21, 24))))
show(put("chunks-bad-length", length=1 << 20))
show(put("chunks-bad-more", spoil=lambda parts: parts.append(b"0")))
show(put("chunks-bad-key", keys={**keys, "SecretAccessKey": "x" * 40}))
line, fields, body = chunked("/tollgate-test/chunks-bad-h2", chunks, None, keys, spoil=flip(3 * 6 + 1))
show(curl(f"https://{S3}/tollgate-test/chunks-bad-h2", fields, "-X", "PUT", "--data-binary", "@-", "-H", "Content-Type:", data=body))
"#,
    );
    for (answer, (status, code, text)) in answers[..6].iter().zip([
        (403, "SignatureDoesNotMatch", "the signature of chunk 7 does not match"),
        (403, "SignatureDoesNotMatch", "the signature of chunk 9 does not match"),
        (403, "SignatureDoesNotMatch", "the signature of the trailer does not match"),
        (400, "InvalidRequest", "the chunks hold 458752 bytes, but x-amz-decoded-content-length is 524288"),
        (400, "InvalidRequest", "the chunks hold 524288 bytes, but x-amz-decoded-content-length is 1048576"),
        (400, "InvalidRequest", "something follows the last one"),
    ]) {
        assert_eq!(answer[0], status, "{answer}");
        let body = answer[1].as_str().expect("text");
        assert!(body.contains(&format!("<Code>{code}</Code>")) && body.contains(text), "{body}\n not {text}");
    }
    // The request's own signature is wrong: nothing of it is sent at all.
    assert_eq!(answers[6][0], 403, "{answers:?}");
    assert_eq!(answers[7][0], "2 403", "{answers:?}");
    let stored: Vec<_> = fs::read_dir(host.dir().join(format!("s3/{BUCKET}")))
        .expect("the bucket")
        .map(|f| f.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("chunks-bad"))
        .collect();
    assert!(stored.is_empty(), "{stored:?} are stored");
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.len(), 8, "{timeline:#?}");
    assert!(timeline.exchanges.iter().all(|e| e.error.is_some()), "{timeline:#?}");
    timeline.event("refused", "the signature of chunk 7 does not match");
}

#[test]
fn a_chunk_that_is_too_large_is_refused_with_the_limit() {
    let host = Host::shared();
    let agent = host.agent("chunks-large");
    let answers = agent.probe(
        r#"
keys = placeholder()
show(ask(tls(S3), message(*chunked("/tollgate-test/chunks-4m", [b"a" * (4 << 20)], None, keys)))[0])
show(ask(tls(S3), message(*chunked("/tollgate-test/chunks-large", [b"a" * ((4 << 20) + 1)], None, keys))))
"#,
    );
    assert_eq!((&answers[0], &answers[1][0]), (&200.into(), &400.into()), "{answers:?}");
    let text = answers[1][1].as_str().expect("text");
    assert!(text.contains("EntityTooLarge") && text.contains("chunk 1 has 4194305 bytes, and the largest"), "{text}");
}

/// Cases 5 and 8: what the daemon holds does not grow with what passes. `TOLLGATE_TEST_LARGE_MIB=5120` tries S3's largest
/// part, which takes some minutes.
#[test]
fn a_large_upload_in_signed_chunks_takes_no_more_memory() {
    let large = std::env::var("TOLLGATE_TEST_LARGE_MIB").map_or(160, |mib| mib.parse().expect("a number of MiB"));
    let host = Host::start(Settings::default());
    let agent = host.agent("chunks-memory").budget(Duration::from_secs(120 + large));
    let upload = |mib: u64| {
        let answers = agent.probe(&format!(r#"show(endless("/tollgate-test/memory", {mib} * 8)[0])"#));
        assert_eq!(answers, [200]);
        assert_eq!(fs::metadata(host.dir().join(format!("s3/{BUCKET}/memory"))).expect("stored").len(), mib << 20);
        host.daemon_memory()
    };
    upload(16);
    let before = upload(16);
    let after = upload(large);
    println!("{} KiB at most, {} KiB after {large} MiB", before >> 10, after >> 10);
    assert!(after < before + (24 << 20), "{before} bytes before, {after} after {large} MiB");
}
