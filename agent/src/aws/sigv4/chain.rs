//! Signatures of a body's pieces, each made over the one before it.
//!
//! Owns the chain, which begins with the request's own signature, and what chunks and events share: bytes come in as
//! they arrive, and go out once the piece that they belong to has been verified and signed anew. One piece is held at a
//! time. What goes out is as long as what came in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hmac::Mac;
use subtle::ConstantTimeEq;

use super::chunks::Chunks;
use super::ecdsa::{Pair, SIGNATURE_LENGTHS};
use super::events::Events;
use super::keys::{self, KeyedHmac};
use super::{Algorithm, Payload, Stamp, TERMINATOR};
use crate::credential::Secret;

/// Most bytes of one chunk or event. One is held in memory until it is verified.
pub const LARGEST_PIECE: usize = 4 << 20;

/// Why a body in pieces does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceError {
    #[error("the signature of {0} does not match; nothing may alter the body after signing")]
    Mismatch(String),
    #[error(
        "{what} has {size} bytes, and the largest that is let through has {LARGEST_PIECE}; set a smaller one in the client"
    )]
    TooLarge { what: String, size: u64 },
    #[error("the body's chunks cannot be read: {0}")]
    Chunks(String),
    #[error("the body's events cannot be read: {0}")]
    Events(String),
    #[error("the chunks hold {found} bytes, but x-amz-decoded-content-length is {declared}")]
    Length { declared: u64, found: u64 },
    #[error("the body ended before its last chunk")]
    Short,
    #[error("the piece could not be signed: {0}")]
    Unsignable(&'static str),
}

/// What the signatures of a body's pieces are made with, and the last one of them.
#[derive(Clone)]
pub struct Chain {
    pub(super) key: Key,
    pub(super) stamp: Stamp,
    /// `region/service`; SigV4A: `service`.
    pub(super) place: String,
    /// In lower-case hex; SigV4A: in the form in which the next one is made over it.
    pub(super) last: String,
    /// SigV4A: whether the last one is padded when the next one is made over it. `None`: not known yet.
    pub(super) padded: Option<bool>,
}

#[derive(Clone)]
pub(super) enum Key {
    /// Of the stamp's day, and the secret for the days after it, where there may be such.
    Hmac(KeyedHmac, Option<Secret>),
    Pair(Arc<Pair>),
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What a piece is, as its string to sign has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Payload,
    Trailer,
}

