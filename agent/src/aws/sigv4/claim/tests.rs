//! Claims: what is read, and what each bad one is told.

use super::*;
use crate::aws::sigv4::hoist;

const KEY: &str = "ASIAABCDEFGHIJKLMNOP";
const SIG: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = http::Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("valid").into_parts().0
}

fn authorization(signed: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={KEY}/20260102/us-east-1/s3/aws4_request, SignedHeaders={signed}, Signature={SIG}"
    )
}

fn with(authorization: &str, more: &[(&str, &str)]) -> Result<Option<Claim>, SigError> {
    let mut headers = vec![("host", "s3.amazonaws.com"), ("authorization", authorization)];
    if !more.iter().any(|(n, _)| *n == "x-amz-date" || *n == "date") {
        headers.push(("x-amz-date", "20260102T030405Z"));
    }
    headers.extend_from_slice(more);
    claim(&parts("/k", &headers))
}

#[test]
fn reads_what_clients_write() {
    let spaced = authorization("host;x-amz-date");
    for text in [spaced.clone(), spaced.replace(", ", ","), spaced.replace(", ", " ,  ")] {
        let claim = with(&text, &[]).expect("valid").expect("signed");
        assert_eq!(
            (claim.access_key_id.as_str(), claim.region.as_str(), claim.service.as_str()),
            (KEY, "us-east-1", "s3")
        );
        assert_eq!((claim.stamp.as_str(), &claim.payload), ("20260102T030405Z", &Payload::Absent));
    }
    let signed = authorization("host;x-amz-content-sha256;x-amz-date");
    for (value, payload) in [
        ("UNSIGNED-PAYLOAD", Payload::Unsigned),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Payload::StreamingUnsignedTrailer),
        (SIG, Payload::Hashed(SIG.into())),
    ] {
        assert_eq!(with(&signed, &[("x-amz-content-sha256", value)]).expect("valid").expect("signed").payload, payload);
    }
    let dated = with(&authorization("date;host"), &[("date", "Fri, 02 Jan 2026 03:04:05 GMT")])
        .expect("valid")
        .expect("signed");
    assert_eq!(dated.stamp.as_str(), "20260102T030405Z");
}

#[test]
fn no_signature_is_none() {
    assert!(
        claim(&parts("/k?prefix=a&Expires=3&Signature=x", &[("host", "s3.amazonaws.com")])).expect("valid").is_none()
    );
}

#[test]
fn other_modes_are_named() {
    let v4 = authorization("host;x-amz-content-sha256;x-amz-date");
    let cases: &[(&str, &[(&str, &str)], Mode)] = &[
        ("/k", &[("authorization", "AWS AKIA:sig")], Mode::SigV2),
        ("/k", &[("authorization", "Bearer x")], Mode::Bearer),
        ("/k", &[("authorization", "Basic eDp5")], Mode::Basic),
        ("/k", &[("authorization", "AWS4-HMAC-SHA512 Credential=x")], Mode::Unknown),
        ("/k", &[("authorization", "AWS4-HMAC-SHA256X Credential=x")], Mode::Unknown),
        ("/k", &[("x-amz-sso_bearer_token", "x")], Mode::Bearer),
        (
            "/k",
            &[
                ("authorization", &v4),
                ("x-amz-date", "20260102T030405Z"),
                ("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-EVENTS"),
            ],
            Mode::SigV4aEvents,
        ),
    ];
    for (uri, headers, mode) in cases {
        let mut all = vec![("host", "h")];
        all.extend_from_slice(headers);
        assert_eq!(
            claim(&parts(uri, &all)).expect_err(uri),
            SigError::Unsupported { mode: *mode },
            "{uri} {headers:?}"
        );
    }
    let mut form = parts("/", &[("host", "b.s3.amazonaws.com"), ("content-type", "Multipart/Form-Data; boundary=x")]);
    form.method = http::Method::POST;
    assert_eq!(claim(&form).expect_err("a form"), SigError::Unsupported { mode: Mode::PostPolicy });
}

