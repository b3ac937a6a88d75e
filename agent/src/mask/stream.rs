//! An answer's body on its way: unpacked, hidden by its form, and ready to go on.
//!
//! Owns the chain of an encoding and a form. Pure.

use super::MaskError;
use super::cbor::Cbor;
use super::coding::Coding;
use super::events::Events;
use super::json::Json;
use super::select::{Form, Selector, State};
use super::text::Text;
use super::token::Running;
use super::veil::Veil;
use super::xml::Xml;

/// What a body is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Xml,
    Cbor,
    Text,
}

/// A body that is hidden while it passes.
pub(super) enum Body {
    Json(Box<Json>),
    Xml(Box<Xml>),
    Cbor(Box<Cbor>),
    Text(Box<Text>),
    Events(Box<Events>),
    /// All of it.
    Whole(Box<(Veil, Option<Running>)>),
}

impl Body {
    pub fn of(format: Format, selector: Selector, state: State, veil: Veil) -> Self {
        match format {
            Format::Cbor => Self::Cbor(Box::new(Cbor::new(selector, state, veil))),
            Format::Xml => Self::xml(selector, state, veil),
            Format::Json | Format::Text => Self::Json(Box::new(Json::new(selector, state, veil, false))),
        }
    }

    pub fn xml(selector: Selector, state: State, veil: Veil) -> Self {
        Self::Xml(Box::new(Xml::new(selector, state, veil)))
    }

    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        match self {
            Self::Json(body) => body.push(input, out),
            Self::Xml(body) => body.push(input, out),
            Self::Cbor(body) => body.push(input, out),
            Self::Text(body) => body.push(input, out),
            Self::Events(body) => body.push(input, out),
            Self::Whole(body) => {
                if let Some(running) = &mut body.1 {
                    running.update(input);
                }
                Ok(())
            }
        }
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match self {
            Self::Json(body) => body.finish(out),
            Self::Xml(body) => body.finish(out),
            Self::Cbor(body) => body.finish(),
            Self::Text(body) => {
                body.finish(out);
                Ok(())
            }
            Self::Events(body) => body.finish(),
            Self::Whole(body) => {
                if let Some(running) = body.1.take() {
                    out.extend_from_slice(body.0.token(Form::Unknown, running).as_bytes());
                }
                Ok(())
            }
        }
    }

    pub fn changed(&self) -> bool {
        match self {
            Self::Json(body) => body.changed(),
            Self::Xml(body) => body.changed(),
            Self::Cbor(body) => body.changed(),
            Self::Text(body) => body.changed,
            Self::Events(body) => body.changed,
            Self::Whole(body) => body.0.changed,
        }
    }
}

/// An answer's body, hidden while it passes.
pub struct Stream {
    pub(super) coding: Option<Coding>,
    pub(super) body: Body,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Takes the next bytes of the body, and puts what may go on after `out`. After an error nothing may.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        match &mut self.coding {
            None => self.body.push(input, out),
            Some(coding) => coding.push(input, |plain| self.body.push(plain, out)),
        }
    }

    /// The body has ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if let Some(coding) = &mut self.coding {
            coding.finish(|plain| self.body.push(plain, out))?;
        }
        self.body.finish(out)
    }

    /// Whether what has gone on so far is another than what came.
    pub fn changed(&self) -> bool {
        self.coding.is_some() || self.body.changed()
    }

    /// Whether its pieces mean something by themselves, and must not wait for one another.
    pub fn is_live(&self) -> bool {
        matches!(self.body, Body::Events(_))
    }
}
