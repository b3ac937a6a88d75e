//! Packs the extracted model into the binary that `agent/src/aws/model/` reads.
//!
//! Owns the writing half of the format; `agent/src/aws/model/bytes.rs` describes it and owns the reading half. Each
//! service and each IAM prefix is a zstd section of its own, so that a reader pays only for what it meets. Strings that
//! many services share are a raw dictionary for all sections. The same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde::Deserialize;

pub const MAGIC: &[u8; 8] = b"TGMODEL1";
const LEVEL: i32 = 19;
/// Bytes of shared strings; more than this costs more than it saves.
const DICTIONARY: usize = 48 * 1024;

#[derive(Debug, Deserialize)]
pub struct Model {
    pub services: Vec<Service>,
    /// Key, services with the labels that may stand before it, fixed regions by partition.
    hosts: Vec<(String, Vec<(u32, u32)>, Vec<(String, String)>)>,
    pub iam: Vec<(String, Vec<(String, u8)>)>,
    pub unread_hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct Service {
    pub id: String,
    signing: Vec<String>,
    pub iam: String,
    pub protocols: Vec<String>,
    target: String,
    version: String,
    pub ops: Vec<Operation>,
    shapes: Vec<Shape>,
}

#[derive(Debug, Deserialize)]
pub struct Operation {
    pub name: String,
    method: String,
    path: String,
    constants: Vec<(String, String)>,
    need_query: Vec<String>,
    need_header: Vec<String>,
    pub input: u32,
    payload: String,
    stream: bool,
    body: bool,
    pub credentials: bool,
    level: u8,
    /// IAM actions, each with its ARN templates.
    pub needs: Vec<(String, Vec<String>)>,
    /// `iam:PassRole` is needed for roles that it names.
    pub passes: bool,
    /// Shape of the answer; 0 if it has none.
    pub output: u32,
    /// Member of the answer that is its body, or its stream of events.
    answer: String,
    /// Members of the answer are sensitive.
    pub telling: bool,
    /// Any of its actions has resource types.
    pub typed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Shape {
    /// Name, names on the wire and in forms, place, shape, flags: flattened 1, sensitive 2, a role 4, surely a role 8.
    Structure(Vec<(String, String, String, u8, u32, u8)>),
    /// Value, names of keys and values.
    Map(u32, String, String),
    /// Item and its name.
    List(u32, String),
}

impl Model {
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }
}

/// The whole file.
pub fn pack(model: &Model) -> anyhow::Result<Vec<u8>> {
    let plain: Vec<Section> = model.services.iter().map(service).collect::<anyhow::Result<_>>()?;
    let dictionary = dictionary(&plain);
    let mut sections = vec![(zstd::bulk::compress(&dictionary, LEVEL)?, dictionary.len())];
    let mut compressor = zstd::bulk::Compressor::with_dictionary(LEVEL, &dictionary)?;
    let iam = model.iam.iter().map(|(_, actions)| {
        let mut section = Section::default();
        section.number(actions.len())?;
        for (name, level) in actions {
            section.text(name);
            section.body.push(*level);
        }
        Ok(section)
    });
    for section in std::iter::once(index(model)).chain(plain.into_iter().map(Ok)).chain(iam) {
        let raw = section?.finish()?;
        sections.push((compressor.compress(&raw)?, raw.len()));
    }
    let mut out = MAGIC.to_vec();
    out.extend(u32::try_from(sections.len())?.to_le_bytes());
    for (packed, raw) in &sections {
        out.extend(u32::try_from(packed.len())?.to_le_bytes());
        out.extend(u32::try_from(*raw)?.to_le_bytes());
    }
    for (packed, _) in sections {
        out.extend(packed);
    }
    Ok(out)
}

fn index(model: &Model) -> anyhow::Result<Section> {
    let mut section = Section::default();
    section.number(model.services.len())?;
    for service in &model.services {
        section.text(&service.id);
        section.texts(&service.signing)?;
        section.text(&service.iam);
        section.number(service.protocols.len())?;
        for protocol in &service.protocols {
            section.body.push(match protocol.as_str() {
                "query" => 0,
                "ec2" => 1,
                "json1.0" => 2,
                "json1.1" => 3,
                "rest-json" => 4,
                "rest-xml" => 5,
                "smithy-rpc-v2-cbor" => 6,
                other => bail!("service `{}` speaks `{other}`, which the agent does not; teach both", service.id),
            });
        }
        section.text(&service.target);
        section.text(&service.version);
    }
    section.number(model.hosts.len())?;
    for (key, services, regions) in &model.hosts {
        section.text(key);
        section.number(services.len())?;
        for (service, before) in services {
            section.number(*service as usize)?;
            section.number(*before as usize)?;
        }
        section.number(regions.len())?;
        for (partition, region) in regions {
            section.text(partition);
            section.text(region);
        }
    }
    section.number(model.iam.len())?;
    for (prefix, _) in &model.iam {
        section.text(prefix);
        let within = |action: &str| action.split(':').next() == Some(prefix.as_str());
        let needs = |s: &Service| s.ops.iter().flat_map(|o| &o.needs).any(|(action, _)| within(action));
        let services: Vec<usize> = (0..).zip(&model.services).filter(|(_, s)| needs(s)).map(|(n, _)| n).collect();
        section.number(services.len())?;
        services.into_iter().try_for_each(|n| section.number(n))?;
    }
    Ok(section)
}

fn service(service: &Service) -> anyhow::Result<Section> {
    let mut section = Section::default();
    section.number(service.shapes.len())?;
    for shape in &service.shapes {
        match shape {
            Shape::Structure(members) => {
                section.body.push(0);
                section.number(members.len())?;
                for (name, wire, form, place, shape, flags) in members {
                    for text in [name, wire, form] {
                        section.text(text);
                    }
                    section.body.push(place | (flags << 3));
                    section.number(*shape as usize)?;
                }
            }
            Shape::List(item, name) => {
                section.body.push(1);
                section.number(*item as usize)?;
                section.text(name);
            }
            Shape::Map(value, key_name, value_name) => {
                section.body.push(2);
                section.number(*value as usize)?;
                section.text(key_name);
                section.text(value_name);
            }
        }
    }
    section.number(service.ops.len())?;
    for op in &service.ops {
        section.text(&op.name);
        section.text(&op.method);
        section.text(&op.path);
        section.number(op.constants.len())?;
        for (name, value) in &op.constants {
            section.text(name);
            section.text(value);
        }
        section.texts(&op.need_query)?;
        section.texts(&op.need_header)?;
        section.number(op.input as usize)?;
        section.text(&op.payload);
        let flags = [op.stream, op.body, op.credentials, op.passes];
        section.body.push((0..).zip(flags).map(|(n, flag)| u8::from(flag) << n).sum());
        section.body.push(op.level);
        section.number(op.output as usize)?;
        section.text(&op.answer);
        section.number(op.needs.len())?;
        for (action, resources) in &op.needs {
            section.text(action);
            section.texts(resources)?;
        }
    }
    Ok(section)
}

/// Strings of several services; what helps most stands last, where zstd finds it cheapest.
fn dictionary(sections: &[Section]) -> Vec<u8> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for section in sections {
        for text in section.known.keys() {
            *uses.entry(text).or_default() += 1;
        }
    }
    let mut shared: Vec<(usize, &str)> =
        uses.into_iter().filter(|(text, n)| *n > 2 && text.len() > 3).map(|(text, n)| (n * text.len(), text)).collect();
    shared.sort_unstable_by(|a, b| b.cmp(a));
    let mut room = DICTIONARY;
    let mut chosen: Vec<&str> = shared
        .into_iter()
        .map_while(|(_, text)| {
            room = room.checked_sub(text.len() + 1)?;
            Some(text)
        })
        .collect();
    chosen.reverse();
    let mut out = Vec::new();
    for text in chosen {
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend(text.as_bytes());
    }
    out
}

