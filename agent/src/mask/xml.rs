//! XML, hidden while it passes.
//!
//! Owns a reader that may be cut anywhere: tags are held until they are whole, texts are not. What has a document type, is
//! in another encoding than UTF-8, or is not well-formed is an error. Pure.

mod markup;

use memchr::{memchr, memmem};

use super::MaskError;
use super::json::LONGEST_TEXT;
use super::select::xml::Element;
use super::select::{DEAD, Form, Hide, Leaf, Selector, State};
use super::token::Running;
use super::veil::Veil;
use markup::{Tag, entity, escape, is_space, local, unreadable};

const DEPTH: usize = 512;
/// Longest tag, comment, name or key.
const LONGEST_TOKEN: usize = 64 << 10;
const CDATA: &[u8] = b"<![CDATA[";
const CDATA_END: &[u8] = b"]]>";

struct Frame {
    state: State,
    /// Where its name begins in the names of all that are open.
    name: usize,
    children: u32,
    /// The key of an entry, once it has come.
    key: Option<Vec<u8>>,
    text: Chars,
}

/// What becomes of the text in an element.
enum Chars {
    Pass,
    /// Space alone is no value, and is held until something follows.
    Hide {
        form: Form,
        space: Vec<u8>,
        running: Option<Box<Running>>,
    },
    /// Held until its end: as it came, and what it means.
    Gather {
        leaf: Leaf,
        raw: Vec<u8>,
        plain: Vec<u8>,
    },
    /// The key of an entry: passes, and is remembered.
    Key(Vec<u8>),
}

pub(super) struct Xml {
    selector: Selector,
    veil: Veil,
    root: State,
    stack: Vec<Frame>,
    names: Vec<u8>,
    carry: Vec<u8>,
    cdata: bool,
    begun: bool,
    any: bool,
}

impl Xml {
    pub fn new(selector: Selector, root: State, veil: Veil) -> Self {
        Self {
            selector,
            veil,
            root,
            stack: Vec::new(),
            names: Vec::new(),
            carry: Vec::new(),
            cdata: false,
            begun: false,
            any: false,
        }
    }

