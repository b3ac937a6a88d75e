//! S3 Express: boto3's own sessions with a directory bucket, whose credentials stay in the daemon.

use tollgate_tests::host::Host;

/// Case 14.
#[test]
fn boto3_uses_a_directory_bucket_by_a_session_of_placeholders() {
    let host = Host::shared();
    let agent = host.agent("express");
    let text = agent
        .python(
            r#"
import boto3
bucket = "things--use1-az4--x-s3"
client = boto3.client("s3", region_name="us-east-1")
client.put_object(Bucket=bucket, Key="a b+c", Body=b"express")
print(client.get_object(Bucket=bucket, Key="a b+c")["Body"].read().decode())
session = client.create_session(Bucket=bucket)["Credentials"]
print(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
"#,
        )
        .ok();
    let (first, rest) = text.split_once('\n').expect("two lines");
    assert_eq!(first, "express");
    assert!(rest.starts_with("ASIA") && !rest.contains("EXPRESS") && !rest.contains("express"), "{rest}");
    let timeline = agent.timeline();
    let of = |name: &str| timeline.exchanges.iter().filter(|e| e.operation.ends_with(name)).count();
    assert_eq!((of(":CreateSession"), of(":PutObject"), of(":GetObject")), (2, 1, 1), "{timeline:#?}");
    assert!(timeline.exchanges.iter().all(|e| e.status == Some(200)), "{timeline:#?}");
}

/// Each token in its own header, each key for its own kind of request.
#[test]
fn a_sessions_token_in_the_wrong_place_is_refused() {
    let host = Host::shared();
    let agent = host.agent("express-wrong");
    let answers = agent.probe(
        r#"
import boto3
HOST = "things--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com"
session = boto3.client("s3", region_name="us-east-1").create_session(Bucket="things--use1-az4--x-s3")["Credentials"]
express = {"AccessKeyId": session["AccessKeyId"], "SecretAccessKey": session["SecretAccessKey"], "Token": session["SessionToken"]}
own = placeholder()
def get(host, path, service, keys, header):
    bare = {k: v for k, v in keys.items() if k != "Token"}
    line, fields = signed(host, b"", "GET", path, service, keys=bare, s3=True, headers={header: keys["Token"]})
    return ask(tls(host), message(line, fields))
show(get(HOST, "/not-there", "s3express", express, "x-amz-s3session-token"))
show(get(HOST, "/not-there", "s3express", express, "x-amz-security-token"))
show(get(HOST, "/not-there", "s3express", own, "x-amz-s3session-token"))
show(get(S3, "/tollgate-test", "s3", express, "x-amz-s3session-token"))
"#,
    );
    for (answer, (status, text)) in answers.iter().zip([
        (404, "NoSuchKey"),
        (403, "the session token is in the wrong header"),
        (403, "the session token is in the wrong header"),
        (403, "the credentials of an S3 Express session"),
    ]) {
        assert_eq!(answer[0], status, "{answer}");
        assert!(answer[1].as_str().expect("text").contains(text), "{answer}\n not {text}");
    }
}
