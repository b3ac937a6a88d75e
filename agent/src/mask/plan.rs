//! What is hidden in one operation's answers, and how their bodies are read.
//!
//! Owns the choice of a reader by protocol, by what the model says the body is, and by the answer's own head. Pure.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::MaskError;
use super::coding::Coding;
use super::events::Events;
use super::json::Json;
use super::pattern::Set;
use super::select::{DEAD, Form, Hide, Selector, Sources, State};
use super::stream::{Body, Format, Stream};
use super::text::Text;
use super::token::Keyed;
use super::veil::Veil;
use crate::aws::model::{Input, Kind, Place};
use crate::aws::operation::Protocol;

/// What is hidden in the answers of one operation from one reader: the agent, or whoever reads the record.
#[derive(Debug, Clone)]
pub struct View {
    sources: Arc<Sources>,
    protocol: Protocol,
    /// The operation; `None`: it is not known.
    input: Option<Input>,
    /// What bodies are read as, where a rule says so.
    format: Option<Format>,
}

/// What the head of an answer says of its body.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    /// It is a part of what was asked for (206).
    pub partial: bool,
}

impl View {
    pub(super) fn new(sources: Sources, protocol: Protocol, input: Option<Input>, format: Option<Format>) -> Self {
        Self { sources: Arc::new(sources), protocol, input, format }
    }

    /// A body of this head, hidden while it passes. `None`: nothing in it is hidden.
    pub fn stream(&self, answer: &Answer<'_>, keyed: Keyed) -> Result<Option<Stream>, MaskError> {
        let Some(body) = self.body(answer, keyed)? else { return Ok(None) };
        if answer.partial {
            return Err(MaskError::Part);
        }
        let coding = Coding::of(answer.content_encoding.unwrap_or_default())?;
        Ok(Some(Stream { coding, body }))
    }

    fn body(&self, answer: &Answer<'_>, keyed: Keyed) -> Result<Option<Body>, MaskError> {
        let patterns = self.sources.patterns.clone();
        let veil = Veil::new(keyed.clone(), patterns.clone());
        let mut selector = Selector::new(self.sources.clone());
        let content = answer.content_type.unwrap_or_default().to_ascii_lowercase();
        let native = match self.protocol {
            Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => Format::Json,
            Protocol::Query | Protocol::Ec2 | Protocol::RestXml => Format::Xml,
            Protocol::RpcV2Cbor => Format::Cbor,
        };
        let member = self.input.map_or("", |input| input.op.answer);
        if content.starts_with("application/vnd.amazon.eventstream") {
            let events = Events::new(self.sources.clone(), keyed, native, member.to_owned());
            return Ok(Some(Body::Events(Box::new(events))));
        }
        let rest = matches!(self.protocol, Protocol::RestJson | Protocol::RestXml);
        let Some(input) = self.input.filter(|_| rest) else {
            if self.input.is_none() {
                let root = selector.root();
                return self.raw(selector, root, &content, keyed);
            }
            let root = match self.protocol {
                Protocol::Query => selector.wrapped(2),
                Protocol::Ec2 => selector.wrapped(1),
                _ => selector.root(),
            };
            return Ok(Some(Body::of(native, selector, root, veil)));
        };
        if member.is_empty() {
            let root = if native == Format::Xml { selector.wrapped(1) } else { selector.root() };
            return Ok(Some(Body::of(native, selector, root, veil)));
        }
        let shape = match input.detail.kind(input.op.output) {
            Kind::Structure(members) => members.all.iter().find(|m| m.name == member).map(|m| m.shape),
            _ => None,
        };
        match shape.map(|shape| input.detail.kind(shape)) {
            // A body of its own kind: bytes, or a text.
            None | Some(Kind::Blob | Kind::Text) => {
                let root = selector.root();
                let state = selector.enter(root, member);
                self.raw(selector, state, &content, keyed)
            }
            Some(_) => {
                let state = if native == Format::Xml {
                    selector.wrapped_member(member)
                } else {
                    let root = selector.root();
                    selector.enter(root, member)
                };
                Ok(Some(Body::of(native, selector, state, veil)))
            }
        }
    }

