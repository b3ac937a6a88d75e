//! The registry of sessions and their life.
//!
//! Owns which sessions there are and what each is bound to: tag, principal, placeholder, state.
//! Never decides. Reads are lock-free or under a short read lock; they happen once per connection.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::capture::TagId;
use crate::identity::Principal;

/// A session's name in records, events and policies: `s-` and 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SessionId(String);

impl SessionId {
    /// A fresh, unguessable id.
    pub fn random() -> Self {
        Self(format!("s-{:016x}", rand::random::<u64>()))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("s-")?;
        (hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a session is in its life. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Open,
    Ended,
    Revoked,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

/// What a session is made from.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub id: SessionId,
    pub name: String,
    pub tag: TagId,
    pub uid: u32,
    pub cgroup: PathBuf,
    pub command: Vec<String>,
}

/// One governed run.
#[derive(Debug)]
pub struct Session {
    pub id: SessionId,
    pub name: String,
    pub tag: TagId,
    pub uid: u32,
    pub cgroup: PathBuf,
    pub command: Vec<String>,
    pub started: SystemTime,
    principal: ArcSwap<Principal>,
    /// It began unidentified, and a process in it showed a token.
    identified_inside: AtomicBool,
    /// Its processes are stopped, and stay.
    frozen: AtomicBool,
    state: watch::Sender<State>,
    connections: AtomicUsize,
}

/// One of a session's connections, as long as it lasts.
#[derive(Debug)]
pub struct Place(Arc<Session>);

impl Place {
    pub fn session(&self) -> &Session {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    /// Room for one more connection, unless it has `limit` of them: what they use up (ports, descriptors, memory) is
    /// every session's.
    pub fn place(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        (before < limit).then_some(place)
    }

    pub fn principal(&self) -> Arc<Principal> {
        self.principal.load_full()
    }

    /// A renewed token: the next request is judged under it.
    pub fn bind(&self, principal: Principal) {
        self.principal.store(Arc::new(principal));
    }

    /// Binds an unidentified session to a principal, for good, or renews the one that it has. `Err`: it acts for another.
    pub fn identify(&self, principal: Principal) -> Result<(), Arc<Principal>> {
        let principal = Arc::new(principal);
        let mut before = self.principal.load_full();
        loop {
            if before.is_identified() && !before.is_same(&principal) {
                return Err(before);
            }
            let found = arc_swap::Guard::into_inner(self.principal.compare_and_swap(&before, principal.clone()));
            if Arc::ptr_eq(&found, &before) {
                if !before.is_identified() {
                    self.identified_inside.store(true, Ordering::Relaxed);
                }
                return Ok(());
            }
            before = found;
        }
    }

    /// Whether its principal is that of a token which a process in it has shown.
    pub fn is_identified_inside(&self) -> bool {
        self.identified_inside.load(Ordering::Relaxed)
    }

    /// Its processes are to be kept as they are when it is over.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Resolves once the session is no longer open; its connections are cut then.
    pub async fn closed(&self) -> State {
        let mut state = self.state.subscribe();
        match state.wait_for(|s| *s != State::Open).await {
            Ok(state) => *state,
            // The sender is ours and we are borrowed, so it cannot be gone.
            Err(_) => State::Ended,
        }
    }

    /// Moves forward; `false` if it was there, or further, already.
    fn advance(&self, to: State) -> bool {
        self.state.send_if_modified(|state| {
            let forward = *state < to;
            if forward {
                *state = to;
            }
            forward
        })
    }
}

/// All open sessions.
#[derive(Debug, Default)]
pub struct Registry {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: HashMap<SessionId, Arc<Session>>,
    by_tag: HashMap<TagId, Arc<Session>>,
}

impl Registry {
    /// Opens a session.
    pub fn open(&self, new: NewSession, principal: Principal, now: SystemTime) -> Arc<Session> {
        let session = Arc::new(Session {
            id: new.id,
            name: new.name,
            tag: new.tag,
            uid: new.uid,
            cgroup: new.cgroup,
            command: new.command,
            started: now,
            principal: ArcSwap::from_pointee(principal),
            identified_inside: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            state: watch::Sender::new(State::Open),
            connections: AtomicUsize::new(0),
        });
        let mut maps = self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        maps.by_id.insert(session.id.clone(), session.clone());
        maps.by_tag.insert(session.tag, session.clone());
        session
    }

    pub fn by_tag(&self, tag: TagId) -> Option<Arc<Session>> {
        self.read().by_tag.get(&tag).cloned()
    }

    pub fn by_id(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.read().by_id.get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Session>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Ends or revokes a session: cuts its connections and forgets it. `None` if it is not open.
    pub fn close(&self, id: &SessionId, to: State) -> Option<Arc<Session>> {
        let mut maps = self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let session = maps.by_id.remove(id)?;
        maps.by_tag.remove(&session.tag);
        drop(maps);
        session.advance(to);
        Some(session)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        // A poisoned lock means a panic between two inserts; the maps are still maps.
        self.maps.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(tag: u32) -> NewSession {
        NewSession {
            id: SessionId::random(),
            name: "job".into(),
            tag: TagId(tag),
            uid: 1000,
            cgroup: "/sys/fs/cgroup/x".into(),
            command: vec!["true".into()],
        }
    }

    #[test]
    fn ids_parse_only_in_their_own_form() {
        let id = SessionId::random();
        assert_eq!(SessionId::parse(id.as_str()), Some(id));
        for bad in ["", "s-", "s-123", "x-0123456789abcdef", "s-0123456789abcdeg", "s-0123456789abcdef0"] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_session_has_only_so_many_connections() {
        let registry = Registry::default();
        let session = registry.open(new(7), Principal::unidentified(), SystemTime::now());
        let (one, two) = (session.place(2), session.place(2));
        assert!(one.is_some() && two.is_some() && session.place(2).is_none());
        drop(one);
        assert!(session.place(2).is_some());
    }

    #[test]
    fn a_session_is_bound_once() {
        let named = |subject: &str| Principal {
            issuer: Some("https://idp".into()),
            subject: subject.into(),
            ..Principal::unidentified()
        };
        let registry = Registry::default();
        let session = registry.open(new(7), Principal::unidentified(), SystemTime::now());
        session.identify(named("alice")).expect("nobody before");
        assert!(session.is_identified_inside());
        session.identify(Principal { groups: vec!["g".into()], ..named("alice") }).expect("the same");
        assert_eq!(session.principal().groups, ["g"]);
        assert_eq!(session.identify(named("bob")).expect_err("another").subject, "alice");
        assert_eq!(session.principal().subject, "alice");
        let elsewhere = Principal { issuer: Some("https://other".into()), ..named("alice") };
        assert!(session.identify(elsewhere).is_err());
        let from_outside = registry.open(new(8), named("bob"), SystemTime::now());
        from_outside.identify(named("bob")).expect("the same");
        assert!(!from_outside.is_identified_inside());
    }

    #[tokio::test]
    async fn closing_wakes_the_connections_and_forgets_the_tag() {
        let registry = Registry::default();
        let session = registry.open(new(7), Principal::unidentified(), SystemTime::now());
        let waiting = {
            let s = session.clone();
            tokio::spawn(async move { s.closed().await })
        };
        assert!(registry.by_tag(TagId(7)).is_some());
        registry.close(&session.id, State::Revoked).expect("it is open");
        assert_eq!(waiting.await.expect("no panic"), State::Revoked);
        assert!(registry.by_tag(TagId(7)).is_none());
        assert!(registry.close(&session.id, State::Ended).is_none());
        assert_eq!(session.state(), State::Revoked);
    }
}
