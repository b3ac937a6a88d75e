//! The agent's signature against its placeholder.

use std::time::SystemTime;

use hmac::Mac;
use http::request::Parts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::canonical::{self, Form, Terms};
use super::chain::{Chain, Key};
use super::keys::KeyedHmac;
use super::{Algorithm, Claim, MAX_SKEW, Payload, SigError, SigningKeys, Stamp, TERMINATOR, v2};
use crate::credential::Secret;

/// How far ahead of this host's clock a presigned URL may have been made: what AWS allows.
const AHEAD: u64 = 15 * 60;

/// What a claim is verified against.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Lower-case hex of the body's, needed where the claim's payload is [`Absent`](super::Payload::Absent). Whether a
    /// declared hash is that of the body is for the caller to check, who has the body.
    pub body_sha256: Option<&'a str>,
    /// The bucket in the host's name, of which SigV2 signs the path.
    pub bucket: Option<&'a str>,
    pub secret: &'a Secret,
    /// What the access key was given out with.
    pub token: Option<&'a Secret>,
    pub now: SystemTime,
}

/// Verifies a claim against the request it came with, a presigned one after [`super::hoist`].
///
/// Gives what the signatures of the body's pieces go on from, where it has such.
pub fn verify(claim: &Claim, parts: &Parts, given: &Given<'_>, keys: &SigningKeys) -> Result<Option<Chain>, SigError> {
    let now =
        Stamp::at(given.now).ok_or_else(|| SigError::Unsignable("this host's clock is out of range; set it".into()))?;
    check_time(claim, &now)?;
    match (given.token, &claim.token) {
        (None, None) => {}
        (Some(_), None) => return Err(SigError::TokenMissing(claim.token_kind)),
        (Some(ours), Some(theirs)) if ours == theirs => {}
        _ => return Err(SigError::TokenMismatch),
    }
    let key = match claim.algorithm {
        Algorithm::V2 => {
            let matches = v2::matches(claim, parts, given.bucket, given.secret);
            return if matches { Ok(None) } else { Err(SigError::Mismatch) };
        }
        Algorithm::V4 => {
            let key = keys.key(given.secret, claim.stamp.date(), &claim.region, &claim.service);
            Key::Hmac(key, (claim.payload == Payload::Events).then(|| given.secret.clone()))
        }
        Algorithm::V4a => Key::Pair(keys.pair(&claim.access_key_id, given.secret).ok_or(SigError::Mismatch)?),
    };
    let place = match claim.algorithm {
        Algorithm::V4a => claim.service.clone(),
        _ => format!("{}/{}", claim.region, claim.service),
    };
    let payload = claim.payload.header(claim.algorithm).or(given.body_sha256).ok_or(SigError::BodyNotHashed)?;
    let query = match &claim.query {
        Some(presigned) => &presigned.text,
        None => parts.uri.query().unwrap_or_default(),
    };
    let terms = Terms { query, signing_name: &claim.service, signed_headers: &claim.signed_headers, payload };
    let mut buffer = Vec::with_capacity(1024);
    let mut matches = |path, query| {
        buffer.clear();
        canonical::write(&mut buffer, parts, terms, path, query);
        match &key {
            Key::Hmac(key, _) => {
                bool::from(signature(key.clone(), &claim.stamp, &place, &buffer).ct_eq(claim.signature.as_slice()))
            }
            Key::Pair(pair) => {
                let text = string_to_sign(Algorithm::V4a, &claim.stamp, &place, &buffer);
                pair.verify(text.as_bytes(), &claim.signature)
            }
        }
    };
    let found = matches(Form::Documented, Form::Documented) || {
        // Clients that sign their own spelling of a path or query vouch for the very bytes that they sent; a
        // signature over either form binds the same request.
        let queries = canonical::query_forms(query);
        canonical::path_forms(parts, &claim.service).iter().any(|path| {
            queries
                .iter()
                .any(|query| (*path, *query) != (Form::Documented, Form::Documented) && matches(*path, *query))
        })
    };
    if !found {
        return Err(SigError::Mismatch);
    }
    let last = || hex::encode(&claim.signature);
    Ok(claim.payload.is_in_pieces().then(|| Chain { key, stamp: claim.stamp, place, last: last(), padded: None }))
}

fn check_time(claim: &Claim, now: &Stamp) -> Result<(), SigError> {
    let (skew, direction) = claim.stamp.distance(now);
    let skewed = Err(SigError::Skewed { seconds: skew.as_secs(), direction });
    let Some(presigned) = &claim.query else {
        return if skew > MAX_SKEW { skewed } else { Ok(()) };
    };
    let ahead = claim.stamp.unix() > now.unix();
    match claim.algorithm {
        // The stamp is the end.
        Algorithm::V2 if ahead => Ok(()),
        Algorithm::V4 | Algorithm::V4a if ahead => {
            if skew.as_secs() > AHEAD {
                skewed
            } else {
                Ok(())
            }
        }
        Algorithm::V4 | Algorithm::V4a if skew.as_secs() < presigned.lifetime => Ok(()),
        _ => Err(SigError::Expired),
    }
}

/// The signature of a canonical request. `place` is `region/service`.
pub(super) fn signature(mut key: KeyedHmac, stamp: &Stamp, place: &str, canonical: &[u8]) -> [u8; 32] {
    write_string_to_sign(Algorithm::V4, stamp, place, canonical, |piece| key.update(piece));
    key.finalize().into_bytes().into()
}

pub(super) fn string_to_sign(algorithm: Algorithm, stamp: &Stamp, place: &str, canonical: &[u8]) -> String {
    let mut text = Vec::with_capacity(192);
    write_string_to_sign(algorithm, stamp, place, canonical, |piece| text.extend_from_slice(piece));
    // All its pieces are.
    String::from_utf8(text).unwrap_or_default()
}

fn write_string_to_sign(
    algorithm: Algorithm,
    stamp: &Stamp,
    place: &str,
    canonical: &[u8],
    mut write: impl FnMut(&[u8]),
) {
    let mut digest = [0; 64];
    // 32 bytes always fit 64 digits.
    let _ = hex::encode_to_slice(Sha256::digest(canonical), &mut digest);
    for piece in [algorithm.name(), "\n", stamp.as_str(), "\n", stamp.date(), "/", place, "/", TERMINATOR, "\n"] {
        write(piece.as_bytes());
    }
    write(&digest);
}
