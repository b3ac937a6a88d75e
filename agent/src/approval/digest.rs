//! What makes a request the same when it is sent again.
//!
//! The operation, its resources and members, account, region, endpoint, whose credentials, for whom, and what the policies
//! ask: not when it was sent, how it was signed, nor the tokens by which AWS tells a retry. Keyed, since members may be
//! secret and easily guessed, and the digest is in the record. Pure.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::aws::Operation;
use crate::aws::model::is_idempotency_token;
use crate::identity::Principal;
use crate::policy::Terms;

/// A request, as far as people approve it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub operation: &'a Operation,
    pub principal: &'a Principal,
    /// Unix user of the session.
    pub uid: u32,
    pub account: Option<&'a str>,
    /// Whose credentials it would be signed with, where that is known.
    pub credential: &'a str,
    pub host: &'a str,
    /// Method and target, where the members do not say everything.
    pub head: Option<(&'a str, &'a str)>,
    /// SHA-256 of a body whose members are not known, where it was signed or read.
    pub body: Option<&'a str>,
    pub terms: &'a Terms,
}

impl Request<'_> {
    pub fn digest(&self, key: &[u8; 32]) -> String {
        // A key of any length is one.
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
        let mut mac = Fed(mac);
        let operation = self.operation;
        mac.text(&operation.service);
        mac.text(&operation.name);
        mac.text(&operation.signing_name);
        mac.text(&operation.region);
        for need in &operation.needs {
            mac.text(&need.action);
            mac.list(&need.resources);
        }
        mac.optional(self.principal.issuer.as_deref());
        mac.text(&self.principal.subject);
        mac.text(&self.uid.to_string());
        mac.optional(self.account);
        mac.text(self.credential);
        mac.text(self.host);
        mac.optional(self.head.map(|h| h.0));
        mac.optional(self.head.map(|h| h.1));
        mac.optional(self.body);
        mac.text(&serde_json::to_string(self.terms).unwrap_or_default());
        let members = operation.parameters.iter();
        mac.members(members.filter(|(name, _)| !is_idempotency_token(&operation.signing_name, &operation.name, name)));
        hex::encode(mac.0.finalize().into_bytes())
    }
}

struct Fed(Hmac<Sha256>);

impl Fed {
    /// Lengths keep two texts from being read as one.
    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        self.0.update(&[u8::from(text.is_some())]);
        self.text(text.unwrap_or_default());
    }

    fn list(&mut self, all: &[String]) {
        self.0.update(&(all.len() as u64).to_be_bytes());
        all.iter().for_each(|text| self.text(text));
    }

    /// In the order of their names, whichever they were written in.
    fn members<'a>(&mut self, all: impl Iterator<Item = (&'a String, &'a Value)>) {
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(name, _)| *name);
        self.0.update(b"{");
        self.0.update(&(all.len() as u64).to_be_bytes());
        for (name, value) in all {
            self.text(name);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.update(b"0"),
            Value::Bool(b) => self.0.update(if *b { b"t" } else { b"f" }),
            Value::Number(n) => {
                self.0.update(b"n");
                self.text(&n.to_string());
            }
            Value::String(text) => {
                self.0.update(b"s");
                self.text(text);
            }
            Value::Array(items) => {
                self.0.update(b"[");
                self.0.update(&(items.len() as u64).to_be_bytes());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(members) => self.members(members.iter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::AccessLevel;
    use crate::aws::operation::{Need, Protocol};

    fn operation(parameters: Value) -> Operation {
        let Value::Object(parameters) = parameters else { panic!("not an object") };
        Operation {
            service: "ec2".into(),
            name: "RunInstances".into(),
            signing_name: "ec2".into(),
            region: "us-east-1".into(),
            partition: "aws",
            protocol: Protocol::Ec2,
            needs: vec![Need::new("ec2:RunInstances", vec!["*".into()])],
            access: AccessLevel::Write,
            input: None,
            parameters,
            credentials_in_output: false,
        }
    }

    #[test]
    fn a_request_sent_again_is_the_same_and_any_other_is_not() {
        let (nobody, terms) = (Principal::unidentified(), Terms::default());
        let other = Terms { people: 2, ..Terms::default() };
        let alice =
            Principal { subject: "alice".into(), issuer: Some("https://i".into()), ..Principal::unidentified() };
        let first =
            operation(json!({"ImageId": "ami-1", "MaxCount": 1, "ClientToken": "one", "T": {"b": 1, "a": [2, 3]}}));
        let again =
            operation(json!({"T": {"a": [2, 3], "b": 1}, "MaxCount": 1, "ClientToken": "two", "ImageId": "ami-1"}));
        let request = |operation| Request {
            operation,
            principal: &nobody,
            uid: 7,
            account: Some("1"),
            credential: "",
            host: "ec2.us-east-1.amazonaws.com",
            head: None,
            body: None,
            terms: &terms,
        };
        let base = request(&first).digest(&[1; 32]);
        assert_eq!(request(&again).digest(&[1; 32]), base);
        assert_ne!(request(&first).digest(&[2; 32]), base, "another key");
        let elsewhere = Operation { region: "eu-west-1".into(), ..first.clone() };
        let changed = [
            operation(json!({"ImageId": "ami-2", "MaxCount": 1, "T": {"a": [2, 3], "b": 1}})),
            operation(json!({"ImageId": "ami-1", "MaxCount": 2, "T": {"a": [2, 3], "b": 1}})),
            operation(json!({"ImageId": "ami-1", "MaxCount": "1", "T": {"a": [2, 3], "b": 1}})),
            operation(json!({"ImageId": "ami-1", "MaxCount": 1, "T": {"a": [3, 2], "b": 1}})),
            operation(json!({"ImageId": "ami-1", "MaxCount": 1, "T": {"a": [2], "b": 1}, "x": 3})),
            // Only AWS's own place for it is one.
            operation(json!({"ImageId": "ami-1", "MaxCount": 1, "T": {"a": [2, 3], "b": 1, "ClientToken": "x"}})),
            elsewhere,
        ];
        let mut seen = vec![base];
        let requests = changed.iter().map(request).chain([
            Request { principal: &alice, ..request(&first) },
            Request { uid: 8, ..request(&first) },
            Request { account: Some("2"), ..request(&first) },
            Request { account: None, ..request(&first) },
            Request { credential: "arn:aws:sts::1:assumed-role/r/s", ..request(&first) },
            Request { host: "ec2.eu-west-1.amazonaws.com", ..request(&first) },
            Request { head: Some(("GET", "/a")), ..request(&first) },
            Request { body: Some("00"), ..request(&first) },
            Request { terms: &other, ..request(&first) },
        ]);
        for request in requests {
            let digest = request.digest(&[1; 32]);
            assert!(!seen.contains(&digest), "{request:?}");
            seen.push(digest);
        }
    }
}
