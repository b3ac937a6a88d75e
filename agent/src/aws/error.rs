//! Errors in the shape of each protocol.
//!
//! Pure. Codes are those that make clients raise their native exception and not retry, except where they should.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::{Endpoint, Protocol};

/// What went wrong, as AWS would name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    AccessDenied,
    SignatureDoesNotMatch,
    /// A foreign or unknown access key.
    InvalidClientTokenId,
    ExpiredToken,
    MalformedRequest,
    NotImplemented,
    /// Retryable.
    ServiceUnavailable,
    Internal,
    RequestTooLarge,
    RequestTimeTooSkewed,
}

impl ErrorKind {
    fn status(self) -> StatusCode {
        match self {
            Self::MalformedRequest | Self::RequestTooLarge => StatusCode::BAD_REQUEST,
            // 501 and 500 are retried by some clients: what is not supported will not be on the next try either.
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::FORBIDDEN,
        }
    }

    fn code(self, protocol: Protocol, service: &str) -> &'static str {
        let json = matches!(protocol, Protocol::Json10 | Protocol::Json11 | Protocol::RestJson | Protocol::RpcV2Cbor);
        let (ec2, s3) = (protocol == Protocol::Ec2, service == "s3");
        match self {
            Self::AccessDenied | Self::NotImplemented if json => "AccessDeniedException",
            Self::AccessDenied if ec2 => "UnauthorizedOperation",
            Self::AccessDenied | Self::NotImplemented => "AccessDenied",
            Self::SignatureDoesNotMatch if json => "InvalidSignatureException",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::InvalidClientTokenId if json => "UnrecognizedClientException",
            Self::InvalidClientTokenId if s3 => "InvalidAccessKeyId",
            Self::InvalidClientTokenId if ec2 => "AuthFailure",
            Self::InvalidClientTokenId => "InvalidClientTokenId",
            Self::ExpiredToken if json => "ExpiredTokenException",
            Self::ExpiredToken if ec2 => "RequestExpired",
            Self::ExpiredToken => "ExpiredToken",
            Self::MalformedRequest | Self::RequestTooLarge if json => "ValidationException",
            Self::MalformedRequest => "InvalidRequest",
            Self::RequestTooLarge => "EntityTooLarge",
            Self::ServiceUnavailable if json => "ServiceUnavailableException",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Internal if json => "InternalFailure",
            Self::Internal => "InternalError",
            Self::RequestTimeTooSkewed if json => "InvalidSignatureException",
            Self::RequestTimeTooSkewed => "RequestTimeTooSkewed",
        }
    }
}

/// The service in whose words a client of this endpoint expects an error: its IAM prefix, or `s3control`.
pub fn speaker<'a>(endpoint: &Endpoint, parts: &Parts, service: &'a str) -> &'a str {
    match service {
        "s3" | "s3express" if super::operation::is_s3_control(endpoint, parts) => "s3control",
        "s3express" => "s3",
        _ => service,
    }
}

/// An error in a protocol's own shape; `service` as [`speaker`] gives it.
pub fn respond(protocol: Protocol, service: &str, kind: ErrorKind, message: &str, request_id: &str) -> Response<Bytes> {
    let code = kind.code(protocol, service);
    let (text, id) = (escape(message), escape(request_id));
    let (content_type, body) = match protocol {
        Protocol::RestXml if service == "s3" => (
            "application/xml",
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{id}</RequestId><HostId>tollgate</HostId></Error>").into_bytes(),
        ),
        // S3 alone has no element around its errors.
        Protocol::Query | Protocol::RestXml => (
            "text/xml",
            format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>").into_bytes(),
        ),
        Protocol::Ec2 => (
            "text/xml;charset=UTF-8",
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors><RequestID>{id}</RequestID></Response>").into_bytes(),
        ),
        Protocol::Json10 => ("application/x-amz-json-1.0", json(code, message)),
        Protocol::Json11 => ("application/x-amz-json-1.1", json(code, message)),
        Protocol::RestJson => ("application/json", json(code, message)),
        Protocol::RpcV2Cbor => ("application/cbor", cbor(code, message)),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = kind.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-amzn-requestid"), id.clone());
        headers.insert(HeaderName::from_static("x-amz-request-id"), id);
    }
    match protocol {
        Protocol::RestJson => {
            headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(code));
        }
        Protocol::RpcV2Cbor => {
            headers.insert(HeaderName::from_static("smithy-protocol"), HeaderValue::from_static("rpc-v2-cbor"));
        }
        _ => {}
    }
    response
}

