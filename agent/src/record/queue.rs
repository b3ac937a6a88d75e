//! What waits for the writer, and when the writer is woken for it.
//!
//! A write that somebody waits for (an intent) wakes the writer at once. What nobody waits for (an outcome, an event)
//! goes along with the next one of those, or after [`LINGER`] at most: its own sync to disk would only delay the intent
//! behind it. Order is kept over both. Pushed to from any thread; taken from by the writer alone.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most writes in one transaction: bounds how long the first of them waits.
const BATCH: usize = 512;
/// Writes that may queue up. Intents wait for their answer, so that connections bound them; the rest is small.
const LIMIT: usize = 1 << 16;
/// How long a write that nobody waits for may stay in memory alone.
const LINGER: Duration = Duration::from_millis(20);
/// How long the first of several is kept waiting for the others: a few syncs to a fast disk, which cost as much CPU as a
/// dozen exchanges each. With one exchange at a time nobody is ever kept.
const GATHER: Duration = Duration::from_micros(1000);
/// Every so many batches one more write is hoped for than came last time.
const PROBE: u32 = 16;

/// Why a write was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    /// The writer has ended.
    Closed,
}

/// The queue between everybody and the writer.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// The writer sleeps here.
    work: Condvar,
    /// Those sleep here who have something that must not be lost, and no room for it.
    room: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// How many of them somebody waits for.
    urgent: usize,
    /// How many that must be, for the writer to be woken.
    wanted: usize,
    /// How many there were when the last batch was taken.
    expected: usize,
    batches: u32,
    /// The writer sleeps until it is woken, not for a while only.
    idle: bool,
    /// Nobody pushes any more.
    closed: bool,
    /// Nobody takes any more.
    ended: bool,
}

impl<T> State<T> {
    /// For how many to wait: as many as lately, and now and then for one more.
    fn gather(&mut self) {
        let probe = self.expected > 1 && self.batches.is_multiple_of(PROBE);
        self.wanted = self.expected + usize::from(probe);
    }

