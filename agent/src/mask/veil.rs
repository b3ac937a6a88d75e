//! One value that is hidden, whole or in part.
//!
//! Owns which kind of token takes its place, so that what reads the answer still can. Pure.

use std::sync::Arc;

use super::pattern::Set;
use super::select::{Form, Hide, Leaf};
use super::token::{Digest, Keyed, Running};

/// Hides values, and knows whether it has.
#[derive(Debug, Clone)]
pub(super) struct Veil {
    keyed: Keyed,
    patterns: Arc<Set>,
    pub changed: bool,
}

impl Veil {
    pub fn new(keyed: Keyed, patterns: Arc<Set>) -> Self {
        Self { keyed, patterns, changed: false }
    }

    pub fn begin(&self) -> Running {
        self.keyed.begin()
    }

    pub fn digest(&self, value: &[u8]) -> Digest {
        self.keyed.of(value)
    }

    /// The token for a text that was hidden while it passed.
    pub fn token(&mut self, form: Form, running: Running) -> String {
        if running.empty {
            return String::new();
        }
        self.changed = true;
        text(form, &running.end())
    }

    /// A text that is there whole, hidden; `None`: it stays.
    pub fn text(&mut self, leaf: Leaf, value: &[u8]) -> Option<Vec<u8>> {
        if value.is_empty() {
            return None;
        }
        let found = match leaf.hide {
            Hide::No => self.patterns.replace(value, leaf.patterns, &self.keyed),
            _ => Some(text(leaf.form, &self.digest(value)).into_bytes()),
        };
        self.changed |= found.is_some();
        found
    }

    /// A number by its text; `None`: it stays.
    pub fn number(&mut self, leaf: Leaf, value: &[u8]) -> Option<u32> {
        let hidden = leaf.hide != Hide::No || !self.patterns.find(value, 0, leaf.patterns).is_empty();
        hidden.then(|| {
            self.changed = true;
            self.digest(value).number()
        })
    }

    /// Whether a yes or no becomes a no.
    pub fn flag(&mut self, leaf: Leaf) -> bool {
        self.changed |= leaf.hide == Hide::Hard;
        leaf.hide == Hide::Hard
    }
}

fn text(form: Form, digest: &Digest) -> String {
    match form {
        Form::Unknown => digest.text(),
        Form::Blob => digest.base64(),
        Form::Moment => digest.moment(),
        Form::Number => digest.number().to_string(),
        Form::Boolean => "false".into(),
    }
}
