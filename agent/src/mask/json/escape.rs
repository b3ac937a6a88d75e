//! Escapes in JSON's texts, read one byte at a time, and written.
//!
//! Owns their meaning; half of a surrogate pair is U+FFFD. Pure.

use memchr::memchr;

use crate::mask::MaskError;

/// Amid an escape: its bytes so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Unescape {
    bytes: [u8; 12],
    length: usize,
}

const LOST: &str = "\u{fffd}";

impl Unescape {
    pub fn is_amid(&self) -> bool {
        self.length > 0
    }

    /// After a backslash.
    pub fn begin(&mut self) {
        self.bytes[0] = b'\\';
        self.length = 1;
    }

    /// Takes one more byte; `false`: it is none of the escape, which has ended before it.
    pub fn step(&mut self, byte: u8, sink: &mut impl FnMut(&[u8])) -> Result<bool, MaskError> {
        match (self.length, byte) {
            (1, b'u') => self.put(byte),
            (1, _) => {
                let plain = match byte {
                    b'"' | b'\\' | b'/' => byte,
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    _ => return Err(MaskError::Unreadable("JSON")),
                };
                self.length = 0;
                sink(&[plain]);
            }
            (6, b'\\') | (7, b'u') => self.put(byte),
            // The first half of a pair without its second.
            (6, _) => {
                self.length = 0;
                sink(LOST.as_bytes());
                return Ok(false);
            }
            (7, _) => {
                sink(LOST.as_bytes());
                self.begin();
                return Ok(false);
            }
            (_, _) if byte.is_ascii_hexdigit() => {
                self.put(byte);
                match self.length {
                    6 => self.one(sink),
                    12 => self.two(sink),
                    _ => {}
                }
            }
            _ => return Err(MaskError::Unreadable("JSON")),
        }
        Ok(true)
    }

    /// The text has ended here.
    pub fn end(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<(), MaskError> {
        match std::mem::take(&mut self.length) {
            0 => Ok(()),
            6 => {
                sink(LOST.as_bytes());
                Ok(())
            }
            _ => Err(MaskError::Unreadable("JSON")),
        }
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn code(&self, at: usize) -> u32 {
        self.bytes[at..at + 4].iter().fold(0, |n, b| n << 4 | char::from(*b).to_digit(16).unwrap_or_default())
    }

    fn one(&mut self, sink: &mut impl FnMut(&[u8])) {
        let code = self.code(2);
        if (0xd800..0xdc00).contains(&code) {
            return;
        }
        self.length = 0;
        character(code, sink);
    }

    fn two(&mut self, sink: &mut impl FnMut(&[u8])) {
        let (high, low) = (self.code(2), self.code(8));
        self.length = 0;
        if (0xdc00..0xe000).contains(&low) {
            character(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), sink);
            return;
        }
        sink(LOST.as_bytes());
        // What came instead stands for itself, or waits for its own second half.
        self.bytes.copy_within(6..12, 0);
        self.length = 6;
        self.one(sink);
    }
}

fn character(code: u32, sink: &mut impl FnMut(&[u8])) {
    let mut room = [0; 4];
    sink(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut room).as_bytes());
}

/// A whole text without its escapes.
pub(super) fn plain(raw: &[u8]) -> Result<Vec<u8>, MaskError> {
    let mut out = Vec::with_capacity(raw.len());
    let mut unescape = Unescape::default();
    let mut i = 0;
    while i < raw.len() {
        if unescape.is_amid() {
            i += usize::from(unescape.step(raw[i], &mut |piece| out.extend_from_slice(piece))?);
            continue;
        }
        let end = memchr(b'\\', &raw[i..]).map_or(raw.len(), |n| i + n);
        out.extend_from_slice(&raw[i..end]);
        i = end;
        if i < raw.len() {
            unescape.begin();
            i += 1;
        }
    }
    unescape.end(&mut |piece| out.extend_from_slice(piece))?;
    Ok(out)
}

/// A text as it stands between quotes.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
}
