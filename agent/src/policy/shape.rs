//! Types of request parameters, as Cedar has them.
//!
//! Owns [`Shape`]: how it is merged, written into a schema, and used to convert a request's value. Where a policy names
//! its actions, shapes come from AWS's model (`typed.rs`); elsewhere from what the policy's own text implies (`> 5` makes
//! a number; `usage.rs`). Cedar has neither maps nor loops: a map is a record with the keys that policies name, and what
//! stands in the items of a list is read as the set of all items' values ([`Shape::Each`]). Pure.

use std::collections::BTreeMap;

use cedar_policy_core::ast::{Name, PartialValue, Value};
use cedar_policy_core::extensions::Extensions;
use serde_json::{Map, Value as Json, json};

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing is known: only its presence is asked for.
    Any,
    Text,
    Number,
    Truth,
    /// Cedar's `decimal`: AWS's fractions.
    Decimal,
    /// Cedar's `datetime`: AWS's timestamps.
    Time,
    Set(Box<Shape>),
    Record(BTreeMap<String, Shape>),
    /// A list whose items are read as this: every value in it becomes the set of all items' values.
    Each(Box<Shape>),
    /// Only as a member in [`Shape::Each`]: the values of those items that have the member's name as their key.
    Keyed {
        key: &'static str,
        value: &'static str,
        shape: Box<Shape>,
    },
}

impl Shape {
    /// A record without members.
    pub fn empty() -> Self {
        Self::Record(BTreeMap::new())
    }

    pub fn set(of: Shape) -> Self {
        Self::Set(Box::new(of))
    }

    /// Makes this shape agree with another; `Err`: they cannot.
    pub fn merge(&mut self, other: Shape) -> Result<(), (Shape, Shape)> {
        match (&mut *self, other) {
            (_, Shape::Any) => Ok(()),
            (own @ Shape::Any, other) => {
                *own = other;
                Ok(())
            }
            (Shape::Set(a), Shape::Set(b)) | (Shape::Each(a), Shape::Each(b)) => a.merge(*b),
            (Shape::Record(a), Shape::Record(b)) => {
                for (name, shape) in b {
                    a.entry(name).or_insert(Shape::Any).merge(shape)?;
                }
                Ok(())
            }
            (a, b) if *a == b => Ok(()),
            (a, b) => Err((a.clone(), b)),
        }
    }

    /// At `path`, it is `shape`.
    pub fn at(path: &[String], shape: Shape) -> Self {
        match path.split_first() {
            None => shape,
            Some((name, rest)) => Self::Record([(name.clone(), Self::at(rest, shape))].into()),
        }
    }

