//! Who a session acts for: OIDC tokens in, principals out.
//!
//! Owns discovery, the key sets of the configured providers, verification, and where tokens come from.
//! Never trusts a claim that has not been verified, never follows a key that the token itself brings, and never
//! puts a token into a message. Verification runs on the task that asks; each watched token file has a thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::credential::Secret;

mod claims;
mod fetch;
mod keys;
mod provider;
mod selector;
mod source;
#[cfg(test)]
mod testing;
mod token;
mod verify;

pub use selector::{Selector, glob};
pub use source::{TokenSource, spawn_watch};
pub use verify::Verifier;

/// Who a session acts for.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `iss` of the verified token; `None`: unidentified.
    pub issuer: Option<String>,
    /// `sub` of the verified token, or `unidentified`.
    pub subject: String,
    /// Groups from the configured claim.
    pub groups: Vec<String>,
    /// All verified claims.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// When the token stops counting: `exp` and the issuer's configured leeway.
    pub expires: Option<SystemTime>,
    /// The token itself, for a broker that shows it to STS.
    pub token: Option<Secret>,
}

impl Principal {
    /// The principal of a session without a verified token.
    pub fn unidentified() -> Self {
        Self {
            issuer: None,
            subject: "unidentified".into(),
            groups: Vec::new(),
            claims: BTreeMap::new(),
            expires: None,
            token: None,
        }
    }
    /// Whether a verified token stands behind it.
    pub fn is_identified(&self) -> bool {
        self.issuer.is_some()
    }
    /// Whether it is the same identity, whatever else their tokens say.
    pub fn is_same(&self, other: &Self) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
    /// Whether its token no longer counts at `now`; an unidentified principal never expires.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

/// Why a token was not taken. No variant carries the token itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("issuer `{issuer}` cannot be used: {message}")]
    Issuer { issuer: String, message: String },
    #[error(
        "the token is {size} bytes long, more than the {limit} that are read; check that it is one token and nothing else"
    )]
    TooLarge { size: usize, limit: usize },
    #[error("this is not a signed token: {0}; give a JWT as the provider issued it")]
    Malformed(String),
    #[error(
        "the token's issuer `{0}` is not configured; add it as `url` of an `[[identity.issuer]]`, or use a token of a configured one"
    )]
    UnknownIssuer(String),
    #[error(
        "the token is signed with `{algorithm}`, and tokens of `{issuer}` may use {allowed}; check `algorithms` of that issuer"
    )]
    Algorithm { algorithm: String, issuer: String, allowed: String },
    #[error("the token's header carries `{0}`, which is never accepted; keys come from the issuer alone")]
    Header(String),
    #[error(
        "issuer `{issuer}` publishes no signing key {key} for `{algorithm}`; check that the token is of this provider and not older than its last keys"
    )]
    UnknownKey { issuer: String, key: String, algorithm: String },
    #[error("the token's signature does not match the key of `{0}`; it was altered, or another provider signed it")]
    Signature(String),
    #[error("the token has expired; renew it")]
    Expired,
    #[error("the token does not count yet (`nbf`); check the clock of this host")]
    NotYetValid,
    #[error(
        "the token is for another audience than {expected}; check `audience` of `{issuer}` and what the token was asked for"
    )]
    Audience { issuer: String, expected: String },
    #[error("the token's claim `{claim}` {problem}")]
    Claim { claim: String, problem: String },
    #[error("issuer `{issuer}` does not answer as a provider should: {message}")]
    Provider { issuer: String, message: String },
    #[error("cannot read the token file `{path}`: {message}")]
    File { path: PathBuf, message: String },
}

impl IdentityError {
    /// Whether the same token may be taken later without having changed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Provider { .. } | Self::UnknownKey { .. } | Self::NotYetValid | Self::File { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_principal_expires_at_its_end_and_an_unidentified_one_never() {
        let now = SystemTime::now();
        let mut principal = Principal::unidentified();
        assert!(!principal.is_expired(now + Duration::from_secs(1 << 32)));
        principal.expires = Some(now);
        assert!(principal.is_expired(now));
        assert!(!principal.is_expired(now - Duration::from_millis(1)));
    }
}
