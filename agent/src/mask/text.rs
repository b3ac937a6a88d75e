//! Text of no form, looked through for patterns while it passes.
//!
//! Owns the window: a text is looked at in pieces of the same places however it comes, and no finding is cut. Pure.

use super::MaskError;
use super::pattern::{self, Set};
use super::token::Keyed;
use std::sync::Arc;

/// What is looked at at a time.
const WINDOW: usize = 256 << 10;
/// What is kept for the next look: a finding that begins here may not be there whole.
const KEPT: usize = 2 * pattern::LONGEST;

#[derive(Debug)]
pub(super) struct Text {
    patterns: Arc<Set>,
    bits: u64,
    keyed: Keyed,
    window: Vec<u8>,
    /// Bytes at the window's front that have been written, and are looked back at.
    past: usize,
    pub changed: bool,
}

impl Text {
    pub fn new(patterns: Arc<Set>, bits: u64, keyed: Keyed) -> Self {
        Self { patterns, bits, keyed, window: Vec::new(), past: 0, changed: false }
    }

    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        while !input.is_empty() {
            let (now, later) = input.split_at(input.len().min(WINDOW - self.window.len()));
            self.window.extend_from_slice(now);
            input = later;
            if self.window.len() == WINDOW {
                self.look(false, out);
                if self.window.len() == WINDOW {
                    return Err(MaskError::Limit("something secret in it is longer than what can be looked at"));
                }
            }
        }
        Ok(())
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.look(true, out);
    }

    fn look(&mut self, last: bool, out: &mut Vec<u8>) {
        let end = self.window.len();
        let mut safe = if last { end } else { end - KEPT };
        let mut at = self.past;
        for found in self.patterns.find(&self.window, self.past, self.bits) {
            if !last && (found.start >= safe || found.end == end) {
                // It may go on in what comes.
                safe = safe.min(found.start);
                break;
            }
            out.extend_from_slice(&self.window[at..found.start]);
            out.extend_from_slice(self.keyed.of(&self.window[found.clone()]).text().as_bytes());
            self.changed = true;
            at = found.end;
            safe = safe.max(at);
        }
        out.extend_from_slice(&self.window[at..safe]);
        // One byte of what was before says whether a word begins.
        let from = safe.saturating_sub(1);
        self.past = safe - from;
        self.window.drain(..from);
    }
}