    /// In words, for a message.
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "anything".into(),
            Self::Text => "text".into(),
            Self::Number => "a number".into(),
            Self::Truth => "true or false".into(),
            Self::Decimal => "a decimal".into(),
            Self::Time => "a datetime".into(),
            Self::Set(of) if **of == Self::Any => "a set".into(),
            Self::Set(of) => format!("a set ({})", of.describe()),
            Self::Record(_) => "a record".into(),
            Self::Each(_) => "a list".into(),
            Self::Keyed { shape, .. } => shape.describe(),
        }
    }

    /// The type in Cedar's JSON schema. All members are optional: a request may leave out anything.
    pub fn schema(&self) -> Json {
        let extension = |name: &str| json!({"type": "Extension", "name": name});
        match self {
            Self::Any | Self::Text => json!({"type": "String"}),
            Self::Number => json!({"type": "Long"}),
            Self::Truth => json!({"type": "Boolean"}),
            Self::Decimal => extension("decimal"),
            Self::Time => extension("datetime"),
            Self::Set(element) => json!({"type": "Set", "element": element.schema()}),
            Self::Record(members) => record(members, Self::schema),
            Self::Each(item) => item.gathered_schema(),
            Self::Keyed { shape, .. } => shape.schema(),
        }
    }

    /// The type of all items' values together.
    fn gathered_schema(&self) -> Json {
        match self {
            Self::Record(members) => record(members, Self::gathered_schema),
            Self::Each(item) => item.gathered_schema(),
            Self::Set(_) => self.schema(),
            Self::Keyed { shape, .. } => shape.gathered_schema(),
            scalar => json!({"type": "Set", "element": scalar.schema()}),
        }
    }

    /// A request's value in this shape, or as it came where it does not fit; `None` for null.
    ///
    /// Some clients write numbers and truth values as text, so those are read from text where a policy compares them. A
    /// value that still does not fit makes the policy's evaluation fail, and that denies.
    pub fn convert(&self, value: &Json) -> Option<Value> {
        Some(match (self, value) {
            (_, Json::Null) => return None,
            (Self::Text, Json::Number(n)) => n.to_string().into(),
            (Self::Text, Json::Bool(b)) => b.to_string().into(),
            (Self::Number, Json::String(s)) => match s.parse::<i64>() {
                Ok(n) => n.into(),
                Err(_) => s.as_str().into(),
            },
            (Self::Truth, Json::String(s)) if s == "true" || s == "false" => (s == "true").into(),
            (Self::Time, Json::String(s)) => datetime(s).unwrap_or_else(|| s.as_str().into()),
            (Self::Decimal, Json::Number(n)) => decimal(&n.to_string()).unwrap_or_else(|| n.to_string().into()),
            (Self::Decimal, Json::String(s)) => decimal(s).unwrap_or_else(|| s.as_str().into()),
            (Self::Set(element), Json::Array(list)) => Value::set(list.iter().filter_map(|v| element.convert(v)), None),
            // Only what policies read is worth converting.
            (Self::Record(_), Json::Object(object)) => self.members(object),
            (Self::Each(item), Json::Array(list)) => item.gather(&list.iter().collect::<Vec<_>>())?,
            (_, Json::String(s)) => s.as_str().into(),
            (_, Json::Bool(b)) => (*b).into(),
            // Cedar's numbers have 64 bits and no fractions: such a value is text to it.
            (_, Json::Number(n)) => n.as_i64().map_or_else(|| n.to_string().into(), Value::from),
            (_, Json::Array(list)) => Value::set(list.iter().filter_map(|v| Self::Any.convert(v)), None),
            (_, Json::Object(object)) => whole(object),
        })
    }

    /// The values of all these items together. `None`: none of them has any.
    fn gather(&self, items: &[&Json]) -> Option<Value> {
        match self {
            Self::Record(members) => {
                let found = members.iter().filter_map(|(name, shape)| {
                    let inner: Vec<&Json> = match shape {
                        Self::Keyed { key, value, .. } => {
                            let named = |item: &&&Json| item.get(*key).and_then(Json::as_str) == Some(name);
                            items.iter().filter(named).filter_map(|item| item.get(*value)).collect()
                        }
                        _ => items.iter().filter_map(|item| item.get(name)).collect(),
                    };
                    Some((name, shape.gather(&inner)?))
                });
                let found: Vec<_> = found.collect();
                // A list is there, even if it is empty.
                Some(Value::record(found, None))
            }
            Self::Keyed { shape, .. } => shape.gather(items),
            Self::Each(item) => {
                let inner: Vec<&Json> = items.iter().filter_map(|v| v.as_array()).flatten().collect();
                if items.iter().all(|v| v.is_null()) { None } else { item.gather(&inner) }
            }
            scalar => {
                let mut found = Vec::new();
                for item in items.iter().filter(|v| !v.is_null()) {
                    match (scalar, item) {
                        (Self::Set(element), Json::Array(list)) => {
                            found.extend(list.iter().filter_map(|v| element.convert(v)));
                        }
                        (Self::Set(element), one) => found.extend(element.convert(one)),
                        (scalar, one) => found.extend(scalar.convert(one)),
                    }
                }
                items.iter().any(|v| !v.is_null()).then(|| Value::set(found, None))
            }
        }
    }

    /// The members of an object that this record has.
    pub fn members(&self, object: &Map<String, Json>) -> Value {
        let Self::Record(members) = self else { return whole(object) };
        Value::record(members.iter().filter_map(|(name, shape)| Some((name, shape.convert(object.get(name)?)?))), None)
    }
}

fn record(members: &BTreeMap<String, Shape>, schema: impl Fn(&Shape) -> Json) -> Json {
    let members: Map<String, Json> = members
        .iter()
        .map(|(name, shape)| {
            let mut member = schema(shape);
            member["required"] = json!(false);
            (name.clone(), member)
        })
        .collect();
    json!({"type": "Record", "attributes": members})
}

/// All members of an object.
pub(super) fn whole(object: &Map<String, Json>) -> Value {
    Value::record(object.iter().filter_map(|(name, value)| Some((name, Shape::Any.convert(value)?))), None)
}

/// Cedar's decimals have four digits after the point: what has more is none.
fn decimal(text: &str) -> Option<Value> {
    let text = if text.contains('.') { text.to_owned() } else { format!("{text}.0") };
    extension("decimal", &text)
}

