//! Secrets that are known by their looks: keys, tokens, cards, addresses, and what the user adds.
//!
//! Owns what each pattern finds in a text, and that a finding never depends on more than [`LONGEST`] bytes at a time, so
//! that a text may come in pieces ([`super::text`]). Pure.

mod card;

use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};

use super::token::Keyed;

/// A pattern finds nothing that is longer, but for those that find the beginning of it too.
pub const LONGEST: usize = 16 << 10;
/// What a pattern's compiled form may take.
const COMPILED: usize = 4 << 20;
/// Patterns of one rule file.
pub const MOST: usize = 64;

/// Names of those that come with Tollgate.
pub const BUILT_IN: [&str; 7] =
    ["aws-access-key", "aws-secret-key", "private-key", "jwt", "card-number", "email", "phone"];

/// One pattern.
#[derive(Debug, Clone)]
struct Pattern {
    name: String,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    /// An expression, and what else must hold of a finding in its text.
    Regex(Regex, fn(&[u8], &Range<usize>) -> bool),
    Cards,
}

/// All that there are; rules name them by bits.
#[derive(Debug, Clone, Default)]
pub struct Set(Vec<Pattern>);

impl Set {
    /// The built-in ones.
    pub fn built_in() -> Self {
        let expression = |name: &str| match name {
            "aws-access-key" => {
                (r"(?-u)\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b", always as fn(&[u8], &Range<usize>) -> bool)
            }
            "aws-secret-key" => (r"(?-u)[A-Za-z0-9/+]{40}", is_secret_key as _),
            // Up to its end, or to what cannot be part of one: also where the end is missing.
            "private-key" => (
                r"(?-u)-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-{1,4}[^-])*(?:-----END [A-Z0-9 ]*-----)?",
                always as _,
            ),
            "jwt" => (r"(?-u)\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?", always as _),
            "email" => (
                r"(?-u)[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){1,8}",
                always as _,
            ),
            _ => (
                r"(?-u)\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,5}|\([0-9]{3}\) ?[0-9]{3}[ .-][0-9]{4}\b|\b[0-9]{3}[.-][0-9]{3}[.-][0-9]{4}\b",
                is_phone as _,
            ),
        };
        let patterns = BUILT_IN.iter().filter_map(|name| {
            let how = if *name == "card-number" {
                How::Cards
            } else {
                let (text, check) = expression(name);
                How::Regex(RegexBuilder::new(text).build().ok()?, check)
            };
            Some(Pattern { name: (*name).to_owned(), how })
        });
        Self(patterns.collect())
    }

    /// Adds one of the user's; the error says what to write instead.
    pub fn add(&mut self, name: &str, expression: &str) -> Result<(), String> {
        if self.0.len() >= MOST {
            return Err(format!("there are more than {MOST} patterns"));
        }
        if self.bit(name).is_some() {
            return Err(format!("there is a pattern `{name}` already; choose another name"));
        }
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(expression);
        let parsed = parsed.map_err(|e| {
            let text = e.to_string();
            let said = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("the expression cannot be read: {said}")
        })?;
        if parsed.properties().minimum_len().is_none_or(|n| n == 0) {
            return Err("the expression finds an empty text, which is everywhere".into());
        }
        if parsed.properties().maximum_len().is_none_or(|n| n > LONGEST) {
            return Err(format!(
                "the expression has no end within {LONGEST} bytes, so that a finding in a long text could be missed; write \
                 how often something may stand, as in `[0-9]{{1,20}}` in the place of `[0-9]+`"
            ));
        }
        let regex = RegexBuilder::new(expression).size_limit(COMPILED).build();
        let regex = regex.map_err(|_| "the expression is too large once it is compiled; make its counts smaller")?;
        self.0.push(Pattern { name: name.to_owned(), how: How::Regex(regex, always) });
        Ok(())
    }

    /// The bit of a pattern.
    pub fn bit(&self, name: &str) -> Option<u64> {
        self.0.iter().position(|p| p.name == name).map(|n| 1 << n)
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|p| p.name.as_str()).collect()
    }

    /// What the patterns find from `from` on: in order, and none over another.
    pub fn find(&self, text: &[u8], from: usize, bits: u64) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (_, pattern) in self.0.iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1) {
            match &pattern.how {
                How::Cards => card::find(text, from, &mut found),
                How::Regex(regex, check) => {
                    let mut at = from;
                    while let Some(hit) = regex.find_at(text, at) {
                        if check(text, &hit.range()) {
                            found.push(hit.range());
                        }
                        at = hit.end().max(at + 1);
                        if at > text.len() {
                            break;
                        }
                    }
                }
            }
        }
        found.sort_unstable_by_key(|r| (r.start, r.end));
        found.dedup_by(|next, kept| {
            let over = next.start < kept.end;
            if over {
                kept.end = kept.end.max(next.end);
            }
            over
        });
        found
    }

    /// The text with tokens in the places of what was found; `None`: nothing was.
    pub fn replace(&self, text: &[u8], bits: u64, keyed: &Keyed) -> Option<Vec<u8>> {
        let found = self.find(text, 0, bits);
        if found.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        for range in found {
            out.extend_from_slice(&text[at..range.start]);
            out.extend_from_slice(keyed.of(&text[range.clone()]).text().as_bytes());
            at = range.end;
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }
}

