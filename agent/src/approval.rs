//! Exchanges that wait for a person.
//!
//! Owns the pending requests and their answers, each transition in the record as an event by the caller. A request that
//! nobody answers in time expires; nothing is approved by silence. Never lets a tagged process answer: answers come
//! through the control socket, which refuses those.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::session::SessionId;

/// How long an exchange is held: below the shortest read timeout of common clients (60 s).
const HOLD: Duration = Duration::from_secs(50);

/// What a person is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub session: SessionId,
    pub subject: String,
    pub action: String,
    pub resource: String,
    /// Members of the request as JSON, sensitive ones taken out.
    pub parameters: String,
    /// Whose approval the policy asks for.
    pub group: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Approved,
    /// With what the agent is told.
    Refused(String),
}

/// One person's answer.
#[derive(Debug, Clone, Copy)]
pub struct Vote {
    pub approve: bool,
    /// Unix user who answered.
    pub uid: u32,
}

/// A pending request, for listings.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    pub id: String,
    pub session: String,
    pub subject: String,
    pub action: String,
    pub resource: String,
    pub parameters: String,
    pub group: String,
    /// Seconds since 1970 at which it expires.
    pub expires: u64,
}

/// All requests that wait.
#[derive(Debug, Default)]
pub struct Approvals {
    waiting: Mutex<BTreeMap<String, (Pending, oneshot::Sender<Vote>)>>,
}

impl Approvals {
    /// Waits for an answer. A caller that goes away takes its request with it.
    pub async fn request(&self, request: Request) -> Answer {
        let (vote, answered) = oneshot::channel();
        let id = format!("a-{:016x}", rand::random::<u64>());
        let expires = (SystemTime::now() + HOLD).duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let pending = Pending {
            id: id.clone(),
            session: request.session.to_string(),
            subject: request.subject,
            action: request.action,
            resource: request.resource,
            parameters: request.parameters,
            group: request.group,
            expires,
        };
        self.waiting().insert(id.clone(), (pending, vote));
        let _gone = Withdraw { approvals: self, id: &id };
        match tokio::time::timeout(HOLD, answered).await {
            Ok(Ok(Vote { approve: true, .. })) => Answer::Approved,
            Ok(Ok(Vote { uid, .. })) => Answer::Refused(format!("a person (user {uid}) denied request {id}")),
            Ok(Err(_)) | Err(_) => Answer::Refused(format!(
                "nobody answered request {id} within {} seconds; ask for approval and try again",
                HOLD.as_secs()
            )),
        }
    }

    /// Answers a request; each is answered once.
    pub fn vote(&self, id: &str, vote: Vote) -> Result<Pending, String> {
        let (pending, answer) = self
            .waiting()
            .remove(id)
            .ok_or_else(|| format!("request `{id}` is not pending; it was answered, has expired, or never was"))?;
        answer.send(vote).map_err(|_| format!("request `{id}` was withdrawn: its client has gone"))?;
        Ok(pending)
    }

    pub fn pending(&self) -> Vec<Pending> {
        self.waiting().values().map(|(p, _)| p.clone()).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, (Pending, oneshot::Sender<Vote>)>> {
        // Single inserts and removals: a panic elsewhere leaves the map whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a request back when nobody waits for it any more.
struct Withdraw<'a> {
    approvals: &'a Approvals,
    id: &'a str,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.approvals.waiting().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn ask() -> Request {
        Request {
            session: SessionId::random(),
            subject: "s".into(),
            action: "s3:DeleteBucket".into(),
            resource: "*".into(),
            parameters: "{}".into(),
            group: "ops".into(),
        }
    }

    async fn one(approvals: &Approvals) -> String {
        loop {
            if let Some(p) = approvals.pending().pop() {
                return p.id;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_counts_once() {
        let approvals = Arc::new(Approvals::default());
        let waiting = {
            let a = approvals.clone();
            tokio::spawn(async move { a.request(ask()).await })
        };
        let id = one(&approvals).await;
        approvals.vote(&id, Vote { approve: true, uid: 0 }).expect("pending");
        assert!(approvals.vote(&id, Vote { approve: false, uid: 0 }).is_err());
        assert_eq!(waiting.await.expect("no panic"), Answer::Approved);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_withdraws() {
        let approvals = Arc::new(Approvals::default());
        let waiting = {
            let a = approvals.clone();
            tokio::spawn(async move { a.request(ask()).await })
        };
        let id = one(&approvals).await;
        waiting.abort();
        let _ = waiting.await;
        assert!(approvals.pending().is_empty());
        assert!(approvals.vote(&id, Vote { approve: true, uid: 0 }).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_no() {
        let approvals = Approvals::default();
        assert!(matches!(approvals.request(ask()).await, Answer::Refused(_)));
        assert!(approvals.pending().is_empty());
    }
}
