//! Connections that made one request each and then stay open.
//!
//! Owns them until dropped.

use http_body_util::BodyExt as _;
use hyper::client::conn::http1::SendRequest;
use serde::Serialize;

use super::request::{self, Body};
use super::transport::{self, Target};
use super::{SEEN_KEY, SMALL_HOST};

#[derive(Debug, Serialize)]
pub struct Report {
    pub connections: usize,
    pub seen_key: String,
}

/// Open connections; they close when this is dropped.
#[derive(Debug)]
pub struct Held {
    pub report: Report,
    _connections: Vec<SendRequest<Body>>,
}

pub async fn open(target: &Target, count: usize) -> anyhow::Result<Held> {
    let credentials = target.credentials.load().await?;
    let tls = transport::tls(&target.ca)?;
    let mut connections = Vec::with_capacity(count);
    let mut seen_key = String::new();
    for n in 0..count {
        let mut connection = transport::open(target.address, tls.clone(), SMALL_HOST).await?;
        let response = connection.send_request(request::get_item(&credentials, n)?.request()).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::ensure!(parts.status.is_success(), "answer {}: {}", parts.status, String::from_utf8_lossy(&body));
        seen_key = parts.headers.get(SEEN_KEY).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
        connections.push(connection);
    }
    Ok(Held { report: Report { connections: count, seen_key }, _connections: connections })
}
