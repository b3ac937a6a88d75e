//! Request → operation.
//!
//! Owns the way from a request's head and body to the operation, its IAM actions, resources and parameters, by the model
//! ([`super::model`]). [`route`] reads the head, [`Route::finish`] the body where one is needed. What is not recognised
//! is `unknown`, never guessed at; what can be read in two ways is [`Malformed`]. Pure.

mod body;
mod budget;
mod data;
mod dynamodb;
mod form;
mod json;
mod pass;
mod resource;
mod rest;
mod s3;
mod value;
mod xml;

use std::collections::HashSet;

use http::request::Parts;
use serde_json::{Map, Value};

use super::endpoint::{self, Front};
use super::model::{self, Detail, Input, Op, Service};
use super::{Endpoint, HostClass};
pub(super) use s3::gives_power as s3_gives_power;

/// Wire protocols of AWS services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Form-encoded `Action`/`Version`, XML answers.
    Query,
    /// The query dialect of EC2.
    Ec2,
    /// `X-Amz-Target`, `application/x-amz-json-1.0`.
    Json10,
    /// `X-Amz-Target`, `application/x-amz-json-1.1`.
    Json11,
    /// REST with JSON bodies.
    RestJson,
    /// REST with XML bodies (S3 has error shapes of its own: see [`super::error`]).
    RestXml,
    /// Smithy RPC v2, CBOR.
    RpcV2Cbor,
}

/// AWS's five access levels, and the one we give to what we do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessLevel {
    Read,
    List,
    Write,
    Tagging,
    PermissionsManagement,
    /// Not known: treated as a write by whoever has to choose.
    Unknown,
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// IAM prefix of the service (`s3`, `ec2`, `secretsmanager`), or `unknown`.
    pub service: String,
    /// Name of the operation (`ListObjectsV2`), or `unknown`.
    pub name: String,
    /// Name the signature's scope carries (`s3`, `bedrock`, `ses`).
    pub signing_name: String,
    /// Region the request must be signed for.
    pub region: String,
    pub partition: &'static str,
    pub protocol: Protocol,
    /// What must be permitted for it, most specific first; never empty: `unknown:unknown` on `*` if not recognised.
    pub needs: Vec<Need>,
    pub access: AccessLevel,
    /// Request members by AWS's names.
    pub parameters: Map<String, Value>,
    /// What the model says of its parameters; `None` where it knows none.
    pub input: Option<Input>,
    /// Whether the answer hands out real credentials or tokens.
    pub credentials_in_output: bool,
}

/// The action of what was not recognised, or of what no action is known for.
pub const UNKNOWN: &str = "unknown:unknown";

/// One thing that must be permitted: an IAM action on resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// `s3:ListBucket`
    pub action: String,
    /// ARNs that it touches; `*` where they cannot be told. The account is the held one, `*` if unknown.
    pub resources: Vec<String>,
}

impl Need {
    pub fn new(action: impl Into<String>, resources: Vec<String>) -> Self {
        Self { action: action.into(), resources }
    }

    /// On what cannot be told.
    fn anywhere(action: impl Into<String>) -> Self {
        Self::new(action, vec!["*".into()])
    }
}

impl Operation {
    /// Its IAM actions, each once.
    pub fn actions(&self) -> Vec<&str> {
        distinct(self.needs.iter().map(|n| n.action.as_str()))
    }

    /// The resources that it touches, each once.
    pub fn resources(&self) -> Vec<&str> {
        distinct(self.needs.iter().flat_map(|n| &n.resources).map(String::as_str))
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    all.filter(|text| seen.insert(*text)).collect()
}

/// The credential scope that the agent signed with.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub region: &'a str,
    pub service: &'a str,
}

/// Whether the body has to be read before the request can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyNeed {
    No,
    Read,
}

/// Why a request is refused unjudged: two readings of it are possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) String);

