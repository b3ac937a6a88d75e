//! The command line's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// A connection to the daemon, made anew for each request.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why the daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "the daemon does not answer at `{0}`; start it with `systemctl start tollgate` or `tollgate daemon`, or name its socket with --socket"
    )]
    Absent(PathBuf),
    #[error(
        "you may not use the daemon's socket `{0}`; run this as root or as a member of the group in `control.group`"
    )]
    Forbidden(PathBuf),
    #[error("talking to the daemon failed: {0}; see its journal")]
    Broken(String),
    #[error("{error}; {check}")]
    Refused { error: String, check: String },
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.value(Method::GET, path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<Value, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.value(Method::POST, path, body.into()).await
    }

    /// The body as it comes; for answers that go on.
    pub async fn stream(&self, path: &str, body: &impl serde::Serialize) -> Result<Incoming, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.send(Method::POST, path, body.into()).await
    }

    async fn value(&self, method: Method, path: &str, body: Bytes) -> Result<Value, ClientError> {
        let whole =
            self.send(method, path, body).await?.collect().await.map_err(|e| ClientError::Broken(e.to_string()))?;
        let value: Value = serde_json::from_slice(&whole.to_bytes()).map_err(|e| ClientError::Broken(e.to_string()))?;
        match value.get("error").and_then(Value::as_str) {
            Some(error) => Err(refused(error, &value)),
            None => Ok(value),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Incoming, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.socket.clone()),
            _ => ClientError::Absent(self.socket.clone()),
        })?;
        let broken = |e: hyper::Error| ClientError::Broken(e.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "tollgate")
            .body(Full::new(body))
            .map_err(|e| ClientError::Broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status() == StatusCode::OK {
            return Ok(response.into_body());
        }
        let whole = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
        Err(refused(value["error"].as_str().unwrap_or("the daemon refused"), &value))
    }
}

fn refused(error: &str, value: &Value) -> ClientError {
    ClientError::Refused {
        error: error.into(),
        check: value["check"].as_str().unwrap_or("see the daemon's journal").into(),
    }
}
