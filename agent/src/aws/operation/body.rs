//! Bodies of known operations → members by AWS's names.
//!
//! Owns the choice of a reader by protocol, CBOR, and the renaming of what is called differently on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

use super::budget::Budget;
use super::value::settle;
use super::{Known, Malformed, Protocol, json, xml};
use crate::aws::model::{Detail, Kind, Members, Place, ShapeId};

/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 64;

pub(super) fn read(
    known: &Known,
    protocol: Protocol,
    body: &[u8],
    parameters: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let payload =
        known.detail.input(known.op).iter().find(|m| !known.op.payload.is_empty() && m.name == known.op.payload);
    let mut value = match (protocol, payload) {
        // A text that is the body.
        (Protocol::RestJson | Protocol::RestXml, Some(member))
            if matches!(known.detail.kind(member.shape), Kind::Text) =>
        {
            let text = std::str::from_utf8(body).map_err(|_| Malformed::new("the body is not UTF-8; encode it"))?;
            Value::String(text.to_owned())
        }
        (Protocol::RestXml, _) => {
            let shape = payload.map_or(known.op.input, |m| m.shape);
            // Here the body alone says what is touched.
            let strict = known.op.name == "DeleteObjects";
            match xml::read(known.detail, shape, strict, body)? {
                Some(value) => value,
                None => return Ok(()),
            }
        }
        (Protocol::RpcV2Cbor, _) => Value::Object(cbor(body)?),
        (Protocol::RestJson, Some(_)) if body.is_empty() => return Ok(()),
        (Protocol::RestJson, Some(_)) => json::value(body)?,
        _ => Value::Object(json::object(body)?),
    };
    if protocol != Protocol::RestXml {
        rename(known.detail, payload.map_or(known.op.input, |m| m.shape), &mut value, 0)?;
    }
    let found = match (payload, value) {
        (Some(member), value) => [(member.name.to_owned(), value)].into_iter().collect(),
        (None, Value::Object(members)) => members,
        (None, _) => return Err(Malformed::new("the body is not an object")),
    };
    for (name, value) in found {
        if parameters.contains_key(&name) {
            return Err(Malformed::new(format!("`{name}` stands both in the head and in the body; send it once")));
        }
        parameters.insert(name, value);
    }
    Ok(())
}

/// Gives members AWS's names, and values their one form.
fn rename(detail: &Detail, shape: ShapeId, value: &mut Value, depth: usize) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::new("the body is nested too deeply"));
    }
    match (detail.kind(shape), value) {
        (Kind::Structure(members), Value::Object(object)) => {
            let mut others = false;
            for (name, value) in object.iter_mut() {
                let Some(member) = members.by_wire(name) else {
                    not_nearly(members, name)?;
                    continue;
                };
                others |= member.wire != member.name;
                rename(detail, member.shape, value, depth + 1)?;
            }
            if others {
                *object = renamed(members, std::mem::take(object))?;
            }
        }
        (Kind::List(item, _), Value::Array(items)) => {
            for value in items {
                rename(detail, item, value, depth + 1)?;
            }
        }
        (Kind::Map { value: inner, .. }, Value::Object(object)) => {
            for (_, value) in object.iter_mut() {
                rename(detail, inner, value, depth + 1)?;
            }
        }
        (kind, value) => settle(kind, value),
    }
    Ok(())
}

/// What the model does not know may be new; but some readers take it for a member if only its case differs, and then
/// something else was judged.
pub(super) fn not_nearly(members: &Members, name: &str) -> Result<(), Malformed> {
    let near = members.all.iter().filter(|m| m.place == Place::Body).find(|m| m.wire.eq_ignore_ascii_case(name));
    match near {
        Some(member) => Err(Malformed::new(format!("`{name}` is not spelt as AWS spells it; send `{}`", member.wire))),
        None => Ok(()),
    }
}

fn renamed(members: &Members, object: Map<String, Value>) -> Result<Map<String, Value>, Malformed> {
    let mut out = Map::new();
    for (wire, value) in object {
        let name = members.by_wire(&wire).map_or(wire, |m| m.name.to_owned());
        if out.insert(name.clone(), value).is_some() {
            return Err(Malformed::new(format!("`{name}` stands there twice, under two names; send it once")));
        }
    }
    Ok(out)
}

/// A CBOR map with text keys, none of them twice, and nothing after it.
fn cbor(body: &[u8]) -> Result<Map<String, Value>, Malformed> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    count(body)?;
    let mut rest = body;
    let value: Cbor = ciborium::from_reader(&mut rest)
        .map_err(|e| Malformed::new(format!("the body cannot be read as CBOR: {e}")))?;
    if !rest.is_empty() {
        return Err(Malformed::new("something follows the CBOR body"));
    }
    match from_cbor(value, 0)? {
        Value::Object(members) => Ok(members),
        _ => Err(Malformed::new("the body is not a CBOR map")),
    }
}

/// Counts the values of a CBOR body before any is made. The values in a value stand right behind its own head, so all
/// there is to do is to go from head to head; what cannot be read ends it, and the reader says why.
fn count(body: &[u8]) -> Result<(), Malformed> {
    let mut budget = Budget::default();
    let mut rest = body;
    while let Some((first, after)) = rest.split_first() {
        budget.take()?;
        let (kind, short) = (first >> 5, first & 31);
        let wide = match short {
            24..=27 => 1 << (short - 24),
            _ => 0,
        };
        let Some((argument, after)) = after.split_at_checked(wide) else { return Ok(()) };
        let length = argument.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let length = if wide == 0 { u64::from(short) } else { length };
        rest = match (kind, short) {
            // Bytes and texts: over them. Those of no fixed length are followed by their pieces.
            (2 | 3, 0..=27) => match usize::try_from(length).ok().and_then(|n| after.get(n..)) {
                Some(behind) => behind,
                None => return Ok(()),
            },
            _ => after,
        };
    }
    Ok(())
}

fn from_cbor(value: Cbor, depth: usize) -> Result<Value, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed::new("the body is nested too deeply"));
    }
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(b) => b.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Cbor::Float(f) => f.into(),
        Cbor::Integer(n) => {
            let n = i128::from(n);
            i64::try_from(n)
                .map(Number::from)
                .or_else(|_| u64::try_from(n).map(Number::from))
                .map_or_else(|_| Value::String(n.to_string()), Value::Number)
        }
        // Timestamps are tagged; what the tag says, the shape says too.
        Cbor::Tag(_, inner) => from_cbor(*inner, depth + 1)?,
        Cbor::Array(items) => {
            Value::Array(items.into_iter().map(|v| from_cbor(v, depth + 1)).collect::<Result<_, _>>()?)
        }
        Cbor::Map(pairs) => {
            let mut members = Map::new();
            for (key, value) in pairs {
                let Cbor::Text(key) = key else { return Err(Malformed::new("a key of the CBOR body is not text")) };
                if members.contains_key(&key) {
                    return Err(Malformed::new(format!("the key `{key}` stands there twice")));
                }
                members.insert(key, from_cbor(value, depth + 1)?);
            }
            Value::Object(members)
        }
        _ => return Err(Malformed::new("the CBOR body has a value of a kind that is not known")),
    })
}
