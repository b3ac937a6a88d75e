//! A question to the policies, written down, and the answer that is expected of them.
//!
//! Owns the form of the cases that `tollgate policy test` reads and saves (docs/policies.md). A case comes from a file or
//! from the record, and is judged by the engine that decides on the data path. Pure: gets text, not files.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CredentialFacts, Decision, PolicySet, ProcessFacts, Question, SessionFacts};
use crate::aws::model::{self, Input};
use crate::aws::operation::{Need, UNKNOWN};
use crate::aws::{AccessLevel, Operation, Protocol};
use crate::identity::Principal;
use crate::policy::catalog::nearest_of;

/// A file of cases. What stands before the cases holds for those that do not say it themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaseFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// Policies that are judged along, as Cedar text: for guard rails, which permit nothing themselves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub also: String,
    #[serde(rename = "case", skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

/// One question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// `allow`, `deny` or `hold`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expect: String,
    /// Ids of the policies that decide it; empty text or list: none does, it is the default deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Ids>,
    /// Number in the record, where it comes from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange: Option<i64>,
    /// Why the answer may be another than it was: what the record does not have.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub incomplete: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Where one action on one resource does not say it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<CaseNeed>,
    /// `service:Operation`, or the operation alone; the action's name if it is left out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// A whole request in the form of `tollgate aws identify`, in place of what stands above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Who>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
}

/// One id or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ids {
    One(String),
    Many(Vec<String>),
}

/// An action on some resources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseNeed {
    pub action: String,
    pub resources: Vec<String>,
}

/// Who asks. Without an issuer: nobody who is identified.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Who {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    pub subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub claims: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    pub exe: String,
    pub pid: u32,
    pub uid: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credential {
    pub kind: String,
    pub account: String,
    pub arn: String,
    pub operation: String,
}

impl Default for Credential {
    fn default() -> Self {
        Self { kind: "binding".into(), account: String::new(), arn: String::new(), operation: String::new() }
    }
}

impl CaseFile {
    /// Reads a file; each case has all that is said for all of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for (n, case) in file.cases.iter_mut().enumerate() {
            if case.name.is_empty() {
                case.name = format!("case {}", n + 1);
            }
            case.principal = case.principal.take().or_else(|| file.principal.clone());
            case.session = case.session.take().or_else(|| file.session.clone());
            case.process = case.process.take().or_else(|| file.process.clone());
            case.credential = case.credential.take().or_else(|| file.credential.clone());
            if !["allow", "deny", "hold"].contains(&case.expect.as_str()) {
                return Err(format!(
                    "case `{}`: `expect` is `{}`; write `allow`, `deny` or `hold`",
                    case.name, case.expect
                ));
            }
        }
        if file.cases.is_empty() {
            return Err("it has no [[case]]; write one, or take the file away".into());
        }
        Ok(file)
    }

    /// As TOML. What TOML cannot say (nulls, numbers beyond 64 bits) is left out, or text.
    pub fn text(&self) -> Result<String, String> {
        let mut plain = self.clone();
        for case in &mut plain.cases {
            case.parameters = sayable(std::mem::take(&mut case.parameters));
            if let Some(who) = &mut case.principal {
                who.claims = sayable(std::mem::take(&mut who.claims));
            }
        }
        toml::to_string(&plain).map_err(|e| e.to_string())
    }
}

fn sayable(members: Map<String, Value>) -> Map<String, Value> {
    let members = members.into_iter().filter_map(|(name, value)| Some((name, say(value)?)));
    // Plain values first: after a table, TOML takes what follows for its members.
    let (tables, plain): (Vec<_>, Vec<_>) = members.partition(|(_, v)| v.is_object() || v.is_array());
    plain.into_iter().chain(tables).collect()
}

fn say(value: Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Number(n) if n.as_i64().is_none() && !n.is_f64() => Value::String(n.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().filter_map(say).collect()),
        Value::Object(members) => Value::Object(sayable(members)),
        plain => plain,
    })
}

