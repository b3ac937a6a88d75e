//! Where in an answer something is to be hidden: a walk along the model's shapes and the rules' paths at once.
//!
//! Owns an automaton that is made as far as the answer goes: a state is what may still be found below a value. The readers
//! of the protocols ([`super::json`], [`super::xml`], [`super::cbor`]) ask it for the state of each member, item or element.
//! What cannot lead anywhere is one state, [`DEAD`]. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::MaskError;
use super::names::is_secret_bytes;
use super::path::{Path, Pick, Step};
use super::pattern::Set;
use crate::aws::model::{Detail, Kind, Member, Members, ShapeId};

pub(super) mod xml;

/// Everything that is to be hidden in the answers of one operation.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// Members that AWS's model calls sensitive.
    pub sensitive: bool,
    /// Members that are named like secrets.
    pub names: bool,
    pub targets: Vec<Target>,
    /// What the answer is, where the model says so.
    pub shape: Option<(&'static Detail, ShapeId)>,
    /// What stands for itself in any text: bits of [`Self::patterns`].
    pub anywhere: u64,
    pub patterns: Arc<Set>,
    /// Numbers stand in texts (`N`, `NS`).
    pub dynamodb: bool,
}

impl Sources {
    pub fn is_empty(&self) -> bool {
        let tells = || self.shape.is_some_and(|(detail, shape)| detail.tells(shape));
        !self.names && self.targets.is_empty() && self.anywhere == 0 && !(self.sensitive && tells())
    }
}

/// A place in the answer, and what is hidden there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub path: Arc<Path>,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Whole,
    /// What these patterns find: bits of a [`Set`].
    Patterns(u64),
}

/// Whether a value is hidden whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hide {
    No,
    /// By the model or its name: a yes or no stays, it is no secret.
    Soft,
    /// By a rule.
    Hard,
}

/// What is known of a value where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Unknown,
    Blob,
    Moment,
    /// A number, also where the protocol has texts.
    Number,
    Boolean,
}

/// What becomes of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub hide: Hide,
    pub patterns: u64,
    pub form: Form,
}

