//! All requests that are not over, and the one way in which they move on.
//!
//! Owns what is in memory: whatever the record says is pending, approved or freshly denied. A step is taken under the
//! request's own lock: looked at, recorded, and only then seen by anybody. It runs on a task of its own, so that a client
//! that goes away in the middle leaves no step half taken. Restored from the record at the start.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast, watch};

use super::account::{event, mentions, restored, row};
use super::{Answer, Approval, ApprovalError, Approver, Ask, State, Status, now};
use crate::config;
use crate::journal::Journal;
use crate::record::{Reader, RecordError, Store};
use crate::session::SessionId;

/// Changes that a slow subscriber may be behind.
const BEHIND: usize = 1024;
/// How often ends that have come are looked for, as long as anything waits.
const TICK: std::time::Duration = std::time::Duration::from_millis(250);

/// How long after it has expired a request is remembered for its client to come again: longer than SDKs pause.
pub(super) const TELL: i64 = 60_000_000;

/// The requests that wait, and those that were approved and can still be used. Cheap to clone.
#[derive(Clone)]
pub struct Approvals(pub(super) Arc<Inner>);

pub(super) struct Inner {
    store: Store,
    journal: Arc<Journal>,
    key: [u8; 32],
    pub(super) config: ArcSwap<config::Approval>,
    live: Mutex<Live>,
    changes: broadcast::Sender<Approval>,
    /// There is something whose end is to be watched for.
    timed: Notify,
    /// The daemon is stopping.
    pub(super) stopping: watch::Sender<bool>,
    /// What each session's agent has said it is about.
    pub(super) notes: Mutex<HashMap<SessionId, String>>,
}

#[derive(Default)]
struct Live {
    by_id: HashMap<String, Entry>,
    by_digest: HashMap<String, BTreeSet<String>>,
    by_session: HashMap<SessionId, BTreeSet<String>>,
}

struct Entry {
    ask: Arc<Ask>,
    status: watch::Sender<Arc<Status>>,
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Its first step has been recorded.
    durable: bool,
    /// Exchanges that wait for it now, and how many have so far.
    holders: usize,
    attached: u64,
}

/// What is wanted of a list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub session: Option<String>,
    /// Text that stands somewhere in it.
    pub text: Option<String>,
}

impl fmt::Debug for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approvals").field("live", &self.live().by_id.len()).finish_non_exhaustive()
    }
}

impl Approvals {
    /// Takes up what the record has. `key` is the digests'; it must be the one they were made with.
    pub fn open(
        store: Store,
        journal: Arc<Journal>,
        key: [u8; 32],
        config: config::Approval,
    ) -> Result<Self, RecordError> {
        let mut live = Live::default();
        for (first, last) in Reader::open(store.path())?.approvals("pending approved denied", u32::MAX)? {
            match restored(&first, &last) {
                Some(approval) if approval.status.state != State::Denied || approval.status.deadline > now() => {
                    live.insert(approval, true);
                }
                Some(_) => {}
                None => tracing::error!("approval {} cannot be read from the record, and is left out", first.approval),
            }
        }
        Ok(Self(Arc::new(Inner {
            store,
            journal,
            key,
            config: ArcSwap::from_pointee(config),
            live: Mutex::new(live),
            changes: broadcast::Sender::new(BEHIND),
            timed: Notify::new(),
            stopping: watch::Sender::new(false),
            notes: Mutex::default(),
        })))
    }

    /// Takes another configuration; what waits keeps its deadline.
    pub fn configure(&self, config: config::Approval) {
        self.0.config.store(Arc::new(config));
    }

    /// The key of the digests.
    pub fn key(&self) -> &[u8; 32] {
        &self.0.key
    }

    /// Those that are not over, the oldest first.
    pub fn list(&self, filter: &Filter) -> Vec<Approval> {
        let text = filter.text.as_ref().map(|t| t.to_lowercase());
        let live = self.live();
        let mut found: Vec<Approval> = live
            .by_id
            .iter()
            .filter(|(_, e)| e.durable && !e.status.borrow().state.is_over())
            .filter(|(_, e)| filter.state.is_none_or(|s| e.status.borrow().state == s))
            .filter(|(_, e)| filter.session.as_ref().is_none_or(|s| e.ask.session.as_str() == s))
            .filter(|(id, e)| text.as_ref().is_none_or(|t| mentions(id, &e.ask, &e.status.borrow(), t)))
            .map(|(id, e)| e.approval(id))
            .collect();
        drop(live);
        found.sort_by_key(|a| a.status.asked);
        found
    }