/// A section in the making: texts are numbered at the end, in their own order.
#[derive(Default)]
struct Section {
    known: BTreeMap<String, usize>,
    /// Bytes, with room for a text's number at each of `holes`.
    body: Vec<u8>,
    holes: Vec<(usize, String)>,
}

impl Section {
    fn text(&mut self, text: &str) {
        self.known.entry(text.to_owned()).or_default();
        self.holes.push((self.body.len(), text.to_owned()));
    }

    fn texts(&mut self, texts: &[String]) -> anyhow::Result<()> {
        self.number(texts.len())?;
        texts.iter().for_each(|t| self.text(t));
        Ok(())
    }

    fn number(&mut self, n: usize) -> anyhow::Result<()> {
        varint(&mut self.body, n)
    }

    fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        varint(&mut out, self.known.len())?;
        for (n, (text, number)) in self.known.iter_mut().enumerate() {
            *number = n;
            varint(&mut out, text.len())?;
            out.extend(text.as_bytes());
        }
        let mut at = 0;
        for (hole, text) in &self.holes {
            out.extend(&self.body[at..*hole]);
            at = *hole;
            varint(&mut out, self.known[text])?;
        }
        out.extend(&self.body[at..]);
        Ok(out)
    }
}

fn varint(out: &mut Vec<u8>, n: usize) -> anyhow::Result<()> {
    let mut n = u32::try_from(n).context("a number of the model is larger than 32 bits")?;
    while n > 0x7f {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    Ok(())
}

/// IAM prefixes and actions that operations of the model need.
pub fn actions(model: &Model) -> BTreeSet<&str> {
    model.services.iter().flat_map(|s| &s.ops).flat_map(|o| &o.needs).map(|(action, _)| action.as_str()).collect()
}
