//! aws-chunked with a signature for each chunk, taken apart and put together again.
//!
//! `size;chunk-signature=…` CRLF data CRLF, up to a chunk of no bytes, and behind that perhaps headers with a signature
//! of their own. The data are hashed once, for the agent's signature and for ours; they are not copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::chain::{Chain, Kind, LARGEST_PIECE, PieceError};
use super::{SigError, sha256_hex};

/// What the headers say of the chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTerms {
    /// Bytes in all chunks.
    pub length: u64,
    /// Names of the headers behind the last chunk, lower case; `None`: there are none, nor a signature of theirs.
    pub trailer: Option<Vec<String>>,
}

/// Longest line of a chunk or a trailer.
const LONGEST_LINE: usize = 1024;
/// Most headers behind the last chunk.
const MOST_TRAILERS: usize = 16;
/// Frames below this are copied together, so that a chunk is not held as a million of them.
const SMALL: usize = 4096;
const SIGNATURE: &str = ";chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

impl ChunkTerms {
    /// Reads `x-amz-decoded-content-length` and, where there is a trailer, `x-amz-trailer`.
    pub(super) fn read(headers: &HeaderMap, trailer: bool) -> Result<Self, SigError> {
        let text = |name: &str| {
            let mut values = headers.get_all(name).iter();
            match (values.next().map(|v| v.to_str()), values.next()) {
                (Some(Ok(text)), None) => Ok(text.trim()),
                (None, _) => Err(SigError::malformed(format!("a body in signed chunks needs the header `{name}`"))),
                _ => Err(SigError::malformed(format!("the header `{name}` must be there once, as ASCII text"))),
            }
        };
        let length = text("x-amz-decoded-content-length")?;
        let length = Some(length).filter(|l| l.bytes().all(|b| b.is_ascii_digit())).and_then(|l| l.parse().ok());
        let length = length.ok_or_else(|| SigError::malformed("x-amz-decoded-content-length must be a number"))?;
        if !trailer {
            return Ok(Self { length, trailer: None });
        }
        let names: Vec<String> = text("x-amz-trailer")?.split(',').map(|n| n.trim().to_ascii_lowercase()).collect();
        let fine = |n: &String| http::HeaderName::try_from(n.as_str()).is_ok() && n != TRAILER_SIGNATURE;
        if names.len() > MOST_TRAILERS || !names.iter().all(fine) {
            return Err(SigError::malformed("x-amz-trailer must be a few names of headers, separated by commas"));
        }
        Ok(Self { length, trailer: Some(names) })
    }
}

#[derive(Debug)]
pub(super) struct Chunks {
    theirs: Chain,
    ours: Chain,
    terms: ChunkTerms,
    state: State,
    /// A line, or what ends the data, as far as it has arrived.
    line: Vec<u8>,
    /// Bytes of all chunks up to now.
    found: u64,
    number: u64,
    chunk: Chunk,
    /// Trailers, in order.
    trailers: Vec<(String, String)>,
    /// What is whole, and waits for what follows: the end of a line, or of the body.
    waiting: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Data {
        left: usize,
    },
    /// CRLF behind the data.
    Close,
    /// CRLF behind the last chunk, where there is no trailer.
    Last,
    Trailer,
    /// CRLF behind the trailer's signature.
    TrailerEnd,
    Done,
}

/// The chunk that is arriving.
#[derive(Debug, Default)]
struct Chunk {
    /// `size;chunk-signature=` as it was written.
    head: Vec<u8>,
    written: String,
    hash: Sha256,
    data: Vec<Bytes>,
    small: BytesMut,
}

