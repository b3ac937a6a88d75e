//! Principals, actions and resources as Cedar entities.
//!
//! Owns the entity model that `policies/README.md` explains to those who write policies. Pure.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Expr};
use serde_json::Value;

use crate::aws::AccessLevel;
use crate::identity::Principal;

static PRINCIPAL: LazyLock<EntityTypeName> = LazyLock::new(|| named("Tollgate::Principal"));
static GROUP: LazyLock<EntityTypeName> = LazyLock::new(|| named("Tollgate::Group"));
static ACTION: LazyLock<EntityTypeName> = LazyLock::new(|| named("AWS::Action"));
static RESOURCE: LazyLock<EntityTypeName> = LazyLock::new(|| named("AWS::Resource"));

/// How deep nested claims are followed.
const MAX_CLAIM_DEPTH: usize = 4;

fn named(name: &str) -> EntityTypeName {
    #[expect(clippy::expect_used, reason = "the four names above are well-formed; a test makes each")]
    EntityTypeName::from_str(name).expect("a well-formed type name")
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

pub(super) fn action_uid(id: &str) -> EntityUid {
    uid(&ACTION, id)
}

/// Whether an entity is an action.
pub(super) fn is_action(uid: &EntityUid) -> bool {
    uid.type_name() == &*ACTION
}
pub(super) fn is_principal(uid: &EntityUid) -> bool {
    uid.type_name() == &*PRINCIPAL
}
pub(super) fn is_resource(uid: &EntityUid) -> bool {
    uid.type_name() == &*RESOURCE
}

/// Id of a principal: `issuer#subject`. An issuer has no fragment, so that the first `#` ends it.
pub(super) fn principal_id(principal: &Principal) -> String {
    match &principal.issuer {
        Some(issuer) => format!("{issuer}#{}", principal.subject),
        None => principal.subject.clone(),
    }
}

/// The principal, with its groups as parents and its claims as tags.
pub(super) fn principal(principal: &Principal) -> Result<Entity, String> {
    let attributes = [
        ("issuer".to_owned(), text(principal.issuer.as_deref().unwrap_or(""))),
        ("subject".to_owned(), text(&principal.subject)),
        ("identified".to_owned(), Expr::new_bool(principal.is_identified())),
    ];
    let groups = principal.groups.iter().map(|g| uid(&GROUP, g));
    let mut tags = BTreeMap::new();
    for (name, value) in &principal.claims {
        flatten(name.clone(), value, 0, &mut tags);
    }
    // A claim whose own name has dots wins over a nested one that flattens to the same name.
    for (name, value) in &principal.claims {
        if !value.is_object() {
            tags.insert(name.clone(), values(value));
        }
    }
    let tags = tags.into_iter().map(|(name, values)| (name, Expr::new_set(values.iter().map(|v| text(v)))));
    Entity::new_with_tags(uid(&PRINCIPAL, &principal_id(principal)), attributes, groups, tags).map_err(|e| e.to_string())
}

fn flatten(name: String, value: &Value, depth: usize, tags: &mut BTreeMap<String, Vec<String>>) {
    match value {
        Value::Object(members) if depth < MAX_CLAIM_DEPTH => {
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
fn values(value: &Value) -> Vec<String> {
    match value {
        Value::Null => vec![],
        Value::String(s) => vec![s.clone()],
        Value::Array(list) => list.iter().flat_map(|v| if v.is_array() { vec![v.to_string()] } else { values(v) }).collect(),
        other => vec![other.to_string()],
    }
}

/// The action, in the groups (`s3:*`, `level:Read`) that policies name and that it belongs to.
pub(super) fn action(id: &str, groups: &[&str]) -> Entity {
    Entity::new_no_attrs(action_uid(id), groups.iter().map(|g| action_uid(g)).collect())
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
pub(super) fn resource(arn: &str) -> Result<Entity, String> {
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
    let parents: HashSet<EntityUid> = parts.bucket(arn).map(|bucket| uid(&RESOURCE, bucket)).into_iter().collect();
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Entity::new(uid(&RESOURCE, arn), attributes, parents).map_err(|e| e.to_string())
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

fn text(value: &str) -> Expr {
    Expr::new_string(value.to_owned())
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
            resource(arn).unwrap();
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
        let entity = principal(&someone).unwrap();
        assert_eq!(entity.uid().id().unescaped(), "https://idp#a#b");
        let tag = |name: &str| entity.tag(name).map(|v| v.unwrap().to_string());
        assert_eq!(tag("n").unwrap(), r#"["1"]"#);
        assert_eq!(tag("a.b").unwrap(), r#"["own"]"#);
        assert_eq!(tag("a.c.d").unwrap(), r#"["deep"]"#);
        assert!(tag("list").unwrap().contains(r#""true""#));
        assert_eq!(tag("a"), None);
    }

    #[test]
    fn each_type_has_a_name() {
        for kind in [&PRINCIPAL, &GROUP, &ACTION, &RESOURCE] {
            assert!(!kind.basename().is_empty());
        }
    }
}
