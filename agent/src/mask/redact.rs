//! What the record keeps of a request: its members, its target, and command lines, secrets taken out.
//!
//! Owns that no secret of a request is written down. Pure.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::names::is_secret;
use super::token::Tokens;
use crate::aws::model::{self, Detail, Input, Kind, Place};

/// A request's members as JSON, secret ones taken out: those that AWS's model calls sensitive, where the operation is
/// known, and those that are named like secrets.
pub fn redact_parameters(parameters: &Map<String, Value>, input: Option<Input>, tokens: &Tokens<'_>) -> String {
    let shape = input.map(|i| Shape { detail: i.detail, kind: i.detail.kind(i.op.input) });
    // A map of texts and values always serialises.
    serde_json::to_string(&HiddenMap(parameters, shape, tokens)).unwrap_or_default()
}

/// A request target: signatures, and what holds secret members, taken out of its path and query.
pub fn redact_target(target: &str, input: Option<Input>) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let members = || input.into_iter().flat_map(|i| i.detail.input(i.op)).filter(|m| m.sensitive);
    let mut path = path.to_owned();
    for member in members().filter(|m| m.place == Place::Path) {
        let template = input.map_or("", |i| i.op.path);
        for (_, value) in model::labels(template, &path.clone())
            .into_iter()
            .filter(|(name, value)| *name == member.wire && !value.is_empty())
        {
            path = path.replace(value, "hidden");
        }
    }
    let Some(query) = query else { return path };
    let sensitive = |name: &str| members().any(|m| [m.wire, m.form].contains(&name));
    let kept: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if hides(name, &sensitive) => format!("{name}=hidden"),
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", kept.join("&"))
}

/// Whether a query parameter's value goes; its name as it stands in the query, escapes and all.
fn hides(name: &str, sensitive: &impl Fn(&str) -> bool) -> bool {
    let decoded = form_urlencoded::parse(name.as_bytes()).next();
    let name = decoded.as_ref().map_or(name, |(name, _)| name);
    name.eq_ignore_ascii_case("signature") || name.eq_ignore_ascii_case("x-amz-signature")
        || is_secret(name)
        // Members of lists and structures have dotted names.
        || name.split('.').any(sensitive)
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

/// A yes or no (`ManageMasterUserPassword`), or nothing at all: no secret, whatever its name.
fn is_flag(member: &Value) -> bool {
    matches!(member, Value::Null | Value::Bool(_))
}

/// What the model says of a value.
#[derive(Clone, Copy)]
struct Shape {
    detail: &'static Detail,
    kind: Kind<'static>,
}

impl Shape {
    fn member(self, name: &str) -> Option<&'static model::Member> {
        match self.kind {
            Kind::Structure(members) => members.all.iter().find(|m| m.name == name),
            _ => None,
        }
    }

    fn inner(self, name: &str) -> Option<Self> {
        let shape = match self.kind {
            Kind::Map { value, .. } => value,
            _ => self.member(name)?.shape,
        };
        Some(Self { kind: self.detail.kind(shape), ..self })
    }

    fn item(self) -> Option<Self> {
        match self.kind {
            Kind::List(item, _) => Some(Self { kind: self.detail.kind(item), ..self }),
            _ => None,
        }
    }
}

/// Members, the secret ones hidden; written without a copy.
struct HiddenMap<'a>(&'a Map<String, Value>, Option<Shape>, &'a Tokens<'a>);

struct Hidden<'a>(&'a Value, Option<Shape>, &'a Tokens<'a>);

impl Serialize for HiddenMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shape = self.1;
        serializer.collect_map(self.0.iter().map(|(name, member)| {
            let secret = is_secret(name) || shape.and_then(|s| s.member(name)).is_some_and(|m| m.sensitive);
            (name, Member { secret, value: member, shape: shape.and_then(|s| s.inner(name)), tokens: self.2 })
        }))
    }
}

struct Member<'a> {
    secret: bool,
    value: &'a Value,
    shape: Option<Shape>,
    tokens: &'a Tokens<'a>,
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            flag if is_flag(flag) => flag.serialize(serializer),
            Value::String(text) if self.secret => serializer.serialize_str(&self.tokens.text(text.as_bytes())),
            other if self.secret => serializer.serialize_str(&self.tokens.text(other.to_string().as_bytes())),
            other => Hidden(other, self.shape, self.tokens).serialize(serializer),
        }
    }
}

