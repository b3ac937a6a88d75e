//! Verified claims → principal.
//!
//! Owns how groups are read and what a subject may look like. Pure: no I/O, no clock. Only ever called with claims
//! whose signature has been verified.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{IdentityError, Principal};
use crate::config::Issuer;

/// Longest subject, in bytes.
const MAX_SUBJECT: usize = 1024;

/// The principal that verified claims stand for.
pub(super) fn principal(issuer: &str, config: &Issuer, claims: Map<String, Value>) -> Result<Principal, IdentityError> {
    let subject = match claims.get("sub").and_then(Value::as_str) {
        None | Some("") => return Err(wrong("sub", "is missing or not text; tokens must say whom they stand for")),
        Some(text) if text.len() > MAX_SUBJECT => return Err(wrong("sub", "is longer than 1024 bytes")),
        // A line break in a subject would write lines of its own into whatever prints it.
        Some(text) if text.chars().any(char::is_control) => return Err(wrong("sub", "contains control characters")),
        Some(text) => text.to_owned(),
    };
    let groups = groups(&config.groups_claim, &claims)?;
    let expires = expiry(&claims, config.leeway)?;
    Ok(Principal {
        issuer: Some(issuer.to_owned()),
        subject,
        groups,
        claims: claims.into_iter().collect(),
        expires: Some(expires),
        token: None,
    })
}

fn expiry(claims: &Map<String, Value>, leeway: Duration) -> Result<SystemTime, IdentityError> {
    let seconds = claims.get("exp").and_then(|v| v.as_u64().or_else(|| v.as_f64().map(|f| f as u64)));
    seconds
        .and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)))
        .and_then(|t| t.checked_add(leeway))
        .ok_or_else(|| wrong("exp", "is missing or not a time"))
}

/// Groups by the configured claim. A shape we cannot read refuses the token: dropping a group silently would also
/// drop what is forbidden to that group.
fn groups(name: &str, claims: &Map<String, Value>) -> Result<Vec<String>, IdentityError> {
    // Providers that leave out a list for its length say so here.
    if let Some(Value::Object(elsewhere)) = claims.get("_claim_names")
        && elsewhere.contains_key(name)
    {
        return Err(wrong(name, "was left out by the provider for its length; limit the groups it puts into tokens"));
    }
    let shape = || wrong(name, "is neither text nor a list of texts; check `groups_claim`");
    let mut groups = match find(name, claims) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => list
            .iter()
            .map(|group| match group {
                Value::String(text) => Ok(text.clone()),
                Value::Number(id) => Ok(id.to_string()),
                _ => Err(shape()),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(shape()),
    };
    groups.retain(|g| !g.is_empty());
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// The claim of that exact name, or else what the dotted path leads to (`realm_access.roles`).
fn find<'a>(name: &str, claims: &'a Map<String, Value>) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut steps = name.split('.');
    let mut value = claims.get(steps.next()?)?;
    for step in steps {
        value = value.get(step)?;
    }
    Some(value)
}

fn wrong(claim: &str, problem: &str) -> IdentityError {
    IdentityError::Claim { claim: claim.into(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(groups_claim: &str, claims: Value) -> Result<Principal, IdentityError> {
        let config = Issuer {
            url: url::Url::parse("https://idp.example").unwrap(),
            audience: vec!["a".into()],
            algorithms: vec!["RS256".into()],
            groups_claim: groups_claim.into(),
            extra_root: None,
            jwks_max_age: Duration::from_secs(1),
            leeway: Duration::from_secs(30),
        };
        let Value::Object(claims) = claims else { panic!("not an object") };
        principal("https://idp.example", &config, claims)
    }

    #[test]
    fn reads_groups_of_every_usual_shape() {
        for (claim, claims, expected) in [
            ("groups", json!({"groups": ["b", "a", "a", ""]}), vec!["a", "b"]),
            ("groups", json!({"groups": "one"}), vec!["one"]),
            ("groups", json!({"groups": [7]}), vec!["7"]),
            ("groups", json!({"groups": null}), vec![]),
            ("groups", json!({}), vec![]),
            ("realm_access.roles", json!({"realm_access": {"roles": ["ops"]}}), vec!["ops"]),
            ("https://x.example/groups", json!({"https://x.example/groups": ["ops"]}), vec!["ops"]),
        ] {
            let mut claims = claims;
            claims["sub"] = json!("s");
            claims["exp"] = json!(100);
            assert_eq!(read(claim, claims).unwrap().groups, expected, "{claim}");
        }
    }

    #[test]
    fn counts_until_the_end_and_the_leeway() {
        let principal = read("groups", json!({"sub": "s", "exp": 100})).unwrap();
        assert_eq!(principal.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(130)));
        assert_eq!(principal.claims["exp"], json!(100));
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for (claims, expected) in [
            (json!({"sub": "s", "exp": 1, "groups": {"a": 1}}), "is neither text nor a list of texts"),
            (json!({"sub": "s", "exp": 1, "groups": [["a"]]}), "is neither text nor a list of texts"),
            (json!({"sub": "s", "exp": 1, "_claim_names": {"groups": "src1"}}), "was left out by the provider"),
            (json!({"sub": "s", "exp": u64::MAX}), "is missing or not a time"),
            (json!({"sub": "s"}), "is missing or not a time"),
            (json!({"exp": 1}), "is missing or not text"),
            (json!({"sub": 7, "exp": 1}), "is missing or not text"),
            (json!({"sub": "a\nb", "exp": 1}), "contains control characters"),
            (json!({"sub": "x".repeat(1025), "exp": 1}), "is longer than 1024 bytes"),
        ] {
            let message = read("groups", claims).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
