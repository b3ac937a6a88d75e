//! Placeholders: made for a session, looked up by access key id, gone with the session.
//!
//! Owns which session an access key stands for. A session has several generations at once: a new one well before
//! the old one ends, so that an SDK that caches the old one never meets a gap. Look-ups take one short read lock
//! of a shard; nothing here is async.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Placeholder, Secret};
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
}

impl Placeholders {
    /// Makes a placeholder that lives for `ttl`; the session's earlier ones stay valid to their own ends.
    pub fn mint(&self, session: &SessionId, ttl: Duration, now: SystemTime) -> Arc<Placeholder> {
        let mut sessions = self.sessions();
        let generations = sessions.entry(session.clone()).or_insert_with(|| Generations { ttl, all: Vec::new() });
        generations.ttl = ttl;
        self.add(session, generations, now)
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
        for placeholder in sessions.remove(session).into_iter().flat_map(|g| g.all) {
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
                self.add(session, generations, now);
            }
            generations.all.retain(|p| {
                let keep = p.expires + REMEMBERED > now;
                if !keep {
                    self.forget(p);
                }
                keep
            });
        }
    }

    fn add(&self, session: &SessionId, generations: &mut Generations, now: SystemTime) -> Arc<Placeholder> {
        loop {
            let placeholder = Arc::new(invent(now, generations.ttl));
            let mut shard = self.shard(&placeholder.access_key_id).write().unwrap_or_else(PoisonError::into_inner);
            // 80 random bits do not collide; if they do, one session must not get another's key.
            if shard.contains_key(&placeholder.access_key_id) {
                continue;
            }
            shard.insert(placeholder.access_key_id.clone(), (session.clone(), placeholder.clone()));
            drop(shard);
            generations.all.push(placeholder.clone());
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
fn invent(now: SystemTime, ttl: Duration) -> Placeholder {
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

    #[test]
    fn foreign_keys_are_unknown() {
        assert!(Placeholders::default().lookup("AKIAIOSFODNN7EXAMPLE").is_none());
    }
}
