//! Requests as they stand on the wire: paths, queries, lengths, headers and clocks, to servers that verify what we make.

use std::fs;

use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::Host;

/// Cases 1 to 3. The server's canonical request is botocore's, over the very bytes that arrive.
#[test]
fn hard_keys_and_queries_are_signed_as_they_are_sent() {
    let host = Host::shared();
    let agent = host.agent("hard-keys");
    let answers = agent.probe(
        r#"
HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
keys = placeholder()
for path in ["/a%20b", "/a%2Bb", "/a%3Db%2Ac%40d", "/%2525", "/%E6%97%A5%E6%9C%AC%E8%AA%9E", "/%F0%9F%98%80", "/a//", "/a//b", "/a/./b", "/a/../b",
             "/test%24file.text", "/a%2Fb", "/~user/-._~", "/%27%28%29%21", "/.hidden", "/x/"]:
    show(path, ask(tls(HOST), message(*multiregion(HOST, path, [path.encode()], keys=keys))))
# Sent to an S3 that takes them apart: prefixes, empty values, several of one name where it may be.
for query in ["prefix=env%3A%2F", "prefix=a%20b&delimiter=%2F", "prefix=", "prefix=x%2By%3Dz", "list-type=2&prefix=%C3%BC&start-after=a%3Db"]:
    _, fields = signed(S3, "", "GET", "/tollgate-test?" + query, "s3", keys=keys, s3=True)
    status, text = fetch(f"https://{S3}/tollgate-test?{query}", "GET", [(k, v) for k, v in fields if k != "Host"])
    show(query, [status, text])
"#,
    );
    assert_eq!(answers.len(), 21);
    for answer in &answers {
        assert_eq!(answer[1][0], 200, "{answer}");
    }
    for (answer, prefix) in answers[16..].iter().zip(["env:/", "a b", "", "x+y=z", "ü"]) {
        let text = answer[1][1].as_str().expect("text");
        let expected = format!("<Prefix>{prefix}</Prefix>");
        assert!(text.contains(&expected) || prefix.is_empty() && !text.contains("<Prefix>a"), "{text}");
    }
}

/// Cases 6 and 7: bodies with and without lengths and hashes; nobody waits for a body that is not to come.
#[test]
fn bodies_are_read_to_their_end_and_not_waited_for() {
    let host = Host::shared();
    let agent = host.agent("lengths");
    let answers = agent.probe(
        r#"
keys = placeholder()
# The hash is in the signature and in no header: the body's, not that of nothing.
show(ask(tls(STS), message(*signed(STS, WHO, keys=keys), WHO)))
# Without a length.
line, fields = signed(STS, WHO, keys=keys)
parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (WHO[:1].encode(), WHO[1:].encode())) + b"0\r\n\r\n"
show(ask(tls(STS), head(line, [*fields, ("Transfer-Encoding", "chunked"), ("Connection", "close")]) + parts))
# GET, HEAD and DELETE without a length, on one connection.
connection = tls(S3)
for method in ("GET", "HEAD", "DELETE"):
    line, fields = signed(S3, b"", method, "/tollgate-test/not-there", "s3", keys=keys, s3=True)
    connection.sendall(head(line, fields))
    show(connection.recv(65536).decode(errors="replace").split(" ")[1])
# `Expect: 100-continue` is answered once, before the body, and the endpoint is not asked.
body = b"expected"
line, fields = signed(S3, body, "PUT", "/tollgate-test/expected", "s3", keys=keys, s3=True)
connection = tls(S3)
connection.sendall(head(line, [*fields, ("Content-Length", len(body)), ("Expect", "100-continue"), ("Connection", "close")]))
first = connection.recv(65536).decode()
connection.sendall(body)
show(first, everything(connection).decode())
# The same in signed chunks, without a length.
line, fields, body = chunked("/tollgate-test/expected-chunks", [b"in chunks"], None, keys)
connection = tls(S3)
connection.sendall(head(line, [*fields, ("Transfer-Encoding", "chunked"), ("Expect", "100-continue"), ("Connection", "close")]))
first = connection.recv(65536).decode()
connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
show(first, everything(connection).decode())
"#,
    );
    for n in [0, 1] {
        assert_eq!(answers[n][0], 200, "{n}: {}", answers[n]);
        assert!(answers[n][1].as_str().expect("text").contains("user/held"), "{}", answers[n]);
    }
    assert_eq!(answers[2..5], ["404", "404", "204"]);
    for answer in &answers[5..7] {
        assert_eq!(answer[0], "HTTP/1.1 100 Continue\r\n\r\n", "{answer}");
        let rest = answer[1].as_str().expect("text");
        assert!(rest.starts_with("HTTP/1.1 200") && !rest.contains("100 Continue"), "{rest}");
    }
    for (name, bytes) in [("expected", &b"expected"[..]), ("expected-chunks", b"in chunks")] {
        assert_eq!(fs::read(host.dir().join(format!("s3/{BUCKET}/{name}"))).expect("stored"), bytes);
    }
}

/// Cases 9 and 13: headers of one hop, bytes beyond ASCII, and a clock that is an hour off.
#[test]
fn a_clock_an_hour_off_and_headers_of_one_hop_do_not_spoil_the_signature() {
    let host = Host::shared();
    let agent = host.agent("clock");
    let answers = agent.probe(
        r#"
import botocore.auth, datetime
keys = placeholder()
now = botocore.auth.get_current_datetime
def put(name, hours=0, more=(), data=b"x", **headers):
    botocore.auth.get_current_datetime = lambda *a, **k: now(*a, **k) + datetime.timedelta(hours=hours)
    line, fields = signed(S3, data, "PUT", "/tollgate-test/" + name, "s3", keys=keys, s3=True, headers=headers)
    return ask(tls(S3), message(line, [*fields, *more], data))
show(put("clock-behind", -1))
show(put("clock-ahead", 1))
show(put("clock-far", -13))
show(put("hops", 0, [("TE", "trailers"), ("Accept-Encoding", "gzip"), ("User-Agent", "a  b"), ("amz-sdk-request", "attempt=1"), ("Keep-Alive", "5")]))
show(put("spaces", **{"x-amz-meta-spaced": "  a   b  "}))
# Twice, empty, and one that nobody signed.
show(put("twice", 0, [("Authorization", "AWS4-HMAC-SHA256 x")]))
show(put("empty", 0, [("x-amz-acl", "")]))
show(put("unsigned", 0, [("x-amz-acl", "public-read")]))
"#,
    );
    for (n, (answer, status)) in answers.iter().zip([200, 200, 403, 200, 200, 400, 400, 400]).enumerate() {
        assert_eq!(answer[0], status, "{n}: {answer}");
    }
    assert!(answers[2][1].as_str().expect("text").contains("RequestTimeTooSkewed"), "{}", answers[2]);
}
