//! What a request says of its own signature, read strictly.
//!
//! Two readers that disagree on a signature are a hole, so whatever AWS itself would not take is refused here:
//! two signatures, empty or repeated authentication headers, `x-amz-*` headers left unsigned.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::{
    ALGORITHM, Mode, Payload, SigError, Stamp, TERMINATOR, X_AMZ_CONTENT_SHA256, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN,
};
use crate::credential::Secret;

/// A header signature (`Authorization: AWS4-HMAC-SHA256 …`), read and not yet verified.
#[derive(Debug, Clone)]
pub struct Claim {
    pub access_key_id: String,
    /// Region of the credential scope, as the client has it.
    pub region: String,
    /// Signing name of the credential scope, as the client has it.
    pub service: String,
    /// When the client signed, by its own clock.
    pub stamp: Stamp,
    pub payload: Payload,
    /// Lower-case names, sorted, `host` among them.
    pub(super) signed_headers: String,
    pub(super) signature: [u8; 32],
    pub(super) token: Option<Secret>,
}

/// Reads the signature of a request; `None`: it carries none.
///
/// `parts` are as the client sent them, with HTTP/2's `:authority` already put into `host`.
pub fn claim(parts: &Parts) -> Result<Option<Claim>, SigError> {
    let authorization = single(&parts.headers, AUTHORIZATION.as_str())?;
    let in_query = query_signature(parts.uri.query().unwrap_or_default());
    let Some(authorization) = authorization else {
        return match in_query.or_else(|| other_mode(parts)) {
            Some(mode) => Err(SigError::Unsupported { mode }),
            None => Ok(None),
        };
    };
    let Some(rest) = authorization.strip_prefix(ALGORITHM) else {
        return Err(SigError::Unsupported { mode: scheme(authorization) });
    };
    if !rest.starts_with([' ', '\t', ',']) {
        return Err(SigError::Unsupported { mode: Mode::Unknown });
    }
    if in_query.is_some() {
        return Err(SigError::malformed("the request is signed both in its headers and in its query; sign it once"));
    }
    let fields = Fields::read(rest)?;
    let scope = Scope::read(fields.credential)?;
    let stamp = stamp(&parts.headers)?;
    if stamp.date() != scope.date {
        return Err(SigError::malformed(format!(
            "the credential scope is of `{}`, but the request is of `{}`; sign with one clock",
            scope.date,
            stamp.date()
        )));
    }
    check_signed_headers(fields.signed_headers, &parts.headers)?;
    if parts.headers.contains_key("x-amz-s3session-token") {
        return Err(SigError::Unsupported { mode: Mode::S3Express });
    }
    Ok(Some(Claim {
        access_key_id: scope.access_key_id.to_owned(),
        region: scope.region.to_owned(),
        service: scope.service.to_owned(),
        stamp,
        payload: payload(&parts.headers)?,
        signed_headers: fields.signed_headers.to_owned(),
        signature: signature(fields.signature)?,
        token: single(&parts.headers, X_AMZ_SECURITY_TOKEN)?.map(Secret::new),
    }))
}

/// The three fields of the header.
struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, SigError> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| {
                SigError::malformed(
                    "Authorization must be `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`",
                )
            })?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(SigError::malformed(format!(
                        "Authorization has the unknown field `{}`; remove it",
                        abridged(name)
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(SigError::malformed(format!("Authorization has `{name}` twice; send it once")));
            }
        }
        let missing = |name| move || SigError::malformed(format!("Authorization lacks `{name}`"));
        Ok(Self {
            credential: credential.ok_or_else(missing("Credential"))?,
            signed_headers: signed_headers.ok_or_else(missing("SignedHeaders"))?,
            signature: signature.ok_or_else(missing("Signature"))?,
        })
    }
}

/// `AKIA…/20260102/eu-central-1/s3/aws4_request`
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn read(text: &'a str) -> Result<Self, SigError> {
        let mut pieces = text.split('/');
        let mut next = || pieces.next().unwrap_or_default();
        let scope = Self { access_key_id: next(), date: next(), region: next(), service: next() };
        let name = |t: &str| {
            (1..=64).contains(&t.len())
                && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let key = (16..=128).contains(&scope.access_key_id.len())
            && scope.access_key_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if next() != TERMINATOR || pieces.next().is_some() || !key || !name(scope.region) || !name(scope.service) {
            return Err(SigError::malformed(format!(
                "the credential `{}` is not of the form `access-key-id/date/region/service/aws4_request`",
                abridged(text)
            )));
        }
        Ok(scope)
    }
}

