//! The canonical request: what a signature is computed over.
//!
//! The `aws-sigv4` crate builds one only together with a signature of its own, copies every header, decodes
//! queries lossily and derives the key anew each time. The rules here are the same, proven against the crate in
//! `tests.rs`; they work on bytes and in one buffer.

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::is_s3;

/// Which of two readings of a path or a query is canonicalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As AWS documents it, and as its servers compute it.
    Documented,
    /// The bytes as sent: what some clients sign where their own encoding is not the documented one.
    AsSent,
}

/// What a signature covers besides the request itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// The query, which of a presigned URL is not the request's any more.
    pub query: &'a str,
    pub signing_name: &'a str,
    /// Lower-case names, sorted, joined by `;`.
    pub signed_headers: &'a str,
    /// Value for the last line: a hash, or one of AWS's words for a body that is not covered.
    pub payload: &'a str,
}

/// Writes the canonical request.
pub(super) fn write(out: &mut Vec<u8>, parts: &Parts, terms: Terms<'_>, path: Form, query: Form) {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    write_path(out, parts.uri.path(), is_s3(terms.signing_name), path);
    out.push(b'\n');
    write_query(out, terms.query, query);
    out.push(b'\n');
    for name in terms.signed_headers.split(';') {
        write_header(out, name, &parts.headers);
    }
    out.push(b'\n');
    out.extend_from_slice(terms.signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(terms.payload.as_bytes());
}

/// Whether the two forms of a path or query differ at all.
pub(super) fn path_forms(parts: &Parts, signing_name: &str) -> &'static [Form] {
    let s3 = is_s3(signing_name);
    forms(|out, form| write_path(out, parts.uri.path(), s3, form))
}

pub(super) fn query_forms(query: &str) -> &'static [Form] {
    forms(|out, form| write_query(out, query, form))
}

fn forms(write: impl Fn(&mut Vec<u8>, Form)) -> &'static [Form] {
    let (mut documented, mut as_sent) = (Vec::new(), Vec::new());
    write(&mut documented, Form::Documented);
    write(&mut as_sent, Form::AsSent);
    if documented == as_sent { &[Form::Documented] } else { &[Form::Documented, Form::AsSent] }
}

/// S3: encoded once, so the path as sent, its encoding made uniform. Elsewhere: normalised, then encoded again.
fn write_path(out: &mut Vec<u8>, path: &str, s3: bool, form: Form) {
    let path = if path.is_empty() { "/" } else { path };
    match (s3, form) {
        (true, Form::AsSent) => out.extend_from_slice(path.as_bytes()),
        (true, Form::Documented) => {
            // Segment by segment, so that `%2F` stays within its key.
            for (n, segment) in path.split('/').enumerate() {
                if n > 0 {
                    out.push(b'/');
                }
                encode(out, percent_decode_str(segment), b"");
            }
        }
        (false, Form::Documented) if path.contains("//") || path.contains("/.") => {
            encode(out, normalised(path).bytes(), b"/")
        }
        (false, _) => encode(out, path.bytes(), b"/"),
    }
}

/// Without empty and dot segments. Works on the path as sent: `%2e` is a dot to nobody here.
fn normalised(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let directory = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let mut result = String::with_capacity(path.len());
    for segment in &kept {
        result.push('/');
        result.push_str(segment);
    }
    if directory || result.is_empty() {
        result.push('/');
    }
    result
}

/// Pairs decoded, encoded strictly, and sorted by encoded name, then value.
fn write_query(out: &mut Vec<u8>, query: &str, form: Form) {
    if query.is_empty() {
        return;
    }
    // Each pair lies in `text`; (start, end of name, end).
    let mut text = Vec::with_capacity(query.len() + 16);
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let start = text.len();
        match form {
            Form::Documented if pair.is_empty() => continue,
            Form::Documented => {
                encode(&mut text, decoded(name), b"");
                let middle = text.len();
                encode(&mut text, decoded(value), b"");
                pairs.push((start, middle, text.len()));
            }
            Form::AsSent => {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(value.as_bytes());
                pairs.push((start, start + name.len(), text.len()));
            }
        }
    }
    pairs.sort_by(|a, b| (&text[a.0..a.1], &text[a.1..a.2]).cmp(&(&text[b.0..b.1], &text[b.1..b.2])));
    for (n, (start, middle, end)) in pairs.iter().enumerate() {
        if n > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(&text[*start..*middle]);
        out.push(b'=');
        out.extend_from_slice(&text[*middle..*end]);
    }
}

/// A query's text without its encoding.
fn decoded(text: &str) -> PlusDecode<'_> {
    PlusDecode { rest: text.as_bytes() }
}

/// Percent-decoding that also takes `+` for a space.
struct PlusDecode<'a> {
    rest: &'a [u8],
}

impl Iterator for PlusDecode<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match (first, rest) {
            (b'+', _) => b' ',
            (b'%', [a, b, ..]) => match (hex_digit(*a), hex_digit(*b)) {
                (Some(a), Some(b)) => {
                    self.rest = &rest[2..];
                    a << 4 | b
                }
                // Not an escape: a percent sign that its writer forgot to encode.
                _ => b'%',
            },
            _ => first,
        })
    }
}

fn hex_digit(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Everything but unreserved characters and `keep` as `%XX`.
fn encode(out: &mut Vec<u8>, bytes: impl Iterator<Item = u8>, keep: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in bytes {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || keep.contains(&b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// `name:value,value` with outer spaces gone and inner ones collapsed; bytes beyond ASCII stay.
fn write_header(out: &mut Vec<u8>, name: &str, headers: &HeaderMap) {
    out.extend_from_slice(name.as_bytes());
    // Clients that speak HTTP/2 may sign the host under its name there.
    let there = if name == super::AUTHORITY { "host" } else { name };
    for (n, value) in headers.get_all(there).iter().enumerate() {
        out.push(if n == 0 { b':' } else { b',' });
        let blank = |b: &u8| matches!(b, b' ' | b'\t');
        for (n, word) in value.as_bytes().split(blank).filter(|w| !w.is_empty()).enumerate() {
            if n > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
    }
    out.push(b'\n');
}
