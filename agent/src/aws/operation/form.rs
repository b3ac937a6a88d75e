//! The query protocols: `Action` and members with dotted names, in the body or in the query string, not in both.

use std::borrow::Cow;

use http::request::Parts;
use serde_json::{Map, Value};

use super::budget::Budget;
use super::value::scalar;
use super::{Known, Malformed, Operation, Protocol, rest};
use crate::aws::model::{Detail, Kind, Members, Service};

/// More dots in one name are refused.
const MAX_DEPTH: usize = 32;

/// Those of the services that read forms, if this request can be one.
pub(super) fn services(
    services: &[&'static Service],
    kind: Option<&str>,
    parts: &Parts,
) -> Result<Option<Vec<&'static Service>>, Malformed> {
    let speak = |s: &&&'static Service| s.speaks(Protocol::Query) || s.speaks(Protocol::Ec2);
    let found: Vec<&'static Service> = services.iter().filter(speak).copied().collect();
    // Queues have paths of their own.
    if found.is_empty() || (parts.uri.path() != "/" && found[0].id != "sqs") {
        return Ok(None);
    }
    let kind = rest::media_type(kind);
    if !["", "application/x-www-form-urlencoded"].contains(&kind) {
        return Err(Malformed::new(format!(
            "the body's Content-Type is `{kind}`, but this service reads forms; send application/x-www-form-urlencoded"
        )));
    }
    Ok(Some(found))
}

