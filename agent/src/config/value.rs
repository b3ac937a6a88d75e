//! Types of single values.
//!
//! Pure: each is checked when it is read, and cannot be wrong afterwards.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

/// A host pattern: an exact name, or `*.suffix` for any name below the suffix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    pub fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(cut) = host.len().checked_sub(self.name.len() + 1) else { return false };
        host.is_char_boundary(cut)
            && host.as_bytes()[cut] == b'.'
            && cut > 0
            && host[cut + 1..].eq_ignore_ascii_case(&self.name)
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (below, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if name.parse::<IpAddr>().is_ok() || name.split('.').all(label) {
            Ok(Self { name: name.to_ascii_lowercase(), below })
        } else {
            Err(format!("`{text}` is not a host pattern; use `name.example.com` or `*.example.com`"))
        }
    }
}

pub(super) fn seconds<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let n = u64::deserialize(d)?;
    if n == 0 || n > 86_400 {
        return Err(serde::de::Error::custom(format!("`{n}` seconds is out of range; use 1 to 86400")));
    }
    Ok(Duration::from_secs(n))
}

/// Like [`seconds`], and 0 is a choice: no tolerance.
pub(super) fn leeway<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let n = u64::deserialize(d)?;
    if n > 300 {
        return Err(serde::de::Error::custom(format!("`{n}` seconds is out of range; use 0 to 300")));
    }
    Ok(Duration::from_secs(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_match_whole_labels() {
        let pattern = |t: &str| HostPattern::try_from(t.to_owned()).expect("valid");
        assert!(pattern("*.amazonaws.com").matches("s3.us-east-1.AMAZONAWS.com"));
        for no in ["amazonaws.com", "evilamazonaws.com", ".amazonaws.com", "x.amazonaws.com.evil"] {
            assert!(!pattern("*.amazonaws.com").matches(no), "{no}");
        }
        assert!(pattern("a.example").matches("A.example."));
        assert!(!pattern("a.example").matches("b.a.example"));
    }
}
