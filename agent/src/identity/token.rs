//! A token before it is verified: its shape, its header, and which issuer it claims to be of.
//!
//! Owns the checks that need no key. What it reads is used only to choose a configured issuer and one of that
//! issuer's keys; nothing here ends up in a principal. Runs on the task that verifies.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::IdentityError;

/// Longest token that is looked at, in bytes; providers stay far below, and headers could not carry more.
pub(super) const MAX_TOKEN: usize = 16 << 10;

/// What an unverified token says of itself.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    /// The token without surrounding white space.
    pub text: &'a str,
    pub algorithm: AlgorithmName,
    pub kid: Option<String>,
    /// `iss`, unverified.
    pub issuer: String,
}

/// The header's `alg`, and what it means to us, if anything.
#[derive(Debug, PartialEq)]
pub(super) struct AlgorithmName {
    pub name: String,
    /// `None` for `none`, for HMAC, and for what we do not know.
    pub known: Option<Algorithm>,
}

/// Header members by which a token would bring its own key or ask for rules we do not have.
const REFUSED: [&str; 8] = ["crit", "jwk", "jku", "x5u", "b64", "zip", "enc", "epk"];

impl<'a> Draft<'a> {
    pub fn parse(token: &'a str) -> Result<Self, IdentityError> {
        let text = token.trim();
        if text.len() > MAX_TOKEN {
            return Err(IdentityError::TooLarge { size: text.len(), limit: MAX_TOKEN });
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(malformed(match parts.len() {
                1 if text.is_empty() => "it is empty".into(),
                5 => "it is encrypted".into(),
                n => format!("it has {n} parts instead of 3"),
            }));
        };
        if signature.is_empty() {
            return Err(malformed("it has no signature".into()));
        }
        let header = object(header, "header")?;
        if let Some(name) = REFUSED.iter().find(|name| header.contains_key(**name)) {
            return Err(IdentityError::Header((*name).into()));
        }
        // A logout token, a DPoP proof or an event of the same issuer is signed by the same keys but says nothing
        // of who asks.
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str().unwrap_or("").to_ascii_lowercase();
            if !matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt") {
                return Err(malformed("its `typ` is neither `JWT` nor `at+jwt`".into()));
            }
        }
        let Some(name) = header.get("alg").and_then(Value::as_str) else {
            return Err(malformed("its header names no `alg`".into()));
        };
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(malformed("its `kid` is not text".into())),
        };
        let claims = object(claims, "second part")?;
        let Some(issuer) = claims.get("iss").and_then(Value::as_str) else {
            return Err(IdentityError::Claim { claim: "iss".into(), problem: "is missing or not text".into() });
        };
        Ok(Self { text, algorithm: AlgorithmName::new(name), kid, issuer: issuer.to_owned() })
    }
}

impl AlgorithmName {
    fn new(name: &str) -> Self {
        let known = Algorithm::from_str(name).ok().filter(|a| asymmetric(*a));
        Self { name: printable(name), known }
    }
}

/// Whether an algorithm verifies with a public key. A shared secret would make every verifier a signer.
pub(super) fn asymmetric(algorithm: Algorithm) -> bool {
    algorithm.family() != jsonwebtoken::AlgorithmFamily::Hmac
}

/// Text from a token that is fit for a message: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn malformed(why: String) -> IdentityError {
    IdentityError::Malformed(why)
}

fn object(part: &str, which: &str) -> Result<Map<String, Value>, IdentityError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(format!("its {which} is not base64url")))?;
    serde_json::from_slice(&bytes).map_err(|_| malformed(format!("its {which} is not a JSON object")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn message(token: &str) -> String {
        Draft::parse(token).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_issuer_and_the_key_of_a_token() {
        let text = format!("  {}\n", token(r#"{"alg":"RS256","kid":"a","typ":"at+JWT"}"#, r#"{"iss":"https://x"}"#));
        let draft = Draft::parse(&text).unwrap();
        assert_eq!(draft.issuer, "https://x");
        assert_eq!(draft.kid.as_deref(), Some("a"));
        assert_eq!(draft.algorithm.known, Some(Algorithm::RS256));
        assert_eq!(draft.text, text.trim());
    }

    #[test]
    fn says_what_is_wrong_with_the_shape() {
        for (token, expected) in [
            (String::new(), "it is empty"),
            ("a.b".into(), "it has 2 parts instead of 3"),
            ("a.b.c.d.e".into(), "it is encrypted"),
            ("!!.b.c".into(), "its header is not base64url"),
            (format!("{}.b.c", URL_SAFE_NO_PAD.encode("[]")), "its header is not a JSON object"),
            (token("{}", "{}"), "its header names no `alg`"),
            (token(r#"{"alg":"RS256","kid":7}"#, "{}"), "its `kid` is not text"),
            (token(r#"{"alg":"RS256","typ":"logout+jwt"}"#, "{}"), "its `typ` is neither `JWT` nor `at+jwt`"),
            (token(r#"{"alg":"RS256"}"#, "{}"), "the token's claim `iss` is missing or not text"),
            (token(r#"{"alg":"RS256"}"#, r#"{"iss":["https://x"]}"#), "the token's claim `iss` is missing or not text"),
            ("eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.".into(), "it has no signature"),
        ] {
            assert!(message(&token).contains(expected), "{token}: {}", message(&token));
        }
        assert!(message(&"a".repeat(MAX_TOKEN + 1)).contains("more than the 16384 that are read"));
    }

    #[test]
    fn refuses_headers_that_bring_a_key_or_rules() {
        for name in REFUSED {
            let text = token(&format!(r#"{{"alg":"RS256","{name}":["x"]}}"#), r#"{"iss":"https://x"}"#);
            assert_eq!(Draft::parse(&text).unwrap_err(), IdentityError::Header(name.into()));
        }
    }

    #[test]
    fn an_algorithm_without_a_public_key_is_unknown() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "ES256K", "rs256", ""] {
            assert_eq!(AlgorithmName::new(name).known, None, "{name}");
        }
    }
}
