//! Hiding values: in answers, in the record, and in command lines.
//!
//! Pure: no I/O, no clock. Never passes what it could not read where it was told to mask.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::aws::Protocol;

/// Why an answer could not be masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("answers of this protocol cannot be masked yet")]
    Protocol,
    #[error("the answer is not the JSON that was expected")]
    Unreadable,
}

/// Names of members that hold secrets whatever the service; matched without regard to case.
const SECRET: &[&str] = &[
    "secretstring",
    "secretbinary",
    "secretaccesskey",
    "sessiontoken",
    "password",
    "masteruserpassword",
    "privatekey",
    "plaintext",
    "authorizationtoken",
    "token",
    "accesstoken",
    "refreshtoken",
    "clientsecret",
];

/// Replaces the values of secret members, at any depth, in a whole JSON answer.
pub fn apply(protocol: Protocol, body: &[u8]) -> Result<Bytes, MaskError> {
    match protocol {
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => {}
        _ => return Err(MaskError::Protocol),
    }
    let mut value: Value = serde_json::from_slice(body).map_err(|_| MaskError::Unreadable)?;
    hide(&mut value);
    Ok(value.to_string().into())
}

/// A request's members as JSON, secret ones taken out.
pub fn redact_parameters(parameters: &Map<String, Value>) -> String {
    // A map of texts and values always serialises.
    serde_json::to_string(&HiddenMap(parameters)).unwrap_or_default()
}

/// A request target, signatures and tokens in its query taken out.
pub fn redact_target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let kept: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if ["X-Amz-Signature", "X-Amz-Security-Token", "Signature"].contains(&name) => {
                format!("{name}=hidden")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", kept.join("&"))
}

/// A command line, what looks like a secret in it taken out: values of options and variables that are named so, and
/// anything of the shape of a JWT or an AWS secret key.
pub fn redact_argv(argv: &[String]) -> Vec<String> {
    let mut hide_next = false;
    argv.iter()
        .map(|argument| {
            if std::mem::take(&mut hide_next) || looks_secret(argument) {
                return "hidden".to_owned();
            }
            let names = |name: &str| {
                let name = name.to_ascii_lowercase();
                ["password", "secret", "token", "apikey", "api-key", "api_key"].iter().any(|s| name.ends_with(s))
            };
            match argument.split_once('=') {
                Some((name, _)) if names(name) => format!("{name}=hidden"),
                Some(_) => argument.clone(),
                None => {
                    hide_next = argument.starts_with('-') && names(argument);
                    argument.clone()
                }
            }
        })
        .collect()
}

fn looks_secret(text: &str) -> bool {
    let key = text.len() == 40
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(&b))
        && text.bytes().any(|b| b.is_ascii_uppercase())
        && text.bytes().any(|b| b.is_ascii_digit());
    key || (text.starts_with("eyJ") && text.bytes().filter(|b| *b == b'.').count() == 2)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_secret(name) {
                    if let Value::String(text) = member {
                        *member = Value::String(mark(text));
                    } else if !member.is_null() {
                        *member = Value::String(mark(&member.to_string()));
                    }
                } else {
                    hide(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// Members as [`hide`] leaves them, written without a copy.
struct HiddenMap<'a>(&'a Map<String, Value>);

struct Hidden<'a>(&'a Value);

impl Serialize for HiddenMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, member)| (name, Member(name, member))))
    }
}

struct Member<'a>(&'a str, &'a Value);

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Value::Null => serializer.serialize_unit(),
            Value::String(text) if is_secret(self.0) => serializer.serialize_str(&mark(text)),
            other if is_secret(self.0) => serializer.serialize_str(&mark(&other.to_string())),
            other => Hidden(other).serialize(serializer),
        }
    }
}

impl Serialize for Hidden<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => HiddenMap(members).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Hidden)),
            plain => plain.serialize(serializer),
        }
    }
}

/// The same value gives the same mark as long as the daemon lives, and says nothing of the value.
fn mark(text: &str) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    format!("masked:{:016x}", KEY.get_or_init(RandomState::new).hash_one(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_shape_stays() {
        let body = br#"{"Name":"n","SecretString":"hunter2","List":[{"Password":"hunter2"}],"Token":null}"#;
        let masked = apply(Protocol::Json11, body).expect("JSON");
        let text = std::str::from_utf8(&masked).expect("text");
        assert!(!text.contains("hunter2"), "{text}");
        let value: Value = serde_json::from_slice(&masked).expect("JSON");
        assert_eq!(value["SecretString"], value["List"][0]["Password"]);
        assert_eq!((&value["Name"], &value["Token"]), (&Value::from("n"), &Value::Null));
    }

    #[test]
    fn parameters_are_written_as_they_would_be_hidden() {
        let text = r#"{"Name":"n","SecretString":"hunter2","Token":null,"Deep":[{"PASSWORD":{"a":[1,"x"]},"n":1.5}],"b":true}"#;
        let Ok(Value::Object(members)) = serde_json::from_str(text) else { panic!("an object") };
        let mut hidden = Value::Object(members.clone());
        hide(&mut hidden);
        assert_eq!(redact_parameters(&members), hidden.to_string());
        assert!(!hidden.to_string().contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_read_is_not_passed() {
        assert_eq!(apply(Protocol::Json10, b"\x1f\x8b"), Err(MaskError::Unreadable));
        assert_eq!(apply(Protocol::RestXml, b"<a/>"), Err(MaskError::Protocol));
    }

    #[test]
    fn command_lines_and_targets() {
        let argv: Vec<String> =
            ["x", "--password", "p", "--token=t", "A_SECRET=s", "--name", "n", "eyJa.b.c"].map(String::from).to_vec();
        assert_eq!(
            redact_argv(&argv),
            ["x", "--password", "hidden", "--token=hidden", "A_SECRET=hidden", "--name", "n", "hidden"]
        );
        assert_eq!(redact_target("/a?X-Amz-Signature=1&b=2"), "/a?X-Amz-Signature=hidden&b=2");
    }
}
