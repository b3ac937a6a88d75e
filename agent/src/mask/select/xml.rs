//! The same walk along elements: lists and maps have elements of their own in XML.
//!
//! Owns which element stands for which member, item, key or value. Pure.

use super::{DEAD, Hide, Node, Pick, Place, Selector, State};
use crate::aws::model::{Kind, Member, ShapeId};

/// What an element is to the one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mask) enum Element {
    At(State),
    /// The key of an entry: its text says where the value stands.
    Key,
    /// The value of an entry.
    Value,
}

impl Selector {
    /// The answer in `wraps` elements.
    pub fn wrapped(&mut self, wraps: u8) -> State {
        let shape = self.sources.shape.map(|(_, shape)| shape);
        self.begin(Node::Wrap(wraps, shape))
    }

    /// The member that is the body, in an element of its own.
    pub fn wrapped_member(&mut self, name: &str) -> State {
        let root = self.root();
        let at = self.enter(root, name);
        self.wrapping(at)
    }

    /// The same value in an element of its own.
    pub fn wrapping(&mut self, at: State) -> State {
        let mut place = self.known(at).place.clone();
        place.node = match place.node {
            Node::Shape(shape) => Node::Wrap(1, Some(shape)),
            _ => Node::Wrap(1, None),
        };
        self.state(place)
    }

    /// An element by its name, of which `index` others of the same parent have come before.
    pub fn element(&mut self, at: State, name: &[u8], index: u32) -> Element {
        if at == DEAD {
            return Element::At(self.member(at, name));
        }
        let known = self.known(at);
        if known.uniform && (known.place.hide != Hide::No || !self.sources.names) {
            return Element::At(at);
        }
        let place = known.place.clone();
        if let Node::Entry(map) = place.node {
            let Some(Kind::Map { key_name, value_name, .. }) = self.kind(map) else { return Element::At(DEAD) };
            return match name {
                n if n == key_name.as_bytes() => Element::Key,
                n if n == value_name.as_bytes() => Element::Value,
                _ => Element::At(DEAD),
            };
        }
        if !matches!(place.node, Node::Items(_))
            && let Some(found) = known.named.get(name)
        {
            return Element::At(*found);
        }
        let found = match place.node {
            Node::Wrap(left, shape) => return Element::At(self.unwrapped(place, left, shape, name)),
            Node::Items(item) => {
                let node = self.within(item);
                let inner = self.step(&place, node, |pick| match pick {
                    Pick::Any => true,
                    Pick::Item(n) => *n == index,
                    Pick::Name(_) => false,
                });
                return Element::At(self.state(inner));
            }
            Node::Entries(map) => {
                let inner = Place { node: Node::Entry(map), ..place };
                self.state(inner)
            }
            Node::Shape(shape) => self.member_element(&place, shape, name),
            Node::Open | Node::Digits | Node::Entry(_) => self.open_element(&place, name),
        };
        Element::At(self.remember(at, name, found))
    }

    /// The value of an entry whose key has come, or has not.
    pub fn value(&mut self, at: State, key: Option<&[u8]>) -> State {
        let place = self.known(at).place.clone();
        let Node::Entry(map) = place.node else { return at };
        let Some(Kind::Map { value, .. }) = self.kind(map) else { return DEAD };
        let node = self.within(value);
        let mut found = self.step(&place, node, |pick| match (pick, key) {
            (Pick::Any, _) => true,
            (Pick::Name(name), Some(key)) => name.as_bytes() == key,
            // It may be the one.
            (Pick::Name(_), None) => true,
            (Pick::Item(_), _) => false,
        });
        if let Some(key) = key {
            self.say(&mut found, key, None);
        }
        self.state(found)
    }

    fn unwrapped(&mut self, place: Place, left: u8, shape: Option<ShapeId>, name: &[u8]) -> State {
        match (left, shape) {
            (2.., _) => self.state(Place { node: Node::Wrap(left - 1, shape), ..place }),
            (_, Some(shape)) if left == 1 && is_result(name) => {
                let node = self.within(shape);
                self.state(Place { node, ..place })
            }
            // Beside the result: request ids.
            _ => self.open_element(&Place { live: [].into(), node: Node::Open, ..place }, name),
        }
    }

    fn member_element(&mut self, place: &Place, shape: ShapeId, name: &[u8]) -> State {
        let text = std::str::from_utf8(name).unwrap_or_default();
        let member = self.members(shape).and_then(|members| {
            // The items of a flattened list stand under a name of their own.
            members
                .by_wire(text)
                .or_else(|| members.all.iter().find(|m| m.flat && m.form == text))
                .or_else(|| members.all.iter().find(|m| m.flat && self.item_name(m.shape) == Some(text)))
        });
        let Some(member) = member else { return self.open_element(place, name) };
        let by_name = |pick: &Pick| match pick {
            Pick::Any => true,
            Pick::Name(wanted) => wanted == member.name || wanted == text,
            Pick::Item(_) => false,
        };
        let node = self.node_of(member);
        let mut found = self.step(place, node, by_name);
        self.say(&mut found, name, Some(member));
        if member.flat
            && let Some(Kind::List(item, _)) = self.kind(member.shape)
        {
            // The element is an item already; which one of them is not counted, so that any position fits.
            let node = self.within(item);
            let inner = self.step(&found, node, |pick| matches!(pick, Pick::Any | Pick::Item(_)));
            return self.state(inner);
        }
        self.state(found)
    }

    fn item_name(&self, list: ShapeId) -> Option<&'static str> {
        match self.kind(list) {
            Some(Kind::List(_, name)) => Some(name),
            _ => None,
        }
    }

    fn node_of(&self, member: &Member) -> Node {
        match self.kind(member.shape) {
            _ if self.is_number(member) => Node::Digits,
            Some(Kind::Map { .. }) if member.flat => Node::Entry(member.shape),
            _ => self.within(member.shape),
        }
    }

    /// What is in an element that holds a value of this shape.
    fn within(&self, shape: ShapeId) -> Node {
        match self.kind(shape) {
            Some(Kind::List(item, _)) => Node::Items(item),
            Some(Kind::Map { .. }) => Node::Entries(shape),
            _ => Node::Shape(shape),
        }
    }

    /// An element of a document that the model does not know: lists are elements of the same name, one after another, and
    /// `[*]` or a position after the name means each of them.
    fn open_element(&mut self, place: &Place, name: &[u8]) -> State {
        let by_name = |pick: &Pick| match pick {
            Pick::Any => true,
            Pick::Name(wanted) => wanted.as_bytes() == name,
            Pick::Item(_) => false,
        };
        let mut found = self.step(place, Node::Open, by_name);
        let listed = self.step(&found, Node::Open, |pick| matches!(pick, Pick::Any | Pick::Item(_)));
        found.hide = found.hide.max(listed.hide);
        found.patterns |= listed.patterns;
        let mut live = [found.live, listed.live].concat();
        live.sort_unstable();
        live.dedup();
        found.live = live.into();
        self.say(&mut found, name, None);
        self.state(found)
    }
}

/// Whether an element in a response holds the answer: what else is there says which request it was.
fn is_result(name: &[u8]) -> bool {
    !matches!(name, b"ResponseMetadata" | b"requestId" | b"RequestId")
}
