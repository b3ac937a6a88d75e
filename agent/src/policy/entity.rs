//! Principals, actions and resources as Cedar entities.
//!
//! Owns the entity model that `policies/README.md` explains to those who write policies. Entities are of Cedar's core
//! crate, for the reason that `engine.rs` gives. Each carries all its ancestors, so that nothing is left to close
//! over. Pure.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use cedar_policy_core::ast::{Eid, Entity, EntityType, EntityUID, PartialValue, Value};
use serde_json::Value as Json;

use crate::aws::AccessLevel;
use crate::identity::Principal;

static PRINCIPAL: LazyLock<EntityType> = LazyLock::new(|| named("Tollgate::Principal"));
static GROUP: LazyLock<EntityType> = LazyLock::new(|| named("Tollgate::Group"));
static ACTION: LazyLock<EntityType> = LazyLock::new(|| named("AWS::Action"));
static RESOURCE: LazyLock<EntityType> = LazyLock::new(|| named("AWS::Resource"));

/// How deep nested claims are followed.
const MAX_CLAIM_DEPTH: usize = 4;

fn named(name: &str) -> EntityType {
    #[expect(clippy::expect_used, reason = "the four names above are well-formed; a test makes each")]
    EntityType::from_normalized_str(name).expect("a well-formed type name")
}

fn uid(kind: &EntityType, id: &str) -> EntityUID {
    EntityUID::from_components(kind.clone(), Eid::new(id), None)
}

/// Id of a principal: `issuer#subject`. An issuer has no fragment, so that the first `#` ends it.
pub(super) fn principal_id(principal: &Principal) -> String {
    match &principal.issuer {
        Some(issuer) => format!("{issuer}#{}", principal.subject),
        None => principal.subject.clone(),
    }
}

/// The principal, with its groups as parents and its claims as tags.
pub(super) fn principal(principal: &Principal) -> Entity {
    let attributes = [
        ("issuer", text(principal.issuer.as_deref().unwrap_or(""))),
        ("subject", text(&principal.subject)),
        ("identified", PartialValue::Value(principal.is_identified().into())),
    ];
    let mut tags = BTreeMap::new();
    for (name, value) in &principal.claims {
        flatten(name.clone(), value, 0, &mut tags);
    }
    // A claim whose own name has dots wins over a nested one that flattens to the same name.
    for (name, value) in principal.claims.iter().filter(|(_, value)| !value.is_object()) {
        tags.insert(name.clone(), values(value));
    }
    Entity::new_with_attr_partial_value(
        uid(&PRINCIPAL, &principal_id(principal)),
        attributes.map(|(name, value)| (name.into(), value)),
        HashSet::new(),
        principal.groups.iter().map(|g| uid(&GROUP, g)).collect(),
        tags.into_iter().map(|(name, values)| (name.into(), PartialValue::Value(Value::set(values, None)))),
    )
}

fn flatten(name: String, value: &Json, depth: usize, tags: &mut BTreeMap<String, Vec<Value>>) {
    match value {
        Json::Object(members) if depth < MAX_CLAIM_DEPTH => {
            for (member, value) in members {
                flatten(format!("{name}.{member}"), value, depth + 1, tags);
            }
        }
        _ => {
            tags.insert(name, values(value));
        }
    }
}

/// Every claim is a set of texts, so that one form of condition fits all.
fn values(value: &Json) -> Vec<Value> {
    match value {
        Json::Null => vec![],
        Json::String(s) => vec![s.as_str().into()],
        Json::Array(list) => {
            list.iter().flat_map(|v| if v.is_array() { vec![v.to_string().into()] } else { values(v) }).collect()
        }
        other => vec![other.to_string().into()],
    }
}

/// The action, in the groups (`s3:*`, `level:Read`) that policies name and that it belongs to.
pub(super) fn action(id: &str, groups: &[&str]) -> Entity {
    let groups = groups.iter().map(|g| uid(&ACTION, g)).collect();
    Entity::new_with_attr_partial_value(uid(&ACTION, id), [], HashSet::new(), groups, [])
}

/// Group of all actions of one access level.
pub(super) fn level_group(level: AccessLevel) -> &'static str {
    match level {
        AccessLevel::Read => "level:Read",
        AccessLevel::List => "level:List",
        AccessLevel::Write => "level:Write",
        AccessLevel::Tagging => "level:Tagging",
        AccessLevel::PermissionsManagement => "level:PermissionsManagement",
        AccessLevel::Unknown => "level:Unknown",
    }
}

/// The access levels' groups.
pub(super) const LEVELS: [&str; 6] =
    ["level:Read", "level:List", "level:Write", "level:Tagging", "level:PermissionsManagement", "level:Unknown"];

/// The resource, with the parts of its ARN as attributes. An object of S3 is in its bucket.
pub(super) fn resource(arn: &str) -> Entity {
    let parts = Arn::parse(arn);
    let attributes = [
        ("arn", arn),
        ("partition", parts.partition),
        ("service", parts.service),
        ("region", parts.region),
        ("account", parts.account),
        ("type", parts.kind),
        ("name", parts.name),
    ];
    let bucket = parts.bucket(arn).map(|bucket| uid(&RESOURCE, bucket));
    Entity::new_with_attr_partial_value(
        uid(&RESOURCE, arn),
        attributes.map(|(name, value)| (name.into(), text(value))),
        HashSet::new(),
        bucket.into_iter().collect(),
        [],
    )
}