impl Case {
    /// The operation that it asks about. `Err`: it cannot be one, and what was meant.
    ///
    /// A case with a `request` is not read here: the caller has to understand that first.
    pub fn operation(&self) -> Result<Operation, String> {
        let mut needs: Vec<Need> = self.needs.iter().map(|n| Need::new(&n.action, n.resources.clone())).collect();
        match (self.action.is_empty(), needs.is_empty()) {
            (false, true) => {
                let resource = if self.resource.is_empty() { "*" } else { &self.resource };
                needs.push(Need::new(&self.action, vec![resource.into()]));
            }
            (true, false) => {}
            (false, false) => return Err("it has both `action` and `needs`; keep one of them".into()),
            (true, true) => return Err("it asks nothing; give it an `action`, `needs`, or a `request`".into()),
        }
        let catalog = model::catalog();
        // What comes from the record has been recognised once.
        if self.exchange.is_none() {
            for need in &needs {
                if need.action != UNKNOWN && catalog.level(&need.action).is_none() {
                    let meant = catalog.nearest(&need.action);
                    let fix = meant.map_or_else(|| "check the name".into(), |m| format!("did you mean `{m}`?"));
                    return Err(format!("there is no action `{}`; {fix}", need.action));
                }
            }
        }
        let (prefix, action) = needs[0].action.split_once(':').unwrap_or(("unknown", "unknown"));
        let (service, name) = self
            .operation
            .split_once(':')
            .unwrap_or((prefix, if self.operation.is_empty() { action } else { self.operation.as_str() }));
        let inputs = catalog.inputs(&needs[0].action).unwrap_or_default();
        if self.exchange.is_none() {
            self.check_parameters(&inputs, &needs[0].action)?;
        }
        let arn = needs.iter().flat_map(|n| &n.resources).find(|r| r.starts_with("arn:"));
        let part = |n: usize| arn.and_then(|a| a.split(':').nth(n)).unwrap_or_default();
        let access = catalog.level(&needs[0].action).unwrap_or(AccessLevel::Unknown);
        Ok(Operation {
            service: service.into(),
            name: name.into(),
            signing_name: prefix.into(),
            region: if self.region.is_empty() { part(3).into() } else { self.region.clone() },
            // Policies do not see it: it is a part of the ARN.
            partition: "aws",
            protocol: Protocol::Query,
            input: inputs.iter().find(|i| i.op.name == name).copied(),
            needs,
            access,
            parameters: self.parameters.clone(),
            credentials_in_output: false,
        })
    }

    /// Parameters that no operation of the action has are a mistake of whoever wrote the case.
    fn check_parameters(&self, inputs: &[Input], action: &str) -> Result<(), String> {
        let names: Vec<&str> = inputs.iter().flat_map(|i| i.detail.input(i.op)).map(|m| m.name).collect();
        if names.is_empty() {
            return Ok(());
        }
        match self.parameters.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => {
                let meant = nearest_of(name, &names).map_or_else(String::new, |m| format!("; did you mean `{m}`?"));
                Err(format!("`{name}` is no parameter of {action}{meant}"))
            }
            None => Ok(()),
        }
    }

    pub fn who(&self) -> Principal {
        match &self.principal {
            Some(who) if !who.issuer.is_empty() => Principal {
                issuer: Some(who.issuer.clone()),
                subject: who.subject.clone(),
                groups: who.groups.clone(),
                claims: who.claims.clone().into_iter().collect(),
                expires: None,
                token: None,
            },
            _ => Principal::unidentified(),
        }
    }

    /// Puts the case as a question, with an operation that has been understood before.
    pub fn ask<T>(&self, operation: &Operation, with: impl FnOnce(&Question<'_>) -> T) -> T {
        let principal = self.who();
        let (session, process) = (self.session.clone().unwrap_or_default(), self.process.clone().unwrap_or_default());
        let credential = self.credential.clone().unwrap_or_default();
        with(&Question {
            principal: &principal,
            operation,
            session: SessionFacts { id: &session.id, name: &session.name },
            process: ProcessFacts { exe: &process.exe, pid: process.pid, uid: process.uid },
            credential: CredentialFacts {
                kind: &credential.kind,
                account: &credential.account,
                arn: &credential.arn,
                operation: &credential.operation,
            },
            endpoint: &self.endpoint,
        })
    }

    /// What policies say of it.
    pub fn judge(&self, set: &PolicySet, operation: &Operation) -> Decision {
        self.ask(operation, |question| set.decide(question))
    }

    /// How a decision differs from what is expected; `None`: it does not.
    pub fn differs(&self, decision: &Decision) -> Option<String> {
        let found = decision.verdict();
        let by = named(&decision.policies);
        if found != self.expect {
            return Some(format!("expected {}, got {found} by {by}: {}", self.expect, decision.reason));
        }
        let fits = match &self.policy {
            None => true,
            Some(Ids::One(id)) if id.is_empty() => decision.policies.is_empty(),
            Some(Ids::One(id)) => decision.policies.contains(id),
            Some(Ids::Many(ids)) => {
                ids.len() == decision.policies.len() && ids.iter().all(|id| decision.policies.contains(id))
            }
        };
        let expected = match &self.policy {
            Some(Ids::One(id)) => named(std::slice::from_ref(id)),
            Some(Ids::Many(ids)) => named(ids),
            None => String::new(),
        };
        (!fits).then(|| format!("{found} as expected, but by {by} and not by {expected}"))
    }
}