fn always(_: &[u8], _: &Range<usize>) -> bool {
    true
}

/// Forty characters of base64 by themselves, of every kind: hex digests and names have not all of them.
fn is_secret_key(text: &[u8], range: &Range<usize>) -> bool {
    let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+');
    let before = range.start.checked_sub(1).and_then(|n| text.get(n));
    let after = text.get(range.end);
    if before.is_some_and(inside) || after.is_some_and(|b| inside(b) || *b == b'=') {
        return false;
    }
    let found = &text[range.clone()];
    found.iter().any(u8::is_ascii_uppercase)
        && found.iter().any(u8::is_ascii_lowercase)
        && found.iter().any(u8::is_ascii_digit)
}

fn is_phone(text: &[u8], range: &Range<usize>) -> bool {
    let digits = text[range.clone()].iter().filter(|b| b.is_ascii_digit()).count();
    let more = text.get(range.end).is_some_and(u8::is_ascii_digit);
    let before = range.start.checked_sub(1).and_then(|n| text.get(n));
    (8..=15).contains(&digits)
        && !more
        && !before.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'.' || *b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::token::Master;

    fn found<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        let set = Set::built_in();
        let bit = set.bit(name).expect(name);
        set.find(text.as_bytes(), 0, bit).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn every_built_in_pattern_finds_its_own() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln";
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
        let unended = "-----BEGIN PRIVATE KEY-----\nMIIE\nAAAA";
        for (name, text, expected) in [
            ("aws-access-key", "id=AKIAIOSFODNN7EXAMPLE.", vec!["AKIAIOSFODNN7EXAMPLE"]),
            ("aws-access-key", "XAKIAIOSFODNN7EXAMPLE AKIAIOSFODNN7EXAMPLEX", vec![]),
            (
                "aws-secret-key",
                "secret=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY;",
                vec!["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"],
            ),
            ("aws-secret-key", "da39a3ee5e6b4b0d3255bfef95601890afd80709", vec![]),
            ("aws-secret-key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEYx", vec![]),
            ("private-key", pem, vec![pem]),
            ("private-key", unended, vec![unended]),
            ("private-key", "-----BEGIN CERTIFICATE-----\nMIIE", vec![]),
            ("jwt", jwt, vec![jwt]),
            ("jwt", "eyJhbGciOiJIUzI1NiJ9.nothing", vec![]),
            ("card-number", "4111 1111 1111 1111", vec!["4111 1111 1111 1111"]),
            ("email", "to bob.x+y@mail.example.com.", vec!["bob.x+y@mail.example.com"]),
            ("email", "a@b", vec![]),
            (
                "phone",
                "call +49 (30) 1234 567 or (212) 555-0100 or 212-555-0100",
                vec!["+49 (30) 1234 567", "(212) 555-0100", "212-555-0100"],
            ),
            ("phone", "2026-01-02 10.0.0.1 +1 12", vec![]),
        ] {
            assert_eq!(found(name, text), expected, "{name}: {text}");
        }
    }

    #[test]
    fn findings_that_overlap_are_one() {
        let set = Set::built_in();
        let keyed = Master::new([1; 32]).kept("s-1");
        let text = b"bob@4111111111111111.example.com!";
        let out = set.replace(text, u64::MAX, &keyed).expect("found");
        assert_eq!(out, [keyed.of(&text[..32]).text().as_bytes(), b"!"].concat());
        assert_eq!(set.replace(b"nothing", u64::MAX, &keyed), None);
    }

    #[test]
    fn an_expression_that_cannot_work_says_why() {
        let mut set = Set::built_in();
        for (name, text, expected) in [
            ("a", "E-[0-9]+", "write how often"),
            ("a", "x*", "an empty text"),
            ("a", "(", "cannot be read: unclosed group"),
            ("a", "[0-9a-z]{20000}", "write how often"),
            ("jwt", "x", "already"),
        ] {
            let error = set.add(name, text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        set.add("employee", r"E-[0-9]{6}").expect("good");
        let bit = set.bit("employee").expect("there");
        assert_eq!(set.find(b"an E-123456", 0, bit), std::iter::once(3..11).collect::<Vec<_>>());
    }
}