pub(super) fn finish(
    services: &[&'static Service],
    query: &str,
    path: &str,
    body: &[u8],
    operation: &mut Operation,
) -> Result<Option<Known>, Malformed> {
    let body = std::str::from_utf8(body).map_err(|_| Malformed::new("the form is not UTF-8; encode it"))?;
    if !query.is_empty() && !body.is_empty() {
        return Err(Malformed::new("the request has members in its query string and in its body; send them in one"));
    }
    let (mut pairs, mut budget) = (Vec::new(), Budget::default());
    for (key, value) in form_urlencoded::parse(if body.is_empty() { query } else { body }.as_bytes()) {
        // Read without regard to case by some, it would be a second one.
        if ["Action", "Version"].iter().any(|name| key.eq_ignore_ascii_case(name) && key != *name) {
            return Err(Malformed::new(format!("`{key}` is not spelt as AWS spells it")));
        }
        if !rest::SIGNATURE.contains(&key.as_ref()) {
            budget.take()?;
            pairs.push((key, value));
        }
    }
    let mut tree = Node::of(&mut pairs)?;
    drop(pairs);
    let action = tree.take("Action")?;
    let version = tree.take("Version")?;
    let known = action.as_deref().and_then(|action| find(services, action, version.as_deref()));
    let members = match &known {
        Some(known) => match known.detail.kind(known.op.input) {
            Kind::Structure(members) => structure(known.detail, members, tree)?,
            _ => tree.object()?,
        },
        None => tree.object()?,
    };
    operation.parameters = members;
    if path != "/" {
        queue(path, operation)?;
    }
    Ok(known)
}

/// By action and version; where no version fits, all that know the action must mean the same by it.
fn find(services: &[&'static Service], action: &str, version: Option<&str>) -> Option<Known> {
    let fitting: Vec<&'static Service> =
        services.iter().filter(|s| version.is_none_or(|v| v == s.version)).copied().collect();
    let mut all = if fitting.is_empty() { services } else { &fitting }.iter();
    let first = all.find_map(|s| Known::named(&[s], action))?;
    all.filter_map(|s| Known::named(&[s], action)).all(|other| other.op.is_twin(first.op)).then_some(first)
}

/// The queue that the path names; what the form says must not be another.
fn queue(path: &str, operation: &mut Operation) -> Result<(), Malformed> {
    let named = operation.parameters.get("QueueUrl").and_then(Value::as_str);
    if named.is_some_and(|url| !url.ends_with(path)) {
        return Err(Malformed::new("the path names another queue than QueueUrl; send it to the queue's own URL"));
    }
    let path = path.to_owned();
    operation.parameters.entry("QueueUrl").or_insert(Value::String(path));
    Ok(())
}

/// Members by the parts of their dotted names.
#[derive(Default)]
struct Node {
    value: Option<String>,
    /// Sorted by name. A list, because a map of one entry is ten times as large, and most have one.
    children: Vec<(String, Node)>,
}

impl Node {
    /// `pairs` come back sorted.
    fn of(pairs: &mut [(Cow<'_, str>, Cow<'_, str>)]) -> Result<Self, Malformed> {
        // Parts of names, not names: `a.b` and `a.c` stand together whatever `a-` may be.
        pairs.sort_by(|(a, _), (b, _)| a.split('.').cmp(b.split('.')));
        let (mut budget, mut root) = (Budget::default(), Self::default());
        for (key, value) in pairs {
            root.insert(key, value, &mut budget)?;
        }
        Ok(root)
    }

    /// Adds what comes after all that is there.
    fn insert(&mut self, key: &str, value: &str, budget: &mut Budget) -> Result<(), Malformed> {
        if key.matches('.').count() > MAX_DEPTH {
            return Err(Malformed::new(format!("`{key}` is nested too deeply; leave it out")));
        }
        let mut node = self;
        for part in key.split('.') {
            let children = &mut node.children;
            let at = match children.last() {
                Some((last, _)) if last == part => children.len() - 1,
                _ => {
                    budget.take()?;
                    if children.is_empty() {
                        children.reserve_exact(1);
                    }
                    children.push((part.to_owned(), Self::default()));
                    children.len() - 1
                }
            };
            node = &mut children[at].1;
        }
        match node.value.replace(value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(Malformed::new(format!("the request names `{key}` twice; send it once"))),
        }
    }

    fn remove(&mut self, key: &str) -> Option<Self> {
        let at = self.children.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        Some(self.children.remove(at).1)
    }

    /// Takes a plain member out.
    fn take(&mut self, key: &str) -> Result<Option<String>, Malformed> {
        match self.remove(key) {
            Some(node) if node.children.is_empty() => Ok(node.value),
            Some(_) => Err(Malformed::new(format!("`{key}` has members, but is a text"))),
            None => Ok(None),
        }
    }

    /// The items of a list in their order; `None`: a child is not a number.
    fn items(&mut self) -> Option<Vec<Self>> {
        let numbers: Vec<u32> = self.children.iter().map(|(k, _)| k.parse().ok()).collect::<Option<_>>()?;
        let mut items: Vec<(u32, Self)> =
            numbers.into_iter().zip(std::mem::take(&mut self.children)).map(|(n, (_, node))| (n, node)).collect();
        items.sort_by_key(|(n, _)| *n);
        Some(items.into_iter().map(|(_, node)| node).collect())
    }

    fn object(self) -> Result<Map<String, Value>, Malformed> {
        self.children.into_iter().map(|(key, node)| Ok((key, node.any()?))).collect()
    }

    /// As it looks, where the model does not say.
    fn any(mut self) -> Result<Value, Malformed> {
        match (self.value.take(), self.children.is_empty()) {
            (Some(text), true) => Ok(Value::String(text)),
            (Some(_), false) => Err(Malformed::new("a member has both a value and members of its own")),
            (None, _) => match self.items() {
                Some(items) if !items.is_empty() => {
                    Ok(Value::Array(items.into_iter().map(Self::any).collect::<Result<_, _>>()?))
                }
                _ => Ok(Value::Object(self.object()?)),
            },
        }
    }
}

fn structure(detail: &Detail, members: &Members, node: Node) -> Result<Map<String, Value>, Malformed> {
    let mut found = Map::new();
    for (key, child) in node.children {
        let (name, value) = match members.all.iter().find(|m| m.form == key) {
            Some(member) => (member.name.to_owned(), convert(detail, detail.kind(member.shape), child)?),
            None => {
                let near = members.all.iter().find(|m| m.form.eq_ignore_ascii_case(&key));
                if let Some(member) = near {
                    return Err(Malformed::new(format!(
                        "`{key}` is not spelt as AWS spells it; send `{}`",
                        member.form
                    )));
                }
                (key, child.any()?)
            }
        };
        if found.contains_key(&name) {
            return Err(Malformed::new(format!("`{name}` stands there twice, under two names; send it once")));
        }
        found.insert(name, value);
    }
    Ok(found)
}

fn convert(detail: &Detail, kind: Kind<'_>, mut node: Node) -> Result<Value, Malformed> {
    if node.value.is_some() && !node.children.is_empty() {
        return Err(Malformed::new("a member has both a value and members of its own"));
    }
    Ok(match kind {
        Kind::Structure(members) if node.value.is_none() => Value::Object(structure(detail, members, node)?),
        Kind::List(item, name) => {
            // An empty list is sent as a name without a value.
            if let Some(text) = node.value {
                return Ok(if text.is_empty() { Value::Array(Vec::new()) } else { Value::Array(vec![text.into()]) });
            }
            if node.children.len() == 1
                && let Some(inner) = node.remove(name)
            {
                node = inner;
            }
            match node.items() {
                Some(items) => Value::Array(
                    items.into_iter().map(|n| convert(detail, detail.kind(item), n)).collect::<Result<_, _>>()?,
                ),
                None => node.any()?,
            }
        }
        Kind::Map { value, key_name, value_name } if node.value.is_none() => {
            if node.children.len() == 1
                && let Some(inner) = node.remove("entry")
            {
                node = inner;
            }
            let Some(entries) = node.items() else { return node.any() };
            let mut found = Map::new();
            for mut entry in entries {
                let key = entry.take(key_name)?.or(entry.take("Name")?).unwrap_or_default();
                let inner = entry.remove(value_name).or_else(|| entry.remove("Value"));
                let inner = inner.map_or(Ok(Value::Null), |n| convert(detail, detail.kind(value), n))?;
                if found.insert(key.clone(), inner).is_some() {
                    return Err(Malformed::new(format!("the key `{key}` stands there twice")));
                }
            }
            Value::Object(found)
        }
        kind => match node.value {
            Some(text) => scalar(kind, &text),
            None => node.any()?,
        },
    })
}