    /// One that is not over, or was denied a while ago; of others the record knows, see [`read`].
    pub fn show(&self, id: &str) -> Option<Approval> {
        self.live().by_id.get(id).filter(|e| e.durable).map(|e| e.approval(id))
    }

    /// Waits until it is over or approved, or time is up; gives it as it is then.
    pub async fn decided(&self, id: &str, patience: std::time::Duration) -> Option<Approval> {
        let (ask, mut status) = {
            let live = self.live();
            let entry = live.by_id.get(id).filter(|e| e.durable)?;
            (entry.ask.clone(), entry.status.subscribe())
        };
        let _ = tokio::time::timeout(patience, status.wait_for(|s| s.state != State::Pending)).await;
        let status = status.borrow().clone();
        Some(Approval { id: id.to_owned(), ask, status })
    }

    /// A person's answer.
    pub async fn decide(
        &self,
        id: &str,
        approver: Approver,
        answer: Answer,
        note: Option<String>,
    ) -> Result<Approval, ApprovalError> {
        let longest = self.0.config.load().max_window.as_secs();
        self.advance(id, move |ask, status| {
            Ok(status.answer(ask, &approver, &answer, note.as_deref(), now(), longest)?)
        })
        .await
    }

    /// Takes back what was approved, or withdraws what waits: whoever may say yes may say no later.
    pub async fn revoke(&self, id: &str, approver: Approver, note: Option<String>) -> Result<Approval, ApprovalError> {
        self.advance(id, move |ask, status| {
            let named = ask.terms.groups.iter().chain(&ask.terms.break_glass).any(|g| approver.is_in(g));
            if !named {
                return Err(super::Refused::Stranger(ask.terms.whom()).into());
            }
            Ok(status.revoke(now(), &approver.name(), note.as_deref().unwrap_or_default())?)
        })
        .await
    }

