//! What a governed process may ask of the daemon: through the metadata address, where the daemon knows it by its tag.
//!
//! The control socket is for people outside and refuses it.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::config::METADATA_V4;
use crate::metadata::HEADER;
use crate::session::SessionId;

/// Whether this process is in a session's cgroup. A guess: the daemon knows.
pub(super) fn is_governed() -> bool {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    path.split('/').any(|part| SessionId::parse(part).is_some())
}

/// Asks for what is at a path below the daemon's own.
pub(super) async fn get(path: &str) -> anyhow::Result<Value> {
    send(Method::GET, path, Bytes::new()).await
}

/// Says something to a path.
pub(super) async fn put(path: &str, body: Bytes) -> anyhow::Result<Value> {
    send(Method::PUT, path, body).await
}

async fn send(method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
    let stream = TcpStream::connect((METADATA_V4, 80)).await.context("the daemon does not answer")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/tollgate/{path}"))
        .header(http::header::HOST, METADATA_V4.to_string())
        // What makes other programs send requests cannot make them send this.
        .header(HEADER, "1")
        .body(Full::new(body))?;
    let response = sender.send_request(request).await.context("the daemon does not answer")?;
    let whole = response.into_body().collect().await.context("the daemon's answer broke off")?.to_bytes();
    let value: Value = serde_json::from_slice(&whole).context("it is not Tollgate's daemon that answered")?;
    match value["error"].as_str() {
        Some(error) => anyhow::bail!("{error}; {}", value["check"].as_str().unwrap_or_default()),
        None => Ok(value),
    }
}
