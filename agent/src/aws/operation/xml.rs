//! XML bodies → members by AWS's names.
//!
//! Elements and their texts only: a document type, a processing instruction or an entity of its own is refused, because
//! readers differ in what they make of them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::Malformed;
use super::body::not_nearly;
use super::budget::Budget;
use super::value::scalar;
use crate::aws::model::{Detail, Kind, Member, Members, Place, ShapeId};

/// Nesting beyond this is refused.
const MAX_DEPTH: usize = 64;

/// An element with all that is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

#[derive(Clone, Copy)]
struct Model<'a> {
    detail: &'a Detail,
    strict: bool,
}

/// `None`: there is no body. `strict`: what the model does not know is refused.
pub(super) fn read(detail: &Detail, shape: ShapeId, strict: bool, body: &[u8]) -> Result<Option<Value>, Malformed> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(body).map_err(|_| Malformed::new("the XML body is not UTF-8; encode it"))?;
    convert(Model { detail, strict }, detail.kind(shape), parse(text)?).map(Some)
}

fn parse(text: &str) -> Result<Element, Malformed> {
    let wrong = |what: &str| Malformed::new(format!("the XML body cannot be read: {what}"));
    if text.chars().any(unfit) {
        return Err(wrong("it has control characters in it"));
    }
    let mut budget = Budget::default();
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let done = match reader.read_event().map_err(|e| wrong(&e.to_string()))? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(wrong("it is nested too deeply"));
                }
                open.push(element(&start, &mut budget)?);
                None
            }
            Event::Empty(start) => Some(element(&start, &mut budget)?),
            Event::End(_) => Some(open.pop().ok_or_else(|| wrong("an element ends that never began"))?),
            Event::Text(t) => {
                let found = t.xml10_content();
                match open.last_mut() {
                    Some(element) => element.text.push_str(&found),
                    None if found.trim().is_empty() => {}
                    None => return Err(wrong("there is text outside of it")),
                }
                None
            }
            Event::CData(t) => {
                open.last_mut().ok_or_else(|| wrong("there is text outside of it"))?.text.push_str(&t.xml10_content());
                None
            }
            Event::GeneralRef(reference) => {
                let found = match reference.resolve_char_ref().map_err(|e| wrong(&e.to_string()))? {
                    Some(c) if unfit(c) => return Err(wrong("it has control characters in it")),
                    Some(c) => c,
                    None => match reference.xml10_content().as_ref() {
                        "lt" => '<',
                        "gt" => '>',
                        "amp" => '&',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return Err(wrong("it uses an entity of its own")),
                    },
                };
                open.last_mut().ok_or_else(|| wrong("there is text outside of it"))?.text.push(found);
                None
            }
            Event::Decl(declared) => {
                let version = declared.version().map_err(|e| wrong(&e.to_string()))?;
                let encoding = declared.encoding().transpose().map_err(|e| wrong(&e.to_string()))?;
                if version != "1.0" || encoding.is_some_and(|e| !e.eq_ignore_ascii_case("utf-8")) {
                    return Err(wrong("it is declared to be other than XML 1.0 in UTF-8; send that"));
                }
                None
            }
            Event::Comment(_) => None,
            Event::PI(_) | Event::DocType(_) => return Err(wrong("it has a document type or instructions")),
            Event::Eof => break,
        };
        let Some(done) = done else { continue };
        match open.last_mut() {
            Some(parent) => parent.children.push(done),
            None if root.is_none() => root = Some(done),
            None => return Err(wrong("there is more than one element at the top")),
        }
    }
    if !open.is_empty() {
        return Err(wrong("an element does not end"));
    }
    root.ok_or_else(|| wrong("there is no element in it"))
}

/// Characters that XML has no place for, or that its versions treat differently.
fn unfit(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn element(start: &BytesStart<'_>, budget: &mut Budget) -> Result<Element, Malformed> {
    budget.take()?;
    // Who knows namespaces reads it by what stands behind the colon, who does not reads another name.
    if start.name().as_ref().contains(':') {
        return Err(Malformed::new(format!(
            "the XML element `{}` has a namespace prefix; send it without one",
            start.name().as_ref()
        )));
    }
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        budget.take()?;
        let attribute = attribute.map_err(|e| Malformed::new(format!("the XML body cannot be read: {e}")))?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(|e| Malformed::new(format!("the XML body cannot be read: {e}")))?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element { name: start.name().as_ref().to_owned(), attributes, ..Element::default() })
}

