//! One service: its operations, the shapes of their inputs, and the way from a request to an operation.
//!
//! The head (names, protocols) comes from the index; the rest is read on first use. Pure.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::bytes::Reader;
use super::route::{Routes, Step};
use crate::aws::{AccessLevel, Protocol};

/// A service, as botocore has it.
#[derive(Debug)]
pub struct Service {
    /// botocore's name (`s3control`).
    pub id: &'static str,
    /// Names that its requests are signed with, the usual one first.
    pub signing: Box<[&'static str]>,
    /// Prefix of its IAM actions.
    pub iam: &'static str,
    pub protocols: Box<[Protocol]>,
    /// What stands before the operation in `X-Amz-Target`, and names the service in RPC paths; may be empty.
    pub target: &'static str,
    /// `Version` of the query protocols.
    pub version: &'static str,
    pub(super) section: usize,
    detail: OnceLock<Option<Detail>>,
}

/// What is read of a service on first use.
#[derive(Debug)]
pub struct Detail {
    pub operations: Box<[Op]>,
    shapes: Box<[Shape]>,
    names: HashMap<&'static str, u32>,
    routes: Routes,
    /// Of each shape, whether a sensitive member is reached from it.
    telling: OnceLock<Box<[bool]>>,
}

/// An operation.
#[derive(Debug)]
pub struct Op {
    pub name: &'static str,
    pub method: &'static str,
    /// Path template; empty where the protocol has no paths, or another operation has taken this one's place.
    pub path: &'static str,
    /// Names and values that the query must have.
    pub constants: Box<[(&'static str, &'static str)]>,
    /// Query parameters and headers that it cannot be without.
    pub need_query: Box<[&'static str]>,
    pub need_header: Box<[&'static str]>,
    pub input: ShapeId,
    /// Member that is the body.
    pub payload: &'static str,
    /// The body is bytes or events: not read.
    pub stream: bool,
    /// It has members in the body.
    pub body: bool,
    /// Its answer hands out credentials.
    pub credentials: bool,
    /// IAM asks for `iam:PassRole` for the roles that it names.
    pub passes: bool,
    pub level: AccessLevel,
    /// The answer; a scalar if there is none.
    pub output: ShapeId,
    /// Member of the answer that is its body, or its stream of events; may be empty.
    pub answer: &'static str,
    /// IAM actions, each with the ARN templates of its resources; empty if none is known.
    pub needs: Box<[(&'static str, Box<[&'static str]>)]>,
}

/// Index of a shape; the first few are the scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(u32);

/// Number of scalar kinds, which come before all others.
const SCALARS: u32 = 7;

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    Text,
    Integer,
    Float,
    Boolean,
    Blob,
    Timestamp,
    /// Any JSON.
    Document,
    Structure(&'a Members),
    List(ShapeId, &'static str),
    Map {
        value: ShapeId,
        key_name: &'static str,
        value_name: &'static str,
    },
}

#[derive(Debug)]
enum Shape {
    Structure(Members),
    List(ShapeId, &'static str),
    Map { value: ShapeId, key_name: &'static str, value_name: &'static str },
}

/// The members of a structure.
#[derive(Debug)]
pub struct Members {
    pub all: Box<[Member]>,
    /// Positions by the name on the wire in JSON, CBOR and XML.
    wires: HashMap<&'static str, u16>,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// AWS's name, which policies use.
    pub name: &'static str,
    /// Name in JSON, CBOR, XML, paths, queries and headers.
    pub wire: &'static str,
    /// Name in forms.
    pub form: &'static str,
    pub place: Place,
    pub shape: ShapeId,
    /// A list or map without an element of its own around it.
    pub flat: bool,
    /// The model calls its value, or what is listed in it, sensitive.
    pub sensitive: bool,
    pub role: Role,
}

/// Whether a member names a role that AWS is to take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    No,
    /// If it is a role's ARN.
    IfArn,
    /// However it is written; a structure if it is there at all.
    Yes,
}

/// The input of an operation, with the shapes that it refers to.
#[derive(Clone, Copy)]
pub struct Input {
    pub detail: &'static Detail,
    pub op: &'static Op,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        // Each is read once and stays where it is.
        std::ptr::eq(self.op, other.op)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({})", self.op.name)
    }
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Body,
    Path,
    Query,
    Header,
    /// All headers that begin with the wire name.
    Headers,
    XmlAttribute,
}

impl Service {
    pub(super) fn read(reader: &mut Reader, section: usize) -> Option<Self> {
        Some(Self {
            id: reader.text()?,
            signing: reader.texts()?,
            iam: reader.text()?,
            protocols: reader.list(|r| {
                Some(match r.byte()? {
                    0 => Protocol::Query,
                    1 => Protocol::Ec2,
                    2 => Protocol::Json10,
                    3 => Protocol::Json11,
                    4 => Protocol::RestJson,
                    5 => Protocol::RestXml,
                    6 => Protocol::RpcV2Cbor,
                    _ => return None,
                })
            })?,
            target: reader.text()?,
            version: reader.text()?,
            section,
            detail: OnceLock::new(),
        })
    }