    pub fn changed(&self) -> bool {
        self.veil.changed
    }

    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.any |= !input.is_empty();
        if self.carry.is_empty() {
            let used = self.run(input, out)?;
            self.carry.extend_from_slice(&input[used..]);
        } else {
            let mut whole = std::mem::take(&mut self.carry);
            whole.extend_from_slice(input);
            let used = self.run(&whole, out)?;
            whole.drain(..used);
            self.carry = whole;
        }
        if self.carry.len() > LONGEST_TOKEN {
            return Err(MaskError::Limit("a tag in it is too long"));
        }
        self.selector.check()
    }

    pub fn finish(&mut self, _: &mut Vec<u8>) -> Result<(), MaskError> {
        let whole = self.carry.is_empty() && self.stack.is_empty() && self.begun && !self.cdata;
        if whole || !self.any { Ok(()) } else { Err(unreadable()) }
    }

    /// Gives how much was used; the rest is the beginning of something.
    fn run(&mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<usize, MaskError> {
        let mut i = 0;
        while i < buf.len() {
            let used = if self.cdata {
                self.cdata(&buf[i..], out)?
            } else if buf[i] == b'<' {
                self.markup(&buf[i..], out)?
            } else {
                self.text(&buf[i..], out)?
            };
            match used {
                0 => break,
                used => i += used,
            }
        }
        Ok(i)
    }

    /// Text up to the next tag, or as far as it goes.
    fn text(&mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<usize, MaskError> {
        let end = memchr(b'<', buf).unwrap_or(buf.len());
        let Some(frame) = self.stack.last_mut() else {
            // Around the document there is space, and before it a mark of the byte order.
            let mark = |b: &u8| !self.begun && matches!(b, 0xef | 0xbb | 0xbf);
            if !buf[..end].iter().all(|b| is_space(*b) || mark(b)) {
                return Err(unreadable());
            }
            out.extend_from_slice(&buf[..end]);
            return Ok(end);
        };
        if matches!(frame.text, Chars::Pass) {
            out.extend_from_slice(&buf[..end]);
            return Ok(end);
        }
        let mut i = 0;
        while i < end {
            if buf[i] == b'&' {
                let Some(length) = memchr(b';', &buf[i..end]) else {
                    // It is not whole yet, or none.
                    let amid = end == buf.len() && end - i <= markup::LONGEST_ENTITY;
                    return if amid { Ok(i) } else { Err(unreadable()) };
                };
                let raw = &buf[i..=i + length];
                let meant = entity(raw)?;
                let mut room = [0; 4];
                frame.text.take(raw, meant.encode_utf8(&mut room).as_bytes(), &self.veil, out)?;
                i += length + 1;
            } else {
                let to = memchr(b'&', &buf[i..end]).map_or(end, |n| i + n);
                frame.text.take(&buf[i..to], &buf[i..to], &self.veil, out)?;
                i = to;
            }
        }
        Ok(end)
    }

    /// Inside `<![CDATA[`.
    fn cdata(&mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<usize, MaskError> {
        let found = memmem::find(buf, CDATA_END);
        // Two brackets may be the beginning of the end.
        let end = found.unwrap_or(buf.len().saturating_sub(CDATA_END.len() - 1));
        let Some(frame) = self.stack.last_mut() else { return Err(unreadable()) };
        frame.text.take(&buf[..end], &buf[..end], &self.veil, out)?;
        if found.is_none() {
            return Ok(end);
        }
        self.cdata = false;
        frame.text.mark(CDATA_END, out);
        Ok(end + CDATA_END.len())
    }

    /// Something that begins with `<`; 0: it is not whole yet.
    fn markup(&mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<usize, MaskError> {
        let until = |from: usize, end: &[u8]| {
            buf.get(from..).and_then(|b| memmem::find(b, end)).map_or(0, |n| from + n + end.len())
        };
        match buf.get(1) {
            None => Ok(0),
            Some(b'?') => {
                let length = until(2, b"?>");
                if length > 0 && buf.starts_with(b"<?xml") && !markup::is_utf8(&buf[..length]) {
                    return Err(unreadable());
                }
                self.aside(&buf[..length], out);
                Ok(length)
            }
            Some(b'!') if buf.len() < CDATA.len() && (CDATA.starts_with(buf) || b"<!--".starts_with(buf)) => Ok(0),
            Some(b'!') if buf.starts_with(CDATA) => {
                let Some(frame) = self.stack.last_mut() else { return Err(unreadable()) };
                frame.text.mark(CDATA, out);
                self.cdata = true;
                Ok(CDATA.len())
            }
            Some(b'!') if buf.starts_with(b"<!--") => {
                let length = until(4, b"-->");
                self.aside(&buf[..length], out);
                Ok(length)
            }
            Some(b'!') => Err(unreadable()),
            Some(b'/') => match memchr(b'>', buf) {
                Some(end) => {
                    self.close(&buf[..=end], out)?;
                    Ok(end + 1)
                }
                None => Ok(0),
            },
            Some(_) => match Tag::end(buf) {
                Some(end) => {
                    self.open(&buf[..end], out)?;
                    Ok(end)
                }
                None => Ok(0),
            },
        }
    }

    /// A comment, or what is for a program: gone where something is hidden.
    fn aside(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if self.stack.last().is_none_or(|f| matches!(f.text, Chars::Pass | Chars::Key(_))) {
            out.extend_from_slice(raw);
        }
    }

    fn open(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        let tag = Tag::read(raw)?;
        if self.stack.is_empty() && std::mem::replace(&mut self.begun, true) {
            return Err(unreadable());
        }
        if self.stack.len() >= DEPTH {
            return Err(MaskError::Limit("it is nested too deeply"));
        }
        self.flush(out);
        let names = self.selector.sources().names;
        let name = local(tag.name);
        let (state, mut key) = match self.stack.last_mut() {
            Some(frame) if frame.state == DEAD && !names => (DEAD, false),
            parent => {
                let (around, index) = parent.as_ref().map_or((self.root, 0), |f| (f.state, f.children));
                match self.selector.element(around, name, index) {
                    Element::At(state) => (state, false),
                    Element::Key => (DEAD, true),
                    Element::Value => {
                        let key = parent.as_ref().and_then(|f| f.key.as_deref());
                        (self.selector.value(around, key), false)
                    }
                }
            }
        };
        key &= !tag.empty;
        if let Some(parent) = self.stack.last_mut() {
            parent.children = parent.children.saturating_add(1);
        }
        if tag.attributes.is_empty() || (state == DEAD && !names) {
            out.extend_from_slice(raw);
        } else {
            self.attributes(raw, &tag, state, out);
        }
        if tag.empty {
            return Ok(());
        }
        let leaf = self.selector.leaf(state);
        let text = match leaf {
            _ if key => Chars::Key(Vec::new()),
            leaf if leaf.passes() => Chars::Pass,
            Leaf { hide: Hide::No, .. } => Chars::Gather { leaf, raw: Vec::new(), plain: Vec::new() },
            leaf => Chars::Hide { form: leaf.form, space: Vec::new(), running: None },
        };
        self.stack.push(Frame { state, name: self.names.len(), children: 0, key: None, text });
        self.names.extend_from_slice(tag.name);
        Ok(())
    }

    fn attributes(&mut self, raw: &[u8], tag: &Tag<'_>, state: State, out: &mut Vec<u8>) {
        let mut from = 0;
        for attribute in &tag.attributes {
            if attribute.is_about_the_form() {
                continue;
            }
            let name = [b"@", local(attribute.name)].concat();
            let Element::At(found) = self.selector.element(state, &name, 0) else { continue };
            let leaf = self.selector.leaf(found);
            if leaf.passes() {
                continue;
            }
            if let Some(hidden) = self.veil.text(Leaf { form: Form::Unknown, ..leaf }, &attribute.meant) {
                out.extend_from_slice(&raw[from..attribute.value.start]);
                escape(&hidden, out);
                from = attribute.value.end;
            }
        }
        out.extend_from_slice(&raw[from..]);
    }

    fn close(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
        self.flush(out);
        let name = raw[2..raw.len() - 1].trim_ascii_end();
        let frame = self.stack.pop().ok_or_else(unreadable)?;
        if self.names[frame.name..] != *name {
            return Err(unreadable());
        }
        self.names.truncate(frame.name);
        out.extend_from_slice(raw);
        if let (Chars::Key(key), Some(entry)) = (frame.text, self.stack.last_mut()) {
            entry.key = Some(key);
        }
        Ok(())
    }

    /// The text so far has ended, at a tag.
    fn flush(&mut self, out: &mut Vec<u8>) {
        match self.stack.last_mut().map(|f| &mut f.text) {
            Some(Chars::Hide { form, space, running }) => match running.take() {
                None => out.append(space),
                Some(running) => {
                    let token = self.veil.token(*form, *running);
                    out.extend_from_slice(token.as_bytes());
                }
            },
            Some(Chars::Gather { leaf, raw, plain }) => {
                match self.veil.text(*leaf, plain) {
                    Some(hidden) => escape(&hidden, out),
                    None => out.extend_from_slice(raw),
                }
                raw.clear();
                plain.clear();
            }
            _ => {}
        }
    }
}

impl Chars {
    /// A piece of text, as it came and as it is meant.
    fn take(&mut self, raw: &[u8], meant: &[u8], veil: &Veil, out: &mut Vec<u8>) -> Result<(), MaskError> {
        let most = |held: &Vec<u8>, most: usize| {
            if held.len() > most {
                return Err(MaskError::Limit("a text in it is too long to be looked through"));
            }
            Ok(())
        };
        match self {
            Self::Pass => out.extend_from_slice(raw),
            Self::Key(key) => {
                out.extend_from_slice(raw);
                key.extend_from_slice(meant);
                most(key, LONGEST_TOKEN)?;
            }
            Self::Gather { raw: held, plain, .. } => {
                held.extend_from_slice(raw);
                plain.extend_from_slice(meant);
                most(held, LONGEST_TEXT)?;
            }
            Self::Hide { space, running, .. } => {
                if running.is_none() && meant.iter().all(|b| is_space(*b)) {
                    space.extend_from_slice(meant);
                    return most(space, LONGEST_TOKEN);
                }
                let running = running.get_or_insert_with(|| {
                    let mut running = Box::new(veil.begin());
                    running.update(space);
                    space.clear();
                    running
                });
                running.update(meant);
            }
        }
        Ok(())
    }

    /// Marks around a piece, which are none of the text.
    fn mark(&mut self, mark: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Pass | Self::Key(_) => out.extend_from_slice(mark),
            Self::Gather { raw, .. } => raw.extend_from_slice(mark),
            Self::Hide { .. } => {}
        }
    }
}
