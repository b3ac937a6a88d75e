//! Placeholders: made for a session, looked up by access key id, gone with the session.
//!
//! Owns which session an access key stands for. A session has several generations at once: a new one well before
//! the old one ends, so that an SDK that caches the old one never meets a gap. Beside them stand the ones for
//! credentials that came in answers, each with those behind it, as long as those live. Look-ups take one short read lock
//! of a shard; nothing here is async.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Derived, Placeholder, Secret};
use crate::session::SessionId;

const SHARDS: usize = 16;
/// An ended generation is still known for a while, so that its user is told `expired` and not `unknown`.
const REMEMBERED: Duration = Duration::from_secs(3600);

type Shard = RwLock<HashMap<String, (SessionId, Arc<Placeholder>)>>;

/// All live placeholders.
#[derive(Debug, Default)]
pub struct Placeholders {
    hasher: RandomState,
    by_key: [Shard; SHARDS],
    by_session: Mutex<HashMap<SessionId, Generations>>,
}

/// The placeholders of one session, oldest first.
#[derive(Debug)]
struct Generations {
    ttl: Duration,
    all: Vec<Arc<Placeholder>>,
    /// With credentials behind them that came in answers.
    derived: Vec<Arc<Placeholder>>,
}

/// Why no placeholder was made for credentials from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIssued {
    #[error("the session has ended")]
    Ended,
    #[error(
        "the session holds {0} credentials from answers already (`gateway.max_credentials`); use those that it has, or wait until some expire"
    )]
    Full(usize),
}

impl Placeholders {
    /// Makes a placeholder that lives for `ttl`; the session's earlier ones stay valid to their own ends.
    pub fn mint(&self, session: &SessionId, ttl: Duration, now: SystemTime) -> Arc<Placeholder> {
        let mut sessions = self.sessions();
        let generations = sessions.entry(session.clone()).or_insert_with(|| Generations {
            ttl,
            all: Vec::new(),
            derived: Vec::new(),
        });
        generations.ttl = ttl;
        let made = self.add(session, ttl, None, now);
        generations.all.push(made.clone());
        made
    }

    /// Makes placeholders for credentials that came in one answer, each of which ends with them; all or none. A session
    /// holds `limit` of them at most, and none once it was revoked.
    pub fn issue(
        &self,
        session: &SessionId,
        derived: Vec<(Derived, SystemTime)>,
        limit: usize,
        now: SystemTime,
    ) -> Result<Vec<Arc<Placeholder>>, NotIssued> {
        let mut sessions = self.sessions();
        let generations = sessions.get_mut(session).ok_or(NotIssued::Ended)?;
        self.make_room(generations, derived.len(), limit, now)?;
        let made: Vec<_> = derived
            .into_iter()
            .map(|(behind, ends)| {
                let ttl = ends.duration_since(now).unwrap_or_default();
                self.add(session, ttl, Some(Arc::new(behind)), now)
            })
            .collect();
        generations.derived.extend(made.iter().cloned());
        Ok(made)
    }

    /// Whether one more could be issued: asked before a request goes up, whose answer would have to be thrown away.
    pub fn room(&self, session: &SessionId, limit: usize, now: SystemTime) -> Result<(), NotIssued> {
        let mut sessions = self.sessions();
        let generations = sessions.get_mut(session).ok_or(NotIssued::Ended)?;
        self.make_room(generations, 1, limit, now)
    }

    /// Expired ones are remembered as long as nobody needs their place.
    fn make_room(
        &self,
        generations: &mut Generations,
        more: usize,
        limit: usize,
        now: SystemTime,
    ) -> Result<(), NotIssued> {
        if generations.derived.len() + more > limit {
            self.retain(&mut generations.derived, |p| p.expires > now);
        }
        if generations.derived.len() + more > limit { Err(NotIssued::Full(generations.derived.len())) } else { Ok(()) }
    }

    fn retain(&self, placeholders: &mut Vec<Arc<Placeholder>>, keep: impl Fn(&Placeholder) -> bool) {
        placeholders.retain(|p| {
            let keep = keep(p);
            if !keep {
                self.forget(p);
            }
            keep
        });
    }

    /// The session's newest placeholder; `None` if none was made, or all were revoked.
    pub fn current(&self, session: &SessionId) -> Option<Arc<Placeholder>> {
        self.sessions().get(session)?.all.last().cloned()
    }