impl Malformed {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A request whose head has been read.
#[derive(Debug)]
pub struct Route {
    operation: Operation,
    shape: Shape,
    front: Front,
    /// S3: bucket and key, decoded.
    target: s3::Target,
    /// Botocore's name of the service; empty where none is behind the host.
    id: &'static str,
}

#[derive(Debug)]
enum Shape {
    /// The operation is known.
    Known(Known),
    /// The body, or the query, says which operation it is. The path is there for queues.
    Form {
        services: Vec<&'static Service>,
        path: String,
    },
    /// All there is to know is in the head.
    Head,
    Unknown {
        read: bool,
    },
}

/// An operation of the model.
#[derive(Debug, Clone, Copy)]
struct Known {
    service: &'static Service,
    detail: &'static Detail,
    op: &'static Op,
}

/// Reads the head of a request.
pub fn route(endpoint: &Endpoint, scope: Option<Scope<'_>>, parts: &Parts) -> Result<Route, Malformed> {
    let services = candidates(endpoint, scope)?;
    check_region(endpoint, scope)?;
    let mut route = Route {
        operation: unknown(endpoint, scope),
        shape: Shape::Unknown { read: true },
        front: endpoint.front.clone(),
        target: s3::Target::default(),
        id: "",
    };
    let operation = &mut route.operation;
    let [smithy, target, kind] =
        ["smithy-protocol", "x-amz-target", "content-type"].map(|name| rest::single(&parts.headers, name));
    let (smithy, target, kind) = (smithy?, target?, kind?);
    if smithy.is_some() && target.is_some() {
        return Err(Malformed::new("the request carries both Smithy-Protocol and X-Amz-Target; send one"));
    }
    if METHOD_OVERRIDES.iter().any(|name| parts.headers.contains_key(*name)) {
        return Err(Malformed::new("a header asks for another method than the request's; send that method"));
    }
    operation.protocol = super::error::protocol_of(endpoint, parts);
    if endpoint.class != HostClass::Api {
        return Ok(route);
    }
    if data::route(endpoint, parts, operation)? {
        route.shape = Shape::Head;
        return Ok(route);
    }
    let Some(first) = services.first() else { return Ok(route) };
    route.id = first.id;
    operation.service = first.iam.to_owned();
    operation.protocol = first.protocols.first().copied().unwrap_or(Protocol::Query);
    let known = if let Some(smithy) = smithy {
        operation.protocol = Protocol::RpcV2Cbor;
        rest::cbor(&services, smithy, kind, parts)?
    } else if let Some(target) = target {
        let (protocol, known) = json::route(&services, target, kind, parts)?;
        operation.protocol = protocol;
        known
    } else if first.id == "s3" && !s3::is_control(endpoint, parts) {
        let (target, known) = s3::route(first, endpoint, parts)?;
        route.target = target;
        route.shape = Shape::Unknown { read: false };
        known
    } else if let Some(found) = form::services(&services, kind, parts)? {
        operation.protocol = if found[0].speaks(Protocol::Ec2) { Protocol::Ec2 } else { Protocol::Query };
        route.shape = Shape::Form { services: found, path: parts.uri.path().to_owned() };
        check_encoding(&route, parts)?;
        return Ok(route);
    } else {
        rest::route(&services, parts)?
    };
    let Some(known) = known else { return Ok(route) };
    known.describe(&mut route.operation, &mut route.id);
    let rest = [Protocol::RestJson, Protocol::RestXml].into_iter().find(|p| known.service.speaks(*p));
    if let Some(protocol) = rest {
        route.operation.protocol = protocol;
        let is_s3 = known.service.id == "s3";
        if !is_s3 {
            rest::check_kind(&known, kind)?;
        }
        let path = if is_s3 { route.target.path.as_str() } else { parts.uri.path() };
        rest::parameters(&known, path, parts, &mut route.operation.parameters)?;
    }
    if known.service.id == "s3" {
        s3::actions(&route.front, &known, parts, &mut route.operation)?;
    }
    route.shape = Shape::Known(known);
    check_encoding(&route, parts)?;
    Ok(route)
}

/// Whether a request is one of S3 Control, which signs as S3 does and words its errors as the other services do.
pub(super) fn is_s3_control(endpoint: &Endpoint, parts: &Parts) -> bool {
    let first = endpoint.services.first().and_then(|n| model::index()?.services.get(usize::from(*n)));
    first.is_some_and(|service| service.id == "s3control") || s3::is_control(endpoint, parts)
}

/// Headers by which some servers take a request for one of another method.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// The services that the request may be for: those of the host that sign with the scope's name.
fn candidates(endpoint: &Endpoint, scope: Option<Scope<'_>>) -> Result<Vec<&'static Service>, Malformed> {
    let all: Vec<&'static Service> = model::index()
        .map(|index| endpoint.services.iter().filter_map(|n| index.services.get(usize::from(*n))).collect())
        .unwrap_or_default();
    let (Some(scope), Some(signing)) = (scope, endpoint.signing.as_deref()) else { return Ok(all) };
    // The hosts of S3 each have one name, though the service has several.
    let exact = all.is_empty() || all.iter().any(|s| s.id.starts_with("s3"));
    let fits = |s: &&Service| if exact { scope.service == signing } else { s.signing.contains(&scope.service) };
    let fitting: Vec<&'static Service> = all.iter().copied().filter(fits).collect();
    if fitting.is_empty() && (scope.service != signing || !all.is_empty()) {
        return Err(Malformed::new(format!(
            "the request is signed for `{}`, but goes to an endpoint of `{signing}`; sign for that",
            scope.service
        )));
    }
    Ok(fitting)
}

/// What has to be read must be readable.
fn check_encoding(route: &Route, parts: &Parts) -> Result<(), Malformed> {
    if route.body_needed() == BodyNeed::No {
        return Ok(());
    }
    let [encoding, kind, digest] =
        ["content-encoding", "content-type", "x-amz-content-sha256"].map(|name| rest::single(&parts.headers, name));
    if let Some(encoding) = encoding?.filter(|e| !["", "identity"].contains(e)) {
        return Err(Malformed::new(format!(
            "the body must be read to be judged, and its Content-Encoding is `{encoding}`; send it plain \
             (AWS_DISABLE_REQUEST_COMPRESSION=true)"
        )));
    }
    // What would be judged is the chunks' envelope.
    if digest?.is_some_and(|d| d.starts_with("STREAMING-")) {
        return Err(Malformed::new(
            "the body must be read to be judged, and is sent in chunks with a trailer (aws-chunked); send it plain, with \
             its SHA-256 in x-amz-content-sha256",
        ));
    }
    let charset = kind?.and_then(|k| rest::charsets(k).find(|c| !["utf-8", "utf8", "us-ascii"].contains(&c.as_str())));
    if let Some(charset) = charset {
        return Err(Malformed::new(format!(
            "the body must be read to be judged, and its Content-Type says charset `{charset}`; send it in UTF-8"
        )));
    }
    Ok(())
}

fn check_region(endpoint: &Endpoint, scope: Option<Scope<'_>>) -> Result<(), Malformed> {
    if let (Some(scope), Some(region)) = (scope, endpoint.region.as_deref())
        && scope.region != region
        && !endpoint::is_global(&endpoint.host)
    {
        return Err(Malformed::new(format!(
            "the request is signed for region `{}`, but goes to `{region}`; sign for that",
            scope.region
        )));
    }
    Ok(())
}

impl Known {
    fn describe(&self, operation: &mut Operation, id: &mut &'static str) {
        *id = self.service.id;
        self.service.iam.clone_into(&mut operation.service);
        self.op.name.clone_into(&mut operation.name);
        if !self.op.needs.is_empty() {
            operation.needs = self.op.actions().map(|action| Need::new(action, Vec::new())).collect();
        }
        operation.input = Some(Input { detail: self.detail, op: self.op });
        operation.access = self.op.level;
        operation.credentials_in_output = self.op.credentials;
    }

    /// The operation of this name of one of the services.
    fn named(services: &[&'static Service], name: &str) -> Option<Self> {
        services.iter().find_map(|service| {
            let detail = service.detail()?;
            Some(Self { service, detail, op: detail.operation(name)? })
        })
    }
}

impl Route {
    pub fn protocol(&self) -> Protocol {
        self.operation.protocol
    }

    /// IAM prefix and operation, where the head says which it is.
    pub fn named(&self) -> Option<(&str, &str)> {
        matches!(self.shape, Shape::Known(_)).then_some((&self.operation.service, &self.operation.name))
    }

    /// IAM prefixes of the services that it may be for, where the body or the query says which operation it is.
    pub fn form_services(&self) -> impl Iterator<Item = &'static str> {
        let services = match &self.shape {
            Shape::Form { services, .. } => services.as_slice(),
            _ => &[],
        };
        services.iter().map(|s| s.iam)
    }

    pub fn body_needed(&self) -> BodyNeed {
        let read = match &self.shape {
            Shape::Known(known) if known.op.stream => false,
            // Its body lists parts of what is being written, and decides nothing.
            Shape::Known(known) if known.op.name == "CompleteMultipartUpload" => false,
            Shape::Known(known) => {
                known.op.body || !matches!(self.operation.protocol, Protocol::RestJson | Protocol::RestXml)
            }
            Shape::Form { .. } => true,
            Shape::Head => false,
            Shape::Unknown { read } => *read,
        };
        if read { BodyNeed::Read } else { BodyNeed::No }
    }

    /// Whether [`Self::finish`] makes values of the body, which are larger than it is.
    pub fn is_parsed(&self) -> bool {
        self.body_needed() == BodyNeed::Read && !matches!(self.shape, Shape::Unknown { .. })
    }

    /// The whole operation. `query` is the request's; `body` is there where it was needed.
    pub fn finish(mut self, query: &str, body: Option<&[u8]>, account: Option<&str>) -> Result<Operation, Malformed> {
        let body = body.unwrap_or_default();
        let known = match &self.shape {
            Shape::Known(known) => {
                if self.body_needed() == BodyNeed::Read {
                    body::read(known, self.operation.protocol, body, &mut self.operation.parameters)?;
                }
                Some(*known)
            }
            Shape::Form { services, path } => {
                let known = form::finish(services, query, path, body, &mut self.operation)?;
                if let Some(known) = &known {
                    known.describe(&mut self.operation, &mut self.id);
                }
                known
            }
            Shape::Head | Shape::Unknown { .. } => None,
        };
        let account = account.unwrap_or("*");
        let Some(known) = known else {
            self.operation.needs.iter_mut().for_each(|n| resource::fill_account(&mut n.resources, account));
            return Ok(self.operation);
        };
        match self.id {
            "s3" => s3::resources(&self.front, &self.target, &mut self.operation, account)?,
            _ if !known.op.needs.is_empty() => {
                self.operation.needs = known
                    .op
                    .needs
                    .iter()
                    .map(|(action, arns)| Need::new(*action, resource::resolve(arns, &self.operation, account)))
                    .collect();
            }
            _ => {}
        }
        if self.id == "dynamodb" {
            dynamodb::finish(&mut self.operation, account)?;
        }
        if known.op.passes {
            pass::roles(&mut self.operation);
        }
        Ok(self.operation)
    }
}

fn unknown(endpoint: &Endpoint, scope: Option<Scope<'_>>) -> Operation {
    let scoped = scope.map(|s| s.region.to_owned());
    // The global names of S3 lead to buckets of all regions: the scope says which one is meant.
    let open = endpoint.signing.as_deref() == Some("s3") && endpoint::is_global(&endpoint.host);
    let region = if open || (scoped.is_some() && scoped.as_deref() == endpoint.gov_region) {
        scoped.or_else(|| endpoint.region.clone())
    } else {
        endpoint.region.clone().or(scoped)
    };
    Operation {
        service: "unknown".into(),
        name: "unknown".into(),
        signing_name: scope.map(|s| s.service.to_owned()).or_else(|| endpoint.signing.clone()).unwrap_or_default(),
        region: region.unwrap_or_default(),
        partition: endpoint.partition,
        protocol: Protocol::Query,
        needs: vec![Need::anywhere(UNKNOWN)],
        access: AccessLevel::Unknown,
        parameters: Map::new(),
        input: None,
        credentials_in_output: false,
    }
}

#[cfg(test)]
mod tests;
