//! Keys in an answer: taken out, and placeholders put in their place.
//!
//! [`Answer::read`] finds the keys at the places that the table names, in the protocol of the answer; [`Answer::write`]
//! gives the answer with others in their place, and nothing else changed but its spelling. Never passes what it could
//! not read, and never an answer in which a real secret is left. Pure.

mod tree;
mod xml;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Site;
use crate::aws::Protocol;
use crate::credential::Secret;

/// Why an answer is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("a key in it has no {0}")]
    Partial(&'static str),
    #[error("it says that a key ends at a time that cannot be read")]
    Moment,
    #[error("there is a key in it at a place where none is expected")]
    Elsewhere,
    #[error("a real secret would be left in it")]
    Left,
}

/// A key as the answer has it: three values that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
    pub ends: Option<Ends>,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    At(SystemTime),
    After(Duration),
}

impl Ends {
    pub fn at(self, now: SystemTime) -> SystemTime {
        match self {
            Self::At(at) => at,
            Self::After(time) => now + time,
        }
    }
}

/// What takes a key's place.
#[derive(Debug, Clone, Copy)]
pub struct Substitute<'a> {
    pub access_key_id: &'a str,
    pub secret_access_key: &'a str,
    pub session_token: &'a str,
}

/// An answer that has been read.
pub struct Answer<'a> {
    sites: &'a [Site],
    document: Document,
    pub keys: Vec<Key>,
    /// Who the keys are for, where the answer says so (`AssumedRoleUser`, `FederatedUser`).
    pub arn: Option<String>,
}

impl std::fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The document has the secrets in it.
        write!(f, "Answer({} keys)", self.keys.len())
    }
}

enum Document {
    Json(serde_json::Value),
    Cbor(ciborium::Value),
    Xml(xml::Xml),
}

impl<'a> Answer<'a> {
    pub fn read(protocol: Protocol, body: &[u8], sites: &'a [Site]) -> Result<Self, AnswerError> {
        let unreadable = |e: &dyn std::fmt::Display| AnswerError::Unreadable(e.to_string());
        let mut arn = None;
        let (document, keys) = match protocol {
            Protocol::Query | Protocol::Ec2 | Protocol::RestXml => {
                let text = std::str::from_utf8(body).map_err(|e| unreadable(&e))?;
                // Answers of the query protocol have a result in the response.
                let above = if protocol == Protocol::RestXml { 1 } else { 2 };
                let (xml, keys) = xml::Xml::read(text, above, sites)?;
                arn = xml.arn.clone();
                (Document::Xml(xml), keys)
            }
            Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => {
                let mut value: serde_json::Value = serde_json::from_slice(body).map_err(|e| unreadable(&e))?;
                let keys = tree::find(&mut value, sites)?;
                (Document::Json(value), keys)
            }
            Protocol::RpcV2Cbor => {
                let mut rest = body;
                let mut value: ciborium::Value = ciborium::from_reader(&mut rest).map_err(|e| unreadable(&e))?;
                if !rest.is_empty() {
                    return Err(AnswerError::Unreadable("something follows the CBOR".into()));
                }
                let keys = tree::find(&mut value, sites)?;
                (Document::Cbor(value), keys)
            }
        };
        // An answer may leave its keys out, but not have them where nobody looks.
        let named = |site: &Site| [site.secret, site.token].iter().any(|n| !n.is_empty() && contains(body, n));
        if keys.is_empty() && sites.iter().any(named) {
            return Err(AnswerError::Elsewhere);
        }
        Ok(Self { sites, document, keys, arn })
    }

