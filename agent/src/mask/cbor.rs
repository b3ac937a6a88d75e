//! CBOR, hidden while it passes.
//!
//! Owns a reader that may be cut anywhere. Lists and maps keep their lengths; a text or bytes that are hidden get a head of
//! their own. What is not one sound item is an error. Pure.

use super::MaskError;
use super::json::LONGEST_TEXT;
use super::select::{Form, Hide, Leaf, Selector, State};
use super::token::Running;
use super::veil::Veil;

const DEPTH: usize = 512;
const LONGEST_NAME: usize = 64 << 10;

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const BREAK: u8 = 0xff;

/// Something that holds items; `None`: until a break.
#[derive(Debug)]
enum Frame {
    Array {
        state: State,
        left: Option<u64>,
        index: u32,
    },
    /// `Some`: the value of this key comes next.
    Map {
        state: State,
        left: Option<u64>,
        value: Option<State>,
    },
}

/// A text or bytes on their way.
struct Chars {
    major: u8,
    /// Bytes of this piece that are still to come.
    left: u64,
    /// It comes in pieces, until a break.
    pieces: bool,
    how: How,
}

enum How {
    Pass,
    Hide(Box<Running>, Form),
    /// Held until its end, to be looked through.
    Gather(Vec<u8>, Leaf),
    Name(Vec<u8>),
}

pub(super) struct Cbor {
    selector: Selector,
    veil: Veil,
    root: State,
    stack: Vec<Frame>,
    head: Vec<u8>,
    chars: Option<Chars>,
    over: bool,
    any: bool,
}

impl Cbor {
    pub fn new(selector: Selector, root: State, veil: Veil) -> Self {
        Self { selector, veil, root, stack: Vec::new(), head: Vec::new(), chars: None, over: false, any: false }
    }

