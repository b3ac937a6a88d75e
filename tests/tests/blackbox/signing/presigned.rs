//! Presigned URLs: signed by botocore and the AWS CLI with the placeholder, fetched by curl, signed anew in headers.

use std::fs;

use serde_json::Value;
use tollgate_tests::bed::BUCKET;
use tollgate_tests::host::{Host, unique};

/// Case 10: the CLI's own command, and boto3's for an upload, with a type that is signed.
#[test]
fn presigned_urls_of_the_cli_and_boto3_work_by_curl() {
    let host = Host::shared();
    let agent = host.agent("presigned");
    let key = unique("presigned/a key+with=signs");
    fs::create_dir_all(host.dir().join(format!("s3/{BUCKET}/presigned"))).expect("a directory");
    let text = agent
        .python(&format!(
            r#"
import boto3, subprocess
from botocore.config import Config
from urllib.parse import urlsplit
key = {key:?}
def client(region, **config): return boto3.client("s3", region_name=region, config=Config(**config))
def curl(url, *more):
    return subprocess.run(["curl", "-sS", "-w", "\n%{{http_code}}", *more, url], capture_output=True, text=True).stdout
v4 = client("us-east-1", signature_version="s3v4")
put = v4.generate_presigned_url("put_object", Params=dict(Bucket="{BUCKET}", Key=key, ContentType="text/plain", Metadata=dict(a="b")))
print(curl(put, "-X", "PUT", "-H", "Content-Type: text/plain", "-H", "x-amz-meta-a: b", "--data-binary", "v4 body").strip())
print(curl(v4.generate_presigned_url("get_object", Params=dict(Bucket="{BUCKET}", Key=key))).strip())
url = subprocess.run(["aws", "s3", "presign", f"s3://{BUCKET}/" + key, "--expires-in", "60"], capture_output=True, text=True).stdout.strip()
print(sorted(p.split("=")[0] for p in urlsplit(url).query.split("&"))[0])
print(curl(url).strip())
# What boto3 makes in this region unless told otherwise.
v2 = client("us-east-1")
url = v2.generate_presigned_url("put_object", Params=dict(Bucket="{BUCKET}", Key=key, ContentType="text/plain"))
print("AWSAccessKeyId" in url)
print(curl(url, "-X", "PUT", "-H", "Content-Type: text/plain", "--data-binary", "v2 body").strip())
url = v2.generate_presigned_url("get_object", Params=dict(Bucket="{BUCKET}", Key=key, ResponseContentType="text/x-a b"))
print(curl(url, "-D", "-").strip())
print(curl(url.replace("x-a", "x-b")).strip())
print(curl(v2.generate_presigned_url("list_objects_v2", Params=dict(Bucket="{BUCKET}", Prefix="presigned/"), ExpiresIn=9)).strip())
"#
        ))
        .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["200", "v4 body", "200"], "{text}");
    assert_eq!(lines[4..6], ["v4 body", "200"], "{text}");
    assert_eq!(lines[6..8], ["True", "200"], "{text}");
    assert!(text.contains("\nv2 body\n200\n"), "{text}");
    assert!(text.contains("<Code>SignatureDoesNotMatch</Code>"), "{text}");
    assert!(text.ends_with("</ListBucketResult>\n200") && text.contains("<Prefix>presigned/</Prefix>"), "{text}");
    let stored = fs::read(host.dir().join("s3").join(BUCKET).join(&key)).expect("stored");
    assert_eq!(stored, b"v2 body");
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.iter().filter(|e| e.action == "s3:PutObject").count(), 2, "{timeline:#?}");
    assert!(!timeline.exchanges.iter().any(|e| e.target.contains("Signature")), "{timeline:#?}");
}

/// Case 10. `aws eks get-token` is such a URL in base64; its header is signed and not in it.
#[test]
fn the_url_in_a_token_of_eks_works_by_curl() {
    let host = Host::shared();
    let agent = host.agent("eks-token");
    let text = agent
        .python(
            r#"
import base64, json, subprocess
token = json.loads(subprocess.run(["aws", "eks", "get-token", "--cluster-name", "c"], capture_output=True, text=True, check=True).stdout)["status"]["token"]
text = token.removeprefix("k8s-aws-v1.")
url = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
def curl(*more): return subprocess.run(["curl", "-sS", *more, url], capture_output=True, text=True).stdout
print("X-Amz-Expires=60" in url)
print(curl("-H", "x-k8s-aws-id: c").replace("\n", " "))
print(curl("-H", "x-k8s-aws-id: d").replace("\n", " "))
print(curl().replace("\n", " "))
"#,
        )
        .ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "True");
    assert!(lines[1].contains("user/held"), "{text}");
    assert!(lines[2].contains("SignatureDoesNotMatch"), "{text}");
    assert!(lines[3].contains("`x-k8s-aws-id` is missing"), "{text}");
    agent.timeline().only("sts:GetCallerIdentity");
}