    /// The answer with the substitutes in the places of its keys, in the same order.
    pub fn write(self, substitutes: &[Substitute<'_>]) -> Result<Bytes, AnswerError> {
        let unwritable = |e: &dyn std::fmt::Display| AnswerError::Unreadable(e.to_string());
        if substitutes.len() != self.keys.len() {
            return Err(AnswerError::Left);
        }
        let bytes = match self.document {
            Document::Xml(xml) => xml.write(substitutes),
            Document::Json(mut value) => {
                tree::replace(&mut value, self.sites, substitutes);
                value.to_string().into_bytes()
            }
            Document::Cbor(mut value) => {
                tree::replace(&mut value, self.sites, substitutes);
                let mut bytes = Vec::new();
                ciborium::into_writer(&value, &mut bytes).map_err(|e| unwritable(&e))?;
                bytes
            }
        };
        // What stands in an answer that has been through here before is no real one.
        let ours = |text: &str| {
            substitutes.iter().any(|s| [s.access_key_id, s.secret_access_key, s.session_token].contains(&text))
        };
        let real = |key: &Key| {
            let token = key.session_token.as_ref().map_or("", Secret::expose);
            [key.access_key_id.as_str(), key.secret_access_key.expose(), token]
                .iter()
                .any(|text| !text.is_empty() && !ours(text) && contains(&bytes, text))
        };
        if self.keys.iter().any(real) {
            return Err(AnswerError::Left);
        }
        // The key of nobody that we know of.
        if key_ids(&bytes).any(|id| substitutes.iter().all(|s| s.access_key_id.as_bytes() != id)) {
            return Err(AnswerError::Elsewhere);
        }
        Ok(bytes.into())
    }
}

/// What has the form of a key's id.
fn key_ids(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH: usize = 20;
    let inside = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    bytes.windows(LENGTH).enumerate().filter_map(move |(at, id)| {
        let begins = id.starts_with(b"ASIA") || id.starts_with(b"AKIA");
        let whole = (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
            && bytes.get(at + LENGTH).is_none_or(|b| !b.is_ascii_alphanumeric());
        (begins && whole && id.iter().all(|b| inside(*b))).then_some(id)
    })
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// A key of which something is missing is no key.
fn key(
    site: &Site,
    id: Option<String>,
    secret: Option<String>,
    token: Option<String>,
    ends: Option<Result<Ends, AnswerError>>,
) -> Result<Option<Key>, AnswerError> {
    if id.is_none() && secret.is_none() && token.is_none() {
        return Ok(None);
    }
    if !site.token.is_empty() && token.is_none() {
        return Err(AnswerError::Partial("session token"));
    }
    let secret_access_key = Secret::new(secret.ok_or(AnswerError::Partial("secret"))?);
    let access_key_id = id.ok_or(AnswerError::Partial("id"))?;
    let session_token = token.map(Secret::new);
    let none = |text: &str| text.is_empty();
    if none(&access_key_id)
        || none(secret_access_key.expose())
        || session_token.as_ref().is_some_and(|t| none(t.expose()))
    {
        return Err(AnswerError::Partial("value"));
    }
    Ok(Some(Key { access_key_id, secret_access_key, session_token, ends: ends.transpose()? }))
}

/// `2026-01-02T03:04:05Z`, or a number.
fn moment_of_text(text: &str) -> Result<Ends, AnswerError> {
    if let Ok(at) = OffsetDateTime::parse(text.trim(), &Rfc3339) {
        return Ok(Ends::At(at.into()));
    }
    moment_of_number(text.trim().parse().map_err(|_| AnswerError::Moment)?)
}

/// Seconds since 1970, milliseconds since then, or seconds from now: they are far enough apart.
fn moment_of_number(n: f64) -> Result<Ends, AnswerError> {
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(|_| AnswerError::Moment);
    Ok(match n {
        n if n < 1e8 => Ends::After(time(n)?),
        n if n < 1e11 => Ends::At(UNIX_EPOCH + time(n)?),
        n if n < 1e14 => Ends::At(UNIX_EPOCH + time(n / 1000.0)?),
        _ => return Err(AnswerError::Moment),
    })
}

#[cfg(test)]
mod tests;
