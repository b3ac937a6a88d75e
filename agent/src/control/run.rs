//! `tollgate run`, the daemon's side: a session, a cgroup, and a launcher with the caller's standard streams.
//!
//! The answer stays open as long as the command runs; when it breaks off, the command is hung up.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::streams::{StreamError, Streams};
use super::{Body, Peer, body, error, json};
use crate::daemon::{Ask, Core};
use crate::identity::TokenSource;
use crate::launch::Spec;
use crate::session::{Session, SessionId, State};
use crate::sys::limits::Limit;
use crate::sys::rights::Rights;
use crate::{credential, mask, sys, trust};

/// How long a command may go on after its caller has gone, and a process after its command.
const GRACE: Duration = Duration::from_secs(5);

/// Most processes and threads of one session; an eighth of the places in the kernel's table of governed processes.
const MAX_PROCESSES: u32 = 4096;

/// What `tollgate run` sends.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct RunRequest {
    pub argv: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    pub umask: u32,
    pub name: Option<String>,
    pub token_file: Option<PathBuf>,
    /// Value of the variable that `--identity-token-env` names.
    pub token: Option<String>,
}

/// One line of the answer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAnswer {
    Started { session: String },
    Exited { code: i32 },
    Signalled { signal: i32 },
    Revoked,
}

pub(super) async fn run(core: &Arc<Core>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let asked: RunRequest = match body(core, &peer, request).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    match start(core, peer, asked).await {
        Ok(started) => {
            let (lines, answer) = mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(4);
            tokio::spawn(follow(core.clone(), started, lines));
            let stream = futures_util::stream::unfold(answer, |mut a| async move { a.recv().await.map(|f| (f, a)) });
            Response::new(StreamBody::new(stream).boxed())
        }
        Err((why, check)) => error(StatusCode::UNPROCESSABLE_ENTITY, &why, check),
    }
}

/// Passes a signal on to the command's process group.
pub(super) fn signal(core: &Core, peer: Peer, id: &str, number: &str) -> Response<Body> {
    let Some(session) = SessionId::parse(id).and_then(|id| core.sessions.by_id(&id)) else {
        return error(StatusCode::NOT_FOUND, &format!("there is no open session `{id}`"), "it may have ended");
    };
    if peer.uid != 0 && peer.uid != session.uid {
        return error(StatusCode::FORBIDDEN, "the session is another user's", "ask as its user or as root");
    }
    let Some(signal) = number.parse::<i32>().ok().and_then(|n| Signal::try_from(n).ok()) else {
        return error(StatusCode::BAD_REQUEST, &format!("`{number}` is not a signal"), "give its number");
    };
    match core.leaders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&session.id) {
        Some(pid) => match killpg(*pid, signal) {
            Ok(()) => json(StatusCode::OK, &serde_json::json!({ "sent": signal.as_str() })),
            Err(e) => error(
                StatusCode::CONFLICT,
                &format!("cannot send {}: {e}", signal.as_str()),
                "the command may have ended",
            ),
        },
        None => error(StatusCode::CONFLICT, "the command has not started or has ended", "try again"),
    }
}

/// Process group leaders of the sessions that [`run`] started.
pub type Leaders = std::sync::Mutex<HashMap<SessionId, Pid>>;

struct Started {
    session: Arc<Session>,
    child: Child,
    dir: PathBuf,
    points: Vec<trust::MountPoint>,
}