    fn gathered(&mut self) {
        self.wanted = 1;
        if self.urgent > 0 {
            self.batches = self.batches.wrapping_add(1);
            // Slowly fewer: half of them may have gone with the last batch, and then each half would go on by itself.
            self.expected = self.urgent.max(self.expected - self.expected.div_ceil(8)).max(1);
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            urgent: 0,
            wanted: 1,
            expected: 1,
            batches: 0,
            idle: false,
            closed: false,
            ended: false,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), room: Condvar::new() }
    }

    /// Adds what somebody waits for.
    pub(super) fn push_urgent(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.ended {
            return Err(Refused::Closed);
        }
        if state.waiting.len() >= LIMIT {
            return Err(Refused::Full);
        }
        state.waiting.push_back(item);
        state.urgent += 1;
        if state.urgent == state.wanted {
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    /// Adds what nobody waits for. Waits for room, which is rare: nothing may be lost.
    pub(super) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        while state.waiting.len() >= LIMIT && !state.ended {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended {
            return Err(Refused::Closed);
        }
        state.waiting.push_back(item);
        // A writer that is awake, or sleeps for a while only, finds it by itself.
        if std::mem::replace(&mut state.idle, false) {
            drop(state);
            self.work.notify_one();
        }
        Ok(())
    }

    /// Nobody will push any more: the writer gets what there is, and then nothing.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Nobody will take any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        // Whoever waits for an answer to one of these learns that there will be none.
        state.waiting.clear();
        drop(state);
        self.room.notify_all();
    }

    /// Moves the next writes into `batch`, waiting for them. `false`: there will be no more. With `busy` the writer has
    /// something else to do: then it does not wait for long, and `batch` may stay empty.
    pub(super) fn take(&self, batch: &mut Vec<T>, busy: bool) -> bool {
        let mut state = self.lock();
        let mut began = Instant::now();
        // Where several came last time, they share one sync to disk, and one waking: nobody is woken for the first of them.
        state.gather();
        while state.urgent < state.wanted && !state.closed && state.waiting.len() < BATCH {
            let late = began.elapsed() >= LINGER;
            if state.urgent == 0 && late && state.waiting.is_empty() && !busy {
                (state.idle, state.wanted, state.expected) = (true, 1, 1);
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                (state.idle, began) = (false, Instant::now());
            } else if state.urgent == 0 && late {
                break;
            } else {
                let pause = if state.wanted > 1 { GATHER } else { LINGER };
                let waited = self.work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                if waited.1.timed_out() && state.urgent > 0 {
                    break;
                }
            }
        }
        state.gathered();
        let n = state.waiting.len().min(BATCH);
        let was_full = state.waiting.len() >= LIMIT;
        batch.extend(state.waiting.drain(..n));
        // What is left may have somebody waiting: the next look must not wait.
        state.urgent = state.urgent.min(state.waiting.len());
        let more = n > 0 || !state.closed;
        drop(state);
        if was_full {
            self.room.notify_all();
        }
        more
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // What is under it is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_nobody_waits_for_goes_along_with_what_somebody_does() {
        let queue = Queue::new();
        queue.push(1).expect("room");
        queue.push_urgent(2).expect("room");
        queue.push(3).expect("room");
        let mut batch = Vec::new();
        let began = Instant::now();
        assert!(queue.take(&mut batch, false));
        assert_eq!(batch, [1, 2, 3]);
        assert!(began.elapsed() < LINGER);
    }

    #[test]
    fn what_nobody_waits_for_is_taken_all_the_same() {
        let queue = Arc::new(Queue::new());
        for pause in [Duration::ZERO, LINGER * 3] {
            let pusher = {
                let queue = queue.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(pause);
                    queue.push(7).expect("room");
                })
            };
            let mut batch = Vec::new();
            assert!(queue.take(&mut batch, false));
            assert_eq!(batch, [7]);
            pusher.join().expect("no panic");
        }
    }

    #[test]
    fn who_has_something_else_to_do_is_not_kept() {
        let queue = Queue::<()>::new();
        let (mut batch, began) = (Vec::new(), Instant::now());
        assert!(queue.take(&mut batch, true) && batch.is_empty());
        assert!((LINGER..LINGER * 20).contains(&began.elapsed()));
    }

    #[test]
    fn the_first_of_several_is_kept_for_the_others_and_a_lone_one_is_not() {
        let queue = Queue::new();
        let take = |n: u32| {
            (0..n).for_each(|n| queue.push_urgent(n).expect("room"));
            let (mut batch, began) = (Vec::new(), Instant::now());
            assert!(queue.take(&mut batch, false));
            assert_eq!(batch.len(), n as usize);
            began.elapsed()
        };
        take(3);
        assert!(take(1) >= GATHER, "two more were hoped for");
        // Nobody came, so nobody is hoped for.
        assert!((0..10).any(|_| take(1) < GATHER));
    }

    #[test]
    fn batches_are_bounded_and_the_rest_does_not_wait() {
        let queue = Queue::new();
        for n in 0..BATCH + 1 {
            queue.push_urgent(n).expect("room");
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let began = Instant::now();
        assert!(queue.take(&mut first, false) && queue.take(&mut second, false));
        assert_eq!((first.len(), second.len()), (BATCH, 1));
        assert!(began.elapsed() < LINGER);
    }

    #[test]
    fn a_full_queue_refuses_or_waits_and_an_ended_one_refuses() {
        let queue = Arc::new(Queue::new());
        for n in 0..LIMIT {
            queue.push(n).expect("room");
        }
        assert_eq!(queue.push_urgent(0), Err(Refused::Full));
        let waiting = {
            let queue = queue.clone();
            std::thread::spawn(move || queue.push(0))
        };
        assert!(queue.take(&mut Vec::new(), false));
        assert_eq!(waiting.join().expect("no panic"), Ok(()));
        queue.close();
        let mut rest = Vec::new();
        while queue.take(&mut rest, false) {}
        assert_eq!(rest.len(), LIMIT + 1 - BATCH);
        queue.end();
        assert_eq!((queue.push(0), queue.push_urgent(0)), (Err(Refused::Closed), Err(Refused::Closed)));
    }
}
