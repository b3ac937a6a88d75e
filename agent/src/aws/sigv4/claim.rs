//! What a request says of its own signature, read strictly.
//!
//! Two readers that disagree on a signature are a hole, so whatever AWS itself would not take is refused here:
//! two signatures, empty or repeated authentication headers or members of a query, `x-amz-*` headers left unsigned.

mod header;
mod presigned;

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;

use super::{AUTHORITY, Algorithm, ChunkTerms, Mode, Payload, SigError, Stamp, TERMINATOR, TokenKind};
use crate::credential::Secret;

pub(super) use presigned::is_member;

/// A signature, read and not yet verified.
#[derive(Debug, Clone)]
pub struct Claim {
    pub access_key_id: String,
    pub algorithm: Algorithm,
    /// Region of the credential scope, as the client has it; SigV4A: its region set; SigV2: empty.
    pub region: String,
    /// Signing name of the credential scope, as the client has it.
    pub service: String,
    /// When the client signed, by its own clock; SigV2: when the signature ends.
    pub stamp: Stamp,
    pub payload: Payload,
    pub token_kind: TokenKind,
    /// Lower-case names, sorted, `host` among them.
    pub(super) signed_headers: String,
    pub(super) signature: Vec<u8>,
    pub(super) token: Option<Secret>,
    /// Of a presigned URL.
    pub(super) query: Option<Presigned>,
}

/// What a presigned URL says besides.
#[derive(Debug, Clone)]
pub(super) struct Presigned {
    /// The query as it came, without its signature.
    pub text: String,
    /// Seconds.
    pub lifetime: u64,
}

impl Claim {
    /// Whether the signature is in the query: a presigned URL.
    pub fn is_presigned(&self) -> bool {
        self.query.is_some()
    }

    /// The one region that the request is for: the scope's; of a set that has it, or where the signature names none,
    /// the endpoint's.
    pub fn region_at<'a>(&'a self, endpoint: Option<&'a str>) -> &'a str {
        match (self.algorithm, endpoint) {
            (Algorithm::V4a, Some(region)) if in_set(region, &self.region) => region,
            (Algorithm::V4 | Algorithm::V4a, _) => &self.region,
            (Algorithm::V2, region) => region.unwrap_or("us-east-1"),
        }
    }
}

/// Whether a set such as `us-east-1,eu-*` has a region.
fn in_set(region: &str, set: &str) -> bool {
    set.split(',').any(|r| r == region || r.strip_suffix('*').is_some_and(|start| region.starts_with(start)))
}

/// Reads the signature of a request; `None`: it carries none.
///
/// `parts` are as the client sent them, with HTTP/2's `:authority` already put into `host`.
pub fn claim(parts: &Parts) -> Result<Option<Claim>, SigError> {
    let authorization = single(&parts.headers, AUTHORIZATION.as_str())?;
    let kind = presigned::kind(parts.uri.query().unwrap_or_default());
    match (authorization, kind) {
        (Some(authorization), kind) => {
            let (algorithm, fields) = header::algorithm(authorization)?;
            if kind.is_some() {
                return Err(SigError::malformed(
                    "the request is signed both in its headers and in its query; sign it once",
                ));
            }
            header::claim(algorithm, fields, parts).map(Some)
        }
        (None, Some(Algorithm::V2)) => presigned::v2(parts).map(Some),
        (None, Some(algorithm)) => presigned::v4(algorithm, parts).map(Some),
        (None, None) => match other_mode(parts) {
            Some(mode) => Err(SigError::Unsupported { mode }),
            None => Ok(None),
        },
    }
}

/// `AKIA…/20260102/eu-central-1/s3/aws4_request`; SigV4A has no region in it.
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn read(algorithm: Algorithm, text: &'a str) -> Result<Self, SigError> {
        let mut pieces = text.split('/');
        let mut next = || pieces.next().unwrap_or_default();
        let (access_key_id, date) = (next(), next());
        let region = if algorithm == Algorithm::V4a { "-" } else { next() };
        let scope = Self { access_key_id, date, region, service: next() };
        let name = |t: &str| {
            (1..=64).contains(&t.len())
                && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if next() != TERMINATOR
            || pieces.next().is_some()
            || !is_access_key_id(access_key_id)
            || !name(scope.region)
            || !name(scope.service)
        {
            let form = match algorithm {
                Algorithm::V4a => "access-key-id/date/service/aws4_request",
                _ => "access-key-id/date/region/service/aws4_request",
            };
            return Err(SigError::malformed(format!(
                "the credential `{}` is not of the form `{form}`",
                abridged(text)
            )));
        }
        Ok(scope)
    }
}