    /// Whose placeholder an access key is. Expiry is for the caller to check: an expired one is not a foreign one.
    pub fn lookup(&self, access_key_id: &str) -> Option<(SessionId, Arc<Placeholder>)> {
        self.shard(access_key_id).read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned()
    }

    /// Ends all placeholders of a session, at once.
    pub fn revoke(&self, session: &SessionId) {
        let mut sessions = self.sessions();
        for placeholder in sessions.remove(session).into_iter().flat_map(|g| g.all.into_iter().chain(g.derived)) {
            self.forget(&placeholder);
        }
    }

    /// Makes a new generation wherever the newest one is past half of its life, and forgets old ones.
    ///
    /// SDKs ask again between five and fifteen minutes before the end, so with a `ttl` of an hour or more they
    /// find a fresh one. To be called every minute or so.
    pub fn keep_fresh(&self, now: SystemTime) {
        let mut sessions = self.sessions();
        for (session, generations) in sessions.iter_mut() {
            let half = generations.ttl / 2;
            if generations.all.last().is_none_or(|newest| newest.expires <= now + half) {
                generations.all.push(self.add(session, generations.ttl, None, now));
            }
            for placeholders in [&mut generations.all, &mut generations.derived] {
                self.retain(placeholders, |p| p.expires + REMEMBERED > now);
            }
        }
    }

    fn add(
        &self,
        session: &SessionId,
        ttl: Duration,
        behind: Option<Arc<Derived>>,
        now: SystemTime,
    ) -> Arc<Placeholder> {
        loop {
            let placeholder = Arc::new(invent(now, ttl, behind.clone()));
            let mut shard = self.shard(&placeholder.access_key_id).write().unwrap_or_else(PoisonError::into_inner);
            // 80 random bits do not collide; if they do, one session must not get another's key.
            if shard.contains_key(&placeholder.access_key_id) {
                continue;
            }
            shard.insert(placeholder.access_key_id.clone(), (session.clone(), placeholder.clone()));
            drop(shard);
            return placeholder;
        }
    }