fn convert(model: Model<'_>, kind: Kind<'_>, element: Element) -> Result<Value, Malformed> {
    Ok(match kind {
        Kind::Structure(members) => Value::Object(structure(model, members, element)?),
        Kind::List(item, name) => list(model, item, name, element.children)?,
        Kind::Map { value, key_name, value_name } => map(model, value, key_name, value_name, element.children)?,
        kind => {
            if !element.children.is_empty() {
                return Err(Malformed::new(format!("`{}` has elements in it, but is a value", element.name)));
            }
            scalar(kind, &element.text)
        }
    })
}

fn structure(model: Model<'_>, members: &Members, element: Element) -> Result<Map<String, Value>, Malformed> {
    let mut found = Map::new();
    for (name, value) in element.attributes {
        if let Some(member) = members.all.iter().find(|m| m.place == Place::XmlAttribute && m.wire == name) {
            found.insert(member.name.to_owned(), scalar(model.detail.kind(member.shape), &value));
        }
    }
    let mut flat: Vec<(&Member, Vec<Element>)> = Vec::new();
    for child in element.children {
        let Some(member) = members.by_wire(&child.name) else {
            // What the model does not know is no member, but must not stand for one either.
            if members.all.iter().any(|m| m.name == child.name) {
                return Err(Malformed::new(format!("`{}` is called otherwise on the wire", child.name)));
            }
            not_nearly(members, &child.name)?;
            if model.strict {
                return Err(Malformed::new(format!(
                    "`{}` is no member of `{}`; leave it out",
                    child.name, element.name
                )));
            }
            continue;
        };
        if member.flat {
            match flat.iter_mut().find(|(m, _)| m.name == member.name) {
                Some((_, elements)) => elements.push(child),
                None => flat.push((member, vec![child])),
            }
            continue;
        }
        let value = convert(model, model.detail.kind(member.shape), child)?;
        if found.insert(member.name.to_owned(), value).is_some() {
            return Err(Malformed::new(format!("`{}` stands there twice; send it once", member.name)));
        }
    }
    for (member, elements) in flat {
        let value = match model.detail.kind(member.shape) {
            Kind::List(item, _) => Value::Array(
                elements.into_iter().map(|e| convert(model, model.detail.kind(item), e)).collect::<Result<_, _>>()?,
            ),
            Kind::Map { value, key_name, value_name } => map(model, value, key_name, value_name, elements)?,
            _ => return Err(Malformed::new(format!("`{}` stands there twice; send it once", member.name))),
        };
        found.insert(member.name.to_owned(), value);
    }
    Ok(found)
}

fn list(model: Model<'_>, item: ShapeId, name: &str, children: Vec<Element>) -> Result<Value, Malformed> {
    if let Some(other) = children.iter().find(|c| c.name != name) {
        return Err(Malformed::new(format!("`{}` stands in a list of `{name}`", other.name)));
    }
    children.into_iter().map(|c| convert(model, model.detail.kind(item), c)).collect()
}

fn map(
    model: Model<'_>,
    value: ShapeId,
    key_name: &str,
    value_name: &str,
    entries: Vec<Element>,
) -> Result<Value, Malformed> {
    let mut found = Map::new();
    for entry in entries {
        let (mut key, mut inner) = (None, None);
        for child in entry.children {
            if child.name == key_name && key.is_none() {
                key = Some(child.text);
            } else if child.name == value_name && inner.is_none() {
                inner = Some(convert(model, model.detail.kind(value), child)?);
            } else {
                return Err(Malformed::new(format!("`{}` does not belong into a map's entry", child.name)));
            }
        }
        let key = key.unwrap_or_default();
        if found.insert(key.clone(), inner.unwrap_or_default()).is_some() {
            return Err(Malformed::new(format!("the key `{key}` stands there twice")));
        }
    }
    Ok(Value::Object(found))
}
