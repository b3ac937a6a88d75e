//! Types of request parameters, as far as a policy lets us know them.
//!
//! Owns [`Shape`]: how it is merged, written into a schema, and used to convert a request's value. Until the model
//! gives every parameter its type, a shape is what a policy's own text implies (`> 5` makes a number). Pure.

use std::collections::BTreeMap;

use cedar_policy_core::ast::Value;
use serde_json::{Map, Value as Json, json};

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing is known: only its presence is asked for.
    Any,
    Text,
    Number,
    Truth,
    Set(Box<Shape>),
    Record(BTreeMap<String, Shape>),
}

impl Shape {
    /// A record without members.
    pub fn empty() -> Self {
        Self::Record(BTreeMap::new())
    }

    /// Makes this shape agree with another; `Err`: they cannot.
    pub fn merge(&mut self, other: Shape) -> Result<(), (Shape, Shape)> {
        match (&mut *self, other) {
            (_, Shape::Any) => Ok(()),
            (own @ Shape::Any, other) => {
                *own = other;
                Ok(())
            }
            (Shape::Set(a), Shape::Set(b)) => a.merge(*b),
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

    /// Merges, giving up on types where two policies disagree: then the value is handed over as it came.
    pub fn widen(&mut self, other: &Shape) {
        match (&mut *self, other) {
            (Shape::Record(a), Shape::Record(b)) => {
                for (name, shape) in b {
                    match a.get_mut(name) {
                        Some(own) => own.widen(shape),
                        None => {
                            a.insert(name.clone(), shape.clone());
                        }
                    }
                }
            }
            (a, b) if *a != *b => *a = Shape::Any,
            _ => {}
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
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text => "text",
            Self::Number => "a number",
            Self::Truth => "true or false",
            Self::Set(_) => "a set",
            Self::Record(_) => "a record",
        }
    }

    /// The type in Cedar's JSON schema. All members are optional: a request may leave out anything.
    pub fn schema(&self) -> Json {
        match self {
            Self::Any | Self::Text => json!({"type": "String"}),
            Self::Number => json!({"type": "Long"}),
            Self::Truth => json!({"type": "Boolean"}),
            Self::Set(element) => json!({"type": "Set", "element": element.schema()}),
            Self::Record(members) => {
                let members: Map<String, Json> = members
                    .iter()
                    .map(|(name, shape)| {
                        let mut member = shape.schema();
                        member["required"] = json!(false);
                        (name.clone(), member)
                    })
                    .collect();
                json!({"type": "Record", "attributes": members})
            }
        }
    }

    /// A request's value in this shape, or as it came where it does not fit; `None` for null.
    ///
    /// The query protocols write numbers and truth values as text, so those are read from text where a policy
    /// compares them. A value that still does not fit makes the policy's evaluation fail, and that denies.
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
            (Self::Set(element), Json::Array(list)) => Value::set(list.iter().filter_map(|v| element.convert(v)), None),
            // Only what policies read is worth converting.
            (Self::Record(_), Json::Object(object)) => self.members(object),
            (_, Json::String(s)) => s.as_str().into(),
            (_, Json::Bool(b)) => (*b).into(),
            // Cedar has no fractions, and no numbers beyond 64 bits: such a value is text to it.
            (_, Json::Number(n)) => n.as_i64().map_or_else(|| n.to_string().into(), Value::from),
            (_, Json::Array(list)) => Value::set(list.iter().filter_map(|v| Self::Any.convert(v)), None),
            (_, Json::Object(object)) => whole(object),
        })
    }

    /// The members of an object that this record has.
    pub fn members(&self, object: &Map<String, Json>) -> Value {
        let Self::Record(members) = self else { return whole(object) };
        Value::record(members.iter().filter_map(|(name, shape)| Some((name, shape.convert(object.get(name)?)?))), None)
    }
}

/// All members of an object.
pub(super) fn whole(object: &Map<String, Json>) -> Value {
    Value::record(object.iter().filter_map(|(name, value)| Some((name, Shape::Any.convert(value)?))), None)
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
            (Shape::at(&["A".into()], Shape::Number), json!({"A": "1", "B": 2}), Some("{A: 1}")),
        ] {
            assert_eq!(shown(&shape, value.clone()).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn merges_what_agrees() {
        let mut shape = Shape::at(&["A".into(), "B".into()], Shape::Any);
        shape.merge(Shape::at(&["A".into(), "B".into()], Shape::Number)).unwrap();
        shape.merge(Shape::at(&["A".into(), "C".into()], Shape::Text)).unwrap();
        assert!(shape.merge(Shape::at(&["A".into(), "B".into()], Shape::Text)).is_err());
        shape.widen(&Shape::at(&["A".into(), "B".into()], Shape::Text));
        let Shape::Record(members) = &shape else { panic!() };
        assert_eq!(members["A"], Shape::Record([("B".into(), Shape::Any), ("C".into(), Shape::Text)].into()));
    }
}