/// A good URL's query, with the changes asked for.
fn presigned(change: impl Fn(&mut Vec<(String, String)>)) -> String {
    let mut pairs: Vec<(String, String)> = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", &format!("{KEY}%2F20260102%2Fus-east-1%2Fs3%2Faws4_request")),
        ("X-Amz-Date", "20260102T030405Z"),
        ("X-Amz-Expires", "60"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Security-Token", "to%2Fken"),
        ("x-id", "GetObject"),
        ("X-Amz-Signature", SIG),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .into();
    change(&mut pairs);
    let pairs: Vec<String> = pairs.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    format!("/k?{}", pairs.join("&"))
}

#[test]
fn a_presigned_url_is_read_and_becomes_a_plain_request() {
    let mut request = parts(
        &presigned(|pairs| pairs.push(("x-amz-acl".into(), "public%2Dread".into()))),
        &[("host", "s3.amazonaws.com")],
    );
    let claim = claim(&request).expect("valid").expect("signed");
    assert!(claim.is_presigned() && claim.algorithm == Algorithm::V4 && claim.payload == Payload::Unsigned);
    assert_eq!((claim.service.as_str(), claim.region.as_str()), ("s3", "us-east-1"));
    assert_eq!(claim.token.as_ref().map(Secret::expose), Some("to/ken"));
    hoist(&mut request, &claim).expect("a request");
    assert_eq!(
        (request.uri.to_string().as_str(), &request.headers["x-amz-acl"]),
        ("/k?x-id=GetObject", &"public-read".parse::<http::HeaderValue>().expect("valid"))
    );
    assert!(!claim.query.as_ref().expect("presigned").text.contains("Signature="));
    // Without a session, an odd spelling, or with what is to be a header there already.
    let mut twice = parts(&presigned(|p| p.push(("x-amz-acl".into(), "a".into()))), &[("host", "h")]);
    twice.headers.insert("x-amz-acl", "b".parse().expect("valid"));
    assert!(hoist(&mut twice, &claim).expect_err("twice").to_string().contains("in the headers and in the query"));
}

#[test]
fn a_presigned_url_that_can_be_read_two_ways_is_refused() {
    let set = |name: &'static str, value: &'static str| {
        move |pairs: &mut Vec<(String, String)>| {
            pairs.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| value.clone_into(v));
        }
    };
    let cases: Vec<(String, &str)> = vec![
        (presigned(|p| p.push(("X-Amz-Signature".into(), SIG.into()))), "`X-Amz-Signature` twice"),
        (presigned(|p| p.push(("X-Amz-Expires".into(), "9".into()))), "`X-Amz-Expires` twice"),
        (presigned(|p| p[1].0 = "x-amz-credential".into()), "write it as `X-Amz-Credential`"),
        (presigned(|p| p[7].0 = "X-Amz-Si%67nature".into()), "write it as `X-Amz-Signature`"),
        (presigned(|p| p.push(("x-amz-date".into(), "20260102T030405Z".into()))), "write it as `X-Amz-Date`"),
        (presigned(|p| drop(p.remove(3))), "lacks `X-Amz-Expires`"),
        (presigned(|p| drop(p.remove(7))), "lacks `X-Amz-Signature`"),
        (presigned(set("X-Amz-Expires", "0")), "from 1 to 604800"),
        (presigned(set("X-Amz-Expires", "604801")), "from 1 to 604800"),
        (presigned(set("X-Amz-Expires", "%2B60")), "from 1 to 604800"),
        (presigned(set("X-Amz-Expires", "99999999999999999999")), "from 1 to 604800"),
        (presigned(set("X-Amz-Date", "20260103T030405Z")), "sign with one clock"),
        (presigned(set("X-Amz-Security-Token", "")), "is empty"),
        (presigned(set("X-Amz-SignedHeaders", "range")), "`range` is missing"),
        (presigned(set("X-Amz-Algorithm", "AWS4-HMAC-SHA512")), "must be `AWS4-HMAC-SHA256`"),
        (presigned(set("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256")), "is not of the form"),
        (presigned(|p| p.push(("X-Amz-S3session-Token".into(), "x".into()))), "carries both"),
        (presigned(|p| p.push(("AWSAccessKeyId".into(), KEY.into()))), "two kinds of signatures"),
        (
            presigned(|p| p.push(("X-Amz-Content-Sha256".into(), "STREAMING-AWS4-HMAC-SHA256-EVENTS".into()))),
            "cannot follow a presigned URL",
        ),
        (format!("/k?AWSAccessKeyId={KEY}&Signature=b%3D&Expires=tomorrow"), "`Expires` must be"),
        (format!("/k?AWSAccessKeyId={KEY}&Signature=%21&Expires=1"), "is not base64"),
        (format!("/k?AWSAccessKeyId={KEY}&Signature=aa%3D%3D&Signature=aa%3D%3D&Expires=1"), "`Signature` twice"),
    ];
    for (uri, expected) in cases {
        let error = claim(&parts(&uri, &[("host", "h")])).expect_err(expected).to_string();
        assert!(error.contains(expected), "{uri}\n  says: {error}\n  not:  {expected}");
    }
    for (header, expected) in
        [(("x-amz-acl", "public-read"), "is not among the signed ones"), (("x-amz-security-token", "t"), "not among")]
    {
        let error = claim(&parts(&presigned(|_| {}), &[("host", "h"), header])).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_sigv4a_scope_has_no_region_and_needs_a_set() {
    let text = format!(
        "AWS4-ECDSA-P256-SHA256 Credential={KEY}/20260102/s3/aws4_request, SignedHeaders=host;x-amz-date;x-amz-region-set, \
         Signature=3045022100000000"
    );
    let claim = with(&text, &[("x-amz-region-set", "us-east-1,eu-*")]).expect("valid").expect("signed");
    assert_eq!((claim.algorithm, claim.region.as_str()), (Algorithm::V4a, "us-east-1,eu-*"));
    assert_eq!(claim.region_at(Some("eu-west-1")), "eu-west-1");
    assert_eq!(claim.region_at(Some("us-west-1")), "us-east-1,eu-*");
    assert_eq!(claim.region_at(None), "us-east-1,eu-*");
    for (text, set, expected) in [
        (text.replace("/s3/", "/us-east-1/s3/"), "*", "is not of the form"),
        (text.clone(), "us east", "must be regions"),
        (text.clone(), "*,", "must be regions"),
        (text.replace("3045022100000000", "zz"), "*", "lower-case hex"),
    ] {
        let error = with(&text, &[("x-amz-region-set", set)]).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let without = text.replace(";x-amz-region-set", "");
    assert!(with(&without, &[]).expect_err("no set").to_string().contains("needs an x-amz-region-set"));
}

#[test]
fn chunks_need_their_length() {
    let signed = "host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-trailer";
    let word = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER");
    let good = [word, ("x-amz-decoded-content-length", "66560"), ("x-amz-trailer", "X-Amz-Checksum-Crc32")];
    let claim = with(&authorization(signed), &good).expect("valid").expect("signed");
    let terms = ChunkTerms { length: 66560, trailer: Some(vec!["x-amz-checksum-crc32".into()]) };
    assert_eq!(claim.payload, Payload::SignedChunks(terms));
    for (length, trailer, expected) in [
        ("-1", "a", "must be a number"),
        ("+1", "a", "must be a number"),
        ("99999999999999999999", "a", "must be a number"),
        ("1", "a b", "must be a few names"),
        ("1", "x-amz-trailer-signature", "must be a few names"),
    ] {
        let given = [word, ("x-amz-decoded-content-length", length), ("x-amz-trailer", trailer)];
        let error = with(&authorization(signed), &given).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = with(&authorization("host;x-amz-content-sha256;x-amz-date"), &[word]).expect_err("no length");
    assert!(error.to_string().contains("needs the header `x-amz-decoded-content-length`"), "{error}");
}

#[test]
fn malformed_ones_say_what_is_wrong() {
    let good = authorization("host;x-amz-date");
    let cases: &[(String, &[(&str, &str)], &str)] = &[
        (good.replace("Signature=", "Signature=A"), &[], "`Signature` must be 64 lower-case hex digits"),
        (good.replace(SIG, &SIG.to_uppercase()), &[], "`Signature` must be 64 lower-case hex digits"),
        (good.replace(", Signature", ", Sig"), &[], "unknown field `Sig`"),
        (format!("{good}, Signature={SIG}"), &[], "`Signature` twice"),
        (format!("{good},"), &[], "Authorization must be"),
        ("AWS4-HMAC-SHA256 x".to_owned(), &[], "Authorization must be"),
        (good.replace("SignedHeaders=host;x-amz-date, ", ""), &[], "lacks `SignedHeaders`"),
        (good.replace("/aws4_request", ""), &[], "is not of the form"),
        (good.replace("/aws4_request", "/aws4_request/x"), &[], "is not of the form"),
        (good.replace("us-east-1", ""), &[], "is not of the form"),
        (good.replace("us-east-1", "us east"), &[], "is not of the form"),
        (good.replace(KEY, "ASIA"), &[], "is not of the form"),
        (
            good.replace("20260102", "20260103"),
            &[],
            "the credential scope is of `20260103`, but the request is of `20260102`",
        ),
        (authorization("x-amz-date"), &[], "lacks `host`"),
        (authorization("x-amz-date;host"), &[], "sorted"),
        (authorization("host;host;x-amz-date"), &[], "sorted"),
        (authorization("Host;x-amz-date"), &[], "lower-case"),
        (authorization(""), &[], "lower-case names"),
        (authorization("host;range;x-amz-date"), &[], "`range` is missing"),
        (good.clone(), &[("x-amz-acl", "public-read")], "`x-amz-acl` is not among the signed ones"),
        (good.clone(), &[("authorization", &good)], "`authorization` is there twice"),
        (good.clone(), &[("x-amz-security-token", "")], "`x-amz-security-token` is not among"),
        (
            authorization("host;x-amz-date;x-amz-security-token"),
            &[("x-amz-security-token", "")],
            "`x-amz-security-token` is empty",
        ),
        (
            authorization("host;x-amz-content-sha256;x-amz-date"),
            &[("x-amz-content-sha256", "")],
            "`x-amz-content-sha256` is empty",
        ),
        (
            authorization("host;x-amz-content-sha256;x-amz-date"),
            &[("x-amz-content-sha256", "unsigned")],
            "x-amz-content-sha256 is `unsigned`",
        ),
        (
            good.clone(),
            &[("x-amz-date", "20260102T030405Z"), ("x-amz-date", "20260102T030405Z")],
            "`x-amz-date` is there twice",
        ),
        (good.clone(), &[("x-amz-date", "now")], "x-amz-date is `now`"),
        (authorization("date;host"), &[("date", "tomorrow")], "Date is `tomorrow`"),
        (String::new(), &[], "`authorization` is empty"),
    ];
    for (authorization, headers, expected) in cases {
        let error = with(authorization, headers).expect_err(expected).to_string();
        assert!(error.contains(expected), "{authorization}\n  says: {error}\n  not:  {expected}");
    }
    let both = claim(&parts(
        "/k?X-Amz-Signature=0",
        &[("host", "h"), ("authorization", &good), ("x-amz-date", "20260102T030405Z")],
    ));
    assert!(both.expect_err("both").to_string().contains("both in its headers and in its query"));
}

#[test]
fn a_request_without_a_date_is_refused() {
    let error = claim(&parts("/k", &[("host", "h"), ("authorization", &authorization("host"))])).expect_err("no date");
    assert!(error.to_string().contains("needs an x-amz-date"), "{error}");
}
