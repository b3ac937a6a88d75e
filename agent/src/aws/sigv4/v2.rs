//! S3's signature version 2 in a query: verified, never made.
//!
//! HMAC-SHA1 over a few lines. Nothing but presigned URLs is taken: boto3 makes them in the oldest regions to this day.

use aws_lc_rs::hmac;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::{Claim, X_AMZ_SECURITY_TOKEN};
use crate::credential::Secret;

/// Members of a query that are part of what is addressed.
const SUBRESOURCES: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether a claim's signature is the secret's over the request, whose headers have been
/// [brought back](super::hoist) from its query. `bucket`: the one in the host's name.
pub(super) fn matches(claim: &Claim, parts: &Parts, bucket: Option<&str>, secret: &Secret) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
    let Some(text) = string_to_sign(claim, parts, bucket) else { return false };
    // Compares in constant time.
    hmac::verify(&key, &text, &claim.signature).is_ok()
}

fn string_to_sign(claim: &Claim, parts: &Parts, bucket: Option<&str>) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(parts.method.as_str().as_bytes());
    for name in [HeaderName::from_static("content-md5"), CONTENT_TYPE] {
        text.push(b'\n');
        text.extend_from_slice(parts.headers.get(name).map_or(b"".as_slice(), |v| v.as_bytes()).trim_ascii());
    }
    text.extend_from_slice(format!("\n{}\n", claim.stamp.unix()).as_bytes());
    let mut names: Vec<&str> =
        parts.headers.keys().map(HeaderName::as_str).filter(|n| n.starts_with("x-amz-")).collect();
    if claim.token.is_some() {
        names.push(X_AMZ_SECURITY_TOKEN);
    }
    names.sort_unstable();
    for name in names {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        if name == X_AMZ_SECURITY_TOKEN {
            text.extend_from_slice(claim.token.as_ref()?.expose().as_bytes());
        }
        for (n, value) in parts.headers.get_all(name).iter().enumerate() {
            if n > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value.as_bytes().trim_ascii());
        }
        text.push(b'\n');
    }
    if let Some(bucket) = bucket {
        text.push(b'/');
        text.extend_from_slice(bucket.as_bytes());
    }
    text.extend_from_slice(parts.uri.path().as_bytes());
    let mut members: Vec<(&str, Option<Vec<u8>>)> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name, Some(percent_decode_str(value).collect())),
            None => (pair, None),
        })
        .filter(|(name, _)| SUBRESOURCES.contains(name))
        .collect();
    members.sort();
    for (n, (name, value)) in members.iter().enumerate() {
        text.push(if n == 0 { b'?' } else { b'&' });
        text.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value);
        }
    }
    Some(text)
}