    fn forget(&self, placeholder: &Placeholder) {
        self.shard(&placeholder.access_key_id)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&placeholder.access_key_id);
    }

    fn shard(&self, access_key_id: &str) -> &Shard {
        &self.by_key[(self.hasher.hash_one(access_key_id) % SHARDS as u64) as usize]
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Generations>> {
        // Poisoned means a panic between two inserts; the map is still a map.
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Credentials in the shape of temporary ones: validators in SDKs and tools must not stumble over them.
fn invent(now: SystemTime, ttl: Duration, behind: Option<Arc<Derived>>) -> Placeholder {
    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut access_key_id = String::with_capacity(20);
    access_key_id.push_str("ASIA");
    access_key_id.extend(rand::random::<[u8; 16]>().map(|b| char::from(BASE32[usize::from(b & 31)])));
    let text = |bytes: &[u8]| Secret::new(STANDARD.encode(bytes));
    let (secret, token) = (zeroize::Zeroizing::new(random::<30>()), zeroize::Zeroizing::new(random::<192>()));
    Placeholder {
        access_key_id,
        // 40 characters.
        secret_access_key: text(secret.as_slice()),
        // 256 characters; real ones have several hundred.
        session_token: text(token.as_slice()),
        issued: now,
        expires: now + ttl,
        behind,
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    #[test]
    fn they_look_like_temporary_credentials() {
        let p = Placeholders::default().mint(&SessionId::random(), HOUR, at(0));
        assert_eq!(p.access_key_id.len(), 20);
        assert!(p.access_key_id.starts_with("ASIA"));
        assert!(p.access_key_id.bytes().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b)));
        assert_eq!((p.secret_access_key.expose().len(), p.session_token.expose().len()), (40, 256));
        assert!(!p.session_token.expose().contains('='));
        assert_eq!((p.issued, p.expires), (at(0), at(3600)));
    }

    #[test]
    fn generations_overlap_without_a_gap() {
        let placeholders = Placeholders::default();
        let session = SessionId::random();
        assert!(placeholders.current(&session).is_none());
        let first = placeholders.mint(&session, HOUR, at(0));
        placeholders.keep_fresh(at(1700));
        assert_eq!(placeholders.current(&session).expect("there").access_key_id, first.access_key_id);
        placeholders.keep_fresh(at(1800));
        let second = placeholders.current(&session).expect("there");
        assert_ne!(second.access_key_id, first.access_key_id);
        assert_eq!(second.expires, at(5400));
        // Both stand for the session until the first one has long been over.
        for p in [&first, &second] {
            assert_eq!(placeholders.lookup(&p.access_key_id).expect("known").0, session);
        }
        placeholders.keep_fresh(at(7200));
        assert!(placeholders.lookup(&first.access_key_id).is_none());
        assert!(placeholders.lookup(&second.access_key_id).is_some());
    }

    #[test]
    fn revoking_ends_one_session_only() {
        let placeholders = Placeholders::default();
        let (a, b) = (SessionId::random(), SessionId::random());
        let of_a = [placeholders.mint(&a, HOUR, at(0)), placeholders.mint(&a, HOUR, at(1))];
        let of_b = placeholders.mint(&b, HOUR, at(0));
        placeholders.revoke(&a);
        placeholders.revoke(&a);
        assert!(of_a.iter().all(|p| placeholders.lookup(&p.access_key_id).is_none()));
        assert!(placeholders.current(&a).is_none());
        assert_eq!(placeholders.lookup(&of_b.access_key_id).expect("known").0, b);
        // Nothing brings a revoked session back.
        placeholders.keep_fresh(at(100_000));
        assert!(placeholders.current(&a).is_none());
    }

    fn derived(id: &str) -> Derived {
        let held = super::super::Held {
            access_key_id: id.into(),
            secret_access_key: Secret::new("s"),
            session_token: Some(Secret::new("t")),
            expires: None,
            account: None,
        };
        Derived { held: Arc::new(held), operation: "sts:AssumeRole".into(), arn: None, bucket: None }
    }

    #[test]
    fn what_came_in_answers_stands_behind_placeholders_of_its_own_and_ends_with_them() {
        let placeholders = Placeholders::default();
        let session = SessionId::random();
        let none = placeholders.issue(&session, vec![(derived("A"), at(900))], 2, at(0));
        assert_eq!(none.map(drop), Err(NotIssued::Ended), "a session that is not there has none");
        let own = placeholders.mint(&session, HOUR, at(0));
        assert!(own.behind.is_none());
        let first = placeholders.issue(&session, vec![(derived("A"), at(900))], 2, at(0)).expect("room")[0].clone();
        assert_eq!((first.expires, first.issued), (at(900), at(0)));
        let (whose, found) = placeholders.lookup(&first.access_key_id).expect("known");
        assert_eq!(whose, session);
        assert_eq!(found.behind.as_ref().expect("derived").held.access_key_id, "A");
        assert_ne!(found.secret_access_key, own.secret_access_key);
        // The metadata service goes on giving the session's own.
        assert_eq!(placeholders.current(&session).expect("there").access_key_id, own.access_key_id);
        let two = || vec![(derived("B"), at(5000)), (derived("C"), at(5000))];
        assert_eq!(placeholders.issue(&session, two(), 2, at(0)).map(drop), Err(NotIssued::Full(1)), "all or none");
        placeholders.room(&session, 2, at(0)).expect("one more");
        placeholders.issue(&session, vec![(derived("D"), at(5000))], 2, at(0)).expect("room");
        assert_eq!(placeholders.room(&session, 2, at(899)), Err(NotIssued::Full(2)));
        // It is told that it has expired, until another needs its place.
        placeholders.keep_fresh(at(1000));
        assert!(placeholders.lookup(&first.access_key_id).is_some());
        placeholders.room(&session, 2, at(1000)).expect("the first is over");
        assert!(placeholders.lookup(&first.access_key_id).is_none());
        let last = placeholders.issue(&session, vec![(derived("E"), at(5000))], 2, at(1000)).expect("room")[0].clone();
        placeholders.revoke(&session);
        assert!(placeholders.lookup(&last.access_key_id).is_none());
        let late = placeholders.issue(&session, vec![(derived("F"), at(5000))], 2, at(1000));
        assert_eq!(late.map(drop), Err(NotIssued::Ended), "an answer that comes after the end brings nothing");
    }

    #[test]
    fn foreign_keys_are_unknown() {
        assert!(Placeholders::default().lookup("AKIAIOSFODNN7EXAMPLE").is_none());
    }
}
