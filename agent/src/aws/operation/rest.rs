//! REST: method, path, query and headers → operation and members. And what all protocols ask of a head.

use std::borrow::Cow;

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::value::scalar;
use super::{Known, Malformed, Protocol};
use crate::aws::model::{Kind, Op, Place, Service, Step, labels};

/// The only header of that name, if there is one.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Malformed> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Malformed::new(format!("the request carries more than one `{name}` header; send one")));
    }
    first.map(|v| v.to_str().map_err(|_| Malformed::new(format!("the header `{name}` is not text")))).transpose()
}

/// Parameters that belong to a signature.
pub(super) const SIGNATURE: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// A content type without its parameters.
pub(super) fn media_type(kind: Option<&str>) -> &str {
    kind.and_then(|k| k.split(';').next()).unwrap_or_default().trim()
}

/// The charsets that a content type names, in lower case.
pub(super) fn charsets(kind: &str) -> impl Iterator<Item = String> {
    kind.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let found = name.trim().eq_ignore_ascii_case("charset");
        found.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    })
}

/// `POST …/service/{service}/operation/{operation}`.
pub(super) fn cbor(
    services: &[&'static Service],
    smithy: &str,
    kind: Option<&str>,
    parts: &Parts,
) -> Result<Option<Known>, Malformed> {
    if smithy != "rpc-v2-cbor" {
        return Err(Malformed::new(format!("Smithy-Protocol `{smithy}` is not known; send rpc-v2-cbor")));
    }
    if !["", "application/cbor"].contains(&media_type(kind)) {
        return Err(Malformed::new("Smithy-Protocol rpc-v2-cbor goes with Content-Type application/cbor"));
    }
    if parts.uri.query().is_some_and(|q| !q.is_empty()) || parts.method != http::Method::POST {
        return Err(Malformed::new("Smithy-Protocol rpc-v2-cbor goes with POST and no query"));
    }
    let mut segments = parts.uri.path().rsplit('/');
    let (Some(name), Some("operation"), Some(service), Some("service")) =
        (segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return Ok(None);
    };
    Ok(services
        .iter()
        .filter(|s| s.speaks(Protocol::RpcV2Cbor) && s.target == service)
        .find_map(|s| Known::named(&[s], name)))
}

/// A query's names and values, decoded, in their order.
pub(super) type Query<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// More parameters in a query are refused: each is compared with all others.
const MAX_QUERY: usize = 1_000;

pub(super) fn query(text: &str) -> Result<Query<'_>, Malformed> {
    no_plus(text)?;
    if text.matches('&').count() >= MAX_QUERY {
        return Err(Malformed::new(format!("the query has more than {MAX_QUERY} parameters; send fewer")));
    }
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// A plain `+` is a space to some and itself to others.
pub(super) fn no_plus(text: &str) -> Result<(), Malformed> {
    if text.contains('+') {
        return Err(Malformed::new("there is a plain `+` in the query or in x-amz-copy-source; send %20 or %2B"));
    }
    Ok(())
}

/// Decodes once; `+` is itself in a path.
pub(super) fn decode(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Malformed::new("the path or query is not UTF-8 once it is decoded; encode it as UTF-8"))
}

