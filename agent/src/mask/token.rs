//! What stands in the place of a hidden value.
//!
//! Owns the keys: one for each session, made from one of the daemon's own that lives as long as it does. The same value
//! gives the same token within a session, in whatever protocol it comes, and says nothing of the value. Pure.

use std::cell::OnceCell;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How every token that is a text begins.
pub const PREFIX: &str = "masked:";
/// Bytes of the digest that a token shows.
const SHOWN: usize = 10;

/// The daemon's key, of which those of the sessions are made.
pub struct Master([u8; 32]);

impl Master {
    /// `bytes` are random.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Tokens of one session.
    pub fn of<'a>(&'a self, session: &'a str) -> Tokens<'a> {
        Tokens { master: &self.0, session, keyed: OnceCell::new() }
    }

    /// As [`Self::of`], to be kept.
    pub fn kept(&self, session: &str) -> Keyed {
        Keyed(self.of(session).keyed().clone())
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master")
    }
}

/// Tokens of one session; the key is made when the first value is hidden.
pub struct Tokens<'a> {
    master: &'a [u8],
    session: &'a str,
    keyed: OnceCell<Hmac<Sha256>>,
}

impl fmt::Debug for Tokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.session)
    }
}

impl Tokens<'_> {
    fn keyed(&self) -> &Hmac<Sha256> {
        self.keyed.get_or_init(|| {
            let key = keyed(self.master).chain_update(self.session).finalize().into_bytes();
            keyed(&key)
        })
    }

    /// The token of a value.
    pub fn text(&self, value: &[u8]) -> String {
        Digest::of(self.keyed(), value).text()
    }

    #[cfg(test)]
    pub(super) fn testing() -> Tokens<'static> {
        Tokens { master: b"testing", session: "s-1", keyed: OnceCell::new() }
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// The key of one session.
#[derive(Clone)]
pub struct Keyed(Hmac<Sha256>);

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

impl Keyed {
    /// A value that comes in pieces.
    pub(super) fn begin(&self) -> Running {
        Running { mac: self.0.clone(), empty: true }
    }

    pub(super) fn of(&self, value: &[u8]) -> Digest {
        Digest::of(&self.0, value)
    }
}

/// A value that is hidden while it passes.
#[derive(Clone)]
pub(super) struct Running {
    mac: Hmac<Sha256>,
    pub empty: bool,
}

impl Running {
    pub fn update(&mut self, piece: &[u8]) {
        self.empty &= piece.is_empty();
        self.mac.update(piece);
    }

    pub fn end(self) -> Digest {
        Digest(self.mac.finalize().into_bytes().into())
    }
}

/// What is known of a hidden value.
pub(super) struct Digest([u8; 32]);

impl Digest {
    fn of(keyed: &Hmac<Sha256>, value: &[u8]) -> Self {
        Self(keyed.clone().chain_update(value).finalize().into_bytes().into())
    }

    /// `masked:` and 20 hex digits.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", hex::encode(&self.0[..SHOWN]))
    }

    /// The text in base64: what decodes a blob gets the text.
    pub fn base64(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.text())
    }

    /// From a thousand to two thousand million: fits 32 bits, and is a time between 2001 and 2033 where one is meant.
    pub fn number(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        1_000_000_000 + u32::from_be_bytes([a, b, c, d]) % 1_000_000_000
    }

    /// The number as a moment in text.
    pub fn moment(&self) -> String {
        OffsetDateTime::from_unix_timestamp(i64::from(self.number()))
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_else(|| "2001-09-09T01:46:40Z".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_in_a_session_has_one_token_and_another_in_the_next() {
        let master = Master::new([7; 32]);
        let (one, two) = (master.of("s-1"), master.of("s-2"));
        assert_eq!(one.text(b"hunter2"), one.text(b"hunter2"));
        assert_ne!(one.text(b"hunter2"), one.text(b"hunter3"));
        assert_ne!(one.text(b"hunter2"), two.text(b"hunter2"));
        assert_ne!(one.text(b"hunter2"), Master::new([8; 32]).of("s-1").text(b"hunter2"));
        let mut running = master.kept("s-1").begin();
        for byte in b"hunter2" {
            running.update(&[*byte]);
        }
        assert_eq!(running.end().text(), one.text(b"hunter2"));
        assert_eq!(one.text(b"x").len(), PREFIX.len() + 2 * SHOWN);
    }

    #[test]
    fn tokens_of_other_kinds_are_what_their_readers_expect() {
        let digest = Master::new([7; 32]).kept("s-1").of(b"hunter2");
        assert!((1_000_000_000..2_000_000_000).contains(&digest.number()));
        assert!(OffsetDateTime::parse(&digest.moment(), &Rfc3339).is_ok(), "{}", digest.moment());
        assert!(digest.base64().len().is_multiple_of(4));
    }
}
