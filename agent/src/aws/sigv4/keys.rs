//! Signing keys, derived once a day for each secret, region and service; SigV4A's, once for each access key.
//!
//! Deriving one takes ten blocks of SHA-256, as much as the rest of a small request's signature; SigV4A's takes a
//! multiplication on the curve, too. Holds keyed HMAC states and key pairs, no secrets. Read under a short lock by every exchange.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::TERMINATOR;
use super::ecdsa::Pair;
use crate::credential::Secret;

pub(super) type KeyedHmac = Hmac<Sha256>;

const SHARDS: usize = 8;
/// Keys of one shard; when it is full of yesterday's, it starts anew.
const SHARD_CAPACITY: usize = 512;

/// The cache. One for the daemon, for verifying and for signing.
pub struct SigningKeys {
    /// Two random hash functions: entries are told apart by 128 bits that nobody outside can steer.
    hashers: [RandomState; 2],
    shards: [RwLock<HashMap<u128, KeyedHmac>>; SHARDS],
    pairs: RwLock<HashMap<u128, Arc<Pair>>>,
}

impl Default for SigningKeys {
    fn default() -> Self {
        Self { hashers: [RandomState::new(), RandomState::new()], shards: Default::default(), pairs: RwLock::default() }
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

impl SigningKeys {
    /// The key for a secret, day (`20260102`), region and service, as an HMAC ready to be fed.
    pub(super) fn key(&self, secret: &Secret, date: &str, region: &str, service: &str) -> KeyedHmac {
        let what = (secret.expose(), date, region, service);
        let id = self.id(what);
        let shard = &self.shards[(id % SHARDS as u128) as usize];
        if let Some(key) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return key.clone();
        }
        let key = derive(secret, date, region, service);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= SHARD_CAPACITY {
            shard.clear();
        }
        shard.insert(id, key.clone());
        key
    }

    /// SigV4A's key pair. `None`: these credentials have none.
    pub(super) fn pair(&self, access_key_id: &str, secret: &Secret) -> Option<Arc<Pair>> {
        let id = self.id((secret.expose(), access_key_id));
        if let Some(pair) = self.pairs.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Some(pair.clone());
        }
        let pair = Arc::new(Pair::derive(access_key_id, secret)?);
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= SHARD_CAPACITY {
            pairs.clear();
        }
        pairs.insert(id, pair.clone());
        Some(pair)
    }

    fn id(&self, what: impl std::hash::Hash) -> u128 {
        u128::from(self.hashers[0].hash_one(&what)) << 64 | u128::from(self.hashers[1].hash_one(&what))
    }
}

pub(super) fn derive(secret: &Secret, date: &str, region: &str, service: &str) -> KeyedHmac {
    let mut first = zeroize::Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.expose().as_bytes());
    let mut key = keyed(&first);
    for part in [date, region, service, TERMINATOR] {
        key.update(part.as_bytes());
        key = keyed(&key.finalize().into_bytes());
    }
    key
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
fn keyed(key: &[u8]) -> KeyedHmac {
    KeyedHmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn keys_are_those_of_the_crate() {
        let keys = SigningKeys::default();
        let day = UNIX_EPOCH + Duration::from_secs(1_767_322_800);
        for (secret, region, service) in
            [("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "iam"), ("s", "eu-central-1", "s3")]
        {
            for _twice in 0..2 {
                let mut ours = keys.key(&Secret::new(secret), "20260102", region, service);
                ours.update(b"text");
                let theirs = aws_sigv4::sign::v4::generate_signing_key(secret, day, region, service);
                let theirs = aws_sigv4::sign::v4::calculate_signature(theirs, b"text");
                assert_eq!(hex::encode(ours.finalize().into_bytes()), theirs);
            }
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let keys = SigningKeys::default();
        let secret = Secret::new("s");
        for n in 0..SHARDS * SHARD_CAPACITY + 2000 {
            keys.key(&secret, "20260102", &n.to_string(), "s3");
        }
        assert!(keys.shards.iter().all(|s| s.read().expect("sound").len() <= SHARD_CAPACITY));
    }
}
