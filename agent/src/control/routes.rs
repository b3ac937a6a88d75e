//! Which question goes where.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::{Body, Peer, approvals, error, json as answer_json, judged, revoke, run};
use crate::daemon::Core;
use crate::record::{EventFilter, Reader, RecordError};
use crate::session::SessionId;

/// Answers one request.
pub(super) async fn answer(core: &Arc<Core>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["v1", "status"]) => status(core),
        (&Method::POST, ["v1", "run"]) => run::run(core, peer, request).await,
        (&Method::POST, ["v1", "reload"]) => match core.reload_and_tell(&format!("by user {}", peer.uid)) {
            Ok(()) => answer_json(StatusCode::OK, &json!({ "reloaded": true })),
            Err(e) => error(
                StatusCode::UNPROCESSABLE_ENTITY,
                &format!("{e:#}"),
                "mend the file; the daemon goes on with what it had",
            ),
        },
        (&Method::GET, ["v1", "sessions"]) => {
            let state = parameter(&query, "state");
            read(core, move |r| r.sessions(state.as_deref(), 200)).await
        }
        (&Method::GET, ["v1", "sessions", id]) => session(core, id).await,
        (&Method::GET, ["v1", "sessions", id, "cases"]) => judged::cases(core, id).await,
        (&Method::GET, ["v1", "exchanges", id, "explanation"]) => judged::explanation(core, id).await,
        (&Method::POST, ["v1", "sessions", "revoke"]) => revoke::revoke(core, peer, request).await,
        (&Method::POST, ["v1", "sessions", id, "signal", number]) => run::signal(core, peer, id, number),
        (&Method::GET, ["v1", "events"]) => match filter(&query) {
            Ok(filter) => read(core, move |r| r.events(&filter)).await,
            Err(why) => {
                core.journal.emit(super::malformed(Some((peer.pid, peer.uid)), &why));
                error(StatusCode::BAD_REQUEST, &why, "give a whole number")
            }
        },
        (&Method::GET, ["v1", "verify"]) => {
            core.store.flush().await;
            let laid_out = core.store.laid_out();
            read(core, move |r| {
                Ok(match r.verify(laid_out)? {
                    Ok((links, head)) => json!({ "intact": true, "links": links, "head": hex::encode(head) }),
                    Err(broken) => json!({ "intact": false, "broken": broken }),
                })
            })
            .await
        }
        (&Method::GET, ["v1", "approvals"]) => approvals::list(core, &query).await,
        (&Method::POST, ["v1", "approvals", "watch"]) => approvals::watch(core),
        (&Method::GET, ["v1", "approvals", id]) => approvals::show(core, id).await,
        (&Method::GET, ["v1", "approvals", id, "wait"]) => approvals::wait(core, id, &query).await,
        (&Method::POST, ["v1", "approvals", id, verb @ ("approve" | "deny" | "revoke")]) => {
            approvals::decide(core, peer, id, verb, request).await
        }
        _ => error(
            StatusCode::NOT_FOUND,
            &format!("there is no `{} {path}`", request.method()),
            "use the same version of the command and the daemon",
        ),
    }
}

fn status(core: &Core) -> Response<Body> {
    let counters = core.capture.counters().ok();
    answer_json(
        StatusCode::OK,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "sessions": core.sessions.all().len(),
            "policies": core.policy.load().len(),
            "on_trial": core.policy.load().on_trial(),
            "mode": format!("{:?}", core.config.load().policy.mode).to_lowercase(),
            "follows_processes": core.capture.follows_processes(),
            "redirected": counters.as_ref().map(|c| c.redirected),
            "refused_by_kernel": counters.as_ref().map(|c| c.refused.iter().map(|(k, n)| (k.name(), *n)).collect::<std::collections::BTreeMap<_, _>>()),
            "without_flow": counters.as_ref().map(|c| c.no_flow),
        }),
    )
}

pub(super) fn no_session_id(id: &str) -> Response<Body> {
    error(
        StatusCode::BAD_REQUEST,
        &format!("`{id}` is not a session id"),
        "they look like s-0123456789abcdef; see `tollgate sessions list`",
    )
}

async fn session(core: &Arc<Core>, id: &str) -> Response<Body> {
    if SessionId::parse(id).is_none() {
        return no_session_id(id);
    }
    let id = id.to_owned();
    read(core, move |r| {
        let Some(session) = r.session(&id)? else {
            return Ok(
                json!({ "error": format!("there is no session `{id}`"), "check": "see `tollgate sessions list`" }),
            );
        };
        let filter = EventFilter { session: Some(id.clone()), limit: 10_000, ..EventFilter::default() };
        Ok(json!({ "session": session, "exchanges": r.exchanges(&id)?, "events": r.events(&filter)? }))
    })
    .await
}

/// Reads the record on a blocking thread. What has been answered is seen, also by whoever asks at once.
pub(super) async fn read<T: serde::Serialize + Send + 'static>(
    core: &Core,
    ask: impl FnOnce(&Reader) -> Result<T, RecordError> + Send + 'static,
) -> Response<Body> {
    core.store.flush().await;
    let path = core.store.path().to_owned();
    let result = tokio::task::spawn_blocking(move || ask(&Reader::open(&path)?)).await;
    match result {
        Ok(Ok(value)) => answer_json(StatusCode::OK, &value),
        Ok(Err(e)) => error(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string(), "see the daemon's journal"),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "reading the record broke off", "see the daemon's journal"),
    }
}

/// The events that a query asks for.
fn filter(query: &str) -> Result<EventFilter, String> {
    Ok(EventFilter {
        kind: parameter(query, "kind"),
        session: parameter(query, "session"),
        after: number(query, "after")?,
        limit: number(query, "limit")?.unwrap_or(200).min(10_000),
    })
}

pub(super) fn number<T: std::str::FromStr>(query: &str, name: &str) -> Result<Option<T>, String> {
    let parse = |text: String| text.parse().map_err(|_| format!("`{name}` is `{text}`, which is no number"));
    parameter(query, name).map(parse).transpose()
}

pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == name).map(|(_, v)| v.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_for_events_is_taken_whole_or_not_at_all() {
        let all = filter("kind=held&session=s&after=7&limit=3").expect("good");
        assert_eq!((all.kind.as_deref(), all.session.as_deref()), (Some("held"), Some("s")));
        assert_eq!((all.after, all.limit), (Some(7), 3));
        let none = filter("").expect("good");
        assert_eq!((none.after, none.limit), (None, 200));
        assert_eq!(filter("limit=20000").expect("good").limit, 10_000);
        for (bad, expected) in [("after=x", "`after` is `x`"), ("limit=-1", "`limit` is `-1`")] {
            let why = filter(bad).expect_err(bad);
            assert!(why.contains(expected), "{why}");
        }
    }
}
