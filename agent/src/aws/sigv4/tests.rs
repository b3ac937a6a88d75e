//! Signatures as a whole: against the `aws-sigv4` crate, against botocore's (fixture), and against tampering.

mod pieces;
mod vectors;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign as crate_sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::request::Parts;
use http::{HeaderValue, Request};

use super::{Algorithm, Claim, Given, Order, Payload, SigError, SigningKeys, Stamp, TokenKind};
use super::{MAX_SKEW, canonical, claim, is_s3, sha256_hex};
use crate::credential::{Held, Secret};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJ=";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_322_800)
}

fn held(token: bool) -> Held {
    Held {
        access_key_id: "ASIAABCDEFGHIJKLMNOP".into(),
        secret_access_key: Secret::new(SECRET),
        session_token: token.then(|| Secret::new(TOKEN)),
        expires: None,
        account: None,
    }
}

/// Signs by version 4, as most tests do.
fn sign(
    parts: &mut Parts,
    payload: &Payload,
    held: &Held,
    region: &str,
    signing_name: &str,
    now: SystemTime,
    keys: &SigningKeys,
) -> Result<(), SigError> {
    let (algorithm, token_kind) = (Algorithm::V4, TokenKind::Security);
    let order = Order { payload, held, algorithm, token_kind, region, signing_name, now };
    super::sign(parts, &order, keys).map(drop)
}

fn verify(
    claim: &Claim,
    parts: &Parts,
    body_sha256: Option<&str>,
    secret: &Secret,
    token: Option<&Secret>,
    now: SystemTime,
    keys: &SigningKeys,
) -> Result<(), SigError> {
    super::verify(claim, parts, &Given { body_sha256, bucket: None, secret, token, now }, keys).map(drop)
}

fn parts(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value).expect("a value"));
    }
    request.body(()).expect("valid").into_parts().0
}

fn authorization(parts: &Parts) -> &str {
    parts.headers["authorization"].to_str().expect("text")
}

/// What the crate writes into `Authorization` for the headers that we cover.
fn by_the_crate(parts: &Parts, held: &Held, region: &str, name: &str, payload: &Payload) -> String {
    let credentials = Credentials::new(
        &held.access_key_id,
        held.secret_access_key.expose(),
        held.session_token.as_ref().map(|t| t.expose().to_owned()),
        None,
        "test",
    );
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    if is_s3(name) {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    } else {
        settings.percent_encoding_mode = PercentEncodingMode::Double;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
    }
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(name)
        .time(now())
        .settings(settings)
        .build()
        .expect("complete");
    let covered = |n: &str| n.starts_with("x-amz-") || matches!(n, "host" | "content-type" | "content-md5");
    let own = |n: &str| matches!(n, "x-amz-date" | "x-amz-security-token" | "x-amz-content-sha256");
    let headers = parts
        .headers
        .iter()
        .filter(|(n, _)| covered(n.as_str()) && !own(n.as_str()))
        .map(|(n, v)| (n.as_str(), v.to_str().expect("ASCII")));
    let body = match payload {
        Payload::Hashed(hex) => SignableBody::Precomputed(hex.clone()),
        Payload::Unsigned => SignableBody::UnsignedPayload,
        _ => SignableBody::StreamingUnsignedPayloadTrailer,
    };
    let uri = format!("https://{}{}", parts.headers["host"].to_str().expect("ASCII"), parts.uri);
    let request = SignableRequest::new(parts.method.as_str(), uri, headers, body).expect("signable");
    let (instructions, _) = crate_sign(request, &params.into()).expect("signed").into_parts();
    let (headers, _) = instructions.into_parts();
    headers.iter().find(|h| h.name().eq_ignore_ascii_case("authorization")).expect("there").value().to_owned()
}