fn signature(hex: &str) -> Result<[u8; 32], SigError> {
    let mut bytes = [0; 32];
    // AWS writes and takes lower case only.
    if hex.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(hex, &mut bytes).is_err() {
        return Err(SigError::malformed("`Signature` must be 64 lower-case hex digits"));
    }
    Ok(bytes)
}

/// The client's time: `x-amz-date`, or `Date` where that is missing.
fn stamp(headers: &HeaderMap) -> Result<Stamp, SigError> {
    let bad = |name: &str, text: &str| {
        SigError::malformed(format!("{name} is `{}`; send it as `20260102T030405Z`", abridged(text)))
    };
    if let Some(text) = single(headers, X_AMZ_DATE)? {
        return Stamp::parse(text).ok_or_else(|| bad("x-amz-date", text));
    }
    match single(headers, DATE.as_str())? {
        Some(text) => Stamp::parse_http_date(text).ok_or_else(|| bad("Date", text)),
        None => Err(SigError::malformed("a signed request needs an x-amz-date header")),
    }
}

fn payload(headers: &HeaderMap) -> Result<Payload, SigError> {
    match single(headers, X_AMZ_CONTENT_SHA256)? {
        None => Ok(Payload::Absent),
        Some("UNSIGNED-PAYLOAD") => Ok(Payload::Unsigned),
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Ok(Payload::StreamingUnsignedTrailer),
        Some("STREAMING-AWS4-HMAC-SHA256-EVENTS") => Err(SigError::Unsupported { mode: Mode::EventStream }),
        Some(text) if text.starts_with("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") => {
            Err(SigError::Unsupported { mode: Mode::SignedChunks })
        }
        Some(text) if text.starts_with("STREAMING-AWS4-ECDSA-") => Err(SigError::Unsupported { mode: Mode::SigV4a }),
        Some(hex) if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Ok(Payload::Hashed(hex.to_owned()))
        }
        Some(text) => Err(SigError::malformed(format!(
            "x-amz-content-sha256 is `{}`; send 64 lower-case hex digits, UNSIGNED-PAYLOAD or STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            abridged(text)
        ))),
    }
}

/// Sorted, each once, `host` among them, each there, and no `x-amz-*` header beside them: one could be added on
/// the way otherwise.
fn check_signed_headers(list: &str, headers: &HeaderMap) -> Result<(), SigError> {
    let mut last = "";
    let mut host = false;
    for name in list.split(';') {
        if name <= last || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(SigError::malformed(
                "`SignedHeaders` must be lower-case names, sorted, each once, separated by `;`",
            ));
        }
        last = name;
        host |= name == "host";
        if !headers.contains_key(name) {
            return Err(SigError::malformed(format!(
                "the signed header `{}` is missing from the request",
                abridged(name)
            )));
        }
    }
    if !host {
        return Err(SigError::malformed("`SignedHeaders` lacks `host`"));
    }
    // PHP's SDK leaves x-amz-user-agent out; it says nothing that AWS acts on.
    let unsigned = |n: &str| n.starts_with("x-amz-") && n != "x-amz-user-agent" && list.split(';').all(|s| s != n);
    match headers.keys().find(|n| unsigned(n.as_str())) {
        Some(name) => Err(SigError::malformed(format!(
            "the header `{name}` is not among the signed ones; sign every x-amz-* header"
        ))),
        None => Ok(()),
    }
}

/// What kind of signature the query carries.
fn query_signature(query: &str) -> Option<Mode> {
    let (mut v4, mut v4a, mut v2_key, mut v2_signature) = (false, false, false, false);
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // The server decodes names before it looks at them.
        let name: Cow<'_, str> = percent_decode_str(name).decode_utf8_lossy();
        let is = |n: &str| name.eq_ignore_ascii_case(n);
        v4 |= ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token"]
            .iter()
            .any(|n| {
                name.len() == n.len() + 6
                    && name.get(..6).is_some_and(|p| p.eq_ignore_ascii_case("X-Amz-"))
                    && name[6..].eq_ignore_ascii_case(n)
            });
        v4a |= is("X-Amz-Region-Set") || is("X-Amz-Algorithm") && value.contains("ECDSA");
        v2_key |= is("AWSAccessKeyId");
        v2_signature |= is("Signature");
    }
    match (v4a, v4, v2_key && v2_signature) {
        (true, ..) => Some(Mode::SigV4a),
        (_, true, _) => Some(Mode::Presigned),
        (_, _, true) => Some(Mode::SigV2),
        _ => None,
    }
}