    /// Every step from now on. A subscriber that is far behind is told how many it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Approval> {
        self.0.changes.subscribe()
    }

    /// A session is over. What it asked for and nobody waits for stays for its principal's next one, unless it was
    /// revoked; its windows are its own.
    pub async fn session_over(&self, session: &SessionId, revoked: Option<&str>) {
        self.notes().remove(session);
        let ids: Vec<String> = self.live().by_session.get(session).into_iter().flatten().cloned().collect();
        let steps = ids.into_iter().map(|id| {
            let who = revoked.map(str::to_owned);
            async move {
                let step = move |_: &Ask, status: &Status| {
                    let taken = match (&who, status.state, &status.window) {
                        (Some(who), State::Pending, _) => status.cancel(now(), who, "its session was revoked"),
                        (Some(who), ..) => status.revoke(now(), who, "its session was revoked"),
                        (None, State::Approved, Some(_)) => status.revoke(now(), "", "its session has ended"),
                        _ => Ok(status.clone()),
                    };
                    Ok(taken?)
                };
                match self.advance(&id, step).await {
                    Ok(_) | Err(ApprovalError::Unknown(_) | ApprovalError::Refused(_)) => {}
                    Err(e) => tracing::error!("request {id} of a session that is over could not be closed: {e}"),
                }
            }
        });
        futures_util::future::join_all(steps).await;
    }

    /// Nothing waits any longer: clients are told to come again, and find their requests with the next daemon.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// Ends what is over by time. Runs as long as the daemon.
    pub async fn keep_time(self) {
        loop {
            if self.live().by_id.is_empty() {
                self.0.timed.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let now = now();
            let due: Vec<String> = {
                let mut live = self.live();
                live.forget(now);
                let ended = |e: &Entry| {
                    let status = e.status.borrow();
                    e.durable && !status.state.is_over() && status.ends() <= now
                };
                live.by_id.iter().filter(|(_, e)| ended(e)).map(|(id, _)| id.clone()).collect()
            };
            for id in due {
                let step = move |_: &Ask, status: &Status| {
                    let why = if status.window.is_some() { "its window has ended" } else { "its deadline has come" };
                    let over = || super::Refused::Over { state: status.state, by: String::new() };
                    Ok(status.expire(now, why).ok_or_else(over)?)
                };
                if let Err(ApprovalError::Record(e)) = self.advance(&id, step).await {
                    tracing::error!("that request {id} has expired could not be recorded: {e}");
                }
            }
        }
    }

    // ---- for the exchanges that wait, see `super::hold` -------------------------------------

    /// Adds a new request unless there is one that `fits`; gives the id of either.
    pub(super) async fn enter(
        &self,
        ask: Ask,
        status: Status,
        fits: impl Fn(&str, &Ask, &Status) -> bool,
        limit: usize,
    ) -> Result<String, Entering> {
        let id = format!("a-{:016x}", rand::random::<u64>());
        let approval = Approval { id: id.clone(), ask: Arc::new(ask), status: Arc::new(status) };
        let gate = {
            let mut live = self.live();
            if let Some(there) = live.same(&approval.ask.digest, &fits) {
                return Ok(there);
            }
            if live.waiting(&approval.ask.session) >= limit {
                return Err(Entering::TooMany);
            }
            let gate = live.insert(approval.clone(), false);
            // Nobody else has it yet.
            gate.try_lock_owned().map_err(|_| Entering::TooMany)?
        };
        let room = self.clone();
        let written = tokio::spawn(async move {
            let _gate = gate;
            let result = room.0.store.approval(row(&approval)).await;
            let mut live = room.live();
            match &result {
                Ok(()) => live.by_id.get_mut(&approval.id).into_iter().for_each(|e| e.durable = true),
                Err(_) => live.remove(&approval.id),
            }
            drop(live);
            if result.is_ok() {
                room.0.timed.notify_one();
                room.tell(&approval, None);
            }
            result
        });
        match written.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(e)) => Err(Entering::Record(e)),
            Err(_) => Err(Entering::Record(RecordError::Stopped)),
        }
    }

    /// The live request of that digest that fits.
    pub(super) fn same(&self, digest: &str, fits: impl Fn(&str, &Ask, &Status) -> bool) -> Option<String> {
        self.live().same(digest, &fits)
    }

    /// The request of a session that fits.
    pub(super) fn of_session(&self, session: &SessionId, fits: impl Fn(&Ask, &Status) -> bool) -> Option<Approval> {
        let live = self.live();
        let ids = live.by_session.get(session)?;
        let mut found = ids.iter().filter_map(|id| live.by_id.get(id).map(|e| e.approval(id)));
        found.find(|a| fits(&a.ask, &a.status))
    }

    /// One more exchange waits for it.
    pub(super) fn attach(&self, id: &str) -> Option<watch::Receiver<Arc<Status>>> {
        let mut live = self.live();
        let entry = live.by_id.get_mut(id)?;
        entry.holders += 1;
        entry.attached += 1;
        Some(entry.status.subscribe())
    }

    /// One fewer does. `Some`: it was the last one, and so many have waited so far.
    pub(super) fn detach(&self, id: &str) -> Option<u64> {
        let mut live = self.live();
        let entry = live.by_id.get_mut(id)?;
        entry.holders = entry.holders.saturating_sub(1);
        (entry.holders == 0).then_some(entry.attached)
    }

    /// A client has been told that it is over, and may ask anew.
    pub(super) fn told(&self, id: &str) {
        let mut live = self.live();
        if live.by_id.get(id).is_some_and(|e| e.status.borrow().state == State::Expired) {
            live.remove(id);
        }
    }

    /// Whether nobody has come back since so many had waited.
    pub(super) fn is_deserted(&self, id: &str, attached: u64) -> bool {
        self.live().by_id.get(id).is_some_and(|e| e.holders == 0 && e.attached == attached)
    }

    /// Takes a step: the only way in which a request moves on.
    pub(super) async fn advance(
        &self,
        id: &str,
        step: impl FnOnce(&Ask, &Status) -> Result<Status, ApprovalError> + Send + 'static,
    ) -> Result<Approval, ApprovalError> {
        let unknown = || ApprovalError::Unknown(id.to_owned());
        let gate = self.live().by_id.get(id).map(|e| e.gate.clone()).ok_or_else(unknown)?;
        let (room, id) = (self.clone(), id.to_owned());
        let stepping = tokio::spawn(async move {
            let _gate = gate.lock_owned().await;
            let before = room.show(&id).ok_or_else(|| ApprovalError::Unknown(id.clone()))?;
            let next = step(&before.ask, &before.status)?;
            if next == *before.status {
                return Ok(before);
            }
            let after = Approval { status: Arc::new(next), ..before.clone() };
            room.0.store.approval(row(&after)).await?;
            room.live().apply(&after);
            room.tell(&after, Some(&before.status));
            Ok(after)
        });
        // It does not panic, and nobody aborts it.
        stepping.await.unwrap_or(Err(ApprovalError::Record(RecordError::Stopped)))
    }

    fn tell(&self, after: &Approval, before: Option<&Status>) {
        // Nobody may be listening.
        let _ = self.0.changes.send(after.clone());
        if let Some(event) = event(after, before) {
            self.0.journal.emit(event);
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Single inserts and removals: a panic elsewhere leaves the maps whole.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notes(&self) -> MutexGuard<'_, HashMap<SessionId, String>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a new request was not added.
#[derive(Debug)]
pub(super) enum Entering {
    TooMany,
    Record(RecordError),
}

impl Entry {
    fn approval(&self, id: &str) -> Approval {
        Approval { id: id.to_owned(), ask: self.ask.clone(), status: self.status.borrow().clone() }
    }
}

impl Live {
    fn insert(&mut self, approval: Approval, durable: bool) -> Arc<tokio::sync::Mutex<()>> {
        let Approval { id, ask, status } = approval;
        self.by_digest.entry(ask.digest.clone()).or_default().insert(id.clone());
        self.by_session.entry(ask.session.clone()).or_default().insert(id.clone());
        let gate = Arc::<tokio::sync::Mutex<()>>::default();
        let status = watch::Sender::new(status);
        self.by_id.insert(id, Entry { ask, status, gate: gate.clone(), durable, holders: 0, attached: 0 });
        gate
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.by_id.remove(id) else { return };
        if let Some(ids) = self.by_digest.get_mut(&entry.ask.digest) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_digest.remove(&entry.ask.digest);
            }
        }
        if let Some(ids) = self.by_session.get_mut(&entry.ask.session) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_session.remove(&entry.ask.session);
            }
        }
    }

    fn apply(&mut self, after: &Approval) {
        let Some(entry) = self.by_id.get(&after.id) else { return };
        entry.status.send_replace(after.status.clone());
        let told = entry.holders > 0;
        match after.status.state {
            // A no is remembered until the deadline: who has said it should not be asked again at once.
            State::Pending | State::Approved | State::Denied => {}
            // Whoever comes again is to learn of it.
            State::Expired if after.status.window.is_none() && !told => {}
            _ => self.remove(&after.id),
        }
    }

    /// Answers that nobody will ask for any more.
    fn forget(&mut self, now: i64) {
        let over = |e: &Entry| {
            let status = e.status.borrow();
            match status.state {
                State::Denied => status.deadline <= now,
                state => state.is_over() && status.changed + TELL <= now,
            }
        };
        let ids: Vec<String> = self.by_id.iter().filter(|(_, e)| over(e)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.remove(id));
    }

    fn same(&self, digest: &str, fits: &impl Fn(&str, &Ask, &Status) -> bool) -> Option<String> {
        let ids = self.by_digest.get(digest)?;
        let fitting = ids.iter().filter_map(|id| Some((id, self.by_id.get(id)?)));
        let fitting = fitting.filter(|(id, e)| fits(id, &e.ask, &e.status.borrow()));
        // An answer before a question.
        fitting.min_by_key(|(_, e)| e.status.borrow().state != State::Approved).map(|(id, _)| id.clone())
    }

    fn waiting(&self, session: &SessionId) -> usize {
        let ids = self.by_session.get(session).into_iter().flatten();
        ids.filter(|id| self.by_id.get(*id).is_some_and(|e| e.status.borrow().state == State::Pending)).count()
    }
}

#[cfg(test)]
mod tests;
