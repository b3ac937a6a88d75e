//! Event streams (`application/vnd.amazon.eventstream`): each event hidden by itself, and framed anew.
//!
//! Owns the frames: lengths and checksums are checked as they come and made right as they go. An event is held whole; what
//! is longer than AWS allows is an error. Pure.

use std::sync::Arc;

use super::MaskError;
use super::select::{DEAD, Form, Leaf, Selector, Sources, State};
use super::stream::{Body, Format};
use super::token::Keyed;
use super::veil::Veil;

/// Lengths and their checksum; the message's own checksum.
const PRELUDE: usize = 12;
const END: usize = 4;
/// AWS's messages have at most 16 MiB of payload and 128 KiB of headers.
const LONGEST: usize = (16 << 20) + (128 << 10) + PRELUDE + END;

pub(super) struct Events {
    sources: Arc<Sources>,
    keyed: Keyed,
    format: Format,
    /// Member of the answer that is the stream.
    stream: String,
    held: Vec<u8>,
    pub changed: bool,
}

impl Events {
    pub fn new(sources: Arc<Sources>, keyed: Keyed, format: Format, stream: String) -> Self {
        Self { sources, keyed, format, stream, held: Vec::new(), changed: false }
    }

    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.held.extend_from_slice(input);
        let mut at = 0;
        while let Some(length) = self.held[at..].first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) {
            if !(PRELUDE + END..=LONGEST).contains(&length) {
                return Err(unreadable());
            }
            let Some(message) = self.held.get(at..at + length) else { break };
            let message = message.to_vec();
            at += length;
            self.message(&message, out)?;
        }
        self.held.drain(..at);
        Ok(())
    }

    pub fn finish(&self) -> Result<(), MaskError> {
        if self.held.is_empty() { Ok(()) } else { Err(unreadable()) }
    }

    fn message(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let word = |at: usize| message.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        let end = message.len() - END;
        let sums = [(word(8), crc32fast::hash(&message[..8])), (word(end), crc32fast::hash(&message[..end]))];
        if sums.iter().any(|(said, is)| *said != Some(*is)) {
            return Err(unreadable());
        }
        let headers_end = PRELUDE + word(4).unwrap_or_default() as usize;
        let headers = message.get(PRELUDE..headers_end).filter(|_| headers_end <= end).ok_or_else(unreadable)?;
        let payload = &message[headers_end..end];
        let said = Said::read(headers)?;
        let hidden = match said.kind {
            Some("event") => self.event(&said, payload)?,
            // Errors have no members that the model knows of.
            _ => None,
        };
        let Some(hidden) = hidden else {
            out.extend_from_slice(message);
            return Ok(());
        };
        self.changed = true;
        let start = out.len();
        let total = u32::try_from(message.len() - payload.len() + hidden.len()).map_err(|_| unreadable())?;
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&message[4..8]);
        let sum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(headers);
        out.extend_from_slice(&hidden);
        let sum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    /// What takes the place of an event's payload; `None`: nothing in it is hidden.
    fn event(&mut self, said: &Said<'_>, payload: &[u8]) -> Result<Option<Vec<u8>>, MaskError> {
        let mut selector = Selector::new(self.sources.clone());
        let root = selector.root();
        let state = match said.event {
            // What else is in the answer comes as the first event.
            Some("initial-response") => root,
            name => {
                let stream = selector.enter(root, &self.stream);
                selector.enter(stream, name.unwrap_or_default())
            }
        };
        if (state == DEAD && !self.sources.names) || payload.is_empty() {
            return Ok(None);
        }
        let veil = Veil::new(self.keyed.clone(), self.sources.patterns.clone());
        let format = match said.content {
            Some(content) if content.contains("json") => Format::Json,
            Some(content) if content.contains("xml") => Format::Xml,
            Some(content) if content.contains("cbor") => Format::Cbor,
            Some("application/octet-stream" | "text/plain") => {
                let leaf = raw(&mut selector, state);
                return Ok(if leaf.passes() { None } else { veil.clone().text(leaf, payload) });
            }
            _ => self.format,
        };
        let mut body = match format {
            // The event is the element.
            Format::Xml => {
                let state = selector.wrapping(state);
                Body::xml(selector, state, veil)
            }
            _ => Body::of(format, selector, state, veil),
        };
        let mut out = Vec::new();
        body.push(payload, &mut out)?;
        body.finish(&mut out)?;
        Ok(body.changed().then_some(out))
    }
}

/// A payload that is one member's value: hidden as the strictest of the event's members is.
fn raw(selector: &mut Selector, state: State) -> Leaf {
    let mut leaf = selector.leaf(state);
    for member in selector.each(state) {
        let found = selector.leaf(member);
        leaf.hide = leaf.hide.max(found.hide);
        leaf.patterns |= found.patterns;
    }
    Leaf { form: Form::Unknown, ..leaf }
}

/// Headers that say what a message is.
#[derive(Default)]
struct Said<'a> {
    kind: Option<&'a str>,
    event: Option<&'a str>,
    content: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn read(mut headers: &'a [u8]) -> Result<Self, MaskError> {
        let mut said = Self::default();
        while let Some((length, rest)) = headers.split_first() {
            let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(unreadable)?;
            let (kind, rest) = rest.split_first().ok_or_else(unreadable)?;
            let (length, rest) = match kind {
                0 | 1 => (0, rest),
                2 => (1, rest),
                3 => (2, rest),
                4 => (4, rest),
                5 | 8 => (8, rest),
                6 | 7 => {
                    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(unreadable)?;
                    (usize::from(u16::from_be_bytes(*length)), rest)
                }
                9 => (16, rest),
                _ => return Err(unreadable()),
            };
            let (value, rest) = rest.split_at_checked(length).ok_or_else(unreadable)?;
            headers = rest;
            let text = || std::str::from_utf8(value).map(Some).map_err(|_| unreadable());
            let place = match name {
                b":message-type" => &mut said.kind,
                b":event-type" => &mut said.event,
                b":content-type" => &mut said.content,
                _ => continue,
            };
            if *kind != 7 || place.is_some() {
                return Err(unreadable());
            }
            *place = text()?;
        }
        Ok(said)
    }
}

fn unreadable() -> MaskError {
    MaskError::Unreadable("event stream")
}