/// Paths and queries that signers disagree on, spelt as careful clients spell them.
const TARGETS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b/c.txt",
    "/test%24file.text",
    "/a%20b",
    "/a%2Bb",
    "/a%3Db%2Ac%40d",
    "/%25",
    "/%2525",
    "/a%2Fb",
    "/model/x-v1%3A0/converse",
    "/%E6%97%A5%E6%9C%AC%E8%AA%9E",
    "/%F0%9F%98%80",
    "/~user/-._~",
    "/%27%28%29%21",
    "/?a",
    "/?a=",
    "/?a=b=c",
    "/?a=b%3Dc",
    "/?b=2&a=1",
    "/?a=2&a=1",
    "/?a-b=1&a=2&a.b=0",
    "/?prefix=env%3A%2F",
    "/?prefix=a%20b&delimiter=%2F",
    "/?x=%2B",
    "/?list-type=2&continuation-token=1%2FabC%3D%3D",
    "/?A=1&a=2&B=3",
    "/?%C3%A4=%C3%B6",
    "/?uploads",
    "/?tagging&versionId=3%2FL4",
    "/?x-id=PutObject",
    "/?a=%F0%9F%98%80&b=~-._",
    "/a/b?c=d",
    "/?%24a=1&%20=2",
];

/// Further ones for services that normalise paths.
const NORMALISED: &[&str] = &[
    "//",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "/a/b/..",
    "/a/b/.",
    "/a/b/../",
    "/../a",
    "/./",
    "/..",
    "/a/...",
    "/.hidden",
    "/a/..b//",
    "/a:b",
    "/model/x-v1:0/converse",
    "/a+b",
    "/a@b",
    "/a'b(c)!*",
    "/a;b,c&d=e$f",
    "/%2e/%2E%2e",
    "/a%",
    "/%zz",
];

/// And for S3, which must not.
const S3: &[&str] = &["//", "/a//b", "/a/./b", "/a/../b", "/./", "/..", "/.hidden", "/a/b/../"];

#[test]
fn signatures_are_those_of_the_crate() {
    let keys = SigningKeys::default();
    let hashed = Payload::Hashed(sha256_hex(b"{}"));
    let tables = [
        ("s3", TARGETS),
        ("s3", S3),
        ("s3-object-lambda", TARGETS),
        ("bedrock", TARGETS),
        ("bedrock", NORMALISED),
        ("iam", TARGETS),
        ("execute-api", NORMALISED),
    ];
    for (service, targets) in tables {
        for target in targets {
            for (payload, token, method) in [
                (&hashed, true, "POST"),
                (&Payload::Unsigned, false, "GET"),
                (&Payload::StreamingUnsignedTrailer, true, "PUT"),
            ] {
                let mut ours = parts(
                    method,
                    target,
                    &[
                        ("host", b"example.amazonaws.com"),
                        ("content-type", b"application/x-amz-json-1.1"),
                        ("x-amz-target", b"TrentService.Encrypt"),
                        ("x-amz-meta-spaced", b"  a   b  c "),
                        ("x-amz-meta-twice", b"one"),
                        ("x-amz-meta-twice", b" two"),
                        ("x-amz-meta-empty", b""),
                        ("user-agent", b"aws-cli/2"),
                        ("accept-encoding", b"identity"),
                        ("amz-sdk-invocation-id", b"1"),
                    ],
                );
                let held = held(token);
                let theirs = by_the_crate(&ours, &held, "us-east-1", service, payload);
                sign(&mut ours, payload, &held, "us-east-1", service, now(), &keys).expect("signed");
                assert_eq!(authorization(&ours), theirs, "{service} {target} {payload:?}");
            }
        }
    }
}

