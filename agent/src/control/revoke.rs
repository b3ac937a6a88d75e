//! Revoking sessions over the control socket: one, or all that are somebody's.
//!
//! Owns which sessions are meant. What revoking is, [`crate::daemon::Core::revoke_session`] knows.

use std::path::Path;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::{Body, Peer, approvals, body, error, json as answer_json};
use crate::daemon::{Core, Processes};
use crate::policy::catalog::glob;
use crate::session::{Session, SessionId};

/// Which sessions, and how. All that is given must hold for a session, and something must be given.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revoke {
    pub id: Option<String>,
    /// Subject of the principal; `*` stands for any text.
    pub subject: Option<String>,
    pub issuer: Option<String>,
    /// The session's cgroup, or one above it, below the cgroup mount.
    pub tag: Option<String>,
    pub processes: Processes,
    pub note: String,
}

impl Revoke {
    fn is_empty(&self) -> bool {
        self.id.is_none() && self.subject.is_none() && self.issuer.is_none() && self.tag.is_none()
    }

    fn means(&self, session: &Session, mount: &Path) -> bool {
        let principal = session.principal();
        let below = |tag: &String| session.cgroup.starts_with(mount.join(tag.trim_start_matches('/')));
        self.id.as_ref().is_none_or(|id| session.id.as_str() == id)
            && self.subject.as_ref().is_none_or(|subject| glob(subject, &principal.subject))
            && self.issuer.as_ref().is_none_or(|issuer| principal.issuer.as_ref() == Some(issuer))
            && self.tag.as_ref().is_none_or(below)
    }
}

pub(super) async fn revoke(core: &Arc<Core>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let asked: Revoke = match body(core, &peer, request).await {
        Ok(asked) => asked,
        Err(response) => return response,
    };
    let check = "see `tollgate sessions list`";
    if asked.is_empty() {
        return error(StatusCode::BAD_REQUEST, "no session is named", "give an id, a subject, an issuer or a tag");
    }
    let who = match approvals::identify(core, &peer).await {
        Ok(approver) => approver.name(),
        Err(response) => return response,
    };
    let mount = core.capture.cgroup_mount();
    let meant: Vec<_> = core.sessions.all().into_iter().filter(|s| asked.means(s, &mount)).collect();
    let revoking = meant.iter().map(|s| core.revoke_session(&s.id, asked.processes, &who, &asked.note));
    let revoked = futures_util::future::join_all(revoking).await;
    let ids: Vec<&str> = meant.iter().zip(revoked).filter(|(_, done)| *done).map(|(s, _)| s.id.as_str()).collect();
    if !ids.is_empty() {
        return answer_json(StatusCode::OK, &json!({ "revoked": ids }));
    }
    if let (Some(id), Processes::Kill) = (asked.id.as_deref().and_then(SessionId::parse), asked.processes)
        && core.kill_frozen(&id).await
    {
        return answer_json(StatusCode::OK, &json!({ "killed": [id.as_str()] }));
    }
    match &asked.id {
        Some(id) => error(StatusCode::NOT_FOUND, &format!("there is no open session `{id}`"), check),
        None => error(StatusCode::NOT_FOUND, "no open session is meant by that", check),
    }
}
