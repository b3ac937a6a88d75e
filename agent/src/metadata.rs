//! The metadata service as agents see it: placeholders and a region, nothing of the host.
//!
//! Owns the answers of `169.254.169.254` (IMDSv2) and of the container credential addresses. Never reaches the
//! real service and never gives out a held credential. Pure but for the tokens' random key; runs on the
//! connection's task. Answers as EC2 does where an SDK could tell the difference.

mod imds;
mod inside;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;
use time::OffsetDateTime;
use time::macros::format_description;

pub use inside::{HEADER, answer, is_ours};
pub use token::Tokens;

use crate::credential::Placeholder;
use crate::session::SessionId;

/// The role that the agent finds itself in.
pub const ROLE: &str = "tollgate";

/// What may be told to the session that asks.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub session: &'a SessionId,
    /// `None`: the session has none (any more), so there is no role to be found.
    pub placeholder: Option<Arc<Placeholder>>,
    pub region: &'a str,
    /// Which of the metadata addresses was asked.
    pub address: IpAddr,
}

/// Answers one request.
pub fn respond(request: &http::Request<()>, facts: &Facts<'_>, tokens: &Tokens, now: SystemTime) -> Response<Bytes> {
    let container = match facts.address.to_canonical() {
        IpAddr::V4(ip) => matches!(ip.octets(), [169, 254, 170, _]),
        IpAddr::V6(ip) => ip.segments()[7] == 0x23,
    };
    // A request that came through a proxy was not meant by whoever is behind it; EC2 refuses it likewise.
    if request.headers().contains_key("x-forwarded-for") {
        return plain(StatusCode::FORBIDDEN, "requests through proxies are not answered");
    }
    if container { container_role(request, facts) } else { imds::respond(request, facts, tokens, now) }
}

/// ECS's and EKS's way to hand out credentials: one document at a path that the platform chooses.
fn container_role(request: &http::Request<()>, facts: &Facts<'_>) -> Response<Bytes> {
    let path = request.uri().path();
    match (&facts.placeholder, request.method().as_str()) {
        (Some(placeholder), "GET") if path.starts_with("/v1/credentials") || path.starts_with("/v2/credentials") => {
            document(&json!({
                "RoleArn": ROLE,
                "AccessKeyId": placeholder.access_key_id,
                "SecretAccessKey": placeholder.secret_access_key.expose(),
                "Token": placeholder.session_token.expose(),
                "Expiration": moment(placeholder.expires),
            }))
        }
        _ => plain(StatusCode::NOT_FOUND, "no such document"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Bytes> {
    typed(status, "text/plain", text.into())
}

fn document(value: &serde_json::Value) -> Response<Bytes> {
    typed(StatusCode::OK, "application/json", value.to_string().into())
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// `2026-01-02T03:04:05Z`
fn moment(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).unwrap_or_default()
}
