//! A provider's published keys: which of them may verify which token.
//!
//! Owns the reading of a JWKS. A key that is not for signatures, is symmetric, weak or not understood is left out;
//! the others keep working. Pure: no I/O, no clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// Most keys that are read from a set.
const MAX_KEYS: usize = 100;
/// Shortest RSA modulus, in bytes.
const MIN_RSA: usize = 256;

/// One key that can verify signatures.
pub(super) struct Key {
    kid: Option<String>,
    /// Algorithms that this key's type, curve and `alg` leave.
    algorithms: Vec<Algorithm>,
    pub decoding: DecodingKey,
}

/// Which key a token means.
pub(super) enum Choice<'a> {
    Key(&'a Key),
    /// No key has this id, or the token names none and the set has changed: ask the provider again.
    Unknown,
    /// There is such a key, but it is for other algorithms.
    Mismatch,
    /// The token names no key, and more than one would do.
    Ambiguous,
}

/// The usable keys of a JWKS document.
pub(super) fn parse(document: &Value) -> Result<Vec<Key>, String> {
    let Some(list) = document.get("keys").and_then(Value::as_array) else {
        return Err("its key set has no `keys`".into());
    };
    let keys: Vec<Key> = list.iter().take(MAX_KEYS).filter_map(|k| Key::parse(k.as_object()?)).collect();
    if keys.is_empty() {
        return Err(format!("none of the {} keys in its key set can verify signatures", list.len()));
    }
    Ok(keys)
}

/// The key of `keys` that a token with this `kid` and algorithm must have been signed with.
pub(super) fn choose<'a>(keys: &'a [Key], kid: Option<&str>, algorithm: Algorithm) -> Choice<'a> {
    let mut named = keys.iter().filter(|k| kid.is_none() || k.kid.as_deref() == kid).peekable();
    if named.peek().is_none() {
        return Choice::Unknown;
    }
    let mut fit = named.filter(|k| k.algorithms.contains(&algorithm));
    match (fit.next(), fit.next()) {
        (Some(key), None) => Choice::Key(key),
        (Some(_), Some(_)) => Choice::Ambiguous,
        (None, _) => Choice::Mismatch,
    }
}

impl Key {
    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        if jwk.contains_key("use") && text("use") != Some("sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|o| o == "verify")
        {
            return None;
        }
        let (decoding, mut algorithms) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (rsa(text("n")?, text("e")?)?, RSA.to_vec()),
            ("EC", Some("P-256")) => (ec(text("x")?, text("y")?, 32)?, vec![Algorithm::ES256]),
            ("EC", Some("P-384")) => (ec(text("x")?, text("y")?, 48)?, vec![Algorithm::ES384]),
            ("OKP", Some("Ed25519")) => (ed25519(text("x")?)?, vec![Algorithm::EdDSA]),
            _ => return None,
        };
        if let Some(named) = jwk.get("alg") {
            let named = match named.as_str()? {
                "Ed25519" => "EdDSA",
                other => other,
            };
            algorithms.retain(|a| a == &named.parse().unwrap_or(Algorithm::HS256));
        }
        let kid = text("kid").map(str::to_owned);
        (!algorithms.is_empty()).then_some(Self { kid, algorithms, decoding })
    }
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let (n, e) = (bytes(n)?, bytes(e)?);
    let leading = n.iter().take_while(|b| **b == 0).count();
    (n.len() - leading >= MIN_RSA).then(|| DecodingKey::from_rsa_raw_components(&n[leading..], &e))
}

fn ec(x: &str, y: &str, size: usize) -> Option<DecodingKey> {
    let right = bytes(x)?.len() == size && bytes(y)?.len() == size;
    if right { DecodingKey::from_ec_components(x, y).ok() } else { None }
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    if bytes(x)?.len() == 32 { DecodingKey::from_ed_components(x).ok() } else { None }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn b64(len: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xc1; len])
    }

    fn rsa_key(kid: &str, extra: Value) -> Value {
        let mut key = json!({"kty": "RSA", "kid": kid, "n": b64(256), "e": "AQAB"});
        key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        key
    }

    #[test]
    fn leaves_out_what_must_not_verify() {
        let unfit = json!({"keys": [
            rsa_key("enc", json!({"use": "enc"})),
            rsa_key("ops", json!({"key_ops": ["encrypt"]})),
            rsa_key("hmac", json!({"alg": "HS256"})),
            rsa_key("oaep", json!({"alg": "RSA-OAEP"})),
            rsa_key("short", json!({"n": b64(128)})),
            {"kty": "oct", "kid": "secret", "k": b64(32)},
            {"kty": "EC", "crv": "P-256", "kid": "odd", "x": b64(31), "y": b64(33)},
            {"kty": "EC", "crv": "secp256k1", "x": b64(32), "y": b64(32)},
            "text",
        ]});
        assert_eq!(parse(&unfit).err().unwrap(), "none of the 9 keys in its key set can verify signatures");
        assert!(parse(&json!({})).is_err());
    }

    #[test]
    fn a_bad_key_does_not_spoil_the_set() {
        let keys = parse(&json!({"keys": [{"kty": "new"}, rsa_key("a", json!({"use": "sig"}))]})).unwrap();
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn chooses_by_id_and_algorithm() {
        let keys = parse(&json!({"keys": [
            rsa_key("a", json!({"alg": "RS256"})),
            rsa_key("b", json!({})),
            {"kty": "EC", "crv": "P-256", "kid": "c", "x": b64(32), "y": b64(32)},
        ]}))
        .unwrap();
        assert!(matches!(choose(&keys, Some("a"), Algorithm::RS256), Choice::Key(_)));
        assert!(matches!(choose(&keys, Some("b"), Algorithm::PS512), Choice::Key(_)));
        assert!(matches!(choose(&keys, Some("a"), Algorithm::RS384), Choice::Mismatch));
        assert!(matches!(choose(&keys, Some("c"), Algorithm::RS256), Choice::Mismatch));
        assert!(matches!(choose(&keys, Some("z"), Algorithm::RS256), Choice::Unknown));
        assert!(matches!(choose(&keys, None, Algorithm::ES256), Choice::Key(_)));
        assert!(matches!(choose(&keys, None, Algorithm::RS256), Choice::Ambiguous));
    }
}
