//! Request bodies that are gathered whole, before anything is known of who sends them.
//!
//! Owns the limits of that: how large, how long, and how much at once, of one session and of all. Reads nothing in them.
//! Runs on the task of the exchange, which keeps its [`Share`] for as long as it keeps what it read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::session::SessionId;

/// Bodies of the largest size that are held at once.
const BODIES: usize = 4;
/// Of these, those of one session: nobody can keep all others waiting.
const OWN_BODIES: usize = 2;
/// Bytes that one permit stands for.
const UNIT: usize = 1024;
/// What is charged for the values of a body that is parsed: this many times its bytes, which is more than those of any
/// client become, and at most about what `aws/operation/budget.rs` lets a body of nothing but short values become.
const READ_FACTOR: usize = 16;
const READ_MOST: usize = 64 << 20;

/// Memory for request bodies.
#[derive(Debug)]
pub struct Memory {
    all: Arc<Semaphore>,
    own: Mutex<HashMap<SessionId, Weak<Semaphore>>>,
    /// Units of one session.
    share: usize,
}

/// What one body takes of it, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    own: Option<OwnedSemaphorePermit>,
    all: Option<OwnedSemaphorePermit>,
    units: usize,
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub bytes: usize,
    /// Whether values are made of it.
    pub parsed: bool,
    /// To the last byte.
    pub time: Duration,
}

/// Why a body was not gathered.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntakeError {
    #[error("the body is too large")]
    TooLarge,
    #[error(
        "the body did not arrive whole within {0} s (`gateway.body_timeout`); send it without pauses, or ask for more time"
    )]
    Late(u64),
    #[error("too many large request bodies are held at once on this host; try again later, with fewer at a time")]
    Full,
    #[error("the body broke off: {0}")]
    Broken(String),
}

impl Memory {
    /// For bodies of up to that many bytes.
    pub fn new(largest: usize) -> Self {
        let units = |bodies: usize| largest.saturating_mul(bodies).div_ceil(UNIT).clamp(1, u32::MAX as usize);
        let all = Arc::new(Semaphore::new(units(BODIES)));
        Self { all, own: Mutex::default(), share: units(OWN_BODIES) }
    }

    /// The session's part of it, which is there for as long as somebody uses it.
    fn own(&self, session: &SessionId) -> Arc<Semaphore> {
        let mut all = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(session).and_then(Weak::upgrade) {
            return found;
        }
        all.retain(|_, own| own.strong_count() > 0);
        let made = Arc::new(Semaphore::new(self.share));
        all.insert(session.clone(), Arc::downgrade(&made));
        made
    }

    /// Waits until the body may have grown to that size.
    async fn grow(&self, own: &Arc<Semaphore>, share: &mut Share, bytes: usize, parsed: bool) {
        let read = if parsed { bytes.saturating_mul(READ_FACTOR).min(READ_MOST) } else { 0 };
        // A body that is larger than all there is, after a reload, has all there is.
        let units = bytes.saturating_add(read).div_ceil(UNIT).min(self.share);
        let Some(more @ 1..) = units.checked_sub(share.units) else { return };
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        // The semaphores are never closed. First one's own: nothing of all is held while waiting for that.
        let Ok(permit) = own.clone().acquire_many_owned(count).await else { return };
        add(&mut share.own, permit);
        let Ok(permit) = self.all.clone().acquire_many_owned(count).await else { return };
        add(&mut share.all, permit);
        share.units = units;
    }
}

fn add(to: &mut Option<OwnedSemaphorePermit>, permit: OwnedSemaphorePermit) {
    match to {
        Some(held) => held.merge(permit),
        None => *to = Some(permit),
    }
}

