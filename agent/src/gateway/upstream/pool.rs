//! Connections between two exchanges.
//!
//! Owns idle HTTP/1.1 connections, and one HTTP/2 connection for each endpoint and session: its streams share one window,
//! and a session that does not read must hold up no other. The HTTP/1.1 connection that was used last is
//! used next, so that what a busy moment opened is closed when the moment is over. Runs on the exchanges' tasks, and
//! one task sweeps as long as there is something to sweep.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::link::Link;
use crate::gateway::body::RequestBody;

type Sender = http2::SendRequest<RequestBody>;

/// The pool.
pub(super) struct Pool {
    state: Mutex<State>,
    timeout: Duration,
}

#[derive(Default)]
struct State {
    /// By host; hosts are few, and a port that is not 443 is rare.
    endpoints: HashMap<Box<str>, Vec<Endpoint>>,
    sweeping: bool,
}

struct Endpoint {
    port: u16,
    /// The one that was used last is at the end.
    #[expect(clippy::vec_box, reason = "links move between pool and exchanges; a pointer moves for less than they do")]
    idle: Vec<Box<Link>>,
    shared: Vec<Shared>,
}

/// An HTTP/2 connection of one session's.
struct Shared {
    whose: Box<str>,
    sender: Sender,
    used: Instant,
}

/// A connection to send over.
pub(super) enum Taken {
    Http1(Box<Link>),
    Http2(Sender),
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { state: Mutex::default(), timeout }
    }

    /// A connection that is open, as far as this side knows.
    pub(super) async fn take(&self, host: &str, port: u16, whose: &str) -> Option<Taken> {
        loop {
            match self.pop(host, port, whose)? {
                Taken::Http1(mut link) => {
                    if poll_fn(|cx| Poll::Ready(link.is_usable(cx))).await {
                        return Some(Taken::Http1(link));
                    }
                }
                shared => return Some(shared),
            }
        }
    }

    fn pop(&self, host: &str, port: u16, whose: &str) -> Option<Taken> {
        let mut state = self.lock();
        let endpoint = state.endpoints.get_mut(host)?.iter_mut().find(|e| e.port == port)?;
        endpoint.shared.retain(|s| !s.sender.is_closed());
        if let Some(shared) = endpoint.shared.iter_mut().find(|s| *s.whose == *whose) {
            shared.used = Instant::now();
            return Some(Taken::Http2(shared.sender.clone()));
        }
        endpoint.idle.pop().map(Taken::Http1)
    }

    /// Takes a connection back.
    pub(super) fn put(this: &Arc<Self>, mut link: Box<Link>) {
        link.since = Instant::now();
        let mut state = this.lock();
        let (host, port) = (link.host.clone(), link.port);
        state.endpoint(&host, port).idle.push(link);
        Self::sweep_later(this, &mut state);
    }

    /// Offers an HTTP/2 connection to all exchanges of a session.
    pub(super) fn share(self: &Arc<Self>, host: &str, port: u16, whose: &str, sender: Sender) {
        let mut state = self.lock();
        let shared = &mut state.endpoint(host, port).shared;
        shared.retain(|s| *s.whose != *whose);
        shared.push(Shared { whose: whose.into(), sender, used: Instant::now() });
        Self::sweep_later(self, &mut state);
    }

    fn sweep_later(this: &Arc<Self>, state: &mut State) {
        // A body may be dropped after the runtime; nothing is left to be swept for then.
        if !state.sweeping
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            state.sweeping = true;
            let (pool, pause) = (Arc::downgrade(this), this.timeout / 4);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(pause).await;
                    match pool.upgrade() {
                        Some(pool) if pool.sweep(Instant::now()) => {}
                        _ => return,
                    }
                }
            });
        }
    }

    /// Closes what nobody used for too long; `false`: nothing is left.
    fn sweep(&self, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) < self.timeout;
        let mut closed = Vec::new();
        let mut state = self.lock();
        for endpoint in state.endpoints.values_mut().flatten() {
            closed.extend(endpoint.idle.extract_if(.., |link| !fresh(link.since)));
            endpoint.shared.retain(|s| fresh(s.used) && !s.sender.is_closed());
        }
        state.endpoints.retain(|_, ports| {
            ports.retain(|e| !e.idle.is_empty() || !e.shared.is_empty());
            !ports.is_empty()
        });
        state.sweeping = !state.endpoints.is_empty();
        state.sweeping
        // `closed` goes after the lock: closing a socket is a system call.
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is under it is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn endpoint(&mut self, host: &str, port: u16) -> &mut Endpoint {
        if !self.endpoints.contains_key(host) {
            self.endpoints.insert(host.into(), Vec::with_capacity(1));
        }
        let ports = self.endpoints.entry(host.into()).or_default();
        let at = ports.iter().position(|e| e.port == port).unwrap_or_else(|| {
            ports.push(Endpoint { port, idle: Vec::new(), shared: Vec::new() });
            ports.len() - 1
        });
        &mut ports[at]
    }
}
