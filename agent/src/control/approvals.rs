//! Approvals over the control socket: what people on this host see and say.
//!
//! Owns how a person is recognised here: by their user, the user they logged in as, and the groups that the kernel has for
//! the process which asks, now. Decides nothing about a request; [`crate::approval`] does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::routes::{number, parameter, read};
use super::{Body, Peer, body, error, json as answer_json};
use crate::approval::{self, Answer, ApprovalError, Approver, Filter, Person, State};
use crate::daemon::Core;
use crate::sys::peer;

/// What a person says beside yes or no.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Say {
    pub note: Option<String>,
    /// Seconds.
    pub window: Option<u64>,
    pub resource: Option<String>,
    pub emergency: bool,
}

/// Longest wait for an answer in one request.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

pub(super) async fn list(core: &Arc<Core>, query: &str) -> Response<Body> {
    let state = match parameter(query, "state").as_deref() {
        None => None,
        Some("all") => Some(None),
        Some(name) => match State::ALL.into_iter().find(|s| s.as_str() == name) {
            Some(state) => Some(Some(state)),
            None => {
                let names = State::ALL.map(State::as_str).join(", ");
                return error(
                    StatusCode::BAD_REQUEST,
                    &format!("`{name}` is no state of a request"),
                    &format!("use one of {names}, all"),
                );
            }
        },
    };
    let limit = match number::<u32>(query, "limit") {
        Ok(limit) => limit.unwrap_or(10_000),
        Err(why) => return error(StatusCode::BAD_REQUEST, &why, "give a whole number"),
    };
    let filter =
        Filter { state: state.flatten(), session: parameter(query, "session"), text: parameter(query, "search") };
    if state.is_none_or(|s| s.is_some_and(|s| !s.is_over())) {
        let mut found = core.approvals.list(&filter);
        found.drain(..found.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX)));
        return answer_json(StatusCode::OK, &found);
    }
    read(core, move |r| filter.read(r, limit)).await
}

pub(super) async fn show(core: &Arc<Core>, id: &str) -> Response<Body> {
    let id = id.to_owned();
    read(core, move |r| {
        Ok(match approval::read(r, &id)? {
            Some((approval, steps)) => {
                let step = |s: &crate::record::ApprovalStep| json!({ "at": s.at, "state": s.state, "who": s.who, "why": s.why });
                json!({ "approval": approval, "steps": steps.iter().map(step).collect::<Vec<_>>() })
            }
            None => json!({ "error": format!("there is no request `{id}`"), "check": "see `tollgate approvals list --state all`" }),
        })
    })
    .await
}

/// The request as soon as it is decided, or as it is after a while.
pub(super) async fn wait(core: &Arc<Core>, id: &str, query: &str) -> Response<Body> {
    let patience = match number::<u64>(query, "seconds") {
        Ok(seconds) => Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST_WAIT),
        Err(why) => return error(StatusCode::BAD_REQUEST, &why, "give a whole number"),
    };
    match core.approvals.decided(id, patience).await {
        Some(approval) => answer_json(StatusCode::OK, &json!({ "approval": approval })),
        None => show(core, id).await,
    }
}

/// A person's answer; `verb` is `approve`, `deny` or `revoke`.
pub(super) async fn decide(
    core: &Arc<Core>,
    peer: Peer,
    id: &str,
    verb: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    if core.approvals.show(id).is_none() {
        let why = ApprovalError::Unknown(id.to_owned()).to_string();
        return error(StatusCode::CONFLICT, &why, "see `tollgate approvals show`");
    }
    let say: Say = match body(core, &peer, request).await {
        Ok(say) => say,
        Err(response) => return response,
    };
    let who = match identify(core, &peer).await {
        Ok(who) => who,
        Err(response) => return response,
    };
    let result = match verb {
        "approve" => {
            let answer = Answer::Approve { window: say.window, resource: say.resource, emergency: say.emergency };
            core.approvals.decide(id, who, answer, say.note).await
        }
        "deny" => core.approvals.decide(id, who, Answer::Deny, say.note).await,
        _ => core.approvals.revoke(id, who, say.note).await,
    };
    match result {
        Ok(approval) => answer_json(StatusCode::OK, &json!({ "approval": approval })),
        Err(e) => {
            let (status, check) = match &e {
                ApprovalError::Refused(
                    approval::Refused::Own | approval::Refused::Stranger(_) | approval::Refused::Emergency(_),
                ) => (StatusCode::FORBIDDEN, "`tollgate approvals show` says whom the policy asks"),
                ApprovalError::Record(_) => (StatusCode::INTERNAL_SERVER_ERROR, "see the daemon's journal"),
                _ => (StatusCode::CONFLICT, "`tollgate approvals show` says how it stands"),
            };
            error(status, &e.to_string(), check)
        }
    }
}

/// Every step from now on, a line of JSON each, after what waits now.
pub(super) fn watch(core: &Arc<Core>) -> Response<Body> {
    let changes = core.approvals.subscribe();
    let now = core.approvals.list(&Filter::default());
    let line = |value: &serde_json::Value| {
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        Frame::data(Bytes::from(line))
    };
    let first = futures_util::stream::iter(now.into_iter().map(move |a| Ok(line(&json!({ "approval": a })))));
    let rest = futures_util::stream::unfold(changes, move |mut changes| async move {
        match changes.recv().await {
            Ok(approval) => Some((Ok(line(&json!({ "approval": approval }))), changes)),
            Err(RecvError::Lagged(missed)) => Some((Ok(line(&json!({ "missed": missed }))), changes)),
            Err(RecvError::Closed) => None,
        }
    });
    Response::new(StreamBody::new(futures_util::StreamExt::chain(first, rest)).boxed())
}

/// Who is at the other end, and what they may answer for. Users and groups may be far away, so that it may take its time.
pub(super) async fn identify(core: &Core, peer: &Peer) -> Result<Approver, Response<Body>> {
    let (root, peer) = (core.config.load().approval.root, peer.clone());
    let found = tokio::task::spawn_blocking(move || approver(&peer, root)).await;
    found
        .unwrap_or_else(|e| Err(e.to_string()))
        .map_err(|why| error(StatusCode::FORBIDDEN, &format!("it cannot be told who asks: {why}"), "ask again"))
}

/// Who is at the other end, and what they may answer for.
fn approver(peer: &Peer, root: bool) -> Result<Approver, String> {
    let groups = peer::groups(peer.pid).map_err(|e| format!("its groups cannot be read: {e}"))?;
    let login = peer::login(peer.pid).map_err(|e| format!("its login cannot be read: {e}"))?;
    // After all that was asked by its number, which may be another process's by now.
    if !peer.process.is_running() {
        return Err("the process that asked has ended".into());
    }
    let name = |gid: u32| nix::unistd::Group::from_gid(gid.into()).ok().flatten().map(|g| g.name);
    let groups = [peer.gid].into_iter().chain(groups).filter_map(name).collect();
    let user = nix::unistd::User::from_uid(peer.uid.into()).ok().flatten().map(|u| u.name);
    Ok(Approver {
        person: Person::Unix { uid: peer.uid, login, name: user },
        groups,
        every_group: root && peer.uid == 0,
        via: "control socket",
    })
}
