//! A presigned URL as the request that it stands for.
//!
//! Signers put headers into the query so that a plain GET carries them. Here they become headers again, and what speaks
//! of the signature goes: what is judged then, and sent on with a signature in its headers, says everything once.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

use super::claim::is_member;
use super::{Algorithm, Claim, SigError};

/// Rewrites the request of a presigned URL; leaves others alone.
pub fn hoist(parts: &mut Parts, claim: &Claim) -> Result<(), SigError> {
    if !claim.is_presigned() {
        return Ok(());
    }
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let mut kept = String::with_capacity(query.len());
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode_str(name).decode_utf8_lossy().to_ascii_lowercase();
        if is_member(claim.algorithm, &decoded) {
            continue;
        }
        if is_header(claim.algorithm, &decoded) {
            put(parts, &decoded, value)?;
            continue;
        }
        if !kept.is_empty() {
            kept.push('&');
        }
        kept.push_str(pair);
    }
    let path = parts.uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{kept}") };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query =
        Some(PathAndQuery::try_from(target).map_err(|e| SigError::malformed(format!("the target is not one: {e}")))?);
    parts.uri = uri.try_into().map_err(|e| SigError::malformed(format!("the target is not one: {e}")))?;
    Ok(())
}

fn is_header(algorithm: Algorithm, name: &str) -> bool {
    name.starts_with("x-amz-") || algorithm == Algorithm::V2 && matches!(name, "content-type" | "content-md5")
}

fn put(parts: &mut Parts, name: &str, value: &str) -> Result<(), SigError> {
    let bad = || SigError::malformed(format!("`{name}` in the query cannot be the header that it stands for"));
    let decoded: Vec<u8> = percent_decode_str(value).collect();
    let (header, value) =
        (HeaderName::try_from(name).map_err(|_| bad())?, HeaderValue::from_bytes(&decoded).map_err(|_| bad())?);
    match parts.headers.get(&header) {
        // SigV2's signers write the type into the URL, and their senders into the header.
        Some(there) if header == CONTENT_TYPE && *there == value => {}
        Some(_) => {
            return Err(SigError::malformed(format!("`{name}` is in the headers and in the query; send it once")));
        }
        None => {
            parts.headers.append(header, value);
        }
    }
    Ok(())
}
