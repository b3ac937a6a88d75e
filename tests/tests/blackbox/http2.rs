//! HTTP/2 from the agent, by curl: the same judgement, the same bytes.

use serde_json::Value;
use tollgate_tests::host::Host;

#[test]
fn requests_over_http2_are_judged_and_streamed() {
    let host = Host::shared();
    let agent = host.agent("h2");
    let big: Vec<u8> = (0..32_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    let (file, back) = (host.file("big", &big), host.work("back"));
    let answers = agent.probe(&format!(
        r#"
keys = placeholder()
_, fields = signed(STS, WHO, keys=keys)
show(curl(f"https://{{STS}}/", fields, "-d", WHO))
body = open("{file}", "rb").read()
_, fields = signed(S3, body, "PUT", "/tollgate-test/h2", "s3", s3=True, keys=keys)
show(curl(f"https://{{S3}}/tollgate-test/h2", fields, "-T", "{file}"))
_, fields = signed(S3, b"", "GET", "/tollgate-test/h2", "s3", s3=True, keys=keys)
show(curl(f"https://{{S3}}/tollgate-test/h2", fields, "-o", "{back}"))
# Twenty at once, on one connection.
urls = [f"https://{{S3}}/tollgate-test/h2"] * 19
show(curl(f"https://{{S3}}/tollgate-test/h2", fields, "-Z", "--no-progress-meter", "--range", "0-99999", *urls, *["-o/dev/null"] * 20)[1:])
"#,
        file = file.display(),
        back = back.display(),
    ));
    assert_eq!((&answers[0][0], &answers[1][0], &answers[2][0]), (&"2 200".into(), &"2 200".into(), &"2 200".into()));
    assert!(answers[0][1].as_str().expect("text").contains("user/held"), "{answers:?}");
    assert!(std::fs::read(&back).expect("downloaded") == big, "the bytes that came back are not those that were sent");
    assert!(answers[3][0].as_str().is_some_and(|t| t.matches("2 20").count() == 19), "{answers:?}");
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.decision == "allow" && e.error.is_none()), "{timeline:#?}");
    assert_eq!(timeline.exchanges.iter().filter(|e| e.action == "s3:GetObject").count(), 21);
}

#[test]
fn a_denial_over_http2_reads_as_over_http1() {
    let host = Host::shared();
    let agent = host.agent("denied-h2");
    let answers = agent.probe(r#"show(curl(f"https://{STS}/", signed(STS, WHO)[1], "-d", WHO))"#);
    assert_eq!(answers[0][0], "2 403");
    assert!(answers[0][1].as_str().expect("text").contains("may do nothing here"), "{answers:?}");
}

#[test]
fn a_streamed_upload_over_http2_that_was_altered_is_not_stored() {
    let host = Host::shared();
    let agent = host.agent("h2-altered");
    let answers = agent.probe(&format!(
        r#"
body = b"a" * (1 << 20)
open("{0}", "wb").write(body[:-1] + b"b")
_, fields = signed(S3, body, "PUT", "/tollgate-test/h2-altered", "s3", s3=True)
show(curl(f"https://{{S3}}/tollgate-test/h2-altered", fields, "-T", "{0}"))
"#,
        host.work("altered").display()
    ));
    assert_eq!(answers[0][0], "2 403", "{answers:?}");
    assert!(answers[0][1].as_str().expect("text").contains("SignatureDoesNotMatch"), "{answers:?}");
    assert!(!host.dir().join("s3/tollgate-test/h2-altered").exists(), "it was stored");
    let timeline = agent.timeline();
    let exchange = timeline.only("s3:PutObject");
    assert!(exchange.error.as_deref().is_some_and(|e| e.contains("not the one that was signed")), "{exchange:?}");
}

#[test]
fn another_authority_than_the_connections_is_refused() {
    let host = Host::shared();
    let agent = host.agent("authority");
    let answers = agent.probe(
        r#"
EC2 = "ec2.us-east-1.amazonaws.com"
show(curl(f"https://{STS}/", signed(EC2, WHO)[1], "-d", WHO))
"#,
    );
    assert_eq!(answers[0][0], Value::from("2 400"), "{answers:?}");
    agent.timeline().event("refused", "but the connection was made to");
}
