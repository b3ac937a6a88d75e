//! The JSON protocols: `X-Amz-Target` names the operation, the body is one JSON object.

use http::request::Parts;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Malformed, Operation, Protocol, is_name, name};

/// Target prefixes, and the services they belong to.
const TARGETS: &[(&str, &str)] = &[
    ("DynamoDB_20120810", "dynamodb"),
    ("DynamoDBStreams_20120810", "dynamodb"),
    ("AmazonSQS", "sqs"),
    ("secretsmanager", "secretsmanager"),
    ("TrentService", "kms"),
    ("AmazonSSM", "ssm"),
    ("Logs_20140328", "logs"),
    ("AmazonEC2ContainerServiceV20141113", "ecs"),
    ("AWSEvents", "events"),
    ("AWSStepFunctions", "states"),
    ("Kinesis_20131202", "kinesis"),
    ("Firehose_20150804", "firehose"),
    ("CodeBuild_20161006", "codebuild"),
];

/// The only `X-Amz-Target`, if there is one.
pub(super) fn target(parts: &Parts) -> Result<Option<&str>, Malformed> {
    let mut targets = parts.headers.get_all("x-amz-target").iter();
    let target = targets.next();
    if targets.next().is_some() {
        return Err(Malformed::new("the request carries more than one X-Amz-Target; send one"));
    }
    target.map(|t| t.to_str().map_err(|_| Malformed::new("X-Amz-Target is not text"))).transpose()
}

pub(super) fn route(signing: &str, target: &str, parts: &Parts, operation: &mut Operation) -> Result<(), Malformed> {
    let kind = parts.headers.get(http::header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
    operation.protocol = match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-amz-json-1.0" => Protocol::Json10,
        "application/x-amz-json-1.1" => Protocol::Json11,
        other => {
            return Err(Malformed::new(format!(
                "X-Amz-Target goes with a JSON body, but Content-Type is `{other}`; send application/x-amz-json-1.0 or 1.1"
            )));
        }
    };
    if parts.uri.path() != "/" || parts.uri.query().is_some_and(|q| !q.is_empty()) || parts.method != http::Method::POST
    {
        return Err(Malformed::new("X-Amz-Target goes with POST to `/` and no query"));
    }
    let Some((prefix, called)) = target.rsplit_once('.') else { return Ok(()) };
    if is_name(called) && TARGETS.iter().any(|(p, s)| *p == prefix && *s == signing) {
        name(operation, called);
    }
    Ok(())
}

pub(super) fn finish(body: &[u8], account: Option<&str>, operation: &mut Operation) -> Result<(), Malformed> {
    if !body.is_empty() {
        let Strict(value) = serde_json::from_slice(body)
            .map_err(|e| Malformed::new(format!("the body cannot be read as JSON: {e}")))?;
        let Value::Object(members) = value else { return Err(Malformed::new("the body is not a JSON object")) };
        operation.parameters = members;
    }
    if let Some(arn) = resource(operation, account.unwrap_or("*")) {
        operation.resources = vec![arn];
    }
    Ok(())
}

/// The one resource of common operations. Operations on several (batches, transactions) stay `*`.
fn resource(operation: &Operation, account: &str) -> Option<String> {
    let text = |name: &str| operation.parameters.get(name).and_then(Value::as_str);
    let (partition, region) = (operation.partition, &operation.region);
    let arn = |service: &str, rest: String| Some(format!("arn:{partition}:{service}:{region}:{account}:{rest}"));
    match operation.service.as_str() {
        "dynamodb" => match text("TableName")? {
            given if given.starts_with("arn:") => Some(given.to_owned()),
            table => arn("dynamodb", format!("table/{table}")),
        },
        "secretsmanager" => match text("SecretId").or_else(|| text("Name"))? {
            given if given.starts_with("arn:") => Some(given.to_owned()),
            secret => arn("secretsmanager", format!("secret:{secret}")),
        },
        "sqs" => {
            arn("sqs", text("QueueUrl").and_then(|u| u.rsplit('/').next()).or_else(|| text("QueueName"))?.to_owned())
        }
        "kms" => match text("KeyId")? {
            given if given.starts_with("arn:") => Some(given.to_owned()),
            alias if alias.starts_with("alias/") => arn("kms", alias.to_owned()),
            key => arn("kms", format!("key/{key}")),
        },
        "ssm" => arn("ssm", format!("parameter/{}", text("Name")?.trim_start_matches('/'))),
        "logs" => arn("logs", format!("log-group:{}", text("logGroupName")?)),
        _ => None,
    }
}

/// JSON without duplicate keys at any depth: readers differ in which of two counts.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }
    fn visit_str<E>(self, v: &str) -> Result<Strict, E> {
        Ok(Strict(v.into()))
    }
    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Strict(Value::Array(items)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut members = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands there twice")));
            }
            members.insert(key, value);
        }
        Ok(Strict(Value::Object(members)))
    }
}
