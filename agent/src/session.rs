//! The registry of sessions and their life.
//!
//! Owns which sessions there are and what each is bound to. Never decides.

use std::fmt;

/// A session's name in records, events and policies: `s-` and 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SessionId(String);

impl SessionId {
    /// A fresh, unguessable id.
    pub fn random() -> Self {
        Self(format!("s-{:016x}", rand::random::<u64>()))
    }
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("s-")?;
        (hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
