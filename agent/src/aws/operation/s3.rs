//! S3: method, bucket, key and the query literals that make another operation of the same path.

use std::collections::BTreeMap;

use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{AccessLevel, Endpoint, Malformed, Operation};

pub(super) fn route(endpoint: &Endpoint, parts: &Parts, operation: &mut Operation) -> Result<(), Malformed> {
    let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
    // The virtual host's bucket goes back in front; slashes are told before anything is decoded.
    let (bucket, key) = match &endpoint.bucket {
        Some(bucket) => (bucket.clone(), path),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (decode(bucket)?, key)
        }
    };
    let key = decode(key)?;
    stays_inside(&bucket, &key)?;
    let query = query(parts.uri.query().unwrap_or_default())?;
    let Some((name, actions, access)) = recognise(&parts.method, &bucket, &key, &query, parts) else { return Ok(()) };
    operation.name = name.to_owned();
    operation.actions = actions.iter().map(|a| format!("s3:{a}")).collect();
    operation.access = access;
    let arn = |rest: &str| format!("arn:{}:s3:::{rest}", operation.partition);
    operation.resources = match name {
        "ListBuckets" => vec!["*".into()],
        "DeleteObjects" => vec![arn(&format!("{bucket}/*"))],
        _ if key.is_empty() => vec![arn(&bucket)],
        _ => vec![arn(&format!("{bucket}/{key}"))],
    };
    if let Some(source) = parts.headers.get("x-amz-copy-source") {
        let source = source.to_str().map_err(|_| Malformed::new("x-amz-copy-source is not text"))?;
        let source =
            decode(source.strip_prefix('/').unwrap_or(source).split("?versionId=").next().unwrap_or_default())?;
        if let Some((bucket, key)) = source.split_once('/').filter(|_| !source.starts_with("arn:")) {
            stays_inside(bucket, key)?;
        }
        // An access point's ARN stands for itself.
        operation.resources.push(if source.starts_with("arn:") { source } else { arn(&source) });
    }
    if !bucket.is_empty() {
        operation.parameters.insert("Bucket".into(), Value::String(bucket));
    }
    if !key.is_empty() {
        operation.parameters.insert("Key".into(), Value::String(key));
    }
    for (name, value) in query {
        operation.parameters.insert(name, Value::String(value));
    }
    Ok(())
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

type Recognised = (&'static str, &'static [&'static str], AccessLevel);

/// `None`: none of the operations below, so not known.
fn recognise(
    method: &Method,
    bucket: &str,
    key: &str,
    query: &BTreeMap<String, String>,
    parts: &Parts,
) -> Option<Recognised> {
    use AccessLevel::{List, Read, Write};
    // Headers that make a write do more than write: those operations are not known here.
    let more = |name: &str| {
        name.starts_with("x-amz-grant-")
            || name.starts_with("x-amz-object-lock")
            || ["x-amz-acl", "x-amz-tagging", "x-amz-bypass-governance-retention", "x-amz-object-ownership"]
                .contains(&name)
    };
    if parts.headers.keys().any(|h| more(h.as_str())) {
        return None;
    }
    // `x-id` is a hint of some SDKs and says nothing; every other name has to be one that the operation takes.
    let only = |allowed: &[&str]| query.keys().all(|k| k == "x-id" || allowed.contains(&k.as_str()));
    let has = |name: &str| query.contains_key(name);
    let copy = parts.headers.contains_key("x-amz-copy-source");
    Some(match (method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, true) if only(&["max-buckets", "continuation-token", "prefix", "bucket-region"]) => {
            ("ListBuckets", &["ListAllMyBuckets"], List)
        }
        ("HEAD", false, true) if only(&[]) => ("HeadBucket", &["ListBucket"], List),
        ("PUT", false, true) if only(&[]) => ("CreateBucket", &["CreateBucket"], Write),
        ("DELETE", false, true) if only(&[]) => ("DeleteBucket", &["DeleteBucket"], Write),
        ("GET", false, true) if has("location") && only(&["location"]) => {
            ("GetBucketLocation", &["GetBucketLocation"], Read)
        }
        ("GET", false, true)
            if has("uploads")
                && only(&[
                    "uploads",
                    "prefix",
                    "delimiter",
                    "encoding-type",
                    "key-marker",
                    "max-uploads",
                    "upload-id-marker",
                ]) =>
        {
            ("ListMultipartUploads", &["ListBucketMultipartUploads"], List)
        }
        ("GET", false, true)
            if only(&[
                "list-type",
                "prefix",
                "delimiter",
                "max-keys",
                "continuation-token",
                "start-after",
                "encoding-type",
                "fetch-owner",
                "marker",
            ]) =>
        {
            (if has("list-type") { "ListObjectsV2" } else { "ListObjects" }, &["ListBucket"], List)
        }
        ("POST", false, true) if has("delete") && only(&["delete"]) => ("DeleteObjects", &["DeleteObject"], Write),
        ("GET", false, false) if has("uploadId") && only(&["uploadId", "max-parts", "part-number-marker"]) => {
            ("ListParts", &["ListMultipartUploadParts"], List)
        }
        ("GET" | "HEAD", false, false) if only(OBJECT_READ) => {
            let action: &[&str] = if has("versionId") { &["GetObjectVersion"] } else { &["GetObject"] };
            (if method == Method::GET { "GetObject" } else { "HeadObject" }, action, Read)
        }
        ("PUT", false, false) if has("uploadId") && has("partNumber") && only(&["uploadId", "partNumber"]) => {
            if copy {
                ("UploadPartCopy", &["PutObject", "GetObject"], Write)
            } else {
                ("UploadPart", &["PutObject"], Write)
            }
        }
        ("PUT", false, false) if only(&[]) => {
            if copy {
                ("CopyObject", &["PutObject", "GetObject"], Write)
            } else {
                ("PutObject", &["PutObject"], Write)
            }
        }
        ("DELETE", false, false) if has("uploadId") && only(&["uploadId"]) => {
            ("AbortMultipartUpload", &["AbortMultipartUpload"], Write)
        }
        ("DELETE", false, false) if only(&[]) => ("DeleteObject", &["DeleteObject"], Write),
        ("DELETE", false, false) if has("versionId") && only(&["versionId"]) => {
            ("DeleteObject", &["DeleteObjectVersion"], Write)
        }
        ("POST", false, false) if has("uploads") && only(&["uploads"]) => {
            ("CreateMultipartUpload", &["PutObject"], Write)
        }
        ("POST", false, false) if has("uploadId") && only(&["uploadId"]) => {
            ("CompleteMultipartUpload", &["PutObject"], Write)
        }
        _ => return None,
    })
}

const OBJECT_READ: &[&str] = &[
    "versionId",
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

/// The query, each name once.
fn query(text: &str) -> Result<BTreeMap<String, String>, Malformed> {
    let mut found = BTreeMap::new();
    for pair in text.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if found.insert(name.clone(), decode(value)?).is_some() {
            return Err(Malformed::new(format!("the query names `{name}` twice; send it once")));
        }
    }
    Ok(found)
}

/// Decodes once; `+` is itself in a path, and S3 clients send spaces as `%20` in queries.
fn decode(text: &str) -> Result<String, Malformed> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Malformed::new("the path or query is not UTF-8 once it is decoded; encode it as UTF-8"))
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
