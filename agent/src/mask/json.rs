//! JSON, hidden while it passes.
//!
//! Owns a reader that may be cut anywhere: what passes is copied in runs, what is hidden is hashed as it comes, and only
//! names, numbers and texts in which patterns are looked for are held. Reads JSON alone: what is not is an error, never
//! passed. Pure.

mod escape;

use memchr::{memchr2, memchr2_iter};

use super::MaskError;
use super::select::{DEAD, Form, Hide, Leaf, Selector, State};
use super::token::Running;
use super::veil::Veil;
use escape::Unescape;

const DEPTH: usize = 512;
/// Longest name, number or literal.
const LONGEST_TOKEN: usize = 64 << 10;
/// Longest text in which patterns are looked for.
pub(super) const LONGEST_TEXT: usize = 4 << 20;

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    Colon,
    CommaOrEnd,
    /// Nothing, or the next of several.
    Over,
}

/// Amid what the last piece ended.
enum Mode {
    Between,
    /// A text that passes; `true`: after a backslash.
    Pass(bool),
    /// A text that is hidden.
    Hide(Box<(Running, Unescape, Form)>),
    /// A text that is looked through at its end; `true`: after a backslash.
    Gather(Box<(Vec<u8>, Leaf)>, bool),
}

#[derive(Debug)]
struct Frame {
    state: State,
    array: bool,
    index: u32,
}

pub(super) struct Json {
    selector: Selector,
    veil: Veil,
    stack: Vec<Frame>,
    /// State of the value that comes next.
    next: State,
    root: State,
    expect: Expect,
    mode: Mode,
    carry: Vec<u8>,
    /// Several documents may follow one another.
    many: bool,
    seen: bool,
}

impl Json {
    pub fn new(selector: Selector, root: State, veil: Veil, many: bool) -> Self {
        Self {
            selector,
            veil,
            stack: Vec::new(),
            next: root,
            root,
            expect: Expect::Value,
            mode: Mode::Between,
            carry: Vec::new(),
            many,
            seen: false,
        }
    }