/// The operation of one of the services that fits the request best. `None`: none does, or two that differ.
pub(super) fn route(services: &[&'static Service], parts: &Parts) -> Result<Option<Known>, Malformed> {
    let path = parts.uri.path();
    // Signing normalises such paths and services differ in whether they do.
    if path.split('/').any(|s| matches!(s, "." | "..") || matches!(decode(s).as_deref(), Ok("." | ".."))) {
        return Err(Malformed::new("the path has `.` or `..` in it; send it without"));
    }
    let query = query(parts.uri.query().unwrap_or_default())?;
    let mut best: Option<(usize, Known)> = None;
    let mut torn = false;
    for service in services.iter().filter(|s| s.speaks(Protocol::RestJson) || s.speaks(Protocol::RestXml)) {
        let Some(detail) = service.detail() else { continue };
        let found = detail.walk(path, &mut |step| match step {
            Step::Disguised => Some(Err(Malformed::new("the path encodes characters that need none; send them plain"))),
            Step::Found(operations) => {
                let operations = operations.iter().filter_map(|n| detail.operations.get(*n as usize));
                choose(operations, parts, &query).map(Ok)
            }
        });
        let Some(found) = found.transpose()? else { continue };
        let Choice::One(score, op) = found else {
            torn = true;
            continue;
        };
        let known = Known { service, detail, op };
        match &best {
            // Twins, which share a host, a name and an action.
            Some((other, first)) if *other == score && first.op.is_twin(op) => {}
            Some((other, _)) if *other == score => torn = true,
            Some((other, _)) if *other > score => {}
            _ => best = Some((score, known)),
        }
    }
    Ok(best.map(|(_, known)| known).filter(|_| !torn))
}

/// One operation and how much of the request it explains, or several that explain as much.
pub(super) enum Choice {
    One(usize, &'static Op),
    Torn,
}

pub(super) fn choose(
    operations: impl Iterator<Item = &'static Op>,
    parts: &Parts,
    query: &Query<'_>,
) -> Option<Choice> {
    let mut best: Option<(usize, &'static Op)> = None;
    let mut torn = false;
    for op in operations {
        let has = |name: &str| query.iter().any(|(n, _)| n == name);
        // A constant without a value says that the name is there.
        let constant = |(name, value): &(&str, &str)| {
            if value.is_empty() { has(name) } else { query.iter().any(|(n, v)| n == name && v == value) }
        };
        if op.method != parts.method.as_str()
            || !op.constants.iter().all(constant)
            || !op.need_query.iter().all(|name| has(name))
            || !op.need_header.iter().all(|name| parts.headers.contains_key(*name))
        {
            continue;
        }
        let score = 100 * op.constants.len() + op.need_query.len() + op.need_header.len();
        match best {
            Some((other, first)) if other == score => torn |= !first.is_twin(op) || first.needs.is_empty(),
            Some((other, _)) if other > score => {}
            _ => (best, torn) = (Some((score, op)), false),
        }
    }
    let (score, op) = best?;
    Some(if torn { Choice::Torn } else { Choice::One(score, op) })
}

/// A body of another protocol is read otherwise by whoever goes by its type.
pub(super) fn check_kind(known: &Known, kind: Option<&str>) -> Result<(), Malformed> {
    if known.op.stream || !known.op.body {
        return Ok(());
    }
    let kind = media_type(kind);
    let text = known.detail.input(known.op).iter().any(|m| m.name == known.op.payload);
    let fits = if known.service.speaks(Protocol::RestXml) {
        !["application/x-www-form-urlencoded", "application/cbor", "application/json"].contains(&kind)
    } else {
        text || kind.is_empty() || kind == "application/json" || kind.starts_with("application/x-amz-json")
    };
    if fits {
        return Ok(());
    }
    Err(Malformed::new(format!("the body's Content-Type is `{kind}`, which is not that of this service's protocol")))
}

/// Members that stand in path, query and headers.
pub(super) fn parameters(
    known: &Known,
    path: &str,
    parts: &Parts,
    found: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    let members = known.detail.input(known.op);
    let labels = labels(known.op.path, path);
    let query = query(parts.uri.query().unwrap_or_default())?;
    for (n, (name, _)) in query.iter().enumerate() {
        if !query[..n].iter().any(|(other, _)| other == name) {
            continue;
        }
        let kinds = || members.iter().filter(|m| m.place == Place::Query).map(|m| (m, known.detail.kind(m.shape)));
        let may_repeat = match kinds().find(|(m, _)| m.wire == name) {
            Some((_, kind)) => matches!(kind, Kind::List(..)),
            // Where one member takes all parameters that no other claims, it takes several values for each.
            None => {
                !known.op.constants.iter().any(|(c, _)| c == name)
                    && kinds().any(|(_, k)| matches!(k, Kind::Map { .. }))
            }
        };
        if !may_repeat {
            return Err(Malformed::new(format!("the query names `{name}` twice; send it once")));
        }
    }
    for member in members {
        let kind = known.detail.kind(member.shape);
        let value = match member.place {
            Place::Path => {
                let label = labels.iter().find(|(name, _)| *name == member.wire);
                label.map(|(_, text)| decode(text)).transpose()?.map(|text| scalar(kind, &text))
            }
            Place::Query => from_query(known, member.wire, kind, &query),
            Place::Header => {
                let text = header(&parts.headers, member.wire)?;
                text.map(|text| match kind {
                    Kind::List(item, _) => text.split(',').map(|t| scalar(known.detail.kind(item), t.trim())).collect(),
                    _ => scalar(kind, text),
                })
            }
            Place::Headers => {
                let mut inner = Map::new();
                for name in parts.headers.keys() {
                    if let Some(rest) = strip_prefix_ignore_case(name.as_str(), member.wire)
                        && let Some(text) = header(&parts.headers, name.as_str())?
                    {
                        inner.insert(rest.to_owned(), Value::String(text.to_owned()));
                    }
                }
                (!inner.is_empty()).then_some(Value::Object(inner))
            }
            Place::Body | Place::XmlAttribute => None,
        };
        if let Some(value) = value {
            found.insert(member.name.to_owned(), value);
        }
    }
    Ok(())
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// A header that may hold any text, but not twice.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Malformed> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Malformed::new(format!("the request carries more than one `{name}` header; send one")));
    }
    let text = |v: &'a http::HeaderValue| std::str::from_utf8(v.as_bytes());
    let wrong = |_| Malformed::new(format!("the header `{name}` is not UTF-8; encode it"));
    first.map(text).transpose().map_err(wrong)
}

fn from_query(known: &Known, wire: &str, kind: Kind<'_>, query: &Query<'_>) -> Option<Value> {
    let mut values = query.iter().filter(|(name, _)| name == wire).map(|(_, value)| value);
    match kind {
        Kind::List(item, _) => {
            let items: Vec<Value> = values.map(|v| scalar(known.detail.kind(item), v)).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        // Every parameter that no member claims.
        Kind::Map { value, .. } => {
            let lists = matches!(known.detail.kind(value), Kind::List(..));
            let members = known.detail.input(known.op);
            let claimed = |name: &str| {
                members.iter().any(|m| m.place == Place::Query && m.wire == name)
                    || known.op.constants.iter().any(|(n, _)| *n == name)
            };
            let mut inner = Map::new();
            for (name, value) in query.iter().filter(|(name, _)| !claimed(name)) {
                match inner.get_mut(name.as_ref()) {
                    Some(Value::Array(items)) => items.push(value.as_ref().into()),
                    Some(first) => *first = Value::Array(vec![first.take(), value.as_ref().into()]),
                    None => {
                        let first = Value::String(value.clone().into_owned());
                        inner.insert(name.clone().into_owned(), if lists { Value::Array(vec![first]) } else { first });
                    }
                }
            }
            (!inner.is_empty()).then_some(Value::Object(inner))
        }
        _ => values.next().map(|v| scalar(kind, v)),
    }
}