/// Reads a body to its end.
pub(super) async fn gather<B>(
    mut body: B,
    limits: Limits,
    memory: &Memory,
    session: &SessionId,
) -> Result<(Bytes, Share), IntakeError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let until = tokio::time::Instant::now() + limits.time;
    let left = || until.saturating_duration_since(tokio::time::Instant::now());
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limits.bytes {
        return Err(IntakeError::TooLarge);
    }
    let (own, mut share) = (memory.own(session), Share::default());
    // With a length, all of it at once: several half-read bodies would wait for each other.
    let grown = timeout(left(), memory.grow(&own, &mut share, declared, limits.parsed)).await;
    grown.map_err(|_| IntakeError::Full)?;
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = timeout(left(), body.frame()).await.map_err(|_| IntakeError::Late(limits.time.as_secs()))?;
        let Some(frame) = frame else { break };
        // Trailers are not signed: they go no further.
        let Ok(data) = frame.map_err(|e| IntakeError::Broken(e.to_string()))?.into_data() else { continue };
        let size = first.len().saturating_add(whole.len()).saturating_add(data.len());
        if size > limits.bytes {
            return Err(IntakeError::TooLarge);
        }
        let grown = timeout(left(), memory.grow(&own, &mut share, size, limits.parsed)).await;
        grown.map_err(|_| IntakeError::Full)?;
        // Most bodies are one frame, which needs no copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(declared.max(size));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok((if whole.is_empty() { first } else { whole.freeze() }, share))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::HeaderMap;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const MIB: usize = 1 << 20;

    fn limits(bytes: usize, parsed: bool) -> Limits {
        Limits { bytes, parsed, time: Duration::from_secs(60) }
    }

    fn whole(bytes: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b'x'; bytes]))
    }

    /// A body of no declared length, a KiB a frame.
    fn pieces(count: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frame = |n: usize| Ok(Frame::data(Bytes::from(vec![u8::try_from(n % 251).unwrap_or_default(); 1024])));
        StreamBody::new(stream::iter((0..count).map(frame)))
    }

    #[tokio::test]
    async fn a_body_is_what_was_sent_without_its_trailers() {
        let (memory, session) = (Memory::new(MIB), SessionId::random());
        let sent = [Frame::data(Bytes::from("ab")), Frame::data(Bytes::from("c")), Frame::trailers(HeaderMap::new())];
        let body = StreamBody::new(stream::iter(sent.map(Ok::<_, Infallible>)));
        let (bytes, _) = gather(body, limits(3, true), &memory, &session).await.expect("small enough");
        assert_eq!(bytes, "abc");
        let (bytes, _) = gather(pieces(300), limits(MIB, false), &memory, &session).await.expect("small enough");
        assert_eq!((bytes.len(), bytes[299 * 1024]), (300 * 1024, 48));
        for parsed in [false, true] {
            let found = gather(whole(4), limits(3, parsed), &memory, &session).await;
            assert!(matches!(found, Err(IntakeError::TooLarge)));
            let found = gather(pieces(2), limits(2047, parsed), &memory, &session).await;
            assert!(matches!(found, Err(IntakeError::TooLarge)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_is_given_up() {
        let (memory, session) = (Memory::new(MIB), SessionId::random());
        let endless = StreamBody::new(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from("x"))), ()))
        }));
        let before = tokio::time::Instant::now();
        let found = gather(Box::pin(endless), limits(MIB, false), &memory, &session).await;
        assert!(matches!(found, Err(IntakeError::Late(60))));
        assert_eq!(before.elapsed(), Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn one_session_cannot_hold_everything_and_all_together_not_more() {
        let memory = Memory::new(MIB);
        let sessions = [SessionId::random(), SessionId::random(), SessionId::random()];
        let of = |n: usize| gather(whole(MIB), limits(MIB, false), &memory, &sessions[n]);
        let mut held = vec![of(0).await.expect("room"), of(0).await.expect("room")];
        assert!(matches!(of(0).await, Err(IntakeError::Full)));
        // Even what grows as it comes.
        let growing = gather(pieces(1024), limits(MIB, false), &memory, &sessions[0]).await;
        assert!(matches!(growing, Err(IntakeError::Full)));
        held.extend([of(1).await.expect("room"), of(1).await.expect("room")]);
        assert!(matches!(of(2).await, Err(IntakeError::Full)));
        held.truncate(3);
        assert!(of(2).await.is_ok(), "what was let go of is not there again");
        drop(held);
        assert_eq!(memory.all.available_permits(), 4 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parsed_counts_for_what_it_becomes() {
        let (memory, session) = (Memory::new(17 * MIB), SessionId::random());
        let one = gather(whole(MIB), limits(MIB, true), &memory, &session).await.expect("room");
        let two = gather(whole(MIB), limits(MIB, true), &memory, &session).await.expect("room");
        assert!(matches!(gather(whole(1), limits(MIB, true), &memory, &session).await, Err(IntakeError::Full)));
        drop((one, two));
        // More than there is for one session has all of that.
        assert!(gather(whole(8 * MIB), limits(8 * MIB, true), &memory, &session).await.is_ok());
    }
}