#[test]
fn what_we_sign_we_verify_and_nothing_else() {
    let keys = SigningKeys::default();
    let body = sha256_hex(b"body");
    let sign_it = |token| {
        let mut p = parts(
            "PUT",
            "/k%20k?a=b",
            &[("host", b"B.s3.amazonaws.com:443"), ("x-amz-meta-a", b"1"), ("content-type", b"text/plain")],
        );
        sign(&mut p, &Payload::Hashed(body.clone()), &held(token), "eu-central-1", "s3", now(), &keys).expect("signed");
        p
    };
    let check = |p: &Parts, secret: &str, token: Option<&str>, now: SystemTime| {
        let claim = claim(p)?.expect("signed");
        verify(&claim, p, None, &Secret::new(secret), token.map(Secret::new).as_ref(), now, &keys)
    };
    let p = sign_it(true);
    assert_eq!(p.headers["host"], "b.s3.amazonaws.com");
    assert!(p.headers["authorization"].is_sensitive() && p.headers["x-amz-security-token"].is_sensitive());
    assert_eq!(check(&p, SECRET, Some(TOKEN), now()), Ok(()));
    assert_eq!(check(&sign_it(false), SECRET, None, now()), Ok(()));

    assert_eq!(check(&p, "another secret", Some(TOKEN), now()), Err(SigError::Mismatch));
    assert_eq!(check(&p, SECRET, Some("another token"), now()), Err(SigError::TokenMismatch));
    assert_eq!(check(&p, SECRET, None, now()), Err(SigError::TokenMismatch));
    assert_eq!(check(&sign_it(false), SECRET, Some(TOKEN), now()), Err(SigError::TokenMissing(TokenKind::Security)));

    let hour = Duration::from_secs(3600);
    for fine in [now() + hour, now() - hour, now() + MAX_SKEW] {
        assert_eq!(check(&p, SECRET, Some(TOKEN), fine), Ok(()));
    }
    let error = check(&p, SECRET, Some(TOKEN), now() + 13 * hour).expect_err("too old");
    assert_eq!(error, SigError::Skewed { seconds: 13 * 3600, direction: "behind" });
    assert!(error.to_string().contains("46800 seconds behind this host's time"));
    assert_eq!(
        check(&p, SECRET, Some(TOKEN), now() - 13 * hour),
        Err(SigError::Skewed { seconds: 13 * 3600, direction: "ahead of" })
    );

    type Change = fn(&mut Parts);
    let changes: &[(&str, Change)] = &[
        ("method", |p| p.method = http::Method::DELETE),
        ("path", |p| p.uri = "/k%20k2?a=b".parse().expect("valid")),
        ("query", |p| p.uri = "/k%20k?a=c".parse().expect("valid")),
        ("query added", |p| p.uri = "/k%20k?a=b&acl".parse().expect("valid")),
        ("dot segments", |p| p.uri = "/./k%20k?a=b".parse().expect("valid")),
        ("host", |p| drop(p.headers.insert("host", HeaderValue::from_static("c.s3.amazonaws.com")))),
        ("meta", |p| drop(p.headers.insert("x-amz-meta-a", HeaderValue::from_static("2")))),
        ("meta twice", |p| assert!(p.headers.append("x-amz-meta-a", HeaderValue::from_static("2")))),
        ("type", |p| drop(p.headers.insert("content-type", HeaderValue::from_static("text/html")))),
        ("hash", |p| drop(p.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD")))),
        ("date", |p| drop(p.headers.insert("x-amz-date", HeaderValue::from_static("20260102T030001Z")))),
        ("region", |p| {
            let text = authorization(p).replace("eu-central-1", "eu-central-2");
            p.headers.insert("authorization", text.parse().expect("valid"));
        }),
    ];
    for (name, change) in changes {
        let mut altered = p.clone();
        change(&mut altered);
        assert_eq!(check(&altered, SECRET, Some(TOKEN), now()), Err(SigError::Mismatch), "{name}");
    }
    let mut more = p.clone();
    more.headers.insert("x-amz-acl", HeaderValue::from_static("public-read"));
    assert!(matches!(check(&more, SECRET, Some(TOKEN), now()), Err(SigError::Malformed(_))));
}

#[test]
fn signing_leaves_nothing_of_the_agents_signature() {
    let keys = SigningKeys::default();
    let mut p = parts(
        "GET",
        "/",
        &[
            ("host", b"sts.amazonaws.com"),
            ("authorization", b"AWS4-HMAC-SHA256 of the agent"),
            ("x-amz-security-token", b"the agent's"),
            ("x-amz-date", b"19700101T000000Z"),
            ("date", b"Thu, 01 Jan 1970 00:00:00 GMT"),
            ("x-amz-region-set", b"*"),
            ("connection", b"keep-alive"),
            ("te", b"trailers"),
            ("expect", b"100-continue"),
            ("transfer-encoding", b"chunked"),
            ("proxy-authorization", b"Basic x"),
            ("user-agent", b"me"),
            ("accept-encoding", b"gzip"),
            ("amz-sdk-request", b"attempt=1"),
            ("x-amz-user-agent", b"aws-sdk-rust"),
        ],
    );
    sign(&mut p, &Payload::Hashed(sha256_hex(b"")), &held(false), "us-east-1", "sts", now(), &keys).expect("signed");
    for gone in [
        "x-amz-security-token",
        "date",
        "x-amz-region-set",
        "connection",
        "te",
        "expect",
        "transfer-encoding",
        "proxy-authorization",
    ] {
        assert!(!p.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(p.headers["x-amz-date"], "20260102T030000Z");
    assert_eq!(p.headers["user-agent"], "me");
    assert!(
        authorization(&p).contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-user-agent,"),
        "{}",
        authorization(&p)
    );
}

#[test]
fn an_absent_hash_is_the_bodys() {
    let keys = SigningKeys::default();
    let held = held(false);
    // Signed as botocore does outside S3: the hash is in the canonical request, but in no header.
    let mut p = parts("POST", "/", &[("host", b"sts.amazonaws.com"), ("x-amz-date", b"20260102T030000Z")]);
    let stamp = Stamp::parse("20260102T030000Z").expect("valid");
    let hash = sha256_hex(b"Action=GetCallerIdentity");
    let terms = canonical::Terms { query: "", signing_name: "sts", signed_headers: "host;x-amz-date", payload: &hash };
    let mut text = Vec::new();
    canonical::write(&mut text, &p, terms, canonical::Form::Documented, canonical::Form::Documented);
    let key = keys.key(&held.secret_access_key, "20260102", "us-east-1", "sts");
    let hex = hex::encode(super::verify::signature(key, &stamp, "us-east-1/sts", &text));
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/20260102/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature={hex}",
        held.access_key_id
    );
    p.headers.insert("authorization", value.parse().expect("valid"));
    let claim = claim(&p).expect("valid").expect("signed");
    let check = |body: Option<&str>| verify(&claim, &p, body, &held.secret_access_key, None, now(), &keys);
    assert_eq!(check(Some(&hash)), Ok(()));
    assert_eq!(check(Some(&sha256_hex(b""))), Err(SigError::Mismatch));
    assert_eq!(check(None), Err(SigError::BodyNotHashed));
    assert_eq!(
        sign(&mut p.clone(), &Payload::Absent, &held, "us-east-1", "sts", now(), &keys),
        Err(SigError::BodyNotHashed)
    );
}

#[test]
fn bytes_beyond_ascii_are_signed_as_they_are() {
    let keys = SigningKeys::default();
    let mut p = parts("PUT", "/k", &[("host", b"b.s3.amazonaws.com"), ("x-amz-meta-name", b"caf\xe9 \xff")]);
    sign(&mut p, &Payload::Unsigned, &held(false), "us-east-1", "s3", now(), &keys).expect("signed");
    let check = |p: &Parts| {
        verify(&claim(p).expect("valid").expect("signed"), p, None, &Secret::new(SECRET), None, now(), &keys)
    };
    assert_eq!(check(&p), Ok(()));
    p.headers.insert("x-amz-meta-name", HeaderValue::from_bytes(b"caf\xe8 \xff").expect("a value"));
    assert_eq!(check(&p), Err(SigError::Mismatch));
}

#[test]
fn what_cannot_be_signed_says_so() {
    let keys = SigningKeys::default();
    let p = || parts("GET", "/", &[("host", b"sts.amazonaws.com")]);
    let attempt = |mut p: Parts, held: &Held, region: &str| {
        sign(&mut p, &Payload::Unsigned, held, region, "sts", now(), &keys).expect_err("unsignable").to_string()
    };
    assert!(attempt(p(), &held(false), "").contains("the region or the signing name is not known"));
    assert!(attempt(parts("GET", "/", &[]), &held(false), "us-east-1").contains("it has no host"));
    let broken = Held { session_token: Some(Secret::new("a\nb")), ..held(false) };
    let error = attempt(p(), &broken, "us-east-1");
    assert!(error.contains("`x-amz-security-token` would not be a valid header") && !error.contains("a\nb"), "{error}");
}