impl Serialize for Hidden<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => HiddenMap(members, self.1, self.2).serialize(serializer),
            Value::Array(items) => {
                let shape = self.1.and_then(Shape::item);
                serializer.collect_seq(items.iter().map(|item| Hidden(item, shape, self.2)))
            }
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact_parameters(parameters: &Map<String, Value>, input: Option<Input>) -> String {
        super::redact_parameters(parameters, input, &Tokens::testing())
    }

    #[test]
    fn parameters_are_written_as_they_would_be_hidden() {
        let text = r#"{"Name":"n","SecretString":"hunter2","Token":null,"Deep":[{"PASSWORD":{"a":[1,"x"]},"n":1.5}],"b":true}"#;
        let Ok(Value::Object(members)) = serde_json::from_str(text) else { panic!("an object") };
        let hidden: Value = serde_json::from_str(&redact_parameters(&members, None)).expect("JSON");
        assert!(hidden["SecretString"].as_str().is_some_and(|s| s.starts_with("masked:")), "{hidden}");
        assert!(hidden["Deep"][0]["PASSWORD"].as_str().is_some_and(|s| s.starts_with("masked:")), "{hidden}");
        for name in ["Name", "Token", "b"] {
            assert_eq!(hidden[name], members[name]);
        }
        assert!(!hidden.to_string().contains("hunter2"));
    }

    /// Of an operation whose members have these values.
    fn recorded(service: &str, operation: &str, text: &str) -> String {
        let (_, service) = model::index().and_then(|i| i.service(service)).expect("a service");
        let detail = service.detail().expect("sound");
        let input = Input { detail, op: detail.operation(operation).expect("an operation") };
        let Ok(Value::Object(members)) = serde_json::from_str(text) else { panic!("an object") };
        redact_parameters(&members, Some(input))
    }

    #[test]
    fn the_model_says_what_is_sensitive() {
        for (service, operation, text) in [
            ("ssm", "PutParameter", r#"{"Name":"n","Value":"hunter2"}"#),
            ("lambda", "CreateFunction", r#"{"FunctionName":"n","Environment":{"Variables":{"A":"hunter2"}}}"#),
            (
                "codebuild",
                "CreateProject",
                r#"{"name":"n","environment":{"environmentVariables":[{"name":"a","value":"hunter2"}]}}"#,
            ),
            (
                "cloudformation",
                "CreateStack",
                r#"{"StackName":"n","Parameters":[{"ParameterKey":"k","ParameterValue":"hunter2"}]}"#,
            ),
            ("ec2", "CreateVpnConnection", r#"{"Type":"n","Options":{"TunnelOptions":[{"PreSharedKey":"hunter2"}]}}"#),
            ("iam", "CreateLoginProfile", r#"{"UserName":"n","Password":"hunter2"}"#),
            ("kms", "Encrypt", r#"{"KeyId":"n","Plaintext":"hunter2"}"#),
            ("stepfunctions", "StartExecution", r#"{"stateMachineArn":"n","input":"hunter2"}"#),
            (
                "batch",
                "RegisterJobDefinition",
                r#"{"jobDefinitionName":"n","containerProperties":{"environment":[{"name":"A","value":"hunter2"}]}}"#,
            ),
        ] {
            let found = recorded(service, operation, text);
            assert!(!found.contains("hunter2") && found.contains("\"n\""), "{operation}: {found}");
            assert!(serde_json::from_str::<Value>(&found).is_ok(), "{found}");
        }
        // What the model does not call so, and what it does not know, stays.
        let plain = r#"{"Name":"n","Brandnew":{"x":"visible"}}"#;
        assert_eq!(
            serde_json::from_str::<Value>(&recorded("ssm", "PutParameter", plain)).unwrap()["Brandnew"]["x"],
            "visible"
        );
    }

    #[test]
    fn names_say_what_is_secret() {
        let secret = [
            "Password",
            "MasterUserPassword",
            "newPassword",
            "TemporaryPASSWORD",
            "Passphrase",
            "ClientSecret",
            "client_secret",
            "SecretString",
            "SecretBinary",
            "SecretAccessKey",
            "PrivateKey",
            "private-key",
            "Plaintext",
            "UserData",
            "AuthToken",
            "Token",
            "SessionToken",
            "X-Amz-Security-Token",
            "WebIdentityToken",
            "refresh_token",
            "OauthClientToken",
        ];
        let harmless = [
            "NextToken",
            "nextToken",
            "next-token",
            "continuation-token",
            "NextContinuationToken",
            "PaginationToken",
            "ClientToken",
            "ClientRequestToken",
            "SequenceToken",
            "SecretId",
            "SecretArn",
            "PasswordPolicy",
            "Tokens",
            "Name",
            "",
        ];
        let value = "hunter2";
        for (names, hidden) in [(&secret[..], true), (&harmless[..], false)] {
            for name in names {
                let members = Map::from_iter([((*name).to_owned(), Value::from(value))]);
                assert_eq!(!redact_parameters(&members, None).contains(value), hidden, "the member {name}");
                let nested = Map::from_iter([("Deep".to_owned(), Value::Object(members.clone()))]);
                assert_eq!(!redact_parameters(&nested, None).contains(value), hidden, "the member {name}, deep down");
                let target = redact_target(&format!("/?a=b&{name}={value}&c"), None);
                assert_eq!(!target.contains(value), hidden, "{target}");
                assert!(target.starts_with("/?a=b&") && target.ends_with("&c"), "{target}");
            }
        }
        let flags = r#"{"ManageMasterUserPassword":true,"GenerateSecret":false}"#;
        let Ok(Value::Object(members)) = serde_json::from_str(flags) else { panic!("an object") };
        assert_eq!(
            Value::from_iter(members.clone()),
            serde_json::from_str::<Value>(&redact_parameters(&members, None)).unwrap()
        );
        for target in
            ["/?Item.1.Master%55serPassw%6Frd=hunter2", "/?x=1&Signature=hunter2", "/?X-Amz-Signature=hunter2"]
        {
            assert!(!redact_target(target, None).contains(value), "{target}");
        }
    }

    #[test]
    fn command_lines_and_targets() {
        let argv: Vec<String> =
            ["x", "--password", "p", "--token=t", "A_SECRET=s", "--name", "n", "eyJa.b.c"].map(String::from).to_vec();
        assert_eq!(
            redact_argv(&argv),
            ["x", "--password", "hidden", "--token=hidden", "A_SECRET=hidden", "--name", "n", "hidden"]
        );
        assert_eq!(redact_target("/a?X-Amz-Signature=1&b=2", None), "/a?X-Amz-Signature=hidden&b=2");
    }
}
