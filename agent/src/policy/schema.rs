//! The Cedar schema that a policy is validated against.
//!
//! Owns the types that policies see. A schema holds only the actions that the policy at hand names and one stand-in
//! for each group it names: as long as every action has the same context, more would say the same again. The
//! parameters' types come from the caller, so that the model's can take the place of inferred ones. Pure.

use cedar_policy::Schema;
use serde_json::{Map, Value, json};

use super::shape::Shape;

/// One action of a schema.
#[derive(Debug)]
pub(super) struct SchemaAction {
    pub id: String,
    /// Groups it belongs to.
    pub groups: Vec<String>,
}

/// Members of `context`.
pub(super) const CONTEXT: [&str; 8] =
    ["credential", "endpoint", "operation", "parameters", "process", "region", "service", "session"];

/// A schema with these actions, whose requests have parameters of this shape.
pub(super) fn build(actions: &[SchemaAction], parameters: &Shape) -> Result<Schema, String> {
    let mut listed = Map::new();
    for action in actions {
        for group in &action.groups {
            listed.entry(group.clone()).or_insert_with(|| json!({}));
        }
    }
    for action in actions {
        let groups: Vec<Value> = action.groups.iter().map(|g| json!({"id": g})).collect();
        let applies = json!({
            "principalTypes": ["Tollgate::Principal"],
            "resourceTypes": ["Resource"],
            "context": context(parameters),
        });
        listed.insert(action.id.clone(), json!({"memberOf": groups, "appliesTo": applies}));
    }
    let document = json!({
        "Tollgate": {
            "entityTypes": {
                "Group": {},
                "Principal": {
                    "memberOfTypes": ["Group"],
                    "shape": record(&[("issuer", "String"), ("subject", "String"), ("identified", "Boolean")]),
                    "tags": {"type": "Set", "element": {"type": "String"}},
                },
            },
            "actions": {},
        },
        "AWS": {
            "entityTypes": {
                "Resource": {
                    "memberOfTypes": ["Resource"],
                    "shape": record(&["arn", "partition", "service", "region", "account", "type", "name"]
                        .map(|name| (name, "String"))),
                },
            },
            "actions": listed,
        },
    });
    Schema::from_json_value(document).map_err(|e| e.to_string())
}

fn context(parameters: &Shape) -> Value {
    let text = || json!({"type": "String"});
    json!({"type": "Record", "attributes": {
        "credential": record(&[("kind", "String"), ("account", "String"), ("arn", "String"), ("operation", "String")]),
        "endpoint": text(),
        "operation": text(),
        "region": text(),
        "service": text(),
        "session": record(&[("id", "String"), ("name", "String")]),
        "process": record(&[("exe", "String"), ("pid", "Long"), ("uid", "Long")]),
        "parameters": parameters.schema(),
    }})
}

fn record(members: &[(&str, &str)]) -> Value {
    let members: Map<String, Value> =
        members.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
    json!({"type": "Record", "attributes": members})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_with_groups_and_parameters() {
        let action = |id: &str, groups: &[&str]| SchemaAction {
            id: id.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        let actions = [action("s3:GetObject", &["s3:*", "level:Read"]), action("unknown:unknown", &[])];
        let schema = build(&actions, &Shape::at(&["Key".into()], Shape::Text)).unwrap();
        assert_eq!(schema.actions().count(), 4);
        build(&[], &Shape::empty()).unwrap();
    }
}