/// From RFC 3339 in UTC, as `aws` writes timestamps; Cedar knows milliseconds.
fn datetime(text: &str) -> Option<Value> {
    let cut = text.strip_suffix('Z').and_then(|t| t.split_once('.'));
    match cut {
        Some((seconds, fraction)) => {
            let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
            extension("datetime", &format!("{seconds}.{digits}Z"))
        }
        None => extension("datetime", text),
    }
}

fn extension(name: &str, text: &str) -> Option<Value> {
    let function = Extensions::all_available().func(&Name::parse_unqualified_name(name).ok()?).ok()?;
    match function.call(&[Value::from(text)]).ok()? {
        PartialValue::Value(value) => Some(value),
        PartialValue::Residual(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shape: &Shape, value: Json) -> Option<String> {
        shape.convert(&value).map(|v| v.to_string())
    }

    #[test]
    fn converts_to_what_a_policy_compares() {
        let set = |s| Shape::Set(Box::new(s));
        for (shape, value, expected) in [
            (Shape::Number, json!("5"), Some("5")),
            (Shape::Number, json!(5), Some("5")),
            (Shape::Number, json!("five"), Some("\"five\"")),
            (Shape::Number, json!(u64::MAX), Some("\"18446744073709551615\"")),
            (Shape::Text, json!(5), Some("\"5\"")),
            (Shape::Text, json!(1.5), Some("\"1.5\"")),
            (Shape::Truth, json!("true"), Some("true")),
            (Shape::Truth, json!("yes"), Some("\"yes\"")),
            (set(Shape::Number), json!(["1", 1]), Some("[1]")),
            (set(Shape::Text), json!("one"), Some("\"one\"")),
            (Shape::Any, json!([1.5, true]), Some("[true, \"1.5\"]")),
            (Shape::Any, Json::Null, None),
            (Shape::Decimal, json!(1.5), Some("decimal(\"1.5\")")),
            (Shape::Decimal, json!(2), Some("decimal(\"2.0\")")),
            (Shape::Decimal, json!(0.00001), Some("\"0.00001\"")),
            (Shape::Time, json!("2026-01-02T03:04:05Z"), Some("datetime(\"2026-01-02T03:04:05Z\")")),
            (Shape::Time, json!("2026-01-02T03:04:05.1234567Z"), Some("datetime(\"2026-01-02T03:04:05.123Z\")")),
            (Shape::Time, json!("tomorrow"), Some("\"tomorrow\"")),
            (Shape::at(&["A".into()], Shape::Number), json!({"A": "1", "B": 2}), Some("{A: 1}")),
        ] {
            assert_eq!(shown(&shape, value.clone()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn items_are_gathered() {
        let one = |name: &str, shape| Shape::Each(Box::new(Shape::at(&[name.into()], shape)));
        let keyed = Shape::Keyed { key: "Key", value: "Value", shape: Box::new(Shape::Text) };
        let list = json!([{"A": 1, "L": ["x", "y"]}, {"A": "2", "L": ["x"]}, {"B": {"C": true}}]);
        let tags = json!([{"Key": "team", "Value": "red"}, {"Key": "env", "Value": "dev"}]);
        for (shape, value, expected) in [
            (one("A", Shape::Number), &list, "{A: [1, 2]}"),
            (one("L", Shape::set(Shape::Text)), &list, r#"{L: ["x", "y"]}"#),
            (one("B", Shape::at(&["C".into()], Shape::Truth)), &list, "{B: {C: [true]}}"),
            (one("D", Shape::Text), &list, "{}"),
            (one("A", Shape::Number), &json!([]), "{}"),
            (one("A", one("X", Shape::Number)), &json!([{"A": [{"X": 1}]}, {"A": [{"X": 2}]}]), "{A: {X: [1, 2]}}"),
            (one("team", keyed.clone()), &tags, r#"{team: ["red"]}"#),
            (one("owner", keyed), &tags, "{}"),
        ] {
            assert_eq!(shown(&shape, value.clone()).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn merges_what_agrees() {
        let mut shape = Shape::at(&["A".into(), "B".into()], Shape::Any);
        shape.merge(Shape::at(&["A".into(), "B".into()], Shape::Number)).unwrap();
        shape.merge(Shape::at(&["A".into(), "C".into()], Shape::Text)).unwrap();
        assert!(shape.merge(Shape::at(&["A".into(), "B".into()], Shape::Text)).is_err());
        let Shape::Record(members) = &shape else { panic!() };
        assert_eq!(members["A"], Shape::Record([("B".into(), Shape::Number), ("C".into(), Shape::Text)].into()));
    }
}