impl Leaf {
    pub fn passes(self) -> bool {
        self.hide == Hide::No && self.patterns == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State(u32);

/// Nothing can be found below.
pub(super) const DEAD: State = State(0);
/// States beyond which an answer is taken for an attack.
const MOST: usize = 1 << 16;
/// Names that a state remembers.
const REMEMBERED: usize = 512;

/// What stands at a place, by the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    /// The model does not say.
    Open,
    Shape(ShapeId),
    /// A number in a text.
    Digits,
    /// Elements around the answer, and what is in them.
    Wrap(u8, Option<ShapeId>),
    /// Elements around items; around entries; around a key and its value.
    Items(ShapeId),
    Entries(ShapeId),
    Entry(ShapeId),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    /// Targets, and how many of each one's steps have been gone.
    live: Box<[(u16, u8)]>,
    node: Node,
    hide: Hide,
    patterns: u64,
}

#[derive(Debug)]
struct Known {
    place: Place,
    named: HashMap<Box<[u8]>, State>,
    items: Option<State>,
    /// Members and items are as the value itself.
    uniform: bool,
    /// A position in a list is told apart.
    positions: bool,
}

#[derive(Debug)]
pub(super) struct Selector {
    sources: Arc<Sources>,
    states: Vec<Known>,
    numbers: HashMap<Place, State>,
    overflown: bool,
}

impl Selector {
    pub fn new(sources: Arc<Sources>) -> Self {
        let mut selector = Self { sources, states: Vec::new(), numbers: HashMap::new(), overflown: false };
        selector.state(Place { live: [].into(), node: Node::Open, hide: Hide::No, patterns: 0 });
        selector
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// More states than an honest answer needs.
    pub fn check(&self) -> Result<(), MaskError> {
        if self.overflown { Err(MaskError::Limit("it is more intricate than any of AWS's answers")) } else { Ok(()) }
    }

    /// The whole answer.
    pub fn root(&mut self) -> State {
        let node = self.sources.shape.map_or(Node::Open, |(_, shape)| Node::Shape(shape));
        self.begin(node)
    }

    fn begin(&mut self, node: Node) -> State {
        let sources = self.sources.clone();
        let mut place = Place { live: [].into(), node, hide: Hide::No, patterns: sources.anywhere };
        let mut live = Vec::new();
        for (n, target) in (0..).zip(&sources.targets) {
            if target.path.steps.is_empty() { place.found(target.what) } else { live.push((n, 0)) }
        }
        place.live = live.into();
        self.state(place)
    }

    /// A member of the answer by AWS's name: the one that is the body.
    pub fn enter(&mut self, at: State, name: &str) -> State {
        let place = self.known(at).place.clone();
        let member = match place.node {
            Node::Shape(shape) => self.members(shape).and_then(|m| m.all.iter().find(|m| m.name == name)),
            _ => None,
        };
        self.child(&place, name.as_bytes(), member)
    }

    /// The same place, of which the model says no more than that it is there.
    pub fn opened(&mut self, at: State) -> State {
        let place = Place { node: Node::Open, ..self.known(at).place.clone() };
        self.state(place)
    }

    /// Whether a path goes on below.
    pub fn goes_on(&self, at: State) -> bool {
        !self.known(at).place.live.is_empty()
    }

    /// All members that the model knows there.
    pub fn each(&mut self, at: State) -> Vec<State> {
        let place = self.known(at).place.clone();
        let Node::Shape(shape) = place.node else { return Vec::new() };
        let members = self.members(shape).map_or(&[][..], |m| &m.all);
        members.iter().map(|m| self.child(&place, m.wire.as_bytes(), Some(m))).collect()
    }

    /// A member of an object, or a value of a map, by its name on the wire.
    pub fn member(&mut self, at: State, name: &[u8]) -> State {
        if at == DEAD {
            return if self.sources.names && is_secret_bytes(name) { self.secret() } else { DEAD };
        }
        let known = self.known(at);
        if known.uniform && (known.place.hide != Hide::No || !self.sources.names) {
            return at;
        }
        if let Some(found) = known.named.get(name) {
            return *found;
        }
        let place = known.place.clone();
        let wire = std::str::from_utf8(name).unwrap_or_default();
        let member = match place.node {
            Node::Shape(shape) => self.members(shape).and_then(|m| m.by_wire(wire)),
            _ => None,
        };
        let found = self.child(&place, name, member);
        self.remember(at, name, found)
    }

    /// An item of a list.
    pub fn item(&mut self, at: State, index: u32) -> State {
        if at == DEAD {
            return DEAD;
        }
        let known = self.known(at);
        if known.uniform {
            return at;
        }
        if let (Some(items), false) = (known.items, known.positions) {
            return items;
        }
        let place = known.place.clone();
        let node = match place.node {
            Node::Shape(shape) => match self.kind(shape) {
                Some(Kind::List(item, _)) => Node::Shape(item),
                _ => Node::Open,
            },
            Node::Digits => Node::Digits,
            _ => Node::Open,
        };
        let found = self.step(&place, node, |pick| match pick {
            Pick::Any => true,
            Pick::Item(n) => *n == index,
            Pick::Name(_) => false,
        });
        let found = self.state(found);
        if let Some(known) = self.states.get_mut(at.0 as usize) {
            known.items = Some(found);
        }
        found
    }

    pub fn leaf(&self, at: State) -> Leaf {
        let place = &self.known(at).place;
        let form = match place.node {
            Node::Digits => Form::Number,
            Node::Shape(shape) => match self.kind(shape) {
                Some(Kind::Blob) => Form::Blob,
                Some(Kind::Timestamp) => Form::Moment,
                Some(Kind::Integer | Kind::Float) => Form::Number,
                Some(Kind::Boolean) => Form::Boolean,
                _ => Form::Unknown,
            },
            _ => Form::Unknown,
        };
        Leaf { hide: place.hide, patterns: place.patterns, form }
    }

    /// Everything below is hidden, as what is named like a secret is.
    fn secret(&mut self) -> State {
        self.state(Place { live: [].into(), node: Node::Open, hide: Hide::Soft, patterns: 0 })
    }

    fn child(&mut self, place: &Place, wire: &[u8], member: Option<&'static Member>) -> State {
        let node = match (place.node, member) {
            (_, Some(member)) if self.is_number(member) => Node::Digits,
            (_, Some(member)) => Node::Shape(member.shape),
            (Node::Shape(shape), None) => match self.kind(shape) {
                Some(Kind::Map { value, .. }) => Node::Shape(value),
                _ => Node::Open,
            },
            _ => Node::Open,
        };
        let name = member.map_or("", |m| m.name);
        let mut found = self.step(place, node, |pick| match pick {
            Pick::Any => true,
            Pick::Name(wanted) => wanted == name || wanted.as_bytes() == wire,
            Pick::Item(_) => false,
        });
        self.say(&mut found, wire, member);
        self.state(found)
    }

    /// What the model and the name say of a member.
    fn say(&self, place: &mut Place, wire: &[u8], member: Option<&Member>) {
        let sensitive = self.sources.sensitive && member.is_some_and(|m| m.sensitive);
        if sensitive || (self.sources.names && is_secret_bytes(wire)) {
            place.hide = place.hide.max(Hide::Soft);
        }
    }

    /// One step down the paths.
    fn step(&self, place: &Place, node: Node, picks: impl Fn(&Pick) -> bool) -> Place {
        let mut found = Place { live: [].into(), node, hide: place.hide, patterns: place.patterns };
        let mut live = Vec::new();
        for &(n, gone) in &place.live {
            let Some(target) = self.sources.targets.get(usize::from(n)) else { continue };
            let Some(Step { deep, pick }) = target.path.steps.get(usize::from(gone)) else { continue };
            if *deep {
                live.push((n, gone));
            }
            if picks(pick) {
                if usize::from(gone) + 1 == target.path.steps.len() {
                    found.found(target.what);
                } else {
                    live.push((n, gone + 1));
                }
            }
        }
        live.sort_unstable();
        live.dedup();
        found.live = live.into();
        found
    }

    fn state(&mut self, mut place: Place) -> State {
        let leads = |node| match node {
            Node::Shape(s) | Node::Wrap(_, Some(s)) | Node::Items(s) | Node::Entries(s) | Node::Entry(s) => {
                self.sources.sensitive && self.sources.shape.is_some_and(|(detail, _)| detail.tells(s))
            }
            _ => false,
        };
        let plain = place.hide == Hide::No && place.patterns == 0 && place.live.is_empty();
        if plain && !leads(place.node) {
            place.node = Node::Open;
        }
        if let Some(found) = self.numbers.get(&place) {
            return *found;
        }
        if self.states.len() >= MOST {
            self.overflown = true;
            return DEAD;
        }
        let state = State(u32::try_from(self.states.len()).unwrap_or_default());
        let positions = place.live.iter().any(|(n, gone)| {
            let step = self.sources.targets.get(usize::from(*n)).and_then(|t| t.path.steps.get(usize::from(*gone)));
            step.is_some_and(|s| matches!(s.pick, Pick::Item(_)))
        });
        self.numbers.insert(place.clone(), state);
        let uniform = place.live.is_empty() && place.node == Node::Open;
        self.states.push(Known { place, named: HashMap::new(), items: None, uniform, positions });
        state
    }

    fn remember(&mut self, at: State, name: &[u8], found: State) -> State {
        if let Some(known) = self.states.get_mut(at.0 as usize)
            && known.named.len() < REMEMBERED
            && name.len() < 256
        {
            known.named.insert(name.into(), found);
        }
        found
    }

    fn known(&self, at: State) -> &Known {
        // States are numbered as they are made, and none goes.
        &self.states[at.0 as usize]
    }

    fn kind(&self, shape: ShapeId) -> Option<Kind<'static>> {
        self.sources.shape.map(|(detail, _)| detail.kind(shape))
    }

    fn members(&self, shape: ShapeId) -> Option<&'static Members> {
        match self.kind(shape) {
            Some(Kind::Structure(members)) => Some(members),
            _ => None,
        }
    }

    /// DynamoDB's numbers are texts, which its clients read as numbers.
    fn is_number(&self, member: &Member) -> bool {
        self.sources.dynamodb && matches!(member.name, "N" | "NS")
    }
}

impl Place {
    fn found(&mut self, what: What) {
        match what {
            What::Whole => self.hide = Hide::Hard,
            What::Patterns(bits) => self.patterns |= bits,
        }
    }
}
