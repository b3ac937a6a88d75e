//! Signatures in a query: presigned URLs of SigV4, SigV4A, and S3's SigV2.
//!
//! Each member must be there once, under the very name that AWS gives it: whoever decodes or compares names in another
//! way must not find another signature.

use std::borrow::Cow;

use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::{
    Claim, Presigned, Scope, abridged, check_signed_headers, is_access_key_id, one_token, payload, region_set,
    signature, single,
};
use crate::aws::sigv4::{
    Algorithm, Payload, SigError, Stamp, TokenKind, X_AMZ_CONTENT_SHA256, X_AMZ_S3SESSION_TOKEN, X_AMZ_SECURITY_TOKEN,
    is_s3,
};
use crate::credential::Secret;

/// Longest life that AWS gives a presigned URL: a week.
const LONGEST: u64 = 7 * 24 * 3600;

const ALGORITHM: &str = "X-Amz-Algorithm";
const CREDENTIAL: &str = "X-Amz-Credential";
const DATE: &str = "X-Amz-Date";
const EXPIRES: &str = "X-Amz-Expires";
const SIGNED_HEADERS: &str = "X-Amz-SignedHeaders";
const SIGNATURE: &str = "X-Amz-Signature";
const SECURITY_TOKEN: &str = "X-Amz-Security-Token";
const S3SESSION_TOKEN: &str = "X-Amz-S3session-Token";
const REGION_SET: &str = "X-Amz-Region-Set";
const CONTENT_SHA256: &str = "X-Amz-Content-Sha256";

/// Members that make a query a signed one.
const V4: &[&str] = &[ALGORITHM, CREDENTIAL, DATE, EXPIRES, SIGNED_HEADERS, SIGNATURE, SECURITY_TOKEN, REGION_SET];
/// Those, and others that speak of the signature where there is one.
const V4_ALL: &[&str] = &[
    ALGORITHM,
    CREDENTIAL,
    DATE,
    EXPIRES,
    SIGNED_HEADERS,
    SIGNATURE,
    SECURITY_TOKEN,
    REGION_SET,
    S3SESSION_TOKEN,
    CONTENT_SHA256,
];
const V2: &[&str] = &["AWSAccessKeyId", "Signature", "Expires", "x-amz-security-token"];

/// Whether a member of a signed query speaks of the signature alone, and has no place in what is sent on.
pub(in crate::aws::sigv4) fn is_member(algorithm: Algorithm, name: &str) -> bool {
    let all = if algorithm == Algorithm::V2 { V2 } else { V4_ALL };
    all.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// What a query is signed with. `None`: it is not.
pub(super) fn kind(query: &str) -> Option<Algorithm> {
    let (mut v4, mut v4a, mut v2_key, mut v2_signature) = (false, false, false, false);
    for (name, value) in pairs(query) {
        // The server decodes names before it looks at them.
        let is = |n: &&str| name.eq_ignore_ascii_case(n);
        v4 |= V4.iter().any(is);
        v4a |= is(&REGION_SET) || is(&ALGORITHM) && value.contains("ECDSA");
        v2_key |= is(&V2[0]);
        v2_signature |= is(&V2[1]);
    }
    match (v4a, v4, v2_key && v2_signature) {
        (true, ..) => Some(Algorithm::V4a),
        // S3's old form has a security token in its query, too.
        (_, _, true) => Some(Algorithm::V2),
        (_, true, _) => Some(Algorithm::V4),
        _ => None,
    }
}

/// Decoded names and values as they came.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode_str(name).decode_utf8_lossy(), value)
    })
}

/// The values of some members, decoded, each there once at most and spelt as it should be.
struct Members<'a> {
    names: &'static [&'static str],
    values: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Members<'a> {
    fn read(query: &'a str, names: &'static [&'static str]) -> Result<Self, SigError> {
        let mut values = vec![None; names.len()];
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decode_str(name).decode_utf8_lossy();
            let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(&decoded)) else { continue };
            if name != names[at] {
                return Err(SigError::malformed(format!(
                    "the query has `{}`; write it as `{}`",
                    abridged(name),
                    names[at]
                )));
            }
            let value = percent_decode_str(value)
                .decode_utf8()
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or_else(|| SigError::malformed(format!("`{name}` in the query is empty, or not text")))?;
            if values[at].replace(value).is_some() {
                return Err(SigError::malformed(format!("the query has `{name}` twice; send it once")));
            }
        }
        Ok(Self { names, values })
    }

    fn optional(&self, name: &str) -> Option<&str> {
        let at = self.names.iter().position(|n| *n == name)?;
        self.values[at].as_deref()
    }

    fn required(&self, name: &str) -> Result<&str, SigError> {
        self.optional(name).ok_or_else(|| SigError::malformed(format!("the presigned URL lacks `{name}`")))
    }
}