    pub fn speaks(&self, protocol: Protocol) -> bool {
        self.protocols.contains(&protocol)
    }

    /// Its operations; `None` if the model is damaged there.
    pub fn detail(&self) -> Option<&Detail> {
        self.detail.get_or_init(|| Detail::read(super::pack()?.section(self.section)?)).as_ref()
    }
}

impl Detail {
    pub(super) fn read(mut reader: Reader) -> Option<Self> {
        let shapes = reader.list(Shape::read)?;
        let operations = reader.list(Op::read)?;
        let known = |id: ShapeId| (id.0 as usize) < SCALARS as usize + shapes.len();
        let sound = shapes.iter().all(|shape| match shape {
            Shape::Structure(members) => members.all.iter().all(|m| known(m.shape)),
            Shape::List(item, _) => known(*item),
            Shape::Map { value, .. } => known(*value),
        }) && operations.iter().all(|op| known(op.input) && known(op.output));
        if !sound {
            return None;
        }
        let numbered = || operations.iter().zip(0u32..);
        let names = numbered().map(|(op, n)| (op.name, n)).collect();
        let routes = Routes::of(numbered().filter(|(op, _)| !op.path.is_empty()).map(|(op, n)| (op.path, n)));
        Some(Self { operations, shapes, names, routes, telling: OnceLock::new() })
    }

    pub fn operation(&self, name: &str) -> Option<&Op> {
        self.operations.get(*self.names.get(name)? as usize)
    }

    /// Offers every set of operations whose path templates fit, the most specific first, until `take` takes one.
    pub fn walk<T>(&self, path: &str, take: &mut impl FnMut(Step<'_>) -> Option<T>) -> Option<T> {
        self.routes.walk(path, take)
    }

    pub fn kind(&self, id: ShapeId) -> Kind<'_> {
        match (id.0, (id.0 as usize).checked_sub(SCALARS as usize).and_then(|n| self.shapes.get(n))) {
            (_, Some(Shape::Structure(members))) => Kind::Structure(members),
            (_, Some(Shape::List(item, name))) => Kind::List(*item, name),
            (_, Some(Shape::Map { value, key_name, value_name })) => Kind::Map { value: *value, key_name, value_name },
            (1, None) => Kind::Integer,
            (2, None) => Kind::Float,
            (3, None) => Kind::Boolean,
            (4, None) => Kind::Blob,
            (5, None) => Kind::Timestamp,
            (6, None) => Kind::Document,
            (_, None) => Kind::Text,
        }
    }

