//! Request → operation.

use serde_json::{Map, Value};

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
    /// Not in the model: treated as a write by whoever has to choose.
    Unknown,
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// IAM prefix of the service (`s3`, `ec2`, `secretsmanager`), or `unknown`.
    pub service: String,
    /// Name in the model (`ListObjectsV2`), or `unknown`.
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
    /// ARNs it touches; `*` where the model cannot say. `${Account}` is filled in by the caller's held account, `*` if unknown.
    pub resources: Vec<String>,
    /// Request members by the model's names.
    pub parameters: Map<String, Value>,
}
