//! Roles that a request has AWS take up: each needs `iam:PassRole`.
//!
//! Which members name roles comes from the model (`xtask/src/model/overrides.toml` says how they are found). A role's
//! ARN is the resource; a role that is named otherwise, or an instance profile, which holds one, leaves it open: `*`.

use serde_json::Value;

use super::{Need, Operation};
use crate::aws::model::{Detail, Kind, Members, Role};

/// More roles than this in one request are `*`.
const MAX: usize = 100;
/// Shapes may refer to themselves; bodies were refused that are nested more deeply.
const MAX_DEPTH: usize = 64;

/// Adds what passing them needs.
pub(super) fn roles(operation: &mut Operation) {
    let Some(input) = operation.input else { return };
    let Kind::Structure(members) = input.detail.kind(input.op.input) else { return };
    let mut found = Vec::new();
    structure(input.detail, members, &operation.parameters, 0, &mut found);
    if found.len() > MAX {
        found = vec!["*".into()];
    }
    if !found.is_empty() {
        operation.needs.push(Need::new("iam:PassRole", found));
    }
}

fn structure(
    detail: &Detail,
    members: &Members,
    object: &serde_json::Map<String, Value>,
    depth: usize,
    found: &mut Vec<String>,
) {
    for (name, value) in object {
        let Some(member) = members.all.iter().find(|m| m.name == name) else { continue };
        let kind = detail.kind(member.shape);
        if member.role != Role::No {
            named(value, member.role, found);
        }
        any(detail, kind, value, depth + 1, found);
    }
}

fn any(detail: &Detail, kind: Kind<'_>, value: &Value, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return add("*", found);
    }
    match (kind, value) {
        (Kind::Structure(members), Value::Object(object)) => structure(detail, members, object, depth, found),
        (Kind::List(item, _), Value::Array(items)) => {
            items.iter().for_each(|v| any(detail, detail.kind(item), v, depth + 1, found));
        }
        (Kind::Map { value: inner, .. }, Value::Object(object)) => {
            object.values().for_each(|v| any(detail, detail.kind(inner), v, depth + 1, found));
        }
        _ => {}
    }
}

/// What stands where a role is named.
fn named(value: &Value, role: Role, found: &mut Vec<String>) {
    match value {
        Value::String(text) if is_role(text) => add(text, found),
        Value::String(text) if role == Role::Yes && !text.is_empty() => add("*", found),
        Value::Array(items) => items.iter().for_each(|v| named(v, role, found)),
        // Roles by some key; or an instance profile, of which any form will do.
        Value::Object(members) if role == Role::Yes && !members.is_empty() => {
            if members.values().all(|v| v.as_str().is_some_and(is_role)) {
                members.values().for_each(|v| named(v, role, found));
            } else {
                add("*", found);
            }
        }
        _ => {}
    }
}

/// Whether a text is the ARN of one role.
fn is_role(text: &str) -> bool {
    let mut parts = text.splitn(6, ':');
    let mut part = || parts.next().unwrap_or_default();
    let (arn, _, service, _, _, what) = (part(), part(), part(), part(), part(), part());
    arn == "arn" && service == "iam" && what.starts_with("role/") && !what.contains(['*', '?'])
}

fn add(resource: &str, found: &mut Vec<String>) {
    if !found.iter().any(|f| f == resource) {
        found.push(resource.to_owned());
    }
}