    pub fn changed(&self) -> bool {
        self.veil.changed
    }

    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.any |= !input.is_empty();
        while let Some((first, rest)) = input.split_first() {
            if let Some(mut chars) = self.chars.take_if(|c| c.left > 0) {
                let (now, later) = input.split_at(usize::try_from(chars.left).unwrap_or(usize::MAX).min(input.len()));
                input = later;
                chars.left -= now.len() as u64;
                chars.take(now, out)?;
                self.go_on(chars, out)?;
                continue;
            }
            if self.over {
                return Err(unreadable());
            }
            input = rest;
            self.head.push(*first);
            let length = match self.head[0] & 0x1f {
                24 => 2,
                25 => 3,
                26 => 5,
                27 => 9,
                28..=30 => return Err(unreadable()),
                _ => 1,
            };
            if self.head.len() == length {
                let head = std::mem::take(&mut self.head);
                self.item(&head, out)?;
            }
        }
        self.selector.check()
    }

    pub fn finish(&mut self) -> Result<(), MaskError> {
        if self.over || !self.any { Ok(()) } else { Err(unreadable()) }
    }

    /// A whole head.
    fn item(&mut self, head: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let (major, info) = (head[0] >> 5, head[0] & 0x1f);
        let number = match info {
            0..24 => Some(u64::from(info)),
            31 => None,
            _ => Some(head[1..].iter().fold(0, |n, b| n << 8 | u64::from(*b))),
        };
        if let Some(chars) = self.chars.take() {
            // Amid pieces: another one of the same kind, or the break.
            return match number {
                _ if head[0] == BREAK => self.end(chars, out),
                Some(left) if major == chars.major => {
                    if matches!(chars.how, How::Pass) {
                        out.extend_from_slice(head);
                    }
                    self.go_on(Chars { left, ..chars }, out)
                }
                _ => Err(unreadable()),
            };
        }
        if head[0] == BREAK {
            return self.end_of_frame(out);
        }
        let name = matches!(self.stack.last(), Some(Frame::Map { value: None, .. }));
        match (major, number) {
            (0 | 1, Some(n)) => {
                let value = if major == 0 { i128::from(n) } else { -1 - i128::from(n) };
                if name {
                    out.extend_from_slice(head);
                    return self.named(value.to_string().as_bytes());
                }
                match self.veil_number(value.to_string().as_bytes()) {
                    Some(token) => write_head(0, u64::from(token), out),
                    None => out.extend_from_slice(head),
                }
                self.done();
                Ok(())
            }
            (BYTES | TEXT, _) => self.begin(major, number, name, head, out),
            (4 | 5, _) if !name => self.open(major == 4, number, head, out),
            // A tag is about what follows it.
            (6, Some(_)) if !name => {
                out.extend_from_slice(head);
                Ok(())
            }
            (7, Some(n)) if !name => {
                self.simple(info, n, head, out);
                self.done();
                Ok(())
            }
            _ => Err(unreadable()),
        }
    }

    fn simple(&mut self, info: u8, n: u64, head: &[u8], out: &mut Vec<u8>) {
        let float = match info {
            25 => Some(half(n as u16)),
            26 => Some(f64::from(f32::from_bits(n as u32))),
            27 => Some(f64::from_bits(n)),
            _ => None,
        };
        if let Some(value) = float {
            if let Some(token) = self.veil_number(value.to_string().as_bytes()) {
                out.push(0xfb);
                out.extend_from_slice(&f64::from(token).to_bits().to_be_bytes());
                return;
            }
        } else if matches!(info, 20 | 21) {
            let leaf = self.leaf();
            if self.veil.flag(leaf) {
                out.push(0xf4);
                return;
            }
        }
        out.extend_from_slice(head);
    }

    fn veil_number(&mut self, text: &[u8]) -> Option<u32> {
        let leaf = self.leaf();
        if leaf.passes() { None } else { self.veil.number(leaf, text) }
    }

    fn begin(
        &mut self,
        major: u8,
        number: Option<u64>,
        name: bool,
        head: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let leaf = self.leaf();
        let form = if major == BYTES { Form::Unknown } else { leaf.form };
        let how = match leaf {
            _ if name && major == BYTES => return Err(unreadable()),
            _ if name => How::Name(Vec::new()),
            leaf if leaf.passes() => How::Pass,
            Leaf { hide: Hide::No, .. } => How::Gather(Vec::new(), Leaf { form, ..leaf }),
            _ => How::Hide(Box::new(self.veil.begin()), form),
        };
        if matches!(how, How::Pass) {
            out.extend_from_slice(head);
        }
        let pieces = number.is_none();
        self.go_on(Chars { major, left: number.unwrap_or(0), pieces, how }, out)
    }

    /// Keeps what is not over.
    fn go_on(&mut self, chars: Chars, out: &mut Vec<u8>) -> Result<(), MaskError> {
        if chars.left > 0 || chars.pieces {
            self.chars = Some(chars);
            return Ok(());
        }
        self.end(chars, out)
    }

    fn end(&mut self, chars: Chars, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match chars.how {
            How::Pass => {
                if chars.pieces {
                    out.push(BREAK);
                }
            }
            How::Hide(running, form) => {
                let token = self.veil.token(form, *running);
                write_chars(chars.major, token.as_bytes(), out);
            }
            How::Gather(value, leaf) => {
                let hidden = self.veil.text(leaf, &value);
                write_chars(chars.major, hidden.as_deref().unwrap_or(&value), out);
            }
            How::Name(name) => {
                let patterns = match self.stack.last() {
                    Some(Frame::Map { state, .. }) => self.selector.leaf(*state).patterns,
                    _ => 0,
                };
                let hidden = self.veil.text(Leaf { hide: Hide::No, patterns, form: Form::Unknown }, &name);
                write_chars(TEXT, hidden.as_deref().unwrap_or(&name), out);
                return self.named(&name);
            }
        }
        self.done();
        Ok(())
    }

    fn open(&mut self, array: bool, left: Option<u64>, head: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.stack.len() >= DEPTH {
            return Err(MaskError::Limit("it is nested too deeply"));
        }
        out.extend_from_slice(head);
        let state = self.state();
        self.stack.push(if array {
            Frame::Array { state, left, index: 0 }
        } else {
            Frame::Map { state, left, value: None }
        });
        self.close_full();
        Ok(())
    }

    fn named(&mut self, name: &[u8]) -> Result<(), MaskError> {
        let Some(Frame::Map { state, value, .. }) = self.stack.last_mut() else { return Err(unreadable()) };
        *value = Some(self.selector.member(*state, name));
        Ok(())
    }

    fn end_of_frame(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        match self.stack.last() {
            Some(Frame::Array { left: None, .. } | Frame::Map { left: None, value: None, .. }) => {
                out.push(BREAK);
                self.stack.pop();
                self.done();
                Ok(())
            }
            _ => Err(unreadable()),
        }
    }

    /// A value has ended.
    fn done(&mut self) {
        match self.stack.last_mut() {
            None => self.over = true,
            Some(Frame::Array { left, index, .. }) => {
                *index = index.saturating_add(1);
                *left = left.map(|n| n.saturating_sub(1));
            }
            Some(Frame::Map { left, value, .. }) => {
                *value = None;
                *left = left.map(|n| n.saturating_sub(1));
            }
        }
        self.close_full();
    }

    fn close_full(&mut self) {
        while matches!(self.stack.last(), Some(Frame::Array { left: Some(0), .. } | Frame::Map { left: Some(0), .. })) {
            self.stack.pop();
            match self.stack.last_mut() {
                None => self.over = true,
                Some(Frame::Array { left, index, .. }) => {
                    *index = index.saturating_add(1);
                    *left = left.map(|n| n.saturating_sub(1));
                }
                Some(Frame::Map { left, value, .. }) => {
                    *value = None;
                    *left = left.map(|n| n.saturating_sub(1));
                }
            }
        }
    }

    fn state(&mut self) -> State {
        match self.stack.last() {
            None => self.root,
            Some(Frame::Array { state, index, .. }) => self.selector.item(*state, *index),
            Some(Frame::Map { state, value, .. }) => value.unwrap_or(*state),
        }
    }

    fn leaf(&mut self) -> Leaf {
        let state = self.state();
        self.selector.leaf(state)
    }
}

impl Chars {
    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let (held, most) = match &mut self.how {
            How::Pass => {
                out.extend_from_slice(piece);
                return Ok(());
            }
            How::Hide(running, _) => {
                running.update(piece);
                return Ok(());
            }
            How::Gather(held, _) => (held, LONGEST_TEXT),
            How::Name(held) => (held, LONGEST_NAME),
        };
        held.extend_from_slice(piece);
        if held.len() > most { Err(MaskError::Limit("a text in it is too long to be looked through")) } else { Ok(()) }
    }
}

fn unreadable() -> MaskError {
    MaskError::Unreadable("CBOR")
}

fn write_chars(major: u8, value: &[u8], out: &mut Vec<u8>) {
    write_head(major, value.len() as u64, out);
    out.extend_from_slice(value);
}

fn write_head(major: u8, n: u64, out: &mut Vec<u8>) {
    let top = major << 5;
    match n {
        0..24 => out.push(top | n as u8),
        24..0x100 => out.extend_from_slice(&[top | 24, n as u8]),
        0x100..0x1_0000 => {
            out.push(top | 25);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(top | 26);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(top | 27);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

/// A number of 16 bits, of RFC 8949, appendix D.
fn half(bits: u16) -> f64 {
    let (exponent, mantissa) = (bits >> 10 & 0x1f, f64::from(bits & 0x3ff));
    let value = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}