pub(super) fn v4(algorithm: Algorithm, parts: &Parts) -> Result<Claim, SigError> {
    let query = parts.uri.query().unwrap_or_default();
    if pairs(query).any(|(n, _)| n.eq_ignore_ascii_case(V2[0])) {
        return Err(SigError::malformed("the query carries two kinds of signatures; sign it once"));
    }
    let members = Members::read(query, V4_ALL)?;
    if members.required(ALGORITHM)? != algorithm.name() {
        return Err(SigError::malformed(format!("`{ALGORITHM}` must be `{}` here", algorithm.name())));
    }
    let scope = Scope::read(algorithm, members.required(CREDENTIAL)?)?;
    let date = members.required(DATE)?;
    let stamp = Stamp::parse(date).ok_or_else(|| {
        SigError::malformed(format!("`{DATE}` is `{}`; send it as `20260102T030405Z`", abridged(date)))
    })?;
    if stamp.date() != scope.date {
        return Err(SigError::malformed(format!(
            "the credential scope is of `{}`, but the URL is of `{}`; sign with one clock",
            scope.date,
            stamp.date()
        )));
    }
    let lifetime = members.required(EXPIRES)?;
    let lifetime = lifetime
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| lifetime.parse().ok())
        .flatten()
        .filter(|l| (1..=LONGEST).contains(l))
        .ok_or_else(|| SigError::malformed(format!("`{EXPIRES}` must be from 1 to {LONGEST} seconds")))?;
    let headers = &parts.headers;
    let signed_headers = members.required(SIGNED_HEADERS)?;
    check_signed_headers(signed_headers, headers)?;
    if [X_AMZ_SECURITY_TOKEN, X_AMZ_S3SESSION_TOKEN].iter().any(|n| headers.contains_key(*n)) {
        return Err(SigError::malformed(
            "a presigned URL has its session token in the query; take it out of the headers",
        ));
    }
    let (token, token_kind) = one_token(members.optional(SECURITY_TOKEN), members.optional(S3SESSION_TOKEN))?;
    let payload = match (single(headers, X_AMZ_CONTENT_SHA256)?, members.optional(CONTENT_SHA256)) {
        (Some(_), Some(_)) => {
            return Err(SigError::malformed("x-amz-content-sha256 is in the headers and in the query; send it once"));
        }
        (None, None) if is_s3(scope.service) => Payload::Unsigned,
        (None, None) => Payload::Absent,
        (Some(text), None) | (None, Some(text)) => payload(text, algorithm, headers)?,
    };
    if payload.is_in_pieces() {
        return Err(SigError::malformed(
            "a body in signed pieces cannot follow a presigned URL; sign it in the headers",
        ));
    }
    Ok(Claim {
        access_key_id: scope.access_key_id.to_owned(),
        algorithm,
        region: match algorithm {
            Algorithm::V4a => region_set(members.required(REGION_SET)?)?,
            _ => scope.region.to_owned(),
        },
        service: scope.service.to_owned(),
        stamp,
        payload,
        token_kind,
        signed_headers: signed_headers.to_owned(),
        signature: signature(algorithm, members.required(SIGNATURE)?)?,
        token: token.map(Secret::new),
        query: Some(Presigned { text: without_signature(query), lifetime }),
    })
}

fn without_signature(query: &str) -> String {
    let mut text = String::with_capacity(query.len());
    for pair in query.split('&').filter(|p| p.split('=').next() != Some(SIGNATURE)) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(pair);
    }
    text
}

/// `AWSAccessKeyId`, `Expires`, `Signature`: what boto3 still makes for S3 in the oldest regions.
pub(super) fn v2(parts: &Parts) -> Result<Claim, SigError> {
    let query = parts.uri.query().unwrap_or_default();
    let newer = |n: &str| V4_ALL.iter().any(|v| v.eq_ignore_ascii_case(n)) && !n.eq_ignore_ascii_case(SECURITY_TOKEN);
    if pairs(query).any(|(n, _)| newer(&n)) {
        return Err(SigError::malformed("the query carries two kinds of signatures; sign it once"));
    }
    let members = Members::read(query, V2)?;
    let access_key_id = members.required(V2[0])?;
    if !is_access_key_id(access_key_id) {
        return Err(SigError::malformed("`AWSAccessKeyId` is not an access key's id"));
    }
    let bad = || SigError::malformed("`Expires` must be the second of the end, counted from 1970");
    let expires: u64 = members.required(V2[2])?.parse().map_err(|_| bad())?;
    let end = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(expires));
    let signature = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, members.required(V2[1])?)
        .map_err(|_| SigError::malformed("`Signature` in the query is not base64"))?;
    if parts.headers.contains_key(X_AMZ_SECURITY_TOKEN) {
        return Err(SigError::malformed(
            "a presigned URL has its session token in the query; take it out of the headers",
        ));
    }
    Ok(Claim {
        access_key_id: access_key_id.to_owned(),
        algorithm: Algorithm::V2,
        region: String::new(),
        service: "s3".to_owned(),
        stamp: end.and_then(Stamp::at).ok_or_else(bad)?,
        payload: Payload::Unsigned,
        token_kind: TokenKind::Security,
        signed_headers: String::new(),
        signature,
        token: members.optional(V2[3]).map(Secret::new),
        query: Some(Presigned { text: query.to_owned(), lifetime: 0 }),
    })
}
