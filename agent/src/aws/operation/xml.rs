//! XML bodies → members by AWS's names.
//!
//! Elements and their texts only: a document type, a processing instruction or an entity of its own is refused, because
//! readers differ in what they make of them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::Malformed;
use super::body::scalar;
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

/// `None`: there is no body.
pub(super) fn read(detail: &Detail, shape: ShapeId, body: &[u8]) -> Result<Option<Value>, Malformed> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(body).map_err(|_| Malformed::new("the XML body is not UTF-8; encode it"))?;
    convert(detail, detail.kind(shape), parse(text)?).map(Some)
}

fn parse(text: &str) -> Result<Element, Malformed> {
    let wrong = |what: &str| Malformed::new(format!("the XML body cannot be read: {what}"));
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let done = match reader.read_event().map_err(|e| wrong(&e.to_string()))? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(wrong("it is nested too deeply"));
                }
                open.push(element(&start)?);
                None
            }
            Event::Empty(start) => Some(element(&start)?),
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
            Event::Comment(_) | Event::Decl(_) => None,
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

fn element(start: &BytesStart<'_>) -> Result<Element, Malformed> {
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| Malformed::new(format!("the XML body cannot be read: {e}")))?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(|e| Malformed::new(format!("the XML body cannot be read: {e}")))?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element { name: start.name().as_ref().to_owned(), attributes, ..Element::default() })
}

fn convert(detail: &Detail, kind: Kind<'_>, element: Element) -> Result<Value, Malformed> {
    Ok(match kind {
        Kind::Structure(members) => Value::Object(structure(detail, members, element)?),
        Kind::List(item, name) => list(detail, item, name, element.children)?,
        Kind::Map { value, key_name, value_name } => map(detail, value, key_name, value_name, element.children)?,
        kind => {
            if !element.children.is_empty() {
                return Err(Malformed::new(format!("`{}` has elements in it, but is a value", element.name)));
            }
            scalar(kind, &element.text)
        }
    })
}

fn structure(detail: &Detail, members: &Members, element: Element) -> Result<Map<String, Value>, Malformed> {
    let mut found = Map::new();
    for (name, value) in element.attributes {
        if let Some(member) = members.all.iter().find(|m| m.place == Place::XmlAttribute && m.wire == name) {
            found.insert(member.name.to_owned(), scalar(detail.kind(member.shape), &value));
        }
    }
    let mut flat: Vec<(&Member, Vec<Element>)> = Vec::new();
    for child in element.children {
        let Some(member) = members.by_wire(&child.name) else {
            // What the model does not know is no member, but must not stand for one either.
            if members.all.iter().any(|m| m.name == child.name) {
                return Err(Malformed::new(format!("`{}` is called otherwise on the wire", child.name)));
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
        let value = convert(detail, detail.kind(member.shape), child)?;
        if found.insert(member.name.to_owned(), value).is_some() {
            return Err(Malformed::new(format!("`{}` stands there twice; send it once", member.name)));
        }
    }
    for (member, elements) in flat {
        let value = match detail.kind(member.shape) {
            Kind::List(item, _) => Value::Array(
                elements.into_iter().map(|e| convert(detail, detail.kind(item), e)).collect::<Result<_, _>>()?,
            ),
            Kind::Map { value, key_name, value_name } => map(detail, value, key_name, value_name, elements)?,
            _ => return Err(Malformed::new(format!("`{}` stands there twice; send it once", member.name))),
        };
        found.insert(member.name.to_owned(), value);
    }
    Ok(found)
}

fn list(detail: &Detail, item: ShapeId, name: &str, children: Vec<Element>) -> Result<Value, Malformed> {
    if let Some(other) = children.iter().find(|c| c.name != name) {
        return Err(Malformed::new(format!("`{}` stands in a list of `{name}`", other.name)));
    }
    children.into_iter().map(|c| convert(detail, detail.kind(item), c)).collect()
}

fn map(
    detail: &Detail,
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
                inner = Some(convert(detail, detail.kind(value), child)?);
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
