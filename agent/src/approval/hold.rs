//! An exchange that waits.
//!
//! Owns what a request finds when it comes: a window it is in, a yes or a no that somebody has said to it before, a
//! question that is still open, or none, and then it is asked. Runs on the exchange's task; what is dropped while it waits
//! was dropped by its client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::room::{Entering, TELL};
use super::state::plain;
use super::{Approval, ApprovalError, Approvals, Ask, State, Status, clock, now};
use crate::gateway::stopped;
use crate::record::RecordError;
use crate::session::SessionId;

/// What became of waiting.
#[derive(Debug)]
pub enum Held {
    /// It may go on; with the approval's id, and who gave it in words.
    Passed { id: String, how: String },
    /// It may not; with what the agent is told.
    No(String),
    /// Nobody has answered yet. Sent again, it waits on.
    Later { id: String, why: String },
    /// It could not be asked.
    Failed(RecordError),
}

/// How one exchange waits.
#[derive(Clone)]
pub struct Holding<'a> {
    /// What the agent says it is for, with this request.
    pub note: Option<String>,
    /// Whether a session is still open: what it asked for is its own then.
    pub is_open: &'a (dyn Fn(&SessionId) -> bool + Sync),
}

impl fmt::Debug for Holding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holding").field("note", &self.note).finish_non_exhaustive()
    }
}

impl Approvals {
    /// Waits for an answer, as long as the configuration says.
    pub async fn hold(&self, ask: Ask, holding: Holding<'_>) -> Held {
        let config = self.0.config.load_full();
        let patience = Instant::now() + config.hold;
        let note = holding.note.map(|n| plain(&n)).or_else(|| self.notes().get(&ask.session).cloned());
        let note = note.filter(|n| !n.is_empty());
        let fits = |_: &str, other: &Ask, status: &Status| {
            let own = other.session == ask.session;
            // What a session has left behind is its principal's.
            let left = || !(holding.is_open)(&other.session);
            match status.state {
                State::Pending => status.deadline > now() && (own || left()),
                State::Approved => status.window.is_none() && status.ends() > now() && (own || left()),
                State::Denied => own && status.deadline > now(),
                State::Expired => own && status.window.is_none() && status.changed + TELL > now(),
                _ => false,
            }
        };
        loop {
            if let Some(window) = self.window(&ask) {
                let how = format!("request {} was approved {}", window.id, by(&window.status));
                return Held::Passed { id: window.id, how };
            }
            let id = match self.same(&ask.digest, fits) {
                Some(id) => id,
                None if ask.terms.agent_says_why && note.is_none() => {
                    return Held::No(
                        "the policy wants to know what it is for; say so with `tollgate note \"…\"`, or in the request's header \
                         x-tollgate-note, and send it again"
                            .into(),
                    );
                }
                None => {
                    let wait = ask.terms.deadline.map_or(config.deadline, Duration::from_secs);
                    let asked = now();
                    let deadline = asked.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
                    let status = Status::asked(asked, deadline, note.clone());
                    match self.enter(ask.clone(), status, fits, config.max_pending).await {
                        Ok(id) => id,
                        Err(Entering::TooMany) => {
                            return Held::No(format!(
                                "the session has {} requests that wait already (`approval.max_pending`); wait until some are answered",
                                config.max_pending
                            ));
                        }
                        Err(Entering::Record(e)) => return Held::Failed(e),
                    }
                }
            };
            // Gone between the two.
            let Some(mut waiting) = Waiting::begin(self, &id) else { continue };
            if let Some(note) = &note {
                self.explain(&id, note).await;
            }
            let status = match waiting.answered(patience).await {
                Some(status) => status,
                None => {
                    waiting.leave();
                    return Held::Later { why: later(&ask, &id, waiting.deadline()), id };
                }
            };
            waiting.leave();
            match status.state {
                State::Denied => return Held::No(no(&id, &status)),
                State::Expired => {
                    self.told(&id);
                    return Held::No(format!(
                        "nobody approved request {id} before {}; ask for approval and try again",
                        clock(status.deadline)
                    ));
                }
                State::Cancelled => return Held::No(format!("request {id} was cancelled: {}", status.why)),
                State::Approved if status.window.is_none() => {
                    let by_whom = format!("session {}", ask.session);
                    match self.advance(&id, move |_, status| Ok(status.consume(now(), &by_whom)?)).await {
                        Ok(_) => return Held::Passed { how: format!("request {id} was approved {}", by(&status)), id },
                        Err(ApprovalError::Record(e)) => return Held::Failed(e),
                        // Somebody else was quicker.
                        Err(ApprovalError::Refused(_) | ApprovalError::Unknown(_)) => {}
                    }
                }
                // A window is looked for above; what was used up or taken back is asked anew.
                _ => {}
            }
            if Instant::now() >= patience {
                return Held::Later { why: format!("request {id} was used up by another one"), id };
            }
        }
    }

