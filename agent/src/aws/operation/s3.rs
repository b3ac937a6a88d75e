//! S3: bucket and key out of host and path, and what its actions need besides the operation's name.
//!
//! Stricter than the other REST services: every query parameter must be one that the operation takes, because here one
//! parameter more makes another operation; and every header that gives more than the operation's name says needs the
//! action for that.

use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;

use super::rest::{Choice, Query, SIGNATURE, choose, decode, no_plus, query};
use super::{AccessLevel, Endpoint, Known, Malformed, Need, Operation, UNKNOWN};
use crate::aws::endpoint::{Front, account_of};
use crate::aws::model::catalog::level;
use crate::aws::model::{Op, Place, Service, Step};

/// What a request to S3 is about.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// Path with the virtual host's bucket put back in front.
    pub path: String,
    bucket: String,
    key: String,
}

/// Headers that do more than their operation's name says, with the action for that on objects and on buckets.
const POWERS: &[(&str, &str, &str)] = &[
    ("x-amz-acl", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-grant-full-control", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-grant-read", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-grant-read-acp", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-grant-write", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-grant-write-acp", "s3:PutObjectAcl", "s3:PutBucketAcl"),
    ("x-amz-tagging", "s3:PutObjectTagging", "s3:PutBucketTagging"),
    ("x-amz-object-lock-mode", "s3:PutObjectRetention", "s3:PutBucketObjectLockConfiguration"),
    ("x-amz-object-lock-retain-until-date", "s3:PutObjectRetention", "s3:PutBucketObjectLockConfiguration"),
    ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold", "s3:PutBucketObjectLockConfiguration"),
    ("x-amz-bypass-governance-retention", "s3:BypassGovernanceRetention", "s3:BypassGovernanceRetention"),
    ("x-amz-bucket-object-lock-enabled", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketObjectLockConfiguration"),
    ("x-amz-object-ownership", "s3:PutBucketOwnershipControls", "s3:PutBucketOwnershipControls"),
];

/// Whether headers may ask for an action.
pub(in crate::aws) fn gives_power(action: &str) -> bool {
    action == "s3:PutBucketVersioning" || POWERS.iter().any(|(_, object, bucket)| [*object, *bucket].contains(&action))
}

/// Families of headers of which only those above are known.
const FAMILIES: &[&str] = &["x-amz-grant-", "x-amz-object-lock-", "x-amz-bypass-"];

/// Whether a request to the control plane of directory buckets is one of S3 Control, which shares its host: no such
/// bucket has that name.
pub(super) fn is_control(endpoint: &Endpoint, parts: &Parts) -> bool {
    endpoint.front == Front::Express && endpoint.bucket.is_none() && parts.uri.path().starts_with("/v20180820/")
}

pub(super) fn route(
    service: &'static Service,
    endpoint: &Endpoint,
    parts: &Parts,
) -> Result<(Target, Option<Known>), Malformed> {
    let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
    // The virtual host's bucket goes back in front; slashes are told before anything is decoded.
    let (bucket, key) = match &endpoint.bucket {
        Some(bucket) if endpoint.front == Front::ObjectLambda && path == "WriteGetObjectResponse" => {
            (path, bucket.get(..0).unwrap_or_default())
        }
        Some(bucket) => (bucket.as_str(), path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    let target = Target {
        path: if key.is_empty() { format!("/{bucket}") } else { format!("/{bucket}/{key}") },
        bucket: decode(bucket)?.into_owned(),
        key: decode(key)?.into_owned(),
    };
    // Whoever decodes before he splits finds another bucket and a key here.
    if target.bucket.contains('/') {
        return Err(Malformed::new("the bucket's name has an encoded `/` in it; send the slash plain"));
    }
    stays_inside(&target.bucket, &target.key)?;
    // `//key` has no bucket, whatever a tree of segments makes of it.
    if bucket.is_empty() && !key.is_empty() {
        return Ok((target, None));
    }
    let query = query(parts.uri.query().unwrap_or_default())?;
    for (n, (name, _)) in query.iter().enumerate() {
        if query[..n].iter().any(|(other, _)| other == name) {
            return Err(Malformed::new(format!("the query names `{name}` twice; send it once")));
        }
    }
    let Some(detail) = service.detail() else { return Ok((target, None)) };
    let found = detail.walk(&target.path, &mut |step| {
        let Step::Found(operations) = step else { return None };
        let operations = operations.iter().filter_map(|n| detail.operations.get(*n as usize));
        let strict = operations.filter(|op| takes(detail.input(op), op, &query));
        choose(strict.filter(|op| here(op, &endpoint.front)), parts, &query)
    });
    let known = match found {
        Some(Choice::One(_, op)) => Some(Known { service, detail, op }),
        _ => None,
    };
    Ok((target, known))
}

/// Whether an operation takes all parameters that there are. `x-id` is a hint of some SDKs and says nothing.
fn takes(members: &[crate::aws::model::Member], op: &Op, query: &Query<'_>) -> bool {
    query.iter().all(|(name, _)| {
        let name = name.as_ref();
        name == "x-id"
            || SIGNATURE.contains(&name)
            || op.constants.iter().any(|(constant, _)| *constant == name)
            || members.iter().any(|m| m.place == Place::Query && m.wire == name)
    })
}

/// The one route that the host tells apart.
fn here(op: &Op, front: &Front) -> bool {
    let express = *front == Front::Express;
    match op.name {
        "ListBuckets" => !express,
        "ListDirectoryBuckets" => express,
        _ => true,
    }
}

/// Adds what the request needs besides the operation's own actions. Resources come later ([`resources`]).
pub(super) fn actions(front: &Front, known: &Known, parts: &Parts, operation: &mut Operation) -> Result<(), Malformed> {
    let has = |name: &str| parts.headers.contains_key(name);
    let members = known.detail.input(known.op);
    let on_object = known.op.path.contains("{Key+}");
    let versioned = operation.parameters.contains_key("VersionId");
    for need in operation.needs.iter_mut().filter(|_| versioned) {
        to_version(need);
    }
    let need = |action: &str, needs: &mut Vec<Need>| {
        if !needs.iter().any(|n| n.action == action) && !already(known.op, action) {
            needs.push(Need::new(action, Vec::new()));
        }
    };
    for name in parts.headers.keys() {
        let name = name.as_str();
        if !name.starts_with("x-amz-") {
            continue;
        }
        let power = POWERS.iter().find(|(header, _, _)| *header == name);
        let family = FAMILIES.iter().any(|f| name.starts_with(f));
        let taken = || members.iter().any(|m| m.place == Place::Header && m.wire.eq_ignore_ascii_case(name));
        match power {
            Some((_, object, bucket)) if taken() => {
                need(if on_object { object } else { bucket }, &mut operation.needs);
                if name == "x-amz-bucket-object-lock-enabled" {
                    need("s3:PutBucketVersioning", &mut operation.needs);
                }
            }
            // A header of a kind that gives powers, and no action is known for this one.
            None if family && taken() => need(UNKNOWN, &mut operation.needs),
            // A header that the operation does not take, of a kind that gives powers.
            Some(_) => return forget(operation),
            None if family => return forget(operation),
            None => {}
        }
    }
    let source = source(&parts.headers)?;
    if source.is_some_and(|(_, version)| version) {
        operation.needs.iter_mut().filter(|n| of_source(known.op.name, &n.action)).for_each(to_version);
    }
    if known.op.name.contains("Copy") != has("x-amz-copy-source") {
        return forget(operation);
    }
    let prefix = match front {
        Front::ObjectLambda => "s3-object-lambda",
        Front::Outpost(_) => "s3-outposts",
        Front::Express => "s3express",
        _ => "",
    };
    if !prefix.is_empty() {
        for need in operation.needs.iter_mut().filter(|n| !of_source(known.op.name, &n.action)) {
            let Some(name) = need.action.strip_prefix("s3:") else { continue };
            let other = format!("{prefix}:{name}");
            if level(&other).is_some() {
                need.action = other;
            } else if *front != Front::Express {
                return forget(operation);
            }
        }
    }
    operation.access = operation
        .needs
        .iter()
        .map(|n| level(&n.action).unwrap_or(AccessLevel::Unknown))
        .max()
        .unwrap_or(operation.access);
    Ok(())
}

/// The action on a version, where there is one of its own.
fn to_version(need: &mut Need) {
    let versioned = need.action.replacen("Object", "ObjectVersion", 1);
    if level(&versioned).is_some() {
        need.action = versioned;
    }
}

/// Whether an action of an operation with two ends is about the end that is read from.
fn of_source(operation: &str, action: &str) -> bool {
    match operation {
        "CopyObject" | "UploadPartCopy" => ["s3:GetObject", "s3:GetObjectVersion"].contains(&action),
        "RenameObject" => ["s3:GetObject", "s3:DeleteObject"].contains(&action),
        _ => false,
    }
}

/// The headers of the operations that are about just that.
fn already(op: &Op, action: &str) -> bool {
    op.actions().any(|a| a == action || a.replace("Version", "") == action)
}

/// Leaves nothing that a policy could permit by its name.
fn forget(operation: &mut Operation) -> Result<(), Malformed> {
    "unknown".clone_into(&mut operation.name);
    operation.needs = vec![Need::anywhere(UNKNOWN)];
    operation.access = AccessLevel::Unknown;
    Ok(())
}

/// Bucket and key of a copy's source, and whether a version is named.
fn source(headers: &HeaderMap) -> Result<Option<(String, bool)>, Malformed> {
    let Some(source) = super::rest::single(headers, "x-amz-copy-source")? else { return Ok(None) };
    let source = source.strip_prefix('/').unwrap_or(source);
    let (path, version) = source.split_once('?').map_or((source, ""), |(path, version)| (path, version));
    no_plus(source)?;
    let path = decode(path)?.into_owned();
    if let Some((bucket, key)) = path.split_once('/').filter(|_| !path.starts_with("arn:")) {
        stays_inside(bucket, key)?;
    }
    Ok(Some((path, version.starts_with("versionId="))))
}

/// S3 takes `..` in keys for what it is, but refuses those that would climb above the bucket; other stores may follow
/// them into another bucket, which is not the one that was judged.
fn stays_inside(bucket: &str, key: &str) -> Result<(), Malformed> {
    let climbs = || Malformed::new("`..` in the path leads out of the bucket; name the object's own bucket");
    if [".", ".."].contains(&bucket) {
        return Err(climbs());
    }
    let mut depth = 0_u32;
    for part in key.split('/') {
        match part {
            ".." => depth = depth.checked_sub(1).ok_or_else(climbs)?,
            "" | "." => {}
            _ => depth += 1,
        }
    }
    Ok(())
}

/// Objects of one DeleteObjects: S3 takes no more.
const MAX_OBJECTS: usize = 1_000;

pub(super) fn resources(
    front: &Front,
    target: &Target,
    operation: &mut Operation,
    account: &str,
) -> Result<(), Malformed> {
    let (partition, region) = (operation.partition, operation.region.clone());
    let object = |separator: &str, key: &str| if key.is_empty() { String::new() } else { format!("{separator}{key}") };
    let of_point = |service: &str, kind: &str, key: &str| {
        let (name, owner) = account_of(&target.bucket)?;
        Some(format!("arn:{partition}:{service}:{region}:{owner}:{kind}{name}{}", object("/object/", key)))
    };
    let base = |key: &str| match front {
        Front::AccessPoint => of_point("s3", "accesspoint/", key),
        Front::ObjectLambda => of_point("s3-object-lambda", "accesspoint/", key),
        Front::Outpost(id) => of_point("s3-outposts", &format!("outpost/{id}/accesspoint/"), key),
        Front::MultiRegion => {
            Some(format!("arn:{partition}:s3::{account}:accesspoint/{}{}", target.bucket, object("/object/", key)))
        }
        Front::Express => Some(format!("arn:{partition}:s3express:{region}:{account}:bucket/{}", target.bucket)),
        _ => Some(format!("arn:{partition}:s3:::{}{}", target.bucket, object("/", key))),
    };
    let mut found = Vec::new();
    match operation.name.as_str() {
        _ if target.bucket.is_empty() => {}
        "WriteGetObjectResponse" => {}
        "DeleteObjects" => return deletions(operation, base),
        _ => found.extend(base(&target.key)),
    }
    let anywhere = |arns: Vec<String>| if arns.is_empty() { vec!["*".into()] } else { arns };
    let found = anywhere(found);
    let sources = ["CopySource", "RenameSource"].iter().filter_map(|member| {
        let text = operation.parameters.get(*member)?.as_str()?;
        let text = text.strip_prefix('/').unwrap_or(text).split('?').next().unwrap_or_default();
        let text = decode(text).ok()?;
        // An access point's ARN stands for itself.
        Some(if text.starts_with("arn:") { text.into_owned() } else { format!("arn:{partition}:s3:::{text}") })
    });
    let sources = anywhere(sources.collect());
    let name = operation.name.clone();
    for need in operation.needs.iter_mut().filter(|n| n.action != UNKNOWN || n.resources.is_empty()) {
        need.resources.clone_from(if of_source(&name, &need.action) { &sources } else { &found });
    }
    operation.needs.extend(encryption_key(operation, account));
    Ok(())
}

/// Each object that one request deletes, with or without its version.
fn deletions(operation: &mut Operation, base: impl Fn(&str) -> Option<String>) -> Result<(), Malformed> {
    let objects = operation.parameters.get("Delete").and_then(|d| d.get("Objects")).and_then(Value::as_array);
    let count = objects.map_or(0, Vec::len);
    if count > MAX_OBJECTS {
        return Err(Malformed::new(format!(
            "the request deletes {count} objects, and S3 takes {MAX_OBJECTS}; send several"
        )));
    }
    let (mut plain, mut versions) = (Vec::new(), Vec::new());
    for object in objects.into_iter().flatten() {
        let version = object.get("VersionId").is_some_and(|v| v.as_str() != Some(""));
        let found = object.get("Key").and_then(Value::as_str).and_then(&base).unwrap_or_else(|| "*".into());
        if version { &mut versions } else { &mut plain }.push(found);
    }
    if plain.is_empty() && versions.is_empty() {
        plain.extend(base("*"));
    }
    let all: Vec<String> = plain.iter().chain(&versions).cloned().collect();
    let named = |action: &str| operation.needs.iter().position(|n| n.action == action);
    if let (Some(at), false) = (named("s3:DeleteObject"), versions.is_empty()) {
        let versioned = Need::new("s3:DeleteObjectVersion", versions);
        operation.needs[at].resources.clone_from(&plain);
        operation.needs.insert(at + 1, versioned);
        operation.needs.retain(|n| n.action != "s3:DeleteObject" || !n.resources.is_empty());
    }
    for need in operation.needs.iter_mut().filter(|n| n.resources.is_empty()) {
        need.resources.clone_from(&all);
    }
    Ok(())
}

/// The key that an object is to be encrypted with, where the request names one: whoever writes with it uses it.
fn encryption_key(operation: &Operation, account: &str) -> Option<Need> {
    let key = operation.parameters.get("SSEKMSKeyId")?.as_str().filter(|k| !k.is_empty())?;
    let arn = match key {
        arn if arn.starts_with("arn:") => arn.to_owned(),
        _ => {
            let kind = if key.starts_with("alias/") { "" } else { "key/" };
            format!("arn:{}:kms:{}:{account}:{kind}{key}", operation.partition, operation.region)
        }
    };
    Some(Need::new("kms:GenerateDataKey", vec![arn]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_out_of_their_bucket_are_refused() {
        for key in ["", "a", "a/../b", "a/b/../../c", "./a", "..a", "a..", "a/.../b", "a//b/.."] {
            assert_eq!(stays_inside("b", key), Ok(()), "{key}");
        }
        for key in ["..", "../b", "a/../..", "a/../../b", "./../b", "//../b"] {
            assert!(stays_inside("b", key).is_err(), "{key}");
        }
        assert!(stays_inside("..", "a").is_err());
    }
}
