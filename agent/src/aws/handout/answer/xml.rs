//! XML answers: only the texts of a key change, every other byte stays.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;

use super::{AnswerError, Key, Site, Substitute, key, moment_of_text};

/// Nesting beyond this is not read.
const MAX_DEPTH: usize = 64;

/// An answer's text, and where its keys stand in it.
pub(super) struct Xml {
    text: String,
    /// Of each key: where id, secret and token stand.
    places: Vec<[Option<Range<usize>>; 3]>,
    pub(super) arn: Option<String>,
}

/// An element that has nothing but text in it.
struct Leaf {
    /// Number of the element that it is in.
    parent: usize,
    path: Vec<String>,
    content: Range<usize>,
}

impl Xml {
    /// `above`: elements around what the model describes.
    pub(super) fn read(text: &str, above: usize, sites: &[Site]) -> Result<(Self, Vec<Key>), AnswerError> {
        let leaves = leaves(text)?;
        let value = |range: &Range<usize>| -> Result<String, AnswerError> {
            unescape(&text[range.clone()]).map(Cow::into_owned).map_err(|e| AnswerError::Unreadable(e.to_string()))
        };
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        for site in sites {
            let mut structures: BTreeMap<usize, Vec<&Leaf>> = BTreeMap::new();
            for leaf in leaves.iter().filter(|l| l.path.len() == above + site.path.len() + 1) {
                let inner = &leaf.path[above..leaf.path.len() - 1];
                if inner.iter().zip(&site.path).all(|(name, wanted)| *wanted == "*" || name == wanted) {
                    structures.entry(leaf.parent).or_default().push(leaf);
                }
            }
            for members in structures.values() {
                let place = |name: &str| {
                    let mut found = members.iter().filter(|l| l.path.last().is_some_and(|n| n == name));
                    match (found.next(), found.next()) {
                        (_, Some(_)) => Err(AnswerError::Unreadable(format!("`{name}` stands there twice"))),
                        (leaf, None) => Ok(leaf.map(|l| l.content.clone())),
                    }
                };
                let all = [place(site.id)?, place(site.secret)?, place(site.token)?];
                let [id, secret, token] = all.each_ref().map(|range| range.as_ref().map(value).transpose());
                let ends = place(site.ends)?.map(|range| value(&range).and_then(|text| moment_of_text(&text)));
                if let Some(key) = key(site, id?, secret?, token?, ends)? {
                    keys.push(key);
                    places.push(all);
                }
            }
        }
        let arn = leaves.iter().find_map(|leaf| match leaf.path.as_slice() {
            [.., user, name] if name == "Arn" && (user == "AssumedRoleUser" || user == "FederatedUser") => {
                value(&leaf.content).ok()
            }
            _ => None,
        });
        Ok((Self { text: text.to_owned(), places, arn }, keys))
    }

    pub(super) fn write(self, substitutes: &[Substitute<'_>]) -> Vec<u8> {
        let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
        for (places, substitute) in self.places.into_iter().zip(substitutes) {
            let texts = [substitute.access_key_id, substitute.secret_access_key, substitute.session_token];
            edits.extend(places.into_iter().zip(texts).filter_map(|(range, text)| Some((range?, text))));
        }
        edits.sort_by_key(|(range, _)| range.start);
        let (mut out, mut at) = (String::with_capacity(self.text.len()), 0);
        for (range, text) in edits {
            out.push_str(&self.text[at..range.start]);
            // Placeholders are of letters, digits, `+` and `/`.
            out.push_str(text);
            at = range.end;
        }
        out.push_str(&self.text[at..]);
        out.into_bytes()
    }
}

fn leaves(text: &str) -> Result<Vec<Leaf>, AnswerError> {
    struct Open {
        number: usize,
        name: String,
        begins: usize,
        plain: bool,
    }
    let unreadable = |what: &dyn std::fmt::Display| AnswerError::Unreadable(what.to_string());
    let mut reader = Reader::from_str(text);
    let (mut open, mut found, mut count) = (Vec::<Open>::new(), Vec::new(), 0);
    loop {
        let before = position(&reader)?;
        match reader.read_event().map_err(|e| unreadable(&e))? {
            Event::Start(start) => {
                if open.len() >= MAX_DEPTH {
                    return Err(unreadable(&"it is nested too deeply"));
                }
                if let Some(parent) = open.last_mut() {
                    parent.plain = false;
                }
                count += 1;
                let name = start.local_name().as_ref().to_owned();
                open.push(Open { number: count, name, begins: position(&reader)?, plain: true });
            }
            Event::End(_) => {
                let Some(done) = open.pop() else { return Err(unreadable(&"an element ends that did not begin")) };
                let Some(parent) = open.last().filter(|_| done.plain) else { continue };
                let path = open.iter().map(|o| o.name.clone()).chain([done.name]).collect();
                found.push(Leaf { parent: parent.number, path, content: done.begins..before });
            }
            Event::Empty(_) => {
                if let Some(parent) = open.last_mut() {
                    parent.plain = false;
                }
            }
            // Text and references to characters.
            Event::Text(_) | Event::GeneralRef(_) | Event::Decl(_) => {}
            Event::Eof => break,
            // They hide where a value begins and ends.
            Event::CData(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {
                return Err(unreadable(&"it has CDATA, comments, instructions or a document type"));
            }
        }
    }
    if !open.is_empty() {
        return Err(unreadable(&"an element does not end"));
    }
    Ok(found)
}

fn position(reader: &Reader<&[u8]>) -> Result<usize, AnswerError> {
    usize::try_from(reader.buffer_position()).map_err(|e| AnswerError::Unreadable(e.to_string()))
}