    pub fn changed(&self) -> bool {
        self.veil.changed
    }

    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        if self.carry.is_empty() {
            let used = self.run(input, out, false)?;
            self.carry.extend_from_slice(&input[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.carry);
            whole.extend_from_slice(input);
            let used = self.run(&whole, out, false)?;
            whole.drain(..used);
            self.carry = whole;
        }
        if self.carry.len() > LONGEST_TOKEN {
            return Err(MaskError::Limit("a name or a number in it is too long"));
        }
        self.selector.check()
    }

    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let rest = std::mem::take(&mut self.carry);
        let used = self.run(&rest, out, true)?;
        let whole = used == rest.len() && self.stack.is_empty() && matches!(self.mode, Mode::Between);
        let over = self.expect == Expect::Over || !self.seen;
        if whole && over { Ok(()) } else { Err(MaskError::Unreadable("JSON")) }
    }

    /// Gives how much was used; the rest is the beginning of a token. What was used has been written or hidden.
    fn run(&mut self, buf: &[u8], out: &mut Vec<u8>, last: bool) -> Result<usize, MaskError> {
        let (mut i, mut from) = (0, 0);
        while i < buf.len() {
            match std::mem::replace(&mut self.mode, Mode::Between) {
                Mode::Between => {}
                Mode::Pass(escaped) => {
                    i = self.pass(buf, i, escaped);
                    continue;
                }
                Mode::Hide(hidden) => {
                    // Nothing of it is written before its end.
                    i = self.hide(buf, i, hidden, out)?;
                    from = i;
                    continue;
                }
                Mode::Gather(gathered, escaped) => {
                    i = self.gather(buf, i, gathered, escaped, out)?;
                    from = i;
                    continue;
                }
            }
            let b = buf[i];
            match (self.expect, b) {
                (_, b' ' | b'\n' | b'\r' | b'\t') => i += 1,
                (Expect::Over, _) if self.many => {
                    self.expect = Expect::Value;
                    self.next = self.root;
                }
                (Expect::Name | Expect::NameOrEnd, b'"') => match self.name(buf, i)? {
                    None => break,
                    Some((end, replaced)) => {
                        if let Some(text) = replaced {
                            out.extend_from_slice(&buf[from..=i]);
                            escape::write(&text, out);
                            from = end - 1;
                        }
                        i = end;
                        self.expect = Expect::Colon;
                    }
                },
                (Expect::Colon, b':') => {
                    self.expect = Expect::Value;
                    i += 1;
                }
                (Expect::CommaOrEnd, b',') => {
                    i += 1;
                    self.comma();
                }
                (Expect::CommaOrEnd | Expect::NameOrEnd | Expect::ValueOrEnd, b'}' | b']') => {
                    i += 1;
                    self.close(b == b']')?;
                }
                (Expect::Value | Expect::ValueOrEnd, b'{' | b'[') => {
                    i += 1;
                    self.open(b == b'[')?;
                }
                (Expect::Value | Expect::ValueOrEnd, b'"') => {
                    let leaf = self.leaf();
                    i += 1;
                    if leaf.passes() {
                        self.mode = Mode::Pass(false);
                        continue;
                    }
                    out.extend_from_slice(&buf[from..i]);
                    from = i;
                    self.mode = if leaf.hide == Hide::No {
                        Mode::Gather(Box::new((Vec::new(), leaf)), false)
                    } else {
                        Mode::Hide(Box::new((self.veil.begin(), Unescape::default(), leaf.form)))
                    };
                }
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    let length = buf[i..]
                        .iter()
                        .position(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'+' | b'.' | b'E'));
                    let end = match length {
                        Some(length) => i + length,
                        None if last => buf.len(),
                        None => break,
                    };
                    if let Some(text) = self.scalar(&buf[i..end])? {
                        out.extend_from_slice(&buf[from..i]);
                        out.extend_from_slice(text.as_bytes());
                        from = end;
                    }
                    i = end;
                    self.over();
                }
                _ => return Err(MaskError::Unreadable("JSON")),
            }
        }
        out.extend_from_slice(&buf[from..i]);
        Ok(i)
    }

    fn leaf(&self) -> Leaf {
        if self.next == DEAD {
            Leaf { hide: Hide::No, patterns: 0, form: Form::Unknown }
        } else {
            self.selector.leaf(self.next)
        }
    }

    /// A value has ended.
    fn over(&mut self) {
        self.seen = true;
        self.expect = if self.stack.is_empty() { Expect::Over } else { Expect::CommaOrEnd };
    }

    fn comma(&mut self) {
        let Some(frame) = self.stack.last_mut() else { return };
        if frame.array {
            frame.index = frame.index.saturating_add(1);
            self.next = self.selector.item(frame.state, frame.index);
            self.expect = Expect::Value;
        } else {
            self.expect = Expect::Name;
        }
    }

    fn open(&mut self, array: bool) -> Result<(), MaskError> {
        if self.stack.len() >= DEPTH {
            return Err(MaskError::Limit("it is nested too deeply"));
        }
        let state = self.next;
        self.stack.push(Frame { state, array, index: 0 });
        if array {
            self.next = self.selector.item(state, 0);
            self.expect = Expect::ValueOrEnd;
        } else {
            self.expect = Expect::NameOrEnd;
        }
        Ok(())
    }

    fn close(&mut self, array: bool) -> Result<(), MaskError> {
        if self.stack.pop().is_none_or(|f| f.array != array) {
            return Err(MaskError::Unreadable("JSON"));
        }
        self.over();
        Ok(())
    }

    /// A member's name, which begins at `i`: where it ends, and what takes its place. `None`: it does not end here.
    fn name(&mut self, buf: &[u8], i: usize) -> Result<Option<(usize, Option<Vec<u8>>)>, MaskError> {
        let Some((end, escaped)) = end_of_text(buf, i + 1) else { return Ok(None) };
        let state = self.stack.last().map_or(DEAD, |f| f.state);
        if state == DEAD && !self.selector.sources().names {
            self.next = DEAD;
            return Ok(Some((end + 1, None)));
        }
        let raw = &buf[i + 1..end];
        let plain;
        let name = if escaped {
            plain = escape::plain(raw)?;
            &plain
        } else {
            raw
        };
        self.next = self.selector.member(state, name);
        let patterns = if state == DEAD { 0 } else { self.selector.leaf(state).patterns };
        let replaced = if patterns == 0 {
            None
        } else {
            self.veil.text(Leaf { hide: Hide::No, patterns, form: Form::Unknown }, name)
        };
        Ok(Some((end + 1, replaced)))
    }

    /// A number or a literal; what takes its place.
    fn scalar(&mut self, text: &[u8]) -> Result<Option<String>, MaskError> {
        let leaf = self.leaf();
        match text {
            b"null" => Ok(None),
            b"true" | b"false" => Ok(self.veil.flag(leaf).then(|| "false".to_owned())),
            _ if text.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-')
                && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) =>
            {
                Ok(if leaf.passes() { None } else { self.veil.number(leaf, text).map(|n| n.to_string()) })
            }
            _ => Err(MaskError::Unreadable("JSON")),
        }
    }

    /// On through a text that passes; gives where it goes on.
    fn pass(&mut self, buf: &[u8], mut i: usize, escaped: bool) -> usize {
        if escaped {
            i += 1;
        }
        match end_of_text(buf, i) {
            Some((end, _)) => {
                self.over();
                end + 1
            }
            None => {
                self.mode = Mode::Pass(ends_escaped(buf, i));
                buf.len()
            }
        }
    }

    fn hide(
        &mut self,
        buf: &[u8],
        mut i: usize,
        mut hidden: Box<(Running, Unescape, Form)>,
        out: &mut Vec<u8>,
    ) -> Result<usize, MaskError> {
        let (running, unescape, form) = &mut *hidden;
        while i < buf.len() {
            if unescape.is_amid() {
                i += usize::from(unescape.step(buf[i], &mut |piece| running.update(piece))?);
                continue;
            }
            let end = memchr2(b'"', b'\\', &buf[i..]).map_or(buf.len(), |n| i + n);
            running.update(&buf[i..end]);
            i = end;
            match buf.get(i) {
                None => {}
                Some(b'\\') => {
                    unescape.begin();
                    i += 1;
                }
                Some(_) => {
                    let token = self.veil.token(*form, running.clone());
                    out.extend_from_slice(token.as_bytes());
                    out.push(b'"');
                    self.over();
                    return Ok(i + 1);
                }
            }
        }
        self.mode = Mode::Hide(hidden);
        Ok(i)
    }

    fn gather(
        &mut self,
        buf: &[u8],
        i: usize,
        mut gathered: Box<(Vec<u8>, Leaf)>,
        escaped: bool,
        out: &mut Vec<u8>,
    ) -> Result<usize, MaskError> {
        let (raw, leaf) = &mut *gathered;
        let Some((end, _)) = end_of_text(buf, i + usize::from(escaped)) else {
            raw.extend_from_slice(&buf[i..]);
            if raw.len() > LONGEST_TEXT {
                return Err(MaskError::Limit("a text in it is too long to be looked through"));
            }
            self.mode = Mode::Gather(gathered, ends_escaped(buf, i + usize::from(escaped)));
            return Ok(buf.len());
        };
        raw.extend_from_slice(&buf[i..end]);
        if raw.len() > LONGEST_TEXT {
            return Err(MaskError::Limit("a text in it is too long to be looked through"));
        }
        match self.veil.text(*leaf, &escape::plain(raw)?) {
            Some(text) => escape::write(&text, out),
            None => out.extend_from_slice(raw),
        }
        out.push(b'"');
        self.over();
        Ok(end + 1)
    }
}

/// Where the quote is that ends a text, and whether there is a backslash before it.
fn end_of_text(buf: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut skip = from;
    let mut escaped = false;
    for at in memchr2_iter(b'"', b'\\', buf.get(from..)?).map(|n| from + n) {
        if at < skip {
            continue;
        }
        if buf[at] == b'"' {
            return Some((at, escaped));
        }
        escaped = true;
        skip = at + 2;
    }
    None
}

/// Whether the last byte is a backslash that begins an escape.
fn ends_escaped(buf: &[u8], from: usize) -> bool {
    let run = buf.get(from..).unwrap_or_default().iter().rev().take_while(|b| **b == b'\\').count();
    run % 2 == 1
}
