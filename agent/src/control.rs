//! HTTP and JSON on a unix socket: what people and `tollgate run` ask of the daemon.
//!
//! Owns who may ask: root, the daemon's own user, members of the configured group; and never a tagged process, whoever
//! it runs as. One task per connection.

mod approvals;
mod client;
mod judged;
pub mod notify;
mod revoke;
mod routes;
mod run;
mod streams;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

pub use approvals::Say;
pub use client::{Client, ClientError};
pub use judged::Recorded;
pub use revoke::Revoke;
pub use run::{Leaders, RunAnswer, RunRequest};

use crate::daemon::Core;
use crate::journal::{Event, Kind};
use crate::sys::peer::Process;

/// A response body of the control socket.
pub type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Largest request body: a command line and an environment.
const MAX_REQUEST: usize = 8 << 20;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(
        "cannot listen on the control socket `{path}`: {source}; check that its directory exists and that no other daemon runs"
    )]
    Listen { path: PathBuf, source: io::Error },
    #[error("`control.group` names `{0}`, which is no group of this host; create it or name another")]
    Group(String),
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Means the one that connected as long as [`Peer::process`] runs.
    pub pid: u32,
    pub process: Arc<Process>,
    pub uid: u32,
    pub gid: u32,
}

/// Makes the socket: for root, or for root and a group.
pub fn listen(path: &Path, group: Option<&str>) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Listen { path: path.into(), source };
    let gid = group
        .map(|name| match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid),
            _ => Err(ControlError::Group(name.into())),
        })
        .transpose()?;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there")));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Who may connect is checked again per connection; a socket that others cannot open says so at once.
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    if let Some(gid) = gid {
        nix::unistd::chown(path, None, Some(gid)).map_err(|e| failed(e.into()))?;
    }
    Ok(listener)
}

/// Serves until told to stop.
pub async fn serve(listener: UnixListener, core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("cannot accept on the control socket: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = crate::gateway::stopped(&mut stop) => return,
        };
        // At once: the later, the more could have happened to the process's number.
        let who = identify(&stream);
        tokio::spawn(connection(stream, who, core.clone()));
    }
}

