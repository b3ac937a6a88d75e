//! Placeholders for agents, held credentials for the daemon, and the brokers that get them.
//!
//! Owns every secret of AWS's that the daemon has, and which principal may use which. Never prints one: [`Secret`]
//! has no `Display` and its `Debug` is blank; errors name files and bindings only. Brokers refresh on tasks of
//! their own; everything else runs on the caller's.

mod broker;
mod placeholder;
mod role;
mod sdk;
mod session;
mod static_keys;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

pub use broker::{Brokers, Client};
pub use placeholder::{NotIssued, Placeholders};
pub use role::{Asking, Sts};

/// A string that is not printed and is wiped when dropped. Compared in constant time.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
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

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}

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
    pub issued: SystemTime,
    pub expires: SystemTime,
    /// What its requests are signed with. `None`: whatever the session's binding gives at the time.
    pub behind: Option<Arc<Derived>>,
}

/// Credentials that came in an answer to the session, of a role that it assumed, say. They stay here.
#[derive(Debug)]
pub struct Derived {
    pub held: Arc<Held>,
    /// The operation that gave them (`sts:AssumeRole`).
    pub operation: String,
    /// Who they act as, where the answer said so (`arn:aws:sts::123456789012:assumed-role/deploy/run-7`).
    pub arn: Option<String>,
    /// The one directory bucket that they are for: credentials of an S3 Express session, which sign as `s3express` and
    /// send their token in `x-amz-s3session-token`.
    pub bucket: Option<String>,
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

/// Why there are no held credentials. For the operator; agents get a sentence of their own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    #[error("no binding matches subject `{subject}` of {issuer}; add a [[binding]] for it")]
    NoBinding { subject: String, issuer: String },
    #[error("cannot read `{path}` of the static binding for `{key}`: {reason}")]
    File { path: PathBuf, key: String, reason: String },
    #[error("`{path}` can be read by others than its owner (mode {mode:04o}); run `chmod 600 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "`{path}` is owned by uid {owner}; a secret must belong to root or to the daemon's own user, run `chown root {path}`"
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("`{path}` does not hold a {what} on its first line; put it there, and nothing else")]
    Content { path: PathBuf, what: &'static str },
    #[error(
        "the AWS SDK's default chain gave no credentials: {reason}; give the daemon (not the agent) a profile, an instance role or AWS_* variables"
    )]
    Chain { reason: String },
    #[error("the role `{role}` could not be assumed: {reason}; check its trust policy, and what assumes it")]
    Role { role: String, reason: String },
    #[error(
        "the role `{role}` is assumed with the session's token, and the session has no token; start it with one, or bind another broker"
    )]
    NoToken { role: String },
    #[error(
        "`{what}` of a role is made from the claim `{claim}`, which the token does not have as a text; change the template"
    )]
    Claim { what: String, claim: String },
    #[error(
        "the session tag `{name}` would be too long, or has characters that STS does not take; make it from another claim"
    )]
    Tag { name: String },
    #[error("the held credentials have expired and could not be renewed: {reason}")]
    Expired { reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let held = Held {
            access_key_id: "AKIAABCDEFGHIJKLMNOP".into(),
            secret_access_key: Secret::new("hush"),
            session_token: Some(Secret::new("hush")),
            expires: None,
            account: None,
        };
        assert!(!format!("{held:?}").contains("hush"));
    }

    #[test]
    fn secrets_compare_whole() {
        assert_eq!(Secret::new("abc"), Secret::new("abc"));
        assert_ne!(Secret::new("abc"), Secret::new("abd"));
        assert_ne!(Secret::new("abc"), Secret::new("ab"));
    }
}
