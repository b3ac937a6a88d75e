//! Tags, attributes and entities of XML.
//!
//! Owns what a tag is made of. Pure.

use std::ops::Range;

use crate::mask::MaskError;

/// `&#x10ffff;`, with a few zeros.
pub(super) const LONGEST_ENTITY: usize = 16;

/// A start tag.
pub(super) struct Tag<'a> {
    pub name: &'a [u8],
    pub attributes: Vec<Attribute<'a>>,
    pub empty: bool,
}

pub(super) struct Attribute<'a> {
    pub name: &'a [u8],
    /// Where its value stands in the tag.
    pub value: Range<usize>,
    pub meant: Vec<u8>,
}

impl Attribute<'_> {
    /// Names of other names, and types: without them the document is another one.
    pub fn is_about_the_form(&self) -> bool {
        self.name.starts_with(b"xml") || self.name.starts_with(b"xsi:")
    }
}

impl<'a> Tag<'a> {
    /// Where a start tag ends; `None`: not here.
    pub fn end(buf: &[u8]) -> Option<usize> {
        let mut quote = None;
        for (n, b) in buf.iter().enumerate() {
            match (quote, b) {
                (None, b'>') => return Some(n + 1),
                (None, b'"' | b'\'') => quote = Some(*b),
                (Some(q), b) if *b == q => quote = None,
                _ => {}
            }
        }
        None
    }

    pub fn read(raw: &'a [u8]) -> Result<Self, MaskError> {
        let empty = raw.ends_with(b"/>");
        let end = raw.len() - if empty { 2 } else { 1 };
        let mut at = 1;
        let name = word(raw, &mut at, end)?;
        let mut attributes = Vec::new();
        loop {
            let before = at;
            skip(raw, &mut at, end);
            if at == end {
                return Ok(Self { name, attributes, empty });
            }
            if before == at {
                return Err(unreadable());
            }
            let name = word(raw, &mut at, end)?;
            skip(raw, &mut at, end);
            if raw[at..end].first() != Some(&b'=') {
                return Err(unreadable());
            }
            at += 1;
            skip(raw, &mut at, end);
            let quote = *raw[at..end].first().filter(|b| matches!(b, b'"' | b'\'')).ok_or_else(unreadable)?;
            at += 1;
            let length = raw[at..end].iter().position(|b| *b == quote).ok_or_else(unreadable)?;
            let value = at..at + length;
            at += length + 1;
            attributes.push(Attribute { name, meant: plain(&raw[value.clone()])?, value });
        }
    }
}

fn skip(raw: &[u8], at: &mut usize, end: usize) {
    while *at < end && is_space(raw[*at]) {
        *at += 1;
    }
}

fn word<'a>(raw: &'a [u8], at: &mut usize, end: usize) -> Result<&'a [u8], MaskError> {
    let from = *at;
    while *at < end && !is_space(raw[*at]) && !matches!(raw[*at], b'=' | b'/' | b'"' | b'\'' | b'<' | b'&') {
        *at += 1;
    }
    if from == *at { Err(unreadable()) } else { Ok(&raw[from..*at]) }
}

/// A name without its prefix.
pub(super) fn local(name: &[u8]) -> &[u8] {
    name.iter().rposition(|b| *b == b':').map_or(name, |n| &name[n + 1..])
}

pub(super) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// What `&…;` stands for.
pub(super) fn entity(raw: &[u8]) -> Result<char, MaskError> {
    let inner = std::str::from_utf8(&raw[1..raw.len() - 1]).map_err(|_| unreadable())?;
    let code = match inner {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        other => match other.strip_prefix("#x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => other.strip_prefix('#').and_then(|n| n.parse().ok()),
        },
    };
    code.and_then(char::from_u32).ok_or_else(unreadable)
}

/// A text without its entities.
fn plain(raw: &[u8]) -> Result<Vec<u8>, MaskError> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(n) = rest.iter().position(|b| *b == b'&') {
        out.extend_from_slice(&rest[..n]);
        let end = rest[n..].iter().position(|b| *b == b';').ok_or_else(unreadable)?;
        let mut room = [0; 4];
        out.extend_from_slice(entity(&rest[n..=n + end])?.encode_utf8(&mut room).as_bytes());
        rest = &rest[n + end + 1..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// A text as it may stand in an element or an attribute.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&apos;"),
            _ => out.push(*byte),
        }
    }
}

/// Whether an XML declaration names an encoding in which bytes are what we take them for.
pub(super) fn is_utf8(declaration: &[u8]) -> bool {
    let text = String::from_utf8_lossy(declaration).to_ascii_lowercase();
    match text.split_once("encoding") {
        None => true,
        Some((_, rest)) => {
            let value = rest.trim_start_matches([' ', '\t', '\r', '\n', '=']).trim_start_matches(['"', '\'']);
            ["utf-8", "us-ascii", "utf8"].iter().any(|name| value.starts_with(name))
        }
    }
}

pub(super) fn unreadable() -> MaskError {
    MaskError::Unreadable("XML")
}
