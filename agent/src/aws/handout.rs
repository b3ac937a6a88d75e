//! Operations whose answers carry credentials, and those that need no signature.
//!
//! Owns the reading of `handout/table.txt`, which `cargo xtask model` makes, and the exchange of keys in answers
//! ([`answer`]). Decides nothing. Pure.

pub mod answer;
pub mod web_identity;

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Operation;

const TABLE: &str = include_str!("handout/table.txt");

/// What is done about an operation's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// The keys at these places are held, and placeholders take their place.
    Placeholder(Vec<Site>),
    /// The daemon answers.
    Here,
    /// It is not sent; why, for the agent.
    Denied(&'static str),
    /// Nothing.
    Policy,
}

/// Where one of AWS's keys stands in an answer, by the names on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `*` stands for any item of a list.
    pub path: Vec<&'static str>,
    pub id: &'static str,
    pub secret: &'static str,
    /// Empty: it has none.
    pub token: &'static str,
    /// Empty: the answer does not say.
    pub ends: &'static str,
}

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handout {
    pub treatment: Treatment,
    /// The model says that it needs no signature.
    pub unsigned: bool,
}

/// By IAM prefix and operation; `None`: nothing is done about it, and it is signed.
pub fn named(service: &str, operation: &str) -> Option<&'static Handout> {
    all().get(service)?.get(operation)
}

fn all() -> &'static HashMap<&'static str, HashMap<&'static str, Handout>> {
    static ALL: OnceLock<HashMap<&str, HashMap<&str, Handout>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: HashMap<&str, HashMap<&str, Handout>> = HashMap::new();
        for ((service, operation), handout) in TABLE.lines().filter_map(line) {
            all.entry(service).or_default().insert(operation, handout);
        }
        all
    })
}

pub fn of(operation: &Operation) -> Option<&'static Handout> {
    named(&operation.service, &operation.name)
}

/// Whether an operation may be asked for without a signature.
pub fn unsigned(service: &str, operation: &str) -> bool {
    named(service, operation).is_some_and(|h| h.unsigned)
}

/// Whether a service has operations that may be asked for without a signature.
pub fn any_unsigned(service: &str) -> bool {
    all().get(service).is_some_and(|operations| operations.values().any(|h| h.unsigned))
}

fn line(line: &'static str) -> Option<((&'static str, &'static str), Handout)> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (service, operation, treatment, signed, rest) = (next()?, next()?, next()?, next()?, next()?);
    let treatment = match treatment {
        "placeholder" => Treatment::Placeholder(rest.split(' ').map(site).collect::<Option<_>>()?),
        "here" => Treatment::Here,
        "policy" => Treatment::Policy,
        // What is not understood is denied.
        _ => Treatment::Denied(rest),
    };
    Some(((service, operation), Handout { treatment, unsigned: signed == "unsigned" }))
}

fn site(text: &'static str) -> Option<Site> {
    let (path, names) = text.split_once('/')?;
    let mut names = names.split(',');
    let mut name = || names.next();
    let (id, secret, token, ends) = (name()?, name()?, name()?, name()?);
    Some(Site { path: path.split('.').filter(|p| !p.is_empty()).collect(), id, secret, token, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_each_treatment_is_there() {
        let read: Vec<_> = TABLE.lines().map(|l| line(l).unwrap_or_else(|| panic!("`{l}` cannot be read"))).collect();
        assert!(read.len() > 100, "{}", read.len());
        let expected = [
            ("sts", "AssumeRole", false),
            ("sts", "AssumeRoleWithSAML", true),
            ("sts", "GetFederationToken", false),
            ("sts", "GetSessionToken", false),
            ("sso", "GetRoleCredentials", true),
            ("cognito-identity", "GetCredentialsForIdentity", true),
            ("s3", "CreateSession", false),
        ];
        for (service, operation, unsigned) in expected {
            let found = named(service, operation).expect(operation);
            assert!(matches!(&found.treatment, Treatment::Placeholder(sites) if !sites.is_empty()), "{found:?}");
            assert_eq!(found.unsigned, unsigned, "{operation}");
        }
        assert_eq!(named("sts", "AssumeRoleWithWebIdentity").map(|h| &h.treatment), Some(&Treatment::Here));
        assert!(matches!(named("iam", "CreateAccessKey").map(|h| &h.treatment), Some(Treatment::Denied(_))));
        assert!(unsigned("cognito-identity", "GetId") && !unsigned("sts", "GetCallerIdentity"));
        assert_eq!(named("sts", "GetCallerIdentity"), None);
    }

    #[test]
    fn the_model_and_the_table_agree_on_what_hands_out_credentials() {
        let index = crate::aws::model::index().expect("a sound model");
        let mut flagged = 0;
        for service in &index.services {
            for op in &service.detail().expect("sound").operations {
                let treated = named(service.iam, op.name).is_some_and(|h| h.treatment != Treatment::Policy);
                // Several services may share a prefix.
                assert!(!op.credentials || treated, "{}:{} is in the model only", service.id, op.name);
                flagged += usize::from(op.credentials);
            }
        }
        assert!(flagged > 100, "{flagged}");
    }
}
