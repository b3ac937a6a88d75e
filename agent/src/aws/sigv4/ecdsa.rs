//! SigV4A's keys: one P-256 key pair for each access key.
//!
//! The derivation is NIST SP 800-108 in counter mode, as the vectors in `tests/vectors.rs` have it; the curve is aws-lc's.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Algorithm;
use crate::credential::Secret;

/// Order of P-256, less two: larger candidates for a key are passed over.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

/// Lengths that a signature in DER has: two integers of up to 33 bytes, shorter ones if they happen to be small.
pub(super) const SIGNATURE_LENGTHS: std::ops::RangeInclusive<usize> = 8..=72;

/// A key pair. Never prints.
pub(super) struct Pair(EcdsaKeyPair);

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(…)")
    }
}

impl Pair {
    /// `None`: no key comes of these credentials, which has a chance of 2⁻³² each try.
    pub(super) fn derive(access_key_id: &str, secret: &Secret) -> Option<Self> {
        let scalar = scalar(access_key_id, secret)?;
        // RFC 5915's ECPrivateKey with the curve's name; aws-lc computes the public point.
        let mut der = Zeroizing::new(Vec::with_capacity(51));
        der.extend_from_slice(&[0x30, 49, 0x02, 0x01, 0x01, 0x04, 32]);
        der.extend_from_slice(scalar.as_slice());
        der.extend_from_slice(&[0xa0, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).ok().map(Self)
    }

    /// A signature in DER.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec())
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.0.public_key().as_ref());
        public.verify(message, signature).is_ok()
    }
}

fn scalar(access_key_id: &str, secret: &Secret) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new(Vec::with_capacity(5 + secret.expose().len()));
    key.extend_from_slice(b"AWS4A");
    key.extend_from_slice(secret.expose().as_bytes());
    (1..=254_u8).find_map(|counter| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(&1_u32.to_be_bytes());
        mac.update(Algorithm::V4a.name().as_bytes());
        mac.update(&[0]);
        mac.update(access_key_id.as_bytes());
        mac.update(&[counter]);
        mac.update(&256_u32.to_be_bytes());
        let mut candidate = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
        if *candidate > ORDER_LESS_TWO {
            return None;
        }
        // Plus one; it does not overflow, being below the order.
        for byte in candidate.iter_mut().rev() {
            let carried;
            (*byte, carried) = byte.overflowing_add(1);
            if !carried {
                break;
            }
        }
        Some(candidate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_crate() {
        for (id, secret) in [("AKISORANDOMAASORANDOM", "q+jcrXGc+0zWN6uzclKVhvMmUsIfRPa4rlRandom"), ("ASIA", "s")] {
            let theirs = aws_sigv4::sign::v4a::generate_signing_key(id, secret);
            let ours = scalar(id, &Secret::new(secret)).expect("a key");
            assert_eq!(ours.as_slice(), theirs.as_ref());
            // What the crate signs, we verify, and not with another key.
            let text = b"a string to sign";
            let signature = hex::decode(aws_sigv4::sign::v4a::calculate_signature(theirs, text)).expect("hex");
            let pair = Pair::derive(id, &Secret::new(secret)).expect("a pair");
            assert!(pair.verify(text, &signature) && !pair.verify(b"another", &signature));
            assert!(!Pair::derive(id, &Secret::new("x")).expect("a pair").verify(text, &signature));
            let ours = pair.sign(text).expect("signed");
            assert!(SIGNATURE_LENGTHS.contains(&ours.len()) && pair.verify(text, &ours));
        }
    }
}