async fn connection(stream: UnixStream, who: Result<Peer, String>, core: Arc<Core>) {
    let verdict = who.and_then(|peer| admit(peer, &core));
    let (journal, peer) = (core.clone(), verdict.as_ref().ok().map(|p| (p.pid, p.uid)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (core, verdict) = (core.clone(), verdict.clone());
        async move {
            let response = match verdict {
                Ok(peer) => routes::answer(&core, peer, request).await,
                Err(why) => error(
                    StatusCode::FORBIDDEN,
                    &why,
                    "ask from outside the tag, as root or a member of `control.group`",
                ),
            };
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let result = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // hyper has answered 400; the journal should know too.
    if let Some(why) = result.err().and_then(|e| crate::gateway::misspoken(&e)) {
        journal.journal.emit(malformed(peer, &why));
    }
}

/// What the journal has of a request that could not be read; `from` are process and user.
fn malformed(from: Option<(u32, u32)>, why: &str) -> Event {
    let who = from.map_or_else(|| "somebody who may not ask".into(), |(_, uid)| format!("user {uid}"));
    Event {
        kind: Kind::Refused,
        pid: from.map(|(pid, _)| pid),
        reason: Some(format!("malformed request on the control socket, from {who}: {why}")),
        ..Event::default()
    }
}

/// Who is at the other end.
fn identify(stream: &UnixStream) -> Result<Peer, String> {
    let cred = stream.peer_cred().map_err(|e| format!("cannot tell who is asking: {e}"))?;
    let pid = cred.pid().and_then(|p| u32::try_from(p).ok()).ok_or("cannot tell which process is asking")?;
    let process = Process::of(stream, pid).map_err(|e| format!("cannot tell which process is asking: {e}"))?;
    Ok(Peer { pid, process: Arc::new(process), uid: cred.uid(), gid: cred.gid() })
}

/// Whether they may ask at all.
fn admit(peer: Peer, core: &Core) -> Result<Peer, String> {
    let pid = peer.pid;
    // An error means that it cannot be told, which counts as yes.
    if core.capture.is_tagged(pid).unwrap_or(true) {
        core.journal.emit(Event {
            kind: Kind::Bypass,
            pid: Some(pid),
            reason: Some("a governed process opened the control socket".into()),
            session: core
                .capture
                .tag_of(pid)
                .ok()
                .flatten()
                .and_then(|t| core.sessions.by_tag(t))
                .map(|s| s.id.to_string()),
            ..Event::default()
        });
        return Err("governed processes may not use the control socket".into());
    }
    let own = nix::unistd::geteuid().as_raw();
    let admitted = peer.uid == 0 || peer.uid == own || in_group(core, &peer);
    // After all that was asked by its number, which may be another process's by now.
    if !peer.process.is_running() {
        return Err("the process that connected has ended, so what it was cannot be told".into());
    }
    if admitted {
        return Ok(peer);
    }
    Err(format!("user {} may not use the control socket", peer.uid))
}

fn in_group(core: &Core, peer: &Peer) -> bool {
    let config = core.config.load();
    let Some(name) = &config.control.group else { return false };
    let Ok(Some(group)) = nix::unistd::Group::from_name(name) else { return false };
    let gid = group.gid.as_raw();
    peer.gid == gid || crate::sys::peer::groups(peer.pid).is_ok_and(|groups| groups.contains(&gid))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    let mut response = Response::new(http_body_util::Full::new(Bytes::from(text)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// An error, and what to check next.
pub(crate) fn error(status: StatusCode, error: &str, check: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "error": error, "check": check }))
}

/// A request's body as JSON. What is none is answered, and told.
pub(crate) async fn body<T: serde::de::DeserializeOwned>(
    core: &Core,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<T, Response<Body>> {
    read_body(request.into_body()).await.map_err(|(status, why, check)| {
        core.journal.emit(malformed(Some((peer.pid, peer.uid)), &why));
        error(status, &why, check)
    })
}

async fn read_body<T, B>(body: B) -> Result<T, (StatusCode, String, &'static str)>
where
    T: serde::de::DeserializeOwned,
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = http_body_util::Limited::new(body, MAX_REQUEST).collect().await.map_err(|e| {
        if e.is::<http_body_util::LengthLimitError>() {
            let why = format!("the request is larger than {MAX_REQUEST} bytes");
            return (StatusCode::PAYLOAD_TOO_LARGE, why, "send less: a shorter command line or a smaller environment");
        }
        (StatusCode::BAD_REQUEST, format!("the request broke off: {e}"), "send it whole")
    })?;
    serde_json::from_slice(&whole.to_bytes()).map_err(|e| {
        (
            StatusCode::BAD_REQUEST,
            format!("the request is not what was expected: {e}"),
            "use the same version of the command and the daemon",
        )
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_none_is_answered_clearly_and_told() {
        let (status, why, _) = read_body::<Vec<u8>, _>(Full::new(Bytes::from("[1"))).await.expect_err("no JSON");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(why.contains("not what was expected: EOF"), "{why}");
        let (status, ..) = read_body::<Vec<u8>, _>(Empty::<Bytes>::new()).await.expect_err("nothing");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (status, why, _) =
            read_body::<Vec<u8>, _>(Full::new(Bytes::from(vec![b' '; MAX_REQUEST + 1]))).await.expect_err("too much");
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(why.contains("larger than 8388608 bytes"), "{why}");
        let broken =
            StreamBody::new(futures_util::stream::iter([Err::<http_body::Frame<Bytes>, _>(io::Error::other("gone"))]));
        let (status, why, _) = read_body::<Vec<u8>, _>(broken).await.expect_err("broken off");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let event = malformed(Some((7, 5)), &why);
        assert_eq!((event.kind, event.pid), (Kind::Refused, Some(7)));
        assert_eq!(
            event.reason.as_deref(),
            Some("malformed request on the control socket, from user 5: the request broke off: gone")
        );
    }
}
