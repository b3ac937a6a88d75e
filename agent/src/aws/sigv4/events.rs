//! Event streams whose every event is wrapped in a signed one.
//!
//! The wrapper has the headers `:date` and `:chunk-signature` and the event as its payload; a wrapper of nothing ends
//! the stream. Framing and checksums are the `aws-smithy-eventstream` crate's.

use std::collections::VecDeque;
use std::time::SystemTime;

use aws_smithy_eventstream::frame::{read_message_from, write_headers_to, write_message_to};
use aws_smithy_types::DateTime;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};

use super::chain::{Chain, Kind, LARGEST_PIECE, PieceError};
use super::{MAX_SKEW, Stamp, sha256_hex};

const DATE: &str = ":date";
const SIGNATURE: &str = ":chunk-signature";
/// Length, length of the headers and a checksum of both; a checksum of all.
const LEAST: usize = 16;

#[derive(Debug)]
pub(super) struct Events {
    theirs: Chain,
    ours: Chain,
    buffer: BytesMut,
    number: u64,
    ended: bool,
}

impl Events {
    pub(super) fn new(theirs: Chain, ours: Chain) -> Self {
        Self { theirs, ours, buffer: BytesMut::new(), number: 0, ended: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8], now: SystemTime, out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        self.buffer.extend_from_slice(bytes);
        while let Some(length) = self.buffer.first_chunk::<4>().map(|b| u32::from_be_bytes(*b)) {
            if self.ended {
                return Err(PieceError::Events("something follows the last one".into()));
            }
            let size = usize::try_from(length).ok().filter(|s| *s <= LARGEST_PIECE).ok_or_else(|| {
                PieceError::TooLarge { what: format!("event {}", self.number + 1), size: u64::from(length) }
            })?;
            if size < LEAST {
                return Err(PieceError::Events("a length is shorter than what every event has".into()));
            }
            if self.buffer.len() < size {
                break;
            }
            let frame = self.buffer.split_to(size).freeze();
            out.push_back(self.resigned(frame, now)?);
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), PieceError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(PieceError::Events("the last one is not whole".into())) }
    }

    /// One wrapper, verified, with our date and signature in it.
    fn resigned(&mut self, mut frame: Bytes, now: SystemTime) -> Result<Bytes, PieceError> {
        self.number += 1;
        let number = self.number;
        let bad = |why: &str| PieceError::Events(format!("event {number}: {why}"));
        let size = frame.len();
        let message = read_message_from(&mut frame).map_err(|e| bad(&e.to_string()))?;
        let [one, two] = message.headers() else {
            return Err(bad("it must have the headers `:date` and `:chunk-signature` and no others"));
        };
        let (date, written) = match (one.name().as_str(), one.value(), two.name().as_str(), two.value()) {
            (DATE, HeaderValue::Timestamp(date), SIGNATURE, HeaderValue::ByteArray(written))
            | (SIGNATURE, HeaderValue::ByteArray(written), DATE, HeaderValue::Timestamp(date)) => (date, written),
            _ => return Err(bad("it must have the headers `:date` and `:chunk-signature` and no others")),
        };
        let stamp = SystemTime::try_from(*date).ok().and_then(Stamp::at);
        let (theirs, ours) = stamp.zip(Stamp::at(now)).ok_or_else(|| bad("its date is out of range"))?;
        if theirs.distance(&ours).0 > MAX_SKEW {
            return Err(bad("its date is hours away from this host's time; set the clock of the client"));
        }
        let payload = sha256_hex(message.payload());
        self.theirs.set_stamp(theirs);
        let signed = digest(*date).ok_or_else(|| bad("its date is out of range"))?;
        if !self.theirs.verify(Kind::Payload, &[&signed, &payload], &hex::encode(written)) {
            return Err(PieceError::Mismatch(format!("event {number}")));
        }
        self.ended = message.payload().is_empty();
        let date = DateTime::from_secs(ours.unix());
        self.ours.set_stamp(ours);
        let signed = digest(date).ok_or(PieceError::Unsignable("this host's clock is out of range"))?;
        let ours = self.ours.sign(Kind::Payload, &[&signed, &payload], "")?;
        let signature = hex::decode(ours).map_err(|_| PieceError::Unsignable("the signature is not hex"))?;
        let headers = message.headers().iter().map(|h| match h.name().as_str() {
            DATE => Header::new(DATE, HeaderValue::Timestamp(date)),
            _ => Header::new(SIGNATURE, HeaderValue::ByteArray(signature.clone().into())),
        });
        let resigned = Message::new_from_parts(headers.collect(), message.payload().clone());
        let mut bytes = Vec::with_capacity(size);
        write_message_to(&resigned, &mut bytes).map_err(|_| PieceError::Unsignable("the event cannot be written"))?;
        Ok(bytes.into())
    }
}

/// What is signed of a date: the header that carries it.
fn digest(date: DateTime) -> Option<String> {
    let mut bytes = Vec::with_capacity(16);
    write_headers_to(&[Header::new(DATE, HeaderValue::Timestamp(date))], &mut bytes).ok()?;
    Some(sha256_hex(&bytes))
}
