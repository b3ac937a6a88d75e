//! The JSON protocols: `X-Amz-Target` names the operation, the body is one JSON object. And JSON itself, read strictly.

use http::request::Parts;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::{Known, Malformed, Protocol};
use crate::aws::model::Service;

pub(super) fn route(
    services: &[&'static Service],
    target: &str,
    kind: Option<&str>,
    parts: &Parts,
) -> Result<(Protocol, Option<Known>), Malformed> {
    let protocol = match super::rest::media_type(kind) {
        "application/x-amz-json-1.0" => Protocol::Json10,
        "application/x-amz-json-1.1" => Protocol::Json11,
        other => {
            return Err(Malformed::new(format!(
                "X-Amz-Target goes with a JSON body, but Content-Type is `{other}`; send application/x-amz-json-1.0 or 1.1"
            )));
        }
    };
    if parts.uri.path() != "/" || parts.uri.query().is_some_and(|q| !q.is_empty()) || parts.method != http::Method::POST
    {
        return Err(Malformed::new("X-Amz-Target goes with POST to `/` and no query"));
    }
    let Some((prefix, called)) = target.rsplit_once('.') else { return Ok((protocol, None)) };
    let known = services
        .iter()
        .filter(|s| s.target == prefix && (s.speaks(Protocol::Json10) || s.speaks(Protocol::Json11)))
        .find_map(|s| Known::named(&[s], called));
    Ok((protocol, known))
}

/// A JSON object without duplicate keys at any depth: readers differ in which of two counts.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Malformed> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match value(body)? {
        Value::Object(members) => Ok(members),
        _ => Err(Malformed::new("the body is not a JSON object")),
    }
}

/// Any JSON, as strictly.
pub(super) fn value(body: &[u8]) -> Result<Value, Malformed> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let mut budget = Budget::default();
    Strict(&mut budget)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| Malformed::new(format!("the body cannot be read as JSON: {e}; correct it")))
}

/// Reads a value, within the budget.
struct Strict<'a>(&'a mut Budget);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take().map_err(D::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict(&mut *self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands there twice")));
            }
            members.insert(key, map.next_value_seed(Strict(&mut *self.0))?);
        }
        Ok(Value::Object(members))
    }
}
