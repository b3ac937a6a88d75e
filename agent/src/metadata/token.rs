//! IMDSv2 session tokens: sealed, not stored.
//!
//! A token carries its own end and a MAC over it and the session, so that one made in a session is worth nothing
//! in another, and no agent can fill the daemon's memory by asking for many.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::session::SessionId;

/// Makes and checks tokens under a key of this process.
pub struct Tokens {
    keyed: Hmac<Sha256>,
}

impl Default for Tokens {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of any length")]
    fn default() -> Self {
        Self { keyed: Hmac::new_from_slice(&rand::random::<[u8; 32]>()).expect("HMAC takes keys of any length") }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    /// A token for a session that lives for `ttl`.
    pub(super) fn make(&self, session: &SessionId, ttl: Duration, now: SystemTime) -> String {
        let end = seconds(now + ttl).to_be_bytes();
        let mut token = [0; 40];
        token[..8].copy_from_slice(&end);
        token[8..].copy_from_slice(&self.mac(session, end).finalize().into_bytes());
        URL_SAFE.encode(token)
    }

    /// How long a token lives still; `None`: it is not valid here and now.
    pub(super) fn check(&self, token: &[u8], session: &SessionId, now: SystemTime) -> Option<Duration> {
        let token: [u8; 40] = URL_SAFE.decode(token).ok()?.try_into().ok()?;
        let mut end = [0; 8];
        end.copy_from_slice(&token[..8]);
        self.mac(session, end).verify_slice(&token[8..]).ok()?;
        u64::from_be_bytes(end).checked_sub(seconds(now)).filter(|left| *left > 0).map(Duration::from_secs)
    }

    fn mac(&self, session: &SessionId, end: [u8; 8]) -> Hmac<Sha256> {
        self.keyed.clone().chain_update(end).chain_update(session.as_str())
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_for_one_session_and_a_while() {
        let (tokens, others) = (Tokens::default(), Tokens::default());
        let (session, other) = (SessionId::random(), SessionId::random());
        let now = SystemTime::now();
        let token = tokens.make(&session, Duration::from_secs(60), now);
        assert!(tokens.check(token.as_bytes(), &session, now + Duration::from_secs(30)).is_some());
        assert!(tokens.check(token.as_bytes(), &session, now + Duration::from_secs(61)).is_none());
        assert!(tokens.check(token.as_bytes(), &other, now).is_none());
        assert!(others.check(token.as_bytes(), &session, now).is_none());
        let mut altered = token.clone().into_bytes();
        altered[3] ^= 1;
        for bad in [altered.as_slice(), b"", b"x", b"\xff\xfe", &token.as_bytes()[1..]] {
            assert!(tokens.check(bad, &session, now).is_none());
        }
    }
}