#[test]
fn presigned_urls_that_are_over_or_altered_or_signed_twice_are_refused() {
    let host = Host::shared();
    let agent = host.agent("presigned-bad");
    let answers = agent.probe(
        r#"
keys = placeholder()
path = "/tollgate-test?list-type=2&prefix=a%20b"
def get(url, *fields): return fetch(url, "GET", fields)
good = presign("GET", S3, path, keys=keys)
show(get(good))
show(get(presign("GET", S3, path, keys=keys, at=-3600)))
show(get(presign("GET", S3, path, keys=keys, at=-3600, expires=7200))[0:1])
show(get(presign("GET", S3, path, keys=keys, at=3600)))
show(get(presign("GET", S3, path, keys=keys, expires=604801)))
show(get(good.replace("prefix=a", "prefix=b")))
show(get(good.replace("X-Amz-Expires=60", "X-Amz-Expires=61")))
show(get(good + "&X-Amz-Expires=60"))
show(get(good + "&x-amz-acl=public-read"))
show(get(good, ("x-amz-acl", "public-read")))
show(fetch(good, "DELETE"))
_, fields = signed(S3, "", "GET", path, "s3", keys=keys, s3=True)
show(get(good, *[(k, v) for k, v in fields if k != "Host"]))
show(get(presign("GET", S3, path, keys={**keys, "Token": keys["Token"][:-4] + "AAAA"})))
show(get(presign("GET", S3, path, keys={**keys, "AccessKeyId": "AKIAFOREIGNFOREIGN00"})))
show(get(presign("GET", S3, path, service="sts", keys=keys)))
show(get(presign("GET", S3, path, region="eu-central-1", keys=keys)))
show(get(presign("POST", STS, "/?Action=GetCallerIdentity&Version=2011-06-15", "sts", keys=keys)))
"#,
    );
    let cases: [(u16, &str); 17] = [
        (200, "<Prefix>a b</Prefix>"),
        (403, "the presigned URL has expired"),
        (200, ""),
        (403, "ahead of this host's time"),
        (400, "`X-Amz-Expires` must be from 1 to 604800"),
        (403, "SignatureDoesNotMatch"),
        (403, "SignatureDoesNotMatch"),
        (400, "`X-Amz-Expires` twice"),
        (403, "SignatureDoesNotMatch"),
        (400, "`x-amz-acl` is not among the signed ones"),
        (403, "SignatureDoesNotMatch"),
        (400, "signed both in its headers and in its query"),
        (403, "session token does not belong"),
        (403, "was not issued by Tollgate"),
        (400, "signed for `sts`"),
        (400, "signed for region `eu-central-1`"),
        (403, "SignatureDoesNotMatch"),
    ];
    for (n, (answer, (status, text))) in answers.iter().zip(cases).enumerate() {
        assert_eq!(answer[0], status, "{n}: {answer}");
        let body = answer[1].as_str().unwrap_or_default();
        assert!(body.contains(text), "{n}: {body}\n  not {text}");
    }
    assert_eq!(answers.len(), cases.len());
}

/// Case 14: supported, or refused with a sentence that says so; never forwarded by accident.
#[test]
fn what_is_not_supported_is_refused_with_a_sentence() {
    let host = Host::shared();
    let agent = host.agent("unsupported");
    let answers = agent.probe(
        r#"
keys = placeholder()
import boto3
post = boto3.client("s3", region_name="us-east-1", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
    aws_session_token=keys["Token"]).generate_presigned_post("tollgate-test", "posted")
fields = [part for k, v in post["fields"].items() for part in ("-F", f"{k}={v}")]
show(fetch(post["url"], "POST", (), None, *fields, "-F", "file=hello"))
show(fetch(f"https://{S3}/tollgate-test/anonymous", "PUT", (), b"x"))
show(fetch(f"https://{S3}/tollgate-test"))
show(fetch(f"https://{S3}/tollgate-test", "GET", [("Authorization", "AWS " + keys["AccessKeyId"] + ":c2ln"), ("Date", "Sun, 06 Nov 1994 08:49:37 GMT")]))
show(fetch("https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse", "POST", [("Authorization", "Bearer abc"), ("Content-Type", "application/json")], b"{}"))
show(fetch("https://git-codecommit.us-east-1.amazonaws.com/v1/repos/r/info/refs", "GET", [("Authorization", "Basic eDp5")]))
"#,
    );
    for (answer, text) in answers.iter().zip([
        "POST policies",
        "the request is not signed",
        "the request is not signed",
        "signature version 2 in a header",
        "bearer tokens are not let through",
        "basic authentication is not let through",
    ]) {
        assert_eq!(answer[0], 403, "{answer}");
        assert!(answer[1].as_str().is_some_and(|body| body.contains(text)), "{answer}\n  not {text}");
    }
    let timeline = agent.timeline();
    assert!(timeline.exchanges.iter().all(|e| e.decision == "refuse"), "{timeline:#?}");
    assert_eq!(answers.iter().filter(|a| **a == Value::Null).count(), 0);
    for name in ["posted", "anonymous"] {
        assert!(!host.dir().join(format!("s3/{BUCKET}/{name}")).exists(), "{name} is stored");
    }
}