fn is_access_key_id(text: &str) -> bool {
    (8..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// SigV4A's regions: `*`, `us-east-1,us-west-2`, `us-*`.
fn region_set(text: &str) -> Result<String, SigError> {
    let name = |r: &str| {
        let stem = r.strip_suffix('*').unwrap_or(r);
        (1..=64).contains(&r.len()) && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() > 1024 || !text.split(',').all(name) {
        return Err(SigError::malformed(format!(
            "the region set `{}` must be regions separated by commas, or `*`",
            abridged(text)
        )));
    }
    Ok(text.to_owned())
}

fn signature(algorithm: Algorithm, hex: &str) -> Result<Vec<u8>, SigError> {
    let length = if algorithm == Algorithm::V4a { 16..=144 } else { 64..=64 };
    let mut bytes = vec![0; hex.len() / 2];
    // AWS writes and takes lower case only.
    match hex::decode_to_slice(hex, &mut bytes) {
        Ok(()) if length.contains(&hex.len()) && !hex.bytes().any(|b| b.is_ascii_uppercase()) => Ok(bytes),
        _ if algorithm == Algorithm::V4a => Err(SigError::malformed("`Signature` must be lower-case hex digits")),
        _ => Err(SigError::malformed("`Signature` must be 64 lower-case hex digits")),
    }
}

/// What the value of `x-amz-content-sha256` says.
fn payload(text: &str, algorithm: Algorithm, headers: &HeaderMap) -> Result<Payload, SigError> {
    let chunks = |trailer| Ok(Payload::SignedChunks(ChunkTerms::read(headers, trailer)?));
    match (text, algorithm) {
        ("UNSIGNED-PAYLOAD", _) => Ok(Payload::Unsigned),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", _) => Ok(Payload::StreamingUnsignedTrailer),
        ("STREAMING-AWS4-HMAC-SHA256-EVENTS", Algorithm::V4) => Ok(Payload::Events),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Algorithm::V4)
        | ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", Algorithm::V4a) => chunks(false),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Algorithm::V4)
        | ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", Algorithm::V4a) => chunks(true),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-EVENTS", _) => Err(SigError::Unsupported { mode: Mode::SigV4aEvents }),
        (hex, _) if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Ok(Payload::Hashed(hex.to_owned()))
        }
        (text, _) => Err(SigError::malformed(format!(
            "x-amz-content-sha256 is `{}`; send 64 lower-case hex digits, UNSIGNED-PAYLOAD, or one of the STREAMING words \
             of the signature's own algorithm",
            abridged(text)
        ))),
    }
}

/// Sorted, each once, `host` among them, each there, and no `x-amz-*` header beside them: one could be added on
/// the way otherwise.
fn check_signed_headers(list: &str, headers: &HeaderMap) -> Result<(), SigError> {
    let mut last = "";
    let (mut host, mut amz) = (false, 0);
    for name in list.split(';') {
        if name <= last || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(SigError::malformed(
                "`SignedHeaders` must be lower-case names, sorted, each once, separated by `;`",
            ));
        }
        last = name;
        let is_host = name == "host" || name == AUTHORITY;
        host |= is_host;
        amz += usize::from(name.starts_with("x-amz-"));
        if !headers.contains_key(if is_host { "host" } else { name }) {
            return Err(SigError::malformed(format!(
                "the signed header `{}` is missing from the request",
                abridged(name)
            )));
        }
    }
    if !host {
        return Err(SigError::malformed("`SignedHeaders` lacks `host`"));
    }
    // All that are listed are there, so as many is the same ones.
    if headers.keys().filter(|n| n.as_str().starts_with("x-amz-")).count() == amz {
        return Ok(());
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

/// The session token, and which of two names it goes by.
fn one_token<T>(security: Option<T>, s3_session: Option<T>) -> Result<(Option<T>, TokenKind), SigError> {
    match (security, s3_session) {
        (Some(_), Some(_)) => Err(SigError::malformed(
            "the request carries both x-amz-security-token and x-amz-s3session-token; send the one that came with the key",
        )),
        (None, Some(token)) => Ok((Some(token), TokenKind::S3Session)),
        (token, None) => Ok((token, TokenKind::Security)),
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
mod tests;