/// What an Authorization header that is not SigV4's is.
fn scheme(authorization: &str) -> Mode {
    let scheme = authorization.split([' ', ',']).next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") {
        Mode::Bearer
    } else if scheme.eq_ignore_ascii_case("basic") {
        Mode::Basic
    } else if scheme.starts_with("AWS4-ECDSA-") {
        Mode::SigV4a
    } else if scheme == "AWS" || scheme == "AWS2" || scheme.starts_with("AWS3") {
        Mode::SigV2
    } else {
        Mode::Unknown
    }
}

/// Ways to authenticate that use neither Authorization nor a signature in the query.
fn other_mode(parts: &Parts) -> Option<Mode> {
    if parts.headers.contains_key("x-amz-sso_bearer_token") {
        return Some(Mode::Bearer);
    }
    let form = parts.headers.get(CONTENT_TYPE).is_some_and(|t| {
        let t = t.as_bytes();
        t.len() >= 19 && t[..19].eq_ignore_ascii_case(b"multipart/form-data")
    });
    (form && parts.method == http::Method::POST).then_some(Mode::PostPolicy)
}

/// The one value of an authentication header: text, not empty, not repeated.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SigError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SigError::malformed(format!("the header `{name}` is there twice; send it once")));
    }
    match value.to_str().map(str::trim) {
        Ok("") => Err(SigError::malformed(format!("the header `{name}` is empty; give it a value, or leave it out"))),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(SigError::malformed(format!("the header `{name}` is not ASCII text"))),
    }
}

/// A piece of the client's text that fits into an error.
fn abridged(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "{ALGORITHM} Credential={KEY}/20260102/us-east-1/s3/aws4_request, SignedHeaders={signed}, Signature={SIG}"
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
            assert_eq!(
                with(&signed, &[("x-amz-content-sha256", value)]).expect("valid").expect("signed").payload,
                payload
            );
        }
        let dated = with(&authorization("date;host"), &[("date", "Fri, 02 Jan 2026 03:04:05 GMT")])
            .expect("valid")
            .expect("signed");
        assert_eq!(dated.stamp.as_str(), "20260102T030405Z");
    }

    #[test]
    fn no_signature_is_none() {
        assert!(
            claim(&parts("/k?prefix=a&Expires=3&Signature=x", &[("host", "s3.amazonaws.com")]))
                .expect("valid")
                .is_none()
        );
    }

    #[test]
    fn other_modes_are_named() {
        let v4 = authorization("host;x-amz-content-sha256;x-amz-date");
        let cases: &[(&str, &[(&str, &str)], Mode)] = &[
            ("/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0", &[], Mode::Presigned),
            ("/k?X-Amz-Si%67nature=0", &[], Mode::Presigned),
            ("/k?x-amz-credential=0", &[], Mode::Presigned),
            ("/k?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256", &[], Mode::SigV4a),
            ("/k?AWSAccessKeyId=A&Signature=b&Expires=1", &[], Mode::SigV2),
            ("/k", &[("authorization", "AWS AKIA:sig")], Mode::SigV2),
            ("/k", &[("authorization", "AWS4-ECDSA-P256-SHA256 Credential=x")], Mode::SigV4a),
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
                    ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
                ],
                Mode::SignedChunks,
            ),
            (
                "/k",
                &[
                    ("authorization", &v4),
                    ("x-amz-date", "20260102T030405Z"),
                    ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
                ],
                Mode::SignedChunks,
            ),
            (
                "/k",
                &[
                    ("authorization", &v4),
                    ("x-amz-date", "20260102T030405Z"),
                    ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS"),
                ],
                Mode::EventStream,
            ),
            (
                "/k",
                &[
                    ("authorization", &v4),
                    ("x-amz-date", "20260102T030405Z"),
                    ("x-amz-content-sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"),
                ],
                Mode::SigV4a,
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
        let mut form =
            parts("/", &[("host", "b.s3.amazonaws.com"), ("content-type", "Multipart/Form-Data; boundary=x")]);
        form.method = http::Method::POST;
        assert_eq!(claim(&form).expect_err("a form"), SigError::Unsupported { mode: Mode::PostPolicy });
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
            (format!("{ALGORITHM} x"), &[], "Authorization must be"),
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
        let error =
            claim(&parts("/k", &[("host", "h"), ("authorization", &authorization("host"))])).expect_err("no date");
        assert!(error.to_string().contains("needs an x-amz-date"), "{error}");
    }
}