    /// A body of which the model knows no more than that it is there.
    fn raw(
        &self,
        mut selector: Selector,
        state: State,
        content: &str,
        keyed: Keyed,
    ) -> Result<Option<Body>, MaskError> {
        let known = self.input.is_some();
        if state == DEAD && (known || !self.sources.names) {
            return Ok(None);
        }
        let state = selector.opened(state);
        let leaf = selector.leaf(state);
        let below = selector.goes_on(state) || (!known && self.sources.names);
        let veil = Veil::new(keyed.clone(), self.sources.patterns.clone());
        let format = self.format.or_else(|| by_type(content));
        Ok(Some(match format {
            Some(Format::Json) => Body::Json(Box::new(Json::new(selector, state, veil, true))),
            Some(Format::Xml) => Body::xml(selector, state, veil),
            Some(Format::Cbor) => Body::of(Format::Cbor, selector, state, veil),
            Some(Format::Text) | None if below => {
                let said = if content.is_empty() { "of no type" } else { content };
                return Err(MaskError::Kind(said.to_owned()));
            }
            _ if leaf.hide != Hide::No => {
                let running = veil.begin();
                Body::Whole(Box::new((veil, Some(running))))
            }
            _ => Body::Text(Box::new(Text::new(self.sources.patterns.clone(), leaf.patterns, keyed))),
        }))
    }

    /// Members that stand in the head, hidden. A value that has no token of its kind is taken out: `None`.
    pub fn headers(&self, headers: &HeaderMap, keyed: &Keyed) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let mut found = Vec::new();
        let Some(input) = self.input else { return found };
        let Kind::Structure(members) = input.detail.kind(input.op.output) else { return found };
        let mut selector = Selector::new(self.sources.clone());
        let root = selector.root();
        let mut veil = Veil::new(keyed.clone(), self.sources.patterns.clone());
        for member in members.all.iter().filter(|m| matches!(m.place, Place::Header | Place::Headers)) {
            let state = selector.enter(root, member.name);
            for (name, value) in headers {
                let rest = match member.place {
                    Place::Header => name.as_str().eq_ignore_ascii_case(member.wire).then_some(""),
                    _ => name.as_str().strip_prefix(member.wire.to_ascii_lowercase().as_str()),
                };
                let Some(rest) = rest else { continue };
                let state =
                    if member.place == Place::Headers { selector.member(state, rest.as_bytes()) } else { state };
                let leaf = selector.leaf(state);
                if leaf.passes() {
                    continue;
                }
                let hidden = match (leaf.hide, leaf.form) {
                    (Hide::No, _) | (_, Form::Unknown | Form::Blob | Form::Number) => veil.text(leaf, value.as_bytes()),
                    // Times are written in another way there.
                    _ => {
                        found.push((name.clone(), None));
                        continue;
                    }
                };
                if let Some(text) = hidden {
                    found.push((name.clone(), HeaderValue::from_bytes(&text).ok()));
                }
            }
        }
        found
    }

    /// A text that is JSON, hidden; `None`: it is none, and nothing may be kept of it.
    pub(super) fn json(&self, text: &str, keyed: Keyed) -> Option<String> {
        let mut selector = Selector::new(self.sources.clone());
        let root = selector.root();
        let mut json = Json::new(selector, root, Veil::new(keyed, self.sources.patterns.clone()), false);
        let mut out = Vec::with_capacity(text.len());
        json.push(text.as_bytes(), &mut out).and_then(|()| json.finish(&mut out)).ok()?;
        String::from_utf8(out).ok()
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            sensitive: false,
            names: false,
            targets: Vec::new(),
            shape: None,
            anywhere: 0,
            patterns: Arc::new(Set::default()),
            dynamodb: false,
        }
    }
}

/// What a media type says; `None`: nothing that we read.
fn by_type(content: &str) -> Option<Format> {
    let kind = content.split(';').next().unwrap_or_default().trim();
    match kind {
        _ if kind.ends_with("json") || kind.contains("x-amz-json") || kind == "application/x-ndjson" => {
            Some(Format::Json)
        }
        _ if kind.ends_with("/xml") || kind.ends_with("+xml") => Some(Format::Xml),
        _ if kind.ends_with("cbor") => Some(Format::Cbor),
        _ if kind.starts_with("text/") => Some(Format::Text),
        _ => None,
    }
}