    /// Whether something that the model calls sensitive is in a value of this shape, at any depth.
    pub fn tells(&self, id: ShapeId) -> bool {
        let telling = self.telling.get_or_init(|| {
            let mut found = vec![false; self.shapes.len()];
            let place = |id: ShapeId| (id.0 as usize).wrapping_sub(SCALARS as usize);
            let mut grows = true;
            while grows {
                grows = false;
                for n in 0..found.len() {
                    let tells = |id: ShapeId| found.get(place(id)).is_some_and(|tells| *tells);
                    let now = match &self.shapes[n] {
                        Shape::Structure(members) => members.all.iter().any(|m| m.sensitive || tells(m.shape)),
                        Shape::List(item, _) => tells(*item),
                        Shape::Map { value, .. } => tells(*value),
                    };
                    grows |= now && !found[n];
                    found[n] |= now;
                }
            }
            found.into()
        });
        telling.get((id.0 as usize).wrapping_sub(SCALARS as usize)).is_some_and(|tells| *tells)
    }

    /// The members of an operation's input; none if it has no input.
    pub fn input(&self, op: &Op) -> &[Member] {
        match self.kind(op.input) {
            Kind::Structure(members) => &members.all,
            _ => &[],
        }
    }
}

impl Members {
    /// By its name in JSON, CBOR or XML.
    pub fn by_wire(&self, name: &str) -> Option<&Member> {
        self.all.get(usize::from(*self.wires.get(name)?))
    }
}

impl Op {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (name, method, path) = (reader.text()?, reader.text()?, reader.text()?);
        let constants = reader.list(|r| Some((r.text()?, r.text()?)))?;
        let (need_query, need_header) = (reader.texts()?, reader.texts()?);
        let (input, payload, flags) = (ShapeId::read(reader)?, reader.text()?, reader.byte()?);
        let level = match reader.byte()? {
            0 => AccessLevel::Read,
            1 => AccessLevel::List,
            2 => AccessLevel::Write,
            3 => AccessLevel::Tagging,
            4 => AccessLevel::PermissionsManagement,
            _ => AccessLevel::Unknown,
        };
        let (output, answer) = (ShapeId::read(reader)?, reader.text()?);
        let needs = reader.list(|r| Some((r.text()?, r.texts()?)))?;
        Some(Self {
            name,
            method,
            path,
            constants,
            need_query,
            need_header,
            input,
            payload,
            stream: flags & 1 != 0,
            body: flags & 2 != 0,
            credentials: flags & 4 != 0,
            passes: flags & 8 != 0,
            level,
            output,
            answer,
            needs,
        })
    }

    /// Its IAM actions.
    pub fn actions(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.needs.iter().map(|(action, _)| *action)
    }

    /// Whether the other means the same to IAM.
    pub fn is_twin(&self, other: &Self) -> bool {
        self.actions().eq(other.actions())
    }
}

impl ShapeId {
    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Self(u32::try_from(reader.number()?).ok()?))
    }
}

impl Shape {
    fn read(reader: &mut Reader) -> Option<Self> {
        Some(match reader.byte()? {
            0 => {
                let all = reader.list(Member::read)?;
                let in_body = || all.iter().zip(0u16..).filter(|(m, _)| m.place == Place::Body);
                Self::Structure(Members { wires: in_body().map(|(m, n)| (m.wire, n)).collect(), all })
            }
            1 => Self::List(ShapeId::read(reader)?, reader.text()?),
            2 => Self::Map { value: ShapeId::read(reader)?, key_name: reader.text()?, value_name: reader.text()? },
            _ => return None,
        })
    }
}

impl Member {
    fn read(reader: &mut Reader) -> Option<Self> {
        let (name, wire, form) = (reader.text()?, reader.text()?, reader.text()?);
        let flags = reader.byte()?;
        let place = match flags & 7 {
            0 => Place::Body,
            1 => Place::Path,
            2 => Place::Query,
            3 => Place::Header,
            4 => Place::Headers,
            5 => Place::XmlAttribute,
            _ => return None,
        };
        let role = match flags >> 5 & 3 {
            0 => Role::No,
            1 => Role::IfArn,
            _ => Role::Yes,
        };
        let shape = ShapeId::read(reader)?;
        Some(Self { name, wire, form, place, shape, flat: flags & 8 != 0, sensitive: flags & 16 != 0, role })
    }
}
