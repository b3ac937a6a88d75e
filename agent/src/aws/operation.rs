//! Request → operation.
//!
//! Pure. Services are read by protocol: `Action` for the query protocols, `X-Amz-Target` for the JSON ones, method, path
//! and query for S3. What is not recognised is `unknown`, and never guessed at.

mod form;
mod json;
mod s3;

use http::request::Parts;
use serde_json::{Map, Value};

use super::Endpoint;

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
    /// IAM actions it needs, most specific first (`s3:ListBucket`); `["unknown:unknown"]` if not recognised.
    pub actions: Vec<String>,
    pub access: AccessLevel,
    /// ARNs it touches; `*` where they cannot be told. The account is the held one, `*` if unknown.
    pub resources: Vec<String>,
    /// Request members by AWS's names.
    pub parameters: Map<String, Value>,
    /// Whether the answer hands out real credentials or tokens.
    pub credentials_in_output: bool,
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
}

#[derive(Debug)]
enum Shape {
    S3,
    /// `Action` of the query string, if it is there.
    Form,
    Json,
    Unknown,
}

/// Reads the head of a request.
pub fn route(endpoint: &Endpoint, scope: Option<Scope<'_>>, parts: &Parts) -> Result<Route, Malformed> {
    let mut operation = unknown(endpoint, scope);
    if let (Some(scope), Some(signing)) = (scope, endpoint.signing.as_deref())
        && scope.service != signing
    {
        return Err(Malformed::new(format!(
            "the request is signed for `{}`, but goes to an endpoint of `{signing}`; sign for that",
            scope.service
        )));
    }
    if let (Some(scope), Some(region)) = (scope, endpoint.region.as_deref())
        && scope.region != region
        && !super::endpoint::is_global(&endpoint.host)
    {
        return Err(Malformed::new(format!(
            "the request is signed for region `{}`, but goes to `{region}`; sign for that",
            scope.region
        )));
    }
    let Some(signing) = endpoint.signing.clone() else { return Ok(Route { operation, shape: Shape::Unknown }) };
    operation.service.clone_from(&signing);
    let target = json::target(parts)?;
    let shape = if signing == "s3" {
        operation.protocol = Protocol::RestXml;
        s3::route(endpoint, parts, &mut operation)?;
        Shape::S3
    } else if let Some(target) = target {
        json::route(&signing, target, parts, &mut operation)?;
        Shape::Json
    } else if form::is_query_service(&signing) {
        operation.protocol = if signing == "ec2" { Protocol::Ec2 } else { Protocol::Query };
        if parts.uri.path() != "/" && signing != "sqs" { Shape::Unknown } else { Shape::Form }
    } else {
        Shape::Unknown
    };
    Ok(Route { operation, shape })
}

impl Route {
    pub fn protocol(&self) -> Protocol {
        self.operation.protocol
    }

    pub fn body_needed(&self) -> BodyNeed {
        match self.shape {
            Shape::S3 if self.operation.name != "DeleteObjects" => BodyNeed::No,
            _ => BodyNeed::Read,
        }
    }

    /// The whole operation. `query` is the request's; `body` is there where it was needed.
    pub fn finish(mut self, query: &str, body: Option<&[u8]>, account: Option<&str>) -> Result<Operation, Malformed> {
        match self.shape {
            Shape::Form => form::finish(query, body.unwrap_or_default(), &mut self.operation)?,
            Shape::Json => json::finish(body.unwrap_or_default(), account, &mut self.operation)?,
            Shape::S3 | Shape::Unknown => {}
        }
        self.operation.credentials_in_output = hands_out_credentials(&self.operation);
        Ok(self.operation)
    }
}

fn unknown(endpoint: &Endpoint, scope: Option<Scope<'_>>) -> Operation {
    let scoped = scope.map(|s| s.region.to_owned());
    Operation {
        service: "unknown".into(),
        name: "unknown".into(),
        signing_name: endpoint.signing.clone().unwrap_or_default(),
        region: endpoint.region.clone().or(scoped).unwrap_or_default(),
        partition: endpoint.partition,
        protocol: Protocol::Query,
        actions: vec!["unknown:unknown".into()],
        access: AccessLevel::Unknown,
        resources: vec!["*".into()],
        parameters: Map::new(),
        credentials_in_output: false,
    }
}

/// Gives an operation its name, with the IAM action of the same name.
fn name(operation: &mut Operation, name: &str) {
    operation.name = name.to_owned();
    operation.actions = vec![format!("{}:{name}", operation.service)];
    operation.access = level(name);
}

/// Level by AWS's own habit of naming; what does not follow it is unknown.
fn level(name: &str) -> AccessLevel {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if starts(&["TagResource", "UntagResource", "CreateTags", "DeleteTags"]) {
        AccessLevel::Tagging
    } else if starts(&["List"]) {
        AccessLevel::List
    } else if starts(&["Get", "Describe", "Head", "BatchGet", "Query", "Scan"]) {
        AccessLevel::Read
    } else if starts(&["Create", "Delete", "Put", "Update", "Run", "Start", "Stop", "Terminate", "Send", "Modify"]) {
        AccessLevel::Write
    } else {
        AccessLevel::Unknown
    }
}

/// Operations of the services above whose answers carry credentials or tokens.
fn hands_out_credentials(operation: &Operation) -> bool {
    matches!(
        (operation.service.as_str(), operation.name.as_str()),
        (
            "sts",
            "AssumeRole"
                | "AssumeRoleWithSAML"
                | "AssumeRoleWithWebIdentity"
                | "AssumeRoot"
                | "GetSessionToken"
                | "GetFederationToken"
                | "GetDelegatedAccessToken"
        ) | ("iam", "CreateAccessKey" | "CreateServiceSpecificCredential" | "ResetServiceSpecificCredential")
            | ("s3", "CreateSession")
            | ("ec2", "GetPasswordData" | "CreateKeyPair")
            | ("ssm", "StartSession" | "ResumeSession")
            | ("ecr", "GetAuthorizationToken")
    )
}

/// Whether a text can be the name of an operation.
fn is_name(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