impl Chain {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.key {
            Key::Hmac(..) => Algorithm::V4,
            Key::Pair(_) => Algorithm::V4a,
        }
    }

    fn string_to_sign(&self, kind: Kind, last: &str, digests: &[&str]) -> String {
        let kind = match kind {
            Kind::Payload => "-PAYLOAD\n",
            Kind::Trailer => "-TRAILER\n",
        };
        let mut text = String::with_capacity(384);
        text.push_str(self.algorithm().name());
        for part in [kind, self.stamp.as_str(), "\n", self.stamp.date(), "/", &self.place, "/", TERMINATOR, "\n", last]
        {
            text.push_str(part);
        }
        for digest in digests {
            text.push('\n');
            text.push_str(digest);
        }
        text
    }

    /// Whether a piece's signature, as written in it, is that of its digests; goes on from it if so.
    pub(super) fn verify(&mut self, kind: Kind, digests: &[&str], written: &str) -> bool {
        let found = match &self.key {
            Key::Hmac(key, _) => {
                let ours = mac(key.clone(), self.string_to_sign(kind, &self.last, digests).as_bytes());
                let mut theirs = [0; 32];
                hex::decode_to_slice(written, &mut theirs).is_ok() && bool::from(ours.ct_eq(&theirs))
            }
            Key::Pair(pair) => {
                let Ok(theirs) = hex::decode(written.trim_end_matches('*')) else { return false };
                // Signers differ in whether a padded signature is padded in the next one's string to sign, too.
                let bare = self.last.trim_end_matches('*');
                let fits = |last: &str| pair.verify(self.string_to_sign(kind, last, digests).as_bytes(), &theirs);
                let open = bare.len() != self.last.len();
                let found = [true, false]
                    .into_iter()
                    .filter(|padded| self.padded.is_none_or(|known| known == *padded))
                    .find(|padded| fits(if *padded { &self.last } else { bare }));
                if open && found.is_some() {
                    self.padded = found;
                }
                found.is_some()
            }
        };
        if found {
            written.clone_into(&mut self.last);
        }
        found
    }

    /// The signature of a piece, as it is to be written into it: as long as `written`, the agent's.
    pub(super) fn sign(&mut self, kind: Kind, digests: &[&str], written: &str) -> Result<&str, PieceError> {
        match &self.key {
            Key::Hmac(key, _) => {
                let digest = mac(key.clone(), self.string_to_sign(kind, &self.last, digests).as_bytes());
                self.last = hex::encode(digest);
            }
            Key::Pair(pair) => {
                let last = match self.padded {
                    Some(false) => self.last.trim_end_matches('*'),
                    _ => &self.last,
                };
                let text = self.string_to_sign(kind, last, digests);
                // Signatures differ in length by chance, one in four of the usual lengths at least. Ours has the agent's
                // padding, so that the agent's way of going on from a padded one is known wherever it matters.
                let (width, bare) = (written.len(), written.trim_end_matches('*').len());
                let mut shorter = None;
                let same = (0..64).find_map(|_| {
                    let hex = hex::encode(pair.sign(text.as_bytes())?);
                    if hex.len() < width {
                        shorter = Some(hex.clone());
                    }
                    (hex.len() == bare).then_some(hex)
                });
                let hex = same.or(shorter);
                let hex = hex.ok_or(PieceError::Unsignable("no signature is as short as the client's"))?;
                self.last = format!("{hex:*<width$}");
            }
        }
        Ok(&self.last)
    }

    /// Whether a signature may be written like this.
    pub(super) fn is_written_well(&self, written: &str) -> bool {
        let lower = |t: &str| t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match &self.key {
            Key::Hmac(..) => written.len() == 64 && lower(written),
            Key::Pair(_) => {
                let bare = written.trim_end_matches('*');
                let (least, most) = (SIGNATURE_LENGTHS.start() * 2, SIGNATURE_LENGTHS.end() * 2);
                bare.len() >= least && written.len() <= most && bare.len().is_multiple_of(2) && lower(bare)
            }
        }
    }

    /// Goes over to another moment, of which events each have one.
    pub(super) fn set_stamp(&mut self, stamp: Stamp) {
        if stamp.date() != self.stamp.date()
            && let Key::Hmac(key, Some(secret)) = &mut self.key
        {
            let (region, service) = self.place.split_once('/').unwrap_or_default();
            *key = keys::derive(secret, stamp.date(), region, service);
        }
        self.stamp = stamp;
    }
}

fn mac(mut key: KeyedHmac, text: &[u8]) -> [u8; 32] {
    key.update(text);
    key.finalize().into_bytes().into()
}

/// A body in pieces on its way through.
#[derive(Debug)]
pub struct Pieces {
    codec: Codec,
    taken: u64,
    given: u64,
    out: VecDeque<Bytes>,
}

#[derive(Debug)]
enum Codec {
    Chunks(Box<Chunks>),
    Events(Box<Events>),
}

impl Pieces {
    /// For a payload that [is in pieces](Payload::is_in_pieces): `theirs` is what the agent's signatures start from,
    /// `ours` what those in their place do. `None`: it is not.
    pub fn new(payload: &Payload, theirs: Chain, ours: Chain) -> Option<Self> {
        let codec = match payload {
            Payload::SignedChunks(terms) => Codec::Chunks(Box::new(Chunks::new(theirs, ours, terms.clone()))),
            Payload::Events => Codec::Events(Box::new(Events::new(theirs, ours))),
            _ => return None,
        };
        Some(Self { codec, taken: 0, given: 0, out: VecDeque::new() })
    }

    /// Takes what has arrived.
    pub fn push(&mut self, bytes: Bytes, now: SystemTime) -> Result<(), PieceError> {
        self.taken += bytes.len() as u64;
        match &mut self.codec {
            Codec::Chunks(chunks) => chunks.push(bytes, &mut self.out),
            Codec::Events(events) => events.push(&bytes, now, &mut self.out),
        }
    }

    /// Nothing more arrives: checks that nothing is missing, and lets go of what waited for that.
    pub fn end(&mut self) -> Result<(), PieceError> {
        match &mut self.codec {
            Codec::Chunks(chunks) => chunks.end(&mut self.out),
            Codec::Events(events) => events.end(),
        }
    }

    /// The next bytes that may be sent on.
    pub fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.out.pop_front()?;
        self.given += bytes.len() as u64;
        Some(bytes)
    }

    /// Bytes that have arrived and not been sent on.
    pub fn held(&self) -> u64 {
        self.taken.saturating_sub(self.given)
    }
}
