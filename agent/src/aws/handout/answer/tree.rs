//! JSON and CBOR answers: both are trees, and are gone through in the same way.

use super::{AnswerError, Ends, Key, Site, Substitute, key, moment_of_number, moment_of_text};

/// A value of a tree.
pub(super) trait Node: Sized {
    fn member(&mut self, name: &str) -> Option<&mut Self>;
    fn items(&mut self) -> Box<dyn Iterator<Item = &mut Self> + '_>;
    fn text(&self) -> Option<&str>;
    fn number(&self) -> Option<f64>;
    fn is_nothing(&self) -> bool;
    fn set(&mut self, text: &str);
}

/// The keys, in the order of the sites and of the document.
pub(super) fn find<N: Node>(root: &mut N, sites: &[Site]) -> Result<Vec<Key>, AnswerError> {
    let mut keys = Vec::new();
    for site in sites {
        visit(root, &site.path, &mut |node| {
            keys.extend(read(node, site)?);
            Ok(())
        })?;
    }
    Ok(keys)
}

/// Puts the substitutes where [`find`] found keys.
pub(super) fn replace<N: Node>(root: &mut N, sites: &[Site], substitutes: &[Substitute<'_>]) {
    let mut left = substitutes.iter();
    for site in sites {
        // What could be read once can be read again.
        let _ = visit(root, &site.path, &mut |node| {
            if read(node, site)?.is_none() {
                return Ok(());
            }
            let Some(substitute) = left.next() else { return Ok(()) };
            for (name, text) in [
                (site.id, substitute.access_key_id),
                (site.secret, substitute.secret_access_key),
                (site.token, substitute.session_token),
            ] {
                if let Some(member) = node.member(name) {
                    member.set(text);
                }
            }
            Ok(())
        });
    }
}

fn visit<N: Node>(
    node: &mut N,
    path: &[&str],
    found: &mut impl FnMut(&mut N) -> Result<(), AnswerError>,
) -> Result<(), AnswerError> {
    match path {
        [] => found(node),
        ["*", rest @ ..] => {
            for item in node.items() {
                visit(item, rest, found)?;
            }
            Ok(())
        }
        [name, rest @ ..] => match node.member(name) {
            Some(member) => visit(member, rest, found),
            None => Ok(()),
        },
    }
}

fn read<N: Node>(node: &mut N, site: &Site) -> Result<Option<Key>, AnswerError> {
    let mut text = |name: &str| {
        // A value that is no text is none that we could take the place of.
        match node.member(name) {
            Some(member) if member.is_nothing() => Ok(None),
            Some(member) => member.text().map(|t| Some(t.to_owned())).ok_or(AnswerError::Partial("text")),
            None => Ok(None),
        }
    };
    let (id, secret, token) = (text(site.id)?, text(site.secret)?, text(site.token)?);
    let ends = node.member(site.ends).filter(|m| !m.is_nothing()).map(|m| moment(m));
    key(site, id, secret, token, ends)
}

fn moment<N: Node>(node: &N) -> Result<Ends, AnswerError> {
    match (node.text(), node.number()) {
        (Some(text), _) => moment_of_text(text),
        (_, Some(n)) => moment_of_number(n),
        _ => Err(AnswerError::Moment),
    }
}

impl Node for serde_json::Value {
    fn member(&mut self, name: &str) -> Option<&mut Self> {
        self.as_object_mut()?.get_mut(name)
    }

    fn items(&mut self) -> Box<dyn Iterator<Item = &mut Self> + '_> {
        match self {
            Self::Array(items) => Box::new(items.iter_mut()),
            Self::Object(members) => Box::new(members.iter_mut().map(|(_, v)| v)),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn text(&self) -> Option<&str> {
        self.as_str()
    }

    fn number(&self) -> Option<f64> {
        self.as_f64()
    }

    fn is_nothing(&self) -> bool {
        self.is_null()
    }

    fn set(&mut self, text: &str) {
        *self = Self::String(text.to_owned());
    }
}

impl Node for ciborium::Value {
    fn member(&mut self, name: &str) -> Option<&mut Self> {
        self.as_map_mut()?.iter_mut().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
    }

    fn items(&mut self) -> Box<dyn Iterator<Item = &mut Self> + '_> {
        match self {
            Self::Array(items) => Box::new(items.iter_mut()),
            Self::Map(members) => Box::new(members.iter_mut().map(|(_, v)| v)),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn text(&self) -> Option<&str> {
        self.as_text()
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Tag(1, inner) => inner.number(),
            Self::Float(f) => Some(*f),
            // Seconds are far below what a float holds exactly.
            Self::Integer(n) => i64::try_from(*n).ok().map(|n| n as f64),
            _ => None,
        }
    }

    fn is_nothing(&self) -> bool {
        self.is_null()
    }

    fn set(&mut self, text: &str) {
        *self = Self::Text(text.to_owned());
    }
}
