//! The packed model's bytes: sections, and what stands in them.
//!
//! Layout of the file: `TGMODEL1`, the number of sections, then for each its packed and its plain length (all numbers
//! little-endian, 32 bits), then the sections. Section 0 is the dictionary of all others, section 1 the index, then one
//! for each service, then one for each IAM prefix. A section is a zstd frame; it holds a table of texts and then
//! numbers (LEB128), single bytes, and texts by their number in that table. `xtask/src/model/pack.rs` writes it.
//!
//! Sections are read once and kept for the life of the process, so that what is read of them borrows from them. Bytes
//! that make no sense give `None`, never a panic.

use std::sync::OnceLock;

const MAGIC: &[u8] = b"TGMODEL1";
/// No plain section is nearly as long; a length beyond it is damage.
const MAX_PLAIN: usize = 16 << 20;

/// The packed file.
#[derive(Debug)]
pub(super) struct Pack {
    bytes: &'static [u8],
    /// Where each section's packed bytes begin and end, and how long it is once unpacked.
    sections: Vec<(usize, usize, usize)>,
    dictionary: OnceLock<Option<Vec<u8>>>,
}

impl Pack {
    pub fn open(bytes: &'static [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let word = |n: usize| Some(u32::from_le_bytes(rest.get(n * 4..n * 4 + 4)?.try_into().ok()?) as usize);
        let count = word(0)?;
        let mut at = MAGIC.len().checked_add(4)?.checked_add(count.checked_mul(8)?)?;
        let mut sections = Vec::new();
        for n in 0..count {
            let (packed, plain) = (word(1 + 2 * n)?, word(2 + 2 * n)?);
            let end = at.checked_add(packed).filter(|end| *end <= bytes.len() && plain <= MAX_PLAIN)?;
            sections.push((at, end, plain));
            at = end;
        }
        Some(Self { bytes, sections, dictionary: OnceLock::new() })
    }

    /// Unpacks one section and reads its table of texts.
    pub fn section(&self, n: usize) -> Option<Reader> {
        let dictionary = self.dictionary.get_or_init(|| self.unpack(0, &[])).as_deref()?;
        // Kept for good: there is one of each, in a static.
        Reader::new(self.unpack(n, dictionary)?.leak())
    }

    fn unpack(&self, n: usize, dictionary: &[u8]) -> Option<Vec<u8>> {
        let (from, to, plain) = *self.sections.get(n)?;
        let mut unpacker = zstd::bulk::Decompressor::with_dictionary(dictionary).ok()?;
        unpacker.decompress(self.bytes.get(from..to)?, plain).ok().filter(|found| found.len() == plain)
    }
}

/// Reads a section from front to back.
#[derive(Debug)]
pub(super) struct Reader {
    rest: &'static [u8],
    texts: Vec<&'static str>,
}

impl Reader {
    pub fn new(bytes: &'static [u8]) -> Option<Self> {
        let mut reader = Self { rest: bytes, texts: Vec::new() };
        for _ in 0..reader.number()? {
            let length = reader.number()?;
            let (text, rest) = reader.rest.split_at_checked(length)?;
            reader.rest = rest;
            reader.texts.push(std::str::from_utf8(text).ok()?);
        }
        Some(reader)
    }

    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub fn number(&mut self) -> Option<usize> {
        let mut n = 0u32;
        for shift in (0..32).step_by(7) {
            let byte = self.byte()?;
            n |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return usize::try_from(n).ok();
            }
        }
        None
    }

    pub fn text(&mut self) -> Option<&'static str> {
        let n = self.number()?;
        self.texts.get(n).copied()
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Box<[T]>> {
        // A list is never longer than the bytes that are left: a damaged length allocates nothing.
        let length = self.number().filter(|n| *n <= self.rest.len())?;
        (0..length).map(|_| item(self)).collect()
    }

    pub fn texts(&mut self) -> Option<Box<[&'static str]>> {
        self.list(Self::text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen_and_never_panics() {
        let whole = super::super::BYTES;
        assert!(Pack::open(whole).is_some_and(|p| p.section(1).is_some()));
        for cut in [0, 7, 8, 11, 12, 100, 10_000, whole.len() - 1] {
            // What is cut off may be past the section that is asked for, but not past all of them.
            assert!(Pack::open(&whole[..cut]).is_none(), "{cut}");
        }
        let plain = Pack::open(whole).and_then(|p| p.unpack(2, &p.unpack(0, &[])?)).expect("a section");
        let mut state = 1u32;
        for _ in 0..2_000 {
            let mut bytes = plain.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            // Whatever it makes of it, it comes back.
            let _ = Reader::new(bytes.leak()).and_then(super::super::service::Detail::read);
        }
    }
}
