//! Placeholders for agents, held credentials for the daemon, and the brokers that get them.
//!
//! Never prints a secret: [`Secret`] has no `Display` and its `Debug` is blank.

use std::fmt;
use std::time::SystemTime;

/// A string that is not printed and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The only way to read it; every caller is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Credentials that the agent may see; worthless outside its own session.
#[derive(Debug, Clone)]
pub struct Placeholder {
    /// `ASIA` and 16 characters, like a temporary key.
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires: SystemTime,
}

/// Credentials that only the daemon has.
#[derive(Debug, Clone)]
pub struct Held {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
    /// `None`: they do not expire.
    pub expires: Option<SystemTime>,
    /// Account they belong to, if known.
    pub account: Option<String>,
}
