//! Signed requests: a DynamoDB GetItem, and an S3 GET or PUT.
//!
//! Owns the signing. Requests are signed before a run starts, so that the client's cost is the same for every contender.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use super::{BULK_HOST, REGION, SMALL_HOST};

/// Any body a run sends.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A signed request that can be sent many times.
#[derive(Debug, Clone)]
pub struct Signed {
    parts: http::request::Parts,
    body: Bytes,
}

impl Signed {
    /// A copy to send, with its own body.
    pub fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), Full::new(self.body.clone()).boxed_unsync())
    }

    /// A copy to send with a body that was not signed.
    pub fn with_body(self, body: Body) -> Request<Body> {
        Request::from_parts(self.parts, body)
    }
}

/// `dynamodb:GetItem` for the item of that number, like the JavaScript and Python SDKs send it.
pub fn get_item(credentials: &Credentials, number: usize) -> anyhow::Result<Signed> {
    let body = format!(
        r#"{{"TableName":"bench-table","Key":{{"pk":{{"S":"customer-{number:06}"}},"sk":{{"S":"profile"}}}},"ConsistentRead":true}}"#
    );
    let request = Request::builder()
        .method("POST")
        .uri("/")
        .header("host", SMALL_HOST)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "DynamoDB_20120810.GetItem")
        .header("accept-encoding", "identity")
        .header("user-agent", "tollgate-load/0.1")
        .header("content-length", body.len());
    signed(credentials, "dynamodb", SMALL_HOST, request, Bytes::from(body), None)
}

/// `s3:GetObject` of an object of that many bytes; the upstream reads the size from the key.
pub fn get_object(credentials: &Credentials, bytes: u64) -> anyhow::Result<Signed> {
    let request = Request::builder()
        .method("GET")
        .uri(format!("/objects/{bytes}"))
        .header("host", BULK_HOST)
        .header("user-agent", "tollgate-load/0.1");
    signed(credentials, "s3", BULK_HOST, request, Bytes::new(), Some(SignableBody::Bytes(b"")))
}

/// The head of an `s3:PutObject` with that length on the wire, and how its payload is declared.
pub fn put_object(credentials: &Credentials, length: u64, decoded: Option<u64>) -> anyhow::Result<Signed> {
    let mut request = Request::builder()
        .method("PUT")
        .uri("/objects/upload")
        .header("host", BULK_HOST)
        .header("user-agent", "tollgate-load/0.1")
        .header("content-type", "application/octet-stream")
        .header("content-length", length);
    let payload = match decoded {
        None => SignableBody::UnsignedPayload,
        Some(decoded) => {
            request = request
                .header("content-encoding", "aws-chunked")
                .header("x-amz-decoded-content-length", decoded)
                .header("x-amz-trailer", "x-amz-checksum-crc32");
            SignableBody::StreamingUnsignedPayloadTrailer
        }
    };
    signed(credentials, "s3", BULK_HOST, request, Bytes::new(), Some(payload))
}

/// Signs; `payload` is set for S3, which has its own escaping and wants the payload's hash in a header.
fn signed(
    credentials: &Credentials,
    service: &str,
    host: &str,
    request: http::request::Builder,
    body: Bytes,
    payload: Option<SignableBody<'_>>,
) -> anyhow::Result<Signed> {
    let mut request = request.body(())?;
    let mut settings = SigningSettings::default();
    if payload.is_some() {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = Identity::from(credentials.clone());
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(service)
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let uri = format!("https://{host}{}", request.uri());
    let signable =
        SignableRequest::new(request.method().as_str(), uri, headers, payload.unwrap_or(SignableBody::Bytes(&body)))?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    let (parts, ()) = request.into_parts();
    Ok(Signed { parts, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Credentials {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test")
    }

    #[test]
    fn requests_are_signed_for_their_service() {
        for (request, scope) in [
            (get_item(&keys(), 7), "/us-east-1/dynamodb/aws4_request"),
            (get_object(&keys(), 7), "/us-east-1/s3/aws4_request"),
        ] {
            let request = request.unwrap().request();
            let authorization = request.headers()["authorization"].to_str().unwrap();
            assert!(authorization.contains(scope), "{authorization}");
            assert_eq!(request.uri().authority(), None);
        }
    }

    #[test]
    fn uploads_declare_their_payload_mode() {
        for (decoded, mode) in [(None, "UNSIGNED-PAYLOAD"), (Some(5), "STREAMING-UNSIGNED-PAYLOAD-TRAILER")] {
            let request = put_object(&keys(), 9, decoded).unwrap().request();
            assert_eq!(request.headers()["x-amz-content-sha256"], mode);
        }
    }
}