type Refusal = (String, &'static str);

async fn start(core: &Arc<Core>, peer: Peer, asked: RunRequest) -> Result<Started, Refusal> {
    let config = core.config.load_full();
    let streams = Streams::of(&peer).map_err(|e| {
        let check = match &e {
            StreamError::Take(_) => "the daemon needs CAP_SYS_PTRACE",
            _ => "the command was not started",
        };
        (e.to_string(), check)
    })?;
    let groups = sys::peer::groups(peer.pid)
        .map_err(|e| (format!("cannot read the caller's groups: {e}"), "the caller may have ended"))?;
    let limits = sys::limits::of(peer.pid)
        .map_err(|e| (format!("cannot read the caller's resource limits: {e}"), "the caller may have ended"))?;
    if !peer.process.is_running() {
        return Err(("the caller has ended".into(), "the command was not started"));
    }
    let rights = Rights { uid: peer.uid, gid: peer.gid, groups };
    let id = SessionId::random();
    let token = match (&asked.token_file, &asked.token) {
        (Some(path), _) => Some(
            TokenSource::file(asked.cwd.join(path), rights.clone())
                .map_err(|e| (e.to_string(), "check --identity-token-file"))?,
        ),
        (None, Some(text)) => Some(TokenSource::value(credential::Secret::new(text.clone()))),
        (None, None) => None,
    };
    let cgroup = core.capture.cgroup_mount().join(&config.capture.slice).join(id.as_str());
    sys::cgroup::create(&cgroup).map_err(|e| {
        (
            format!("cannot make the cgroup `{}`: {e}", cgroup.display()),
            "check `capture.slice` and `capture.cgroup_root`",
        )
    })?;
    limit_processes(core.capture.cgroup_mount(), &cgroup);
    let dir = config.runtime_dir.join("sessions").join(id.as_str());
    let argv: Vec<String> = asked.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let ask = Ask {
        id: id.clone(),
        name: asked.name.clone().unwrap_or_else(|| argv.first().cloned().unwrap_or_default()),
        uid: peer.uid,
        cgroup: cgroup.clone(),
        command: mask::redact_argv(&argv),
        token,
    };
    let session = core.open_session(ask).await.map_err(|e| {
        let _ = sys::cgroup::remove(&cgroup, Duration::ZERO);
        (e.to_string(), "the command was not started")
    })?;
    match spawn(core, asked, rights, limits, &session, &dir, streams).await {
        Ok((child, points)) => {
            if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
                core.leaders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, Pid::from_raw(pid));
            }
            Ok(Started { session, child, dir, points })
        }
        Err(refusal) => {
            core.end_session(&id).await;
            let _ = sys::cgroup::remove(&cgroup, Duration::ZERO);
            let _ = std::fs::remove_dir_all(&dir);
            Err(refusal)
        }
    }
}

async fn spawn(
    core: &Core,
    asked: RunRequest,
    rights: Rights,
    limits: Vec<Limit>,
    session: &Session,
    dir: &Path,
    streams: Streams,
) -> Result<(Child, Vec<trust::MountPoint>), Refusal> {
    let io = |what: &'static str| move |e: io::Error| (format!("cannot {what}: {e}"), "check `runtime_dir`");
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(io("make the session's directory"))?;
    let home = home(&asked.env, rights.uid);
    let (region, root_pem) = (core.config.load().defaults.region.clone(), core.authority.root_pem().to_owned());
    let (own, for_whom) = (dir.to_owned(), rights.clone());
    // Files are read and copied, and the caller's may be slow.
    let prepared = tokio::task::spawn_blocking(move || {
        trust::prepare(&trust::Facts {
            dir: &own,
            home: home.as_deref(),
            rights: &for_whom,
            region: &region,
            root_pem: &root_pem,
        })
    })
    .await
    .map_err(|e| (format!("cannot prepare the session's files: {e}"), "see the daemon's journal"))?
    .map_err(|e| (e.to_string(), "the command was not started"))?;
    let spec = Spec {
        argv: asked.argv,
        env: asked.env,
        cwd: asked.cwd,
        umask: asked.umask,
        uid: rights.uid,
        gid: rights.gid,
        groups: rights.groups,
        cgroup: session.cgroup.clone(),
        binds: prepared.binds,
        limits,
    };
    let path = dir.join("launch.json");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("write the launch file"))?;
    serde_json::to_writer(file, &spec)
        .map_err(|e| (format!("cannot write the launch file: {e}"), "check `runtime_dir`"))?;
    let child = Command::new("/proc/self/exe")
        .arg("__launch")
        .arg(&path)
        .env_clear()
        .stdin(streams.0[0].try_clone().map_err(io("hand over stdin"))?)
        .stdout(streams.0[1].try_clone().map_err(io("hand over stdout"))?)
        .stderr(streams.0[2].try_clone().map_err(io("hand over stderr"))?)
        .spawn()
        .map_err(io("start the launcher"))?;
    Ok((child, prepared.points))
}