/// Ids for people.
pub fn named(ids: &[String]) -> String {
    match ids.iter().filter(|id| !id.is_empty()).map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => "no policy".into(),
        ids => ids.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Mode;

    const FILE: &str = r#"
        [principal]
        issuer = "https://idp.example"
        subject = "alice"
        groups = ["readers"]

        [[case]]
        name = "reads"
        action = "s3:GetObject"
        resource = "arn:aws:s3:::demo/a"
        expect = "allow"
        policy = "readers"

        [[case]]
        principal = { subject = "" }
        action = "s3:GetObject"
        resource = "arn:aws:s3:::demo/a"
        expect = "deny"
        policy = []

        [[case]]
        action = "ec2:RunInstances"
        parameters = { InstanceType = "t3.micro", MaxCount = 2 }
        expect = "hold"
    "#;

    fn set() -> PolicySet {
        let text = r#"
            @id("readers") permit (principal in Tollgate::Group::"readers", action in AWS::Action::"s3:Get*", resource);
            @id("run") @approval("ops") permit (principal, action == AWS::Action::"ec2:RunInstances", resource)
            when { context.parameters has MaxCount && context.parameters.MaxCount < 3 };"#;
        PolicySet::from_sources(&[("t.cedar", text)], Mode::Enforce, model::catalog())
            .unwrap_or_else(|e| panic!("{e:?}"))
    }

    #[test]
    fn a_file_s_cases_are_judged_and_differences_told() {
        let (file, set) = (CaseFile::parse(FILE).unwrap(), set());
        assert_eq!(file.cases.len(), 3);
        for case in &file.cases {
            let decision = case.judge(&set, &case.operation().unwrap());
            assert_eq!(case.differs(&decision), None, "{}", case.name);
        }
        let mut wrong = file.cases[0].clone();
        let decision = wrong.judge(&set, &wrong.operation().unwrap());
        wrong.policy = Some(Ids::One("run".into()));
        assert_eq!(wrong.differs(&decision).unwrap(), "allow as expected, but by readers and not by run");
        wrong.policy = Some(Ids::Many(vec!["readers".into(), "run".into()]));
        assert!(wrong.differs(&decision).is_some());
        wrong.expect = "deny".into();
        assert!(wrong.differs(&decision).unwrap().starts_with("expected deny, got allow by readers: policy `readers`"));
        wrong.resource = "arn:aws:s3:::other/b".into();
        wrong.principal = Some(Who::default());
        wrong.policy = Some(Ids::One(String::new()));
        let decision = wrong.judge(&set, &wrong.operation().unwrap());
        assert_eq!(wrong.differs(&decision), None, "the default deny has no policy");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut file = CaseFile::parse(FILE).unwrap();
        let parameters = json!({"Deep": [{"a": {"b": 1.5, "gone": null}}, {"a": "x"}], "N": u64::MAX, "Plain": true});
        file.cases[2].parameters = parameters.as_object().cloned().unwrap();
        let text = file.text().unwrap();
        let again = CaseFile::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let expected = json!({"Deep": [{"a": {"b": 1.5}}, {"a": "x"}], "N": "18446744073709551615", "Plain": true});
        assert_eq!(Value::Object(again.cases[2].parameters.clone()), expected);
        assert_eq!(again.cases[0], file.cases[0]);
    }

    #[test]
    fn a_case_that_cannot_be_is_refused_with_what_was_meant() {
        let broken = |text: &str| match CaseFile::parse(text) {
            Err(why) => why,
            Ok(file) => file.cases[0].operation().expect_err(text),
        };
        for (text, expected) in [
            ("", "no [[case]]"),
            ("[[case]]\naction = 's3:GetObject'", "`expect` is ``"),
            ("[[case]]\naction = 's3:GetObject'\nexpect = 'maybe'", "write `allow`, `deny` or `hold`"),
            ("[[case]]\nactoin = 's3:GetObject'\nexpect = 'deny'", "unknown field `actoin`"),
            ("[[case]]\naction = 's3:GetObjekt'\nexpect = 'deny'", "did you mean `s3:GetObject`?"),
            ("[[case]]\nexpect = 'deny'", "it asks nothing"),
            (
                "[[case]]\naction = 'ec2:RunInstances'\nparameters = { InstanceTyp = 'x' }\nexpect = 'deny'",
                "`InstanceTyp` is no parameter of ec2:RunInstances; did you mean `InstanceType`?",
            ),
        ] {
            let why = broken(text);
            assert!(why.contains(expected), "{text}\n{why}");
        }
    }
}
