//! Texts with a session's facts in them: `run-{session}`, `{claim:repository}`.
//!
//! Pure. A template is checked when it is read; filling it can fail only for a claim that a token does not have.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::identity::Principal;

/// A text with `{session}`, `{session_name}`, `{subject}`, `{issuer}` and `{claim:NAME}` in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Session,
    SessionName,
    Subject,
    Issuer,
    Claim(String),
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub session: &'a str,
    pub session_name: &'a str,
    pub principal: &'a Principal,
}

impl Template {
    /// `{session}`
    pub fn session() -> Self {
        Self(vec![Piece::Session])
    }

    /// `Err`: the claim that the token lacks, or has no text for.
    pub fn fill(&self, facts: Facts<'_>) -> Result<String, String> {
        self.0
            .iter()
            .map(|piece| {
                Ok(match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Session => facts.session.to_owned(),
                    Piece::SessionName => facts.session_name.to_owned(),
                    Piece::Subject => facts.principal.subject.clone(),
                    Piece::Issuer => facts.principal.issuer.clone().unwrap_or_default(),
                    Piece::Claim(name) => claim(facts.principal, name).ok_or_else(|| name.clone())?,
                })
            })
            .collect()
    }
}

/// A claim's text; nested ones by dotted names.
fn claim(principal: &Principal, name: &str) -> Option<String> {
    let mut value = principal.claims.get(name);
    if value.is_none() {
        let mut parts = name.split('.');
        value = principal.claims.get(parts.next()?);
        for part in parts {
            value = value?.get(part);
        }
    }
    match value? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(n) => Some(n.to_string()),
        serde_json::Value::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (name, after) = after.split_once('}').ok_or_else(|| format!("`{text}` has a `{{` without a `}}`"))?;
            pieces.push(match name {
                "session" => Piece::Session,
                "session_name" => Piece::SessionName,
                "subject" => Piece::Subject,
                "issuer" => Piece::Issuer,
                _ => match name.strip_prefix("claim:") {
                    Some(claim) if !claim.is_empty() => Piece::Claim(claim.to_owned()),
                    _ => {
                        return Err(format!(
                            "`{{{name}}}` is not known; use {{session}}, {{session_name}}, {{subject}}, {{issuer}} or {{claim:NAME}}"
                        ));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err("it is empty; leave it out".into());
        }
        Ok(Self(pieces))
    }
}

/// Longest name of a role's session, and longest source identity.
const LONGEST: usize = 64;

/// A text as STS takes it for a session's name or a source identity: other characters become `-`, and what is too long
/// keeps its beginning and gets a digest of the whole, so that two stay two.
pub fn sts_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let mut name: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    if name.len() > LONGEST {
        let digest = hex::encode(&Sha256::digest(text)[..6]);
        name.truncate(LONGEST - 1 - digest.len());
        name = format!("{name}-{digest}");
    }
    while name.len() < 2 {
        name.push('-');
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str) -> Result<String, String> {
        let mut principal = Principal::unidentified();
        principal.subject = "repo:acme/app".into();
        principal.claims.insert("run".into(), json!(7));
        principal.claims.insert("realm".into(), json!({"name": "r"}));
        principal.claims.insert("list".into(), json!(["a"]));
        let facts = Facts { session: "s-0123456789abcdef", session_name: "job", principal: &principal };
        Template::try_from(template.to_owned())?.fill(facts)
    }

    #[test]
    fn templates_are_filled_or_refused() {
        for (template, expected) in [
            ("x", Ok("x")),
            ("{session}", Ok("s-0123456789abcdef")),
            ("a-{session_name}-{claim:run}-b", Ok("a-job-7-b")),
            ("{subject}{issuer}", Ok("repo:acme/app")),
            ("{claim:realm.name}", Ok("r")),
            ("{claim:missing}", Err("missing")),
            ("{claim:list}", Err("list")),
            ("{claim:}", Err("`{claim:}` is not known")),
            ("{who}", Err("`{who}` is not known; use {session}")),
            ("{session", Err("has a `{` without a `}`")),
            ("", Err("it is empty")),
        ] {
            match (fill(template), expected) {
                (Ok(text), Ok(expected)) => assert_eq!(text, expected),
                (Err(text), Err(expected)) => assert!(text.contains(expected), "{template}: {text}"),
                (other, _) => panic!("{template}: {other:?}"),
            }
        }
    }

    /// Case 13: a name over 64 characters.
    #[test]
    fn names_are_as_sts_takes_them() {
        assert_eq!(sts_name("repo:acme/app:ref:refs/heads/main"), "repo-acme-app-ref-refs-heads-main");
        assert_eq!(sts_name("grüße"), "gr--e");
        assert_eq!(sts_name("x"), "x-");
        assert_eq!(sts_name(&"x".repeat(64)), "x".repeat(64));
        let (a, b) = (format!("{}a", "x".repeat(64)), format!("{}b", "x".repeat(64)));
        assert_eq!((sts_name(&a).len(), sts_name(&b).len()), (64, 64));
        assert_ne!(sts_name(&a), sts_name(&b));
        assert_eq!(sts_name(&a), sts_name(&a));
    }
}