    /// A window that the request is in.
    fn window(&self, ask: &Ask) -> Option<Approval> {
        self.of_session(&ask.session, |granted, status| {
            let Some(window) = status.window.as_ref().filter(|w| status.state == State::Approved && w.ends > now())
            else {
                return false;
            };
            let same = |of: fn(&Ask) -> &str| of(granted) == of(ask);
            same(|a| &a.operation)
                && same(|a| &a.action)
                && same(|a| &a.region)
                && same(|a| &a.credential)
                && same(|a| &a.subject)
                && granted.issuer == ask.issuer
                && granted.account == ask.account
                // Whoever granted it was asked for no less than would be asked for now.
                && granted.terms == ask.terms
                && window.covers(&granted.resources, &ask.resources)
        })
    }

    /// A session's agent says what it is about, for all that waits without a word and all that is asked from now on.
    pub async fn note(&self, session: &SessionId, note: &str) {
        let note = plain(note);
        let silent = |a: &Approval| a.status.note.is_none() && a.status.state == State::Pending;
        let filter = super::Filter { session: Some(session.to_string()), ..super::Filter::default() };
        self.notes().insert(session.clone(), note.clone());
        for approval in self.list(&filter).iter().filter(|a| silent(a)) {
            self.explain(&approval.id, &note).await;
        }
    }

    async fn explain(&self, id: &str, note: &str) {
        if self.show(id).is_none_or(|a| a.status.note.is_some() || a.status.state != State::Pending) {
            return;
        }
        let note = note.to_owned();
        let step = move |_: &Ask, status: &Status| match &status.note {
            Some(_) => Ok(status.clone()),
            None => Ok(status.explain(now(), &note)?),
        };
        if let Err(ApprovalError::Record(e)) = self.advance(id, step).await {
            tracing::error!("what the agent said of request {id} could not be recorded: {e}");
        }
    }
}

/// One exchange among those that wait for a request. Dropped without [`Waiting::leave`], its client has gone.
struct Waiting<'a> {
    room: &'a Approvals,
    id: String,
    status: watch::Receiver<Arc<Status>>,
    left: bool,
}

impl<'a> Waiting<'a> {
    fn begin(room: &'a Approvals, id: &str) -> Option<Self> {
        Some(Self { room, id: id.to_owned(), status: room.attach(id)?, left: false })
    }

    /// The answer; `None`: it did not come in time, or the daemon is stopping.
    async fn answered(&mut self, patience: Instant) -> Option<Arc<Status>> {
        let mut stopping = self.room.0.stopping.subscribe();
        let answered = self.status.wait_for(|s| s.state != State::Pending);
        let status = tokio::select! {
            biased;
            status = answered => status.map(|s| s.clone()).ok(),
            () = tokio::time::sleep_until(patience) => return None,
            () = stopped(&mut stopping) => return None,
        };
        // The sender goes with what could not be recorded, and after the last status of all others.
        Some(status.unwrap_or_else(|| self.status.borrow().clone()))
    }

    fn deadline(&self) -> i64 {
        self.status.borrow().deadline
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.room.detach(&self.id);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let Some(attached) = self.room.detach(&self.id) else { return };
        if *self.room.0.stopping.borrow() {
            return;
        }
        let (room, id) = (self.room.clone(), std::mem::take(&mut self.id));
        let grace = room.0.config.load().grace;
        // A client that has only lost patience comes back, and finds its request.
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            if room.is_deserted(&id, attached) && !*room.0.stopping.borrow() {
                let step = |_: &Ask, status: &Status| Ok(status.cancel(now(), "", "its client went away")?);
                if let Err(ApprovalError::Record(e)) = room.advance(&id, step).await {
                    tracing::error!("that request {id} was cancelled could not be recorded: {e}");
                }
            }
        });
    }
}

fn later(ask: &Ask, id: &str, deadline: i64) -> String {
    format!(
        "request {id} waits for {} until {}; `tollgate approvals wait {id}` returns when it has been answered, then send it again",
        ask.terms.whom(),
        clock(deadline)
    )
}

fn no(id: &str, status: &Status) -> String {
    let why = if status.why.is_empty() { String::new() } else { format!(": {}", status.why) };
    format!("{} denied request {id}{why}", status.who)
}

/// By whom, and until when.
fn by(status: &Status) -> String {
    let names: Vec<&str> = status.votes.iter().map(|v| v.name.as_str()).collect();
    let until = status.window.as_ref().map(|w| format!(" until {}", clock(w.ends))).unwrap_or_default();
    format!("by {}{until}", names.join(" and "))
}