/// An error for a request that was refused before its protocol was known.
pub fn respond_unknown(
    endpoint: &Endpoint,
    parts: &Parts,
    kind: ErrorKind,
    message: &str,
    request_id: &str,
) -> Response<Bytes> {
    let service = speaker(endpoint, parts, endpoint.signing.as_deref().unwrap_or_default());
    respond(protocol_of(endpoint, parts), service, kind, message, request_id)
}

/// The protocol that a client will read an error in, told by its request's headers where the operation is not known.
pub(super) fn protocol_of(endpoint: &Endpoint, parts: &Parts) -> Protocol {
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
    match (endpoint.signing.as_deref().unwrap_or_default(), content_type) {
        ("s3" | "s3express", _) => Protocol::RestXml,
        (_, t) if t.starts_with("application/x-amz-json-1.0") => Protocol::Json10,
        (_, t) if t.starts_with("application/x-amz-json-1.1") => Protocol::Json11,
        (_, t) if t.starts_with("application/cbor") => Protocol::RpcV2Cbor,
        (_, t) if t.starts_with("application/json") => Protocol::RestJson,
        ("ec2", _) => Protocol::Ec2,
        _ => Protocol::Query,
    }
}

fn json(code: &str, message: &str) -> Vec<u8> {
    serde_json::json!({ "__type": code, "message": message, "Message": message }).to_string().into_bytes()
}

fn cbor(code: &str, message: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let value = ciborium::Value::Map(vec![("__type".into(), code.into()), ("message".into(), message.into())]);
    // Writing to memory does not fail; an empty body would still be an error by its status.
    let _ = ciborium::into_writer(&value, &mut body);
    body
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // Not allowed in XML at all.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_own_code_and_nothing_is_injected() {
        use Protocol::*;
        for (protocol, service, expected) in [
            (Query, "sts", "<Code>AccessDenied</Code>"),
            (Ec2, "ec2", "<Code>UnauthorizedOperation</Code>"),
            (RestXml, "s3", "<Code>AccessDenied</Code>"),
            (Json10, "dynamodb", "\"__type\":\"AccessDeniedException\""),
            (RestJson, "lambda", "\"__type\":\"AccessDeniedException\""),
        ] {
            let response = respond(protocol, service, ErrorKind::AccessDenied, "no <b> & \"c\"", "id");
            assert_eq!(response.status(), 403);
            let text = String::from_utf8_lossy(response.body()).into_owned();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains("<b>") || text.starts_with('{'), "{text}");
            assert_eq!(response.headers()["x-amzn-requestid"], "id");
        }
        assert_eq!(
            respond(RpcV2Cbor, "", ErrorKind::AccessDenied, "m", "id").headers()["smithy-protocol"],
            "rpc-v2-cbor"
        );
        assert_eq!(respond(Query, "", ErrorKind::ServiceUnavailable, "m", "id").status(), 503);
    }

    #[test]
    fn s3_alone_has_no_element_around_its_errors() {
        for (host, path, bare) in [
            ("demo.s3.us-east-1.amazonaws.com", "/key", true),
            ("s3express-control.us-east-1.amazonaws.com", "/demo--use1-az1--x-s3", true),
            ("s3express-control.us-east-1.amazonaws.com", "/v20180820/accesspointfordirectory", false),
            ("123456789012.s3-control.us-east-1.amazonaws.com", "/v20180820/jobs", false),
        ] {
            let endpoint = crate::aws::endpoint::resolve(host).expect("AWS's");
            let (parts, ()) = http::Request::get(path).body(()).expect("a request").into_parts();
            let answer = respond_unknown(&endpoint, &parts, ErrorKind::AccessDenied, "m", "id");
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            assert_eq!(!text.contains("<ErrorResponse>"), bare, "{host}{path}: {text}");
        }
    }
}
