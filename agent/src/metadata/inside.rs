//! What a session may ask of Tollgate itself, below `/tollgate/` at the metadata address: to say what it is about, and to
//! wait for an answer to one of its own requests.
//!
//! Owns that a session sees and touches its own alone, and reads: nothing here approves, and nobody is named whom the agent's
//! error would not name. A header of our own keeps out requests that a program in the session is talked into sending.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::json;

use super::typed;
use crate::approval::{self, Approval, Approvals};
use crate::record::{Reader, Store};
use crate::session::Session;

/// Must be there.
pub const HEADER: &str = "x-tollgate";

/// Longest note that is read, and longest wait in one request.
const LONGEST_NOTE: usize = 4096;
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Whether a request to the metadata address is for this.
pub fn is_ours(path: &str) -> bool {
    path.starts_with("/tollgate/")
}

/// Answers one request of a session's.
pub async fn answer(
    approvals: &Approvals,
    store: &Store,
    session: &Session,
    request: Request<Incoming>,
) -> Response<Bytes> {
    let no = |status, error: &str, check: &str| typed(status, "application/json", said(error, check));
    let headers = request.headers();
    if !headers.contains_key(HEADER) || headers.contains_key("x-forwarded-for") {
        return no(StatusCode::FORBIDDEN, "this is for `tollgate` alone", "use the command");
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.trim_start_matches("/tollgate/").split('/').collect();
    match (method, parts.as_slice()) {
        (Method::PUT, ["note"]) => {
            let Ok(note) = Limited::new(request.into_body(), LONGEST_NOTE).collect().await else {
                return no(StatusCode::PAYLOAD_TOO_LARGE, "the note is too long", "say it in 1000 characters");
            };
            approvals.note(&session.id, &String::from_utf8_lossy(&note.to_bytes())).await;
            typed(StatusCode::OK, "application/json", json!({ "noted": true }).to_string().into())
        }
        (Method::GET, ["approvals", id, "wait"]) => {
            let seconds = form_urlencoded::parse(query.as_bytes())
                .find(|(name, _)| name == "seconds")
                .and_then(|(_, value)| value.parse().ok())
                .map_or(Duration::ZERO, Duration::from_secs);
            let found = match approvals.show(id) {
                // Before waiting: that there is such a request is nobody else's business.
                Some(other) if !is_own(&other, session) => None,
                Some(_) => approvals.decided(id, seconds.min(LONGEST_WAIT)).await,
                None => recorded(store, id).await.filter(|a| is_own(a, session)),
            };
            match found {
                Some(a) => {
                    let s = &a.status;
                    let told =
                        json!({ "id": a.id, "state": s.state, "who": s.who, "why": s.why, "deadline": s.deadline });
                    let told = json!({ "approval": told });
                    typed(StatusCode::OK, "application/json", told.to_string().into())
                }
                None => no(
                    StatusCode::NOT_FOUND,
                    &format!("this session has no request `{id}`"),
                    "the error that named it has its id",
                ),
            }
        }
        _ => no(StatusCode::NOT_FOUND, "there is no such thing", "use the same version of the command and the daemon"),
    }
}

/// What the session asked, or one before it of the same user for the same principal: it would find that approval, too.
fn is_own(approval: &Approval, session: &Session) -> bool {
    let (ask, principal) = (&approval.ask, session.principal());
    ask.session == session.id
        || (ask.uid == session.uid && ask.issuer == principal.issuer && ask.subject == principal.subject)
}

async fn recorded(store: &Store, id: &str) -> Option<Approval> {
    let (path, id) = (store.path().to_owned(), id.to_owned());
    let read = tokio::task::spawn_blocking(move || approval::read(&Reader::open(&path)?, &id)).await;
    Some(read.ok()?.ok()??.0)
}

fn said(error: &str, check: &str) -> Bytes {
    json!({ "error": error, "check": check }).to_string().into()
}
