//! The agent's signature against its placeholder.

use std::time::SystemTime;

use hmac::Mac;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::canonical::{self, Form, Terms};
use super::keys::KeyedHmac;
use super::{ALGORITHM, Claim, MAX_SKEW, SigError, SigningKeys, Stamp, TERMINATOR};
use crate::credential::Secret;

/// Verifies a claim against the request it came with.
///
/// `body_sha256` is the lower-case hex of the body, needed where the claim's payload is
/// [`Absent`](super::Payload::Absent). Whether a declared hash is that of the body is for the caller to check,
/// who has the body. `token` is what the access key was given out with.
pub fn verify(
    claim: &Claim,
    parts: &Parts,
    body_sha256: Option<&str>,
    secret: &Secret,
    token: Option<&Secret>,
    now: SystemTime,
    keys: &SigningKeys,
) -> Result<(), SigError> {
    let now = Stamp::at(now).ok_or_else(|| SigError::Unsignable("this host's clock is out of range; set it".into()))?;
    let (skew, direction) = claim.stamp.distance(&now);
    if skew > MAX_SKEW {
        return Err(SigError::Skewed { seconds: skew.as_secs(), direction });
    }
    match (token, &claim.token) {
        (None, None) => {}
        (Some(_), None) => return Err(SigError::TokenMissing),
        (Some(ours), Some(theirs)) if ours == theirs => {}
        _ => return Err(SigError::TokenMismatch),
    }
    let payload = claim.payload.header().or(body_sha256).ok_or(SigError::BodyNotHashed)?;
    let terms = Terms { signing_name: &claim.service, signed_headers: &claim.signed_headers, payload };
    let key = keys.key(secret, claim.stamp.date(), &claim.region, &claim.service);
    let mut buffer = Vec::with_capacity(1024);
    let mut matches = |path, query| {
        buffer.clear();
        canonical::write(&mut buffer, parts, terms, path, query);
        let ours = signature(key.clone(), &claim.stamp, &claim.region, &claim.service, &buffer);
        bool::from(ours.ct_eq(&claim.signature))
    };
    if matches(Form::Documented, Form::Documented) {
        return Ok(());
    }
    // Clients that sign their own spelling of a path or query vouch for the very bytes that they sent; a
    // signature over either form binds the same request.
    for path in canonical::path_forms(parts, &claim.service) {
        for query in canonical::query_forms(parts) {
            if (*path, *query) != (Form::Documented, Form::Documented) && matches(*path, *query) {
                return Ok(());
            }
        }
    }
    Err(SigError::Mismatch)
}

/// The signature of a canonical request.
pub(super) fn signature(mut key: KeyedHmac, stamp: &Stamp, region: &str, service: &str, canonical: &[u8]) -> [u8; 32] {
    let mut digest = [0; 64];
    // 32 bytes always fit 64 digits.
    let _ = hex::encode_to_slice(Sha256::digest(canonical), &mut digest);
    for piece in [ALGORITHM, "\n", stamp.as_str(), "\n", stamp.date(), "/", region, "/", service, "/", TERMINATOR, "\n"]
    {
        key.update(piece.as_bytes());
    }
    key.update(&digest);
    key.finalize().into_bytes().into()
}
