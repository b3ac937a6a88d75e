//! The look-alike's S3: buckets in memory, both kinds of address, multipart uploads, ranges.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;

use super::{Answer, Call, chunked, escape, respond, xml, xml_error};
use crate::aws::sigv4::{self, Payload};

#[derive(Debug, Default)]
pub(super) struct Buckets {
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
    uploads: HashMap<String, Upload>,
    last_upload: u64,
}

#[derive(Debug, Clone)]
struct Object {
    content: Bytes,
    etag: String,
}

#[derive(Debug)]
struct Upload {
    bucket: String,
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

impl Buckets {
    pub(super) fn create(&mut self, bucket: &str) {
        self.buckets.entry(bucket.to_owned()).or_default();
    }
}

impl Object {
    fn new(content: Bytes) -> Self {
        let etag = format!("\"{}\"", &sigv4::sha256_hex(&content)[..32]);
        Self { content, etag }
    }
}

pub(super) fn answer(buckets: &mut Buckets, call: &Call) -> Answer {
    let Some((bucket, key)) = address(call) else {
        return xml_error(StatusCode::BAD_REQUEST, "InvalidURI", "The path is not valid UTF-8.");
    };
    if bucket.is_empty() {
        return list_buckets(buckets);
    }
    if call.parts.method == Method::PUT && key.is_empty() {
        buckets.create(&bucket);
        return respond(StatusCode::OK, "text/xml", "");
    }
    if !buckets.buckets.contains_key(&bucket) {
        return xml_error(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist");
    }
    match (call.parts.method.clone(), key.is_empty()) {
        (Method::HEAD, true) => respond(StatusCode::OK, "text/xml", ""),
        (Method::GET, true) if call.query("location").is_some() => {
            xml("<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>".into())
        }
        (Method::GET, true) => list(buckets, &bucket, call),
        (Method::GET | Method::HEAD, false) => get(buckets, &bucket, &key, call),
        (Method::PUT, false) => put(buckets, &bucket, &key, call),
        (Method::POST, false) => multipart(buckets, &bucket, &key, call),
        (Method::DELETE, false) => delete(buckets, &bucket, &key, call),
        _ => xml_error(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "This look-alike's S3 does not do that."),
    }
}

/// Bucket and key, from either kind of address.
fn address(call: &Call) -> Option<(String, String)> {
    let path = percent_decode_str(call.parts.uri.path().strip_prefix('/')?).decode_utf8().ok()?.into_owned();
    let host = call.header("host").unwrap_or_default().split(':').next().unwrap_or_default();
    let virtual_bucket =
        host.split_once(".s3.").or_else(|| host.split_once(".s3-")).map(|(bucket, _)| bucket.to_owned());
    Some(match virtual_bucket {
        Some(bucket) => (bucket, path),
        None => match path.split_once('/') {
            Some((bucket, key)) => (bucket.to_owned(), key.to_owned()),
            None => (path, String::new()),
        },
    })
}

/// The body without its envelope, if it has one.
fn content(call: &Call) -> Result<Bytes, Box<Answer>> {
    if call.claim.payload != Payload::StreamingUnsignedTrailer {
        return Ok(call.body.clone());
    }
    chunked::decode(&call.body)
        .map_err(|e| Box::new(xml_error(StatusCode::BAD_REQUEST, "IncompleteBody", &e.to_string())))
}

fn put(buckets: &mut Buckets, bucket: &str, key: &str, call: &Call) -> Answer {
    let content = match content(call) {
        Ok(content) => content,
        Err(refusal) => return *refusal,
    };
    let object = Object::new(content);
    let etag = object.etag.clone();
    if let Some(id) = call.query("uploadId") {
        let number = call.query("partNumber").and_then(|n| n.parse().ok());
        let (Some(number), Some(upload)) = (number, buckets.uploads.get_mut(&id)) else { return no_such_upload() };
        upload.parts.insert(number, object.content);
    } else {
        buckets.buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
    }
    tagged(respond(StatusCode::OK, "text/xml", ""), &etag)
}

fn get(buckets: &Buckets, bucket: &str, key: &str, call: &Call) -> Answer {
    let Some(object) = buckets.buckets.get(bucket).and_then(|b| b.get(key)) else {
        return xml_error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    let size = object.content.len();
    let range = call.header("range").and_then(|range| parse_range(range, size));
    let (status, content) = match range {
        Some((from, to)) => (StatusCode::PARTIAL_CONTENT, object.content.slice(from..=to)),
        None => (StatusCode::OK, object.content.clone()),
    };
    let length = content.len();
    let body = if call.parts.method == Method::HEAD { Bytes::new() } else { content };
    let mut answer = tagged(respond(status, "binary/octet-stream", body), &object.etag);
    answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers_mut().insert(header::LAST_MODIFIED, HeaderValue::from_static("Tue, 24 Nov 2026 00:00:00 GMT"));
    answer.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some((from, to)) = range
        && let Ok(value) = format!("bytes {from}-{to}/{size}").parse()
    {
        answer.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    answer
}

/// First and last byte of a single range within an object of `size` bytes.
fn parse_range(range: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1)?;
    if from.is_empty() {
        return Some((size.saturating_sub(to.parse().ok()?), last));
    }
    let from = from.parse().ok().filter(|from| *from <= last)?;
    let to = if to.is_empty() { last } else { to.parse::<usize>().ok()?.min(last) };
    (from <= to).then_some((from, to))
}

fn multipart(buckets: &mut Buckets, bucket: &str, key: &str, call: &Call) -> Answer {
    if call.query("uploads").is_some() {
        buckets.last_upload += 1;
        let id = format!("upload-{}", buckets.last_upload);
        let upload = Upload { bucket: bucket.to_owned(), key: key.to_owned(), parts: BTreeMap::new() };
        buckets.uploads.insert(id.clone(), upload);
        return xml(format!(
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{}</Bucket><Key>{}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>",
            escape(bucket),
            escape(key)
        ));
    }
    let Some(upload) = call.query("uploadId").and_then(|id| buckets.uploads.remove(&id)) else {
        return no_such_upload();
    };
    if (upload.bucket.as_str(), upload.key.as_str()) != (bucket, key) {
        return no_such_upload();
    }
    let mut whole = BytesMut::new();
    for part in upload.parts.values() {
        whole.extend_from_slice(part);
    }
    let object = Object::new(whole.freeze());
    let etag = object.etag.clone();
    buckets.buckets.entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
    xml(format!(
        "<CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{}</Bucket><Key>{}</Key>\
         <ETag>{}</ETag></CompleteMultipartUploadResult>",
        escape(bucket),
        escape(key),
        escape(&etag)
    ))
}

fn delete(buckets: &mut Buckets, bucket: &str, key: &str, call: &Call) -> Answer {
    if let Some(id) = call.query("uploadId") {
        buckets.uploads.remove(&id);
    } else if let Some(bucket) = buckets.buckets.get_mut(bucket) {
        bucket.remove(key);
    }
    respond(StatusCode::NO_CONTENT, "text/xml", "")
}

fn list_buckets(buckets: &Buckets) -> Answer {
    let items = buckets.buckets.keys().fold(String::new(), |mut out, name| {
        let _ = write!(
            out,
            "<Bucket><Name>{}</Name><CreationDate>2026-11-24T00:00:00.000Z</CreationDate></Bucket>",
            escape(name)
        );
        out
    });
    xml(format!(
        "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>look-alike</ID></Owner>\
         <Buckets>{items}</Buckets></ListAllMyBucketsResult>"
    ))
}

fn list(buckets: &Buckets, bucket: &str, call: &Call) -> Answer {
    let prefix = call.query("prefix").unwrap_or_default();
    let objects = buckets.buckets.get(bucket).into_iter().flatten().filter(|(key, _)| key.starts_with(&prefix));
    let mut count = 0;
    let items = objects.fold(String::new(), |mut out, (key, object)| {
        count += 1;
        let _ = write!(
            out,
            "<Contents><Key>{}</Key><LastModified>2026-11-24T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            escape(key),
            escape(&object.etag),
            object.content.len()
        );
        out
    });
    xml(format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         <KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{items}</ListBucketResult>",
        escape(bucket),
        escape(&prefix)
    ))
}

fn tagged(mut answer: http::Response<Full<Bytes>>, etag: &str) -> Answer {
    if let Ok(etag) = etag.parse() {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    answer
}

fn no_such_upload() -> Answer {
    xml_error(StatusCode::NOT_FOUND, "NoSuchUpload", "The specified multipart upload does not exist.")
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_are_cut_to_the_object() {
        for (range, size, expected) in [
            ("bytes=0-4", 10, Some((0, 4))),
            ("bytes=5-", 10, Some((5, 9))),
            ("bytes=-3", 10, Some((7, 9))),
            ("bytes=8-99", 10, Some((8, 9))),
            ("bytes=10-", 10, None),
            ("bytes=0-", 0, None),
            ("lines=0-1", 10, None),
        ] {
            assert_eq!(parse_range(range, size), expected, "{range} of {size}");
        }
    }
}