/// The parts of an ARN; all `*` where the model could not say which resource it is.
#[derive(Debug, PartialEq)]
struct Arn<'a> {
    partition: &'a str,
    service: &'a str,
    region: &'a str,
    account: &'a str,
    /// `instance`, `table`, `bucket`; empty where the service has one kind only (SNS topics).
    kind: &'a str,
    /// What follows the kind.
    name: &'a str,
}

impl<'a> Arn<'a> {
    fn parse(arn: &'a str) -> Self {
        let mut parts = arn.splitn(6, ':');
        let (Some("arn"), Some(partition), Some(service), Some(region), Some(account), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Self { partition: "*", service: "*", region: "*", account: "*", kind: "*", name: "*" };
        };
        let (kind, name) = match service {
            // Buckets are named without their kind; access points and jobs with it.
            "s3" if region.is_empty() && account.is_empty() => {
                (if rest.contains('/') { "object" } else { "bucket" }, rest)
            }
            _ => match rest.find([':', '/']) {
                Some(end) if end > 0 => (&rest[..end], &rest[end + 1..]),
                _ => ("", rest),
            },
        };
        Self { partition, service, region, account, kind, name }
    }

    fn bucket(&self, arn: &'a str) -> Option<&'a str> {
        let key = (self.kind == "object" && self.service == "s3").then(|| self.name.find('/'))??;
        Some(&arn[..arn.len() - self.name.len() + key])
    }
}

fn text(value: &str) -> PartialValue {
    PartialValue::Value(value.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_arns_apart() {
        for (arn, expected) in [
            ("arn:aws:s3:::b", ["aws", "s3", "", "", "bucket", "b"]),
            ("arn:aws:s3:::b/k/l:m", ["aws", "s3", "", "", "object", "b/k/l:m"]),
            ("arn:aws:s3:eu-central-1:1:accesspoint/x", ["aws", "s3", "eu-central-1", "1", "accesspoint", "x"]),
            ("arn:aws-cn:ec2:r:1:instance/i-1", ["aws-cn", "ec2", "r", "1", "instance", "i-1"]),
            ("arn:aws:dynamodb:r:1:table/t/index/i", ["aws", "dynamodb", "r", "1", "table", "t/index/i"]),
            ("arn:aws:secretsmanager:r:1:secret:a/b-X", ["aws", "secretsmanager", "r", "1", "secret", "a/b-X"]),
            ("arn:aws:sns:r:1:topic", ["aws", "sns", "r", "1", "", "topic"]),
            ("arn:aws:apigateway:r::/restapis/x", ["aws", "apigateway", "r", "", "", "/restapis/x"]),
            ("*", ["*"; 6]),
            ("arn:aws:s3", ["*"; 6]),
            ("", ["*"; 6]),
        ] {
            let arn = Arn::parse(arn);
            assert_eq!([arn.partition, arn.service, arn.region, arn.account, arn.kind, arn.name], expected);
        }
    }

    #[test]
    fn an_object_is_in_its_bucket() {
        for (arn, bucket) in [
            ("arn:aws:s3:::b/k/l", Some("arn:aws:s3:::b")),
            ("arn:aws:s3:::b", None),
            ("arn:aws:s3:r:1:accesspoint/x", None),
            ("arn:aws:ec2:r:1:object/x", None),
        ] {
            assert_eq!(Arn::parse(arn).bucket(arn), bucket);
            assert_eq!(resource(arn).ancestors().count(), usize::from(bucket.is_some()));
        }
    }

    #[test]
    fn claims_become_sets_of_texts() {
        let mut someone = Principal::unidentified();
        someone.issuer = Some("https://idp".into());
        someone.subject = "a#b".into();
        someone.claims = BTreeMap::from([
            ("n".into(), json!(1)),
            ("list".into(), json!(["a", true, null, {"x": 1}])),
            ("a".into(), json!({"b": "nested", "c": {"d": "deep"}})),
            ("a.b".into(), json!("own")),
        ]);
        let entity = principal(&someone);
        assert_eq!(entity.uid().to_string(), r#"Tollgate::Principal::"https://idp#a#b""#);
        let tag = |name: &str| entity.get_tag(name).map(|v| v.to_string());
        assert_eq!(tag("n").unwrap(), r#"["1"]"#);
        assert_eq!(tag("a.b").unwrap(), r#"["own"]"#);
        assert_eq!(tag("a.c.d").unwrap(), r#"["deep"]"#);
        assert!(tag("list").unwrap().contains(r#""true""#));
        assert_eq!(tag("a"), None);
    }

    #[test]
    fn each_type_has_a_name() {
        for kind in [&PRINCIPAL, &GROUP, &ACTION, &RESOURCE] {
            assert!(!kind.name().to_string().is_empty());
        }
    }
}