/// Keeps one session from filling the kernel's table of governed processes, after which no session could fork.
fn limit_processes(mount: PathBuf, cgroup: &Path) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    let why = match sys::cgroup::limit_processes(&mount, cgroup, MAX_PROCESSES) {
        Ok(true) => return,
        Ok(false) => "the slice's cgroup has no pids controller".to_owned(),
        Err(e) => e.to_string(),
    };
    TOLD.call_once(|| tracing::warn!("sessions have no limit on their processes: {why}; enable `pids` for the slice"));
}

/// Waits for the command, tells the caller, and takes everything down.
async fn follow(
    core: Arc<Core>,
    mut started: Started,
    lines: mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>,
) {
    let session = started.session.clone();
    tell(&lines, &RunAnswer::Started { session: session.id.to_string() }).await;
    let answer = tokio::select! {
        status = started.child.wait() => ended(status),
        () = lines.closed() => {
            hang_up(&mut started.child).await;
            None
        }
        _ = session.closed() => {
            if session.is_frozen() {
                tell(&lines, &RunAnswer::Revoked).await;
                // Whoever looks at them lets them go, by killing them.
                let _ = started.child.wait().await;
            } else {
                hang_up(&mut started.child).await;
            }
            None
        }
    };
    // Revoking kills, so that the command's end may be what was noticed first.
    let answer = if session.state() == State::Revoked { Some(RunAnswer::Revoked) } else { answer };
    core.leaders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&session.id);
    // What the command left running belongs to the session and ends with it.
    let cgroup = session.cgroup.clone();
    let removed = tokio::task::spawn_blocking(move || {
        let _ = sys::cgroup::end(&cgroup, GRACE);
        sys::cgroup::remove(&cgroup, GRACE)
    })
    .await;
    if let Ok(Err(e)) = removed {
        tracing::warn!("the cgroup of session {} could not be removed: {e}", session.id);
    }
    if !core.end_session(&session.id).await {
        core.untag(&session);
    }
    let (points, dir) = (started.points, started.dir);
    let removed = tokio::task::spawn_blocking(move || {
        points.into_iter().for_each(trust::MountPoint::release);
        std::fs::remove_dir_all(&dir)
    })
    .await;
    if let Ok(Err(e)) = removed {
        tracing::warn!("the directory of session {} could not be removed: {e}", session.id);
    }
    if let Some(answer) = answer {
        tell(&lines, &answer).await;
    }
}

fn ended(status: io::Result<ExitStatus>) -> Option<RunAnswer> {
    let status = status.inspect_err(|e| tracing::warn!("a command could not be waited for: {e}")).ok()?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Some(RunAnswer::Exited { code }),
        (None, Some(signal)) => Some(RunAnswer::Signalled { signal }),
        (None, None) => None,
    }
}

async fn hang_up(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|p| i32::try_from(p).ok()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGHUP);
    }
    let _ = tokio::time::timeout(GRACE, child.wait()).await;
}

async fn tell(lines: &mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>, answer: &RunAnswer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // A caller that has gone is noticed where it matters.
    let _ = lines.send(Ok(Frame::data(line.into()))).await;
}

fn home(env: &[(OsString, OsString)], uid: u32) -> Option<PathBuf> {
    let set = env.iter().find(|(k, _)| k == "HOME").map(|(_, v)| PathBuf::from(v)).filter(|h| h.is_absolute());
    // Whether it is there, the caller's own rights tell; see `trust`.
    set.or_else(|| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|u| u.dir))
}