impl Chunks {
    pub(super) fn new(theirs: Chain, ours: Chain, terms: ChunkTerms) -> Self {
        Self {
            theirs,
            ours,
            terms,
            state: State::Head,
            line: Vec::new(),
            found: 0,
            number: 0,
            chunk: Chunk::default(),
            trailers: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mut bytes: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        while !bytes.is_empty() {
            if let State::Data { left } = self.state {
                let piece = bytes.split_to(left.min(bytes.len()));
                let left = left - piece.len();
                self.chunk.take(piece);
                self.state = State::Data { left };
                if left == 0 {
                    self.finish_chunk(out)?;
                    self.state = State::Close;
                }
            } else if self.state == State::Done {
                return Err(PieceError::Chunks("something follows the last one".into()));
            } else {
                let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| n + 1);
                if self.line.len() + end > LONGEST_LINE {
                    return Err(PieceError::Chunks(format!("a line is longer than {LONGEST_LINE} bytes")));
                }
                self.line.extend_from_slice(&bytes.split_to(end));
                if self.line.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.line);
                    self.line(&line, out)?;
                    // The room of a line is used again.
                    self.line = line;
                    self.line.clear();
                }
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        // Some writers leave the very last line out.
        if !matches!(self.state, State::Done | State::TrailerEnd) || !self.line.is_empty() {
            return Err(PieceError::Short);
        }
        if self.state == State::TrailerEnd || !self.waiting.is_empty() {
            self.state = State::Done;
            out.push_back(std::mem::take(&mut self.waiting).into());
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        let bare = line.strip_suffix(b"\r\n");
        match (self.state, bare) {
            (State::Head, Some(head)) => self.head(head, out)?,
            (State::Close, Some(b"")) => {
                self.waiting.extend_from_slice(line);
                self.state = State::Head;
            }
            (State::Last | State::TrailerEnd, Some(b"")) => {
                self.waiting.extend_from_slice(line);
                self.state = State::Done;
            }
            // Lines of a trailer end with a newline, as they are signed, or with CRLF; an empty one may stand before
            // its signature.
            (State::Trailer, _) => self.trailer(bare.or(line.strip_suffix(b"\n")).unwrap_or_default(), line)?,
            _ => return Err(PieceError::Chunks("a chunk does not end with CRLF where its size says so".into())),
        }
        Ok(())
    }

    /// `10000;chunk-signature=…`
    fn head(&mut self, head: &[u8], out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        self.number += 1;
        let bad = || PieceError::Chunks("a chunk must begin with `size;chunk-signature=…`, the size in hex".into());
        let text = std::str::from_utf8(head).map_err(|_| bad())?;
        let (digits, written) = text.split_once(SIGNATURE).ok_or_else(bad)?;
        let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !plain || !self.theirs.is_written_well(written) {
            return Err(bad());
        }
        let size = u64::from_str_radix(digits, 16).map_err(|_| bad())?;
        self.found = self.found.saturating_add(size);
        if self.found > self.terms.length || size == 0 && self.found != self.terms.length {
            return Err(PieceError::Length { declared: self.terms.length, found: self.found });
        }
        let left = usize::try_from(size).ok().filter(|s| *s <= LARGEST_PIECE);
        let left = left.ok_or_else(|| PieceError::TooLarge { what: format!("chunk {}", self.number), size })?;
        self.chunk.head.clear();
        self.chunk.head.extend_from_slice(&head[..head.len() - written.len()]);
        written.clone_into(&mut self.chunk.written);
        if left > 0 {
            self.state = State::Data { left };
            return Ok(());
        }
        self.finish_chunk(out)?;
        self.state = if self.terms.trailer.is_some() { State::Trailer } else { State::Last };
        Ok(())
    }

    /// All of a chunk is there: verifies it, and signs it anew.
    fn finish_chunk(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), PieceError> {
        let digest = hex::encode(self.chunk.hash.finalize_reset());
        let digests = [EMPTY_SHA256, digest.as_str()];
        if !self.theirs.verify(Kind::Payload, &digests, &self.chunk.written) {
            return Err(PieceError::Mismatch(format!("chunk {}", self.number)));
        }
        let mut head = std::mem::take(&mut self.waiting);
        head.reserve(self.chunk.head.len() + self.chunk.written.len() + 2);
        head.extend_from_slice(&self.chunk.head);
        // SigV4A: what fits the agent's chain is how ours goes on.
        self.ours.padded = self.theirs.padded;
        let ours = self.ours.sign(Kind::Payload, &digests, &self.chunk.written)?;
        head.extend_from_slice(ours.as_bytes());
        head.extend_from_slice(b"\r\n");
        if self.chunk.data.is_empty() && self.chunk.small.is_empty() {
            // The last one goes out when the body has been seen to end behind it.
            self.waiting = head;
            return Ok(());
        }
        out.push_back(head.into());
        self.chunk.flush();
        out.extend(self.chunk.data.drain(..));
        Ok(())
    }

    fn trailer(&mut self, text: &[u8], line: &[u8]) -> Result<(), PieceError> {
        let bad = |why: String| Err(PieceError::Chunks(why));
        if text.is_empty() {
            // Once, and where a signature is to follow.
            if self.waiting.ends_with(b"\n\r\n") || self.trailers.is_empty() {
                return bad("the trailer has no signature".into());
            }
            self.waiting.extend_from_slice(line);
            return Ok(());
        }
        let pair = std::str::from_utf8(text).ok().and_then(|t| t.split_once(':'));
        let Some((name, value)) = pair.filter(|(_, v)| v.bytes().all(|b| matches!(b, b' '..=b'~'))) else {
            return bad("a line of the trailer is not `name:value`".into());
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches(' '));
        let declared = self.terms.trailer.as_deref().unwrap_or_default();
        if name != TRAILER_SIGNATURE {
            if !declared.contains(&name) || self.trailers.iter().any(|(n, _)| *n == name) {
                return bad(format!("the trailer has `{name}`, which x-amz-trailer does not name, or has it twice"));
            }
            self.trailers.push((name, value.to_owned()));
            self.waiting.extend_from_slice(line);
            return Ok(());
        }
        if declared.len() != self.trailers.len() {
            return bad("the trailer lacks a header that x-amz-trailer names".into());
        }
        if !self.theirs.is_written_well(value) {
            return bad("the trailer's signature is not one".into());
        }
        self.trailers.sort();
        let signed: String = self.trailers.iter().flat_map(|(n, v)| [n, ":", v, "\n"]).collect();
        let digest = sha256_hex(signed.as_bytes());
        if !self.theirs.verify(Kind::Trailer, &[&digest], value) {
            return Err(PieceError::Mismatch("the trailer".into()));
        }
        self.ours.padded = self.theirs.padded;
        let ours = self.ours.sign(Kind::Trailer, &[&digest], value)?;
        let at = line.len() - line.trim_ascii_end().len();
        self.waiting.extend_from_slice(&line[..line.len() - at - value.len()]);
        self.waiting.extend_from_slice(ours.as_bytes());
        self.waiting.extend_from_slice(&line[line.len() - at..]);
        self.state = State::TrailerEnd;
        Ok(())
    }
}

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Chunk {
    fn take(&mut self, piece: Bytes) {
        self.hash.update(&piece);
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
            if self.small.len() >= SMALL * 4 {
                self.flush();
            }
        } else {
            self.flush();
            self.data.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.data.push(self.small.split().freeze());
        }
    }
}
