//! The gateway: from an accepted connection to an exchange with AWS.
//!
//! Owns accepting, sniffing, splicing, the exchange and the upstream pool. Knows no AWS details: those
//! are asked of [`crate::aws`]. One task accepts per listener; each connection has a task of its own,
//! and everything on it ends with the connection or with its session.

mod body;
mod connection;
mod exchange;
mod farewell;
mod intake;
mod life;
mod masked;
mod sniff;
mod splice;
mod stream;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use body::{BodyError, ResponseBody};
pub use connection::misspoken;
pub use exchange::{check_form, is_before_policy, observed, prepare};
pub use intake::Memory;
pub use upstream::{UpstreamError, Upstreams};

use crate::daemon::Core;

/// Accepts until told to stop, then waits for open connections, at most `drain`.
///
/// `stop` turning `true` ends accepting; connections notice it themselves and finish what is in flight.
pub async fn serve(core: Arc<Core>, listeners: Vec<TcpListener>, stop: watch::Receiver<bool>, drain: Duration) {
    // Held by every task below; when the last is gone, `recv` returns.
    let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
    for listener in listeners {
        tokio::spawn(accept(core.clone(), listener, stop.clone(), alive.clone()));
    }
    drop(alive);
    let mut stop = stop;
    stopped(&mut stop).await;
    if tokio::time::timeout(drain, gone.recv()).await.is_err() {
        tracing::warn!("connections were still open after the drain timeout of {drain:?} and are cut");
    }
}

async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    alive: tokio::sync::mpsc::Sender<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(connection::serve(core.clone(), stream, peer, stop.clone(), alive.clone()));
            }
            Err(e) => {
                // Out of descriptors or memory: the backlog waits, the agent sees latency, nothing passes.
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Returns when it is time to stop. A sender that is gone is a stop too.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard of the value must not live on into the caller's next await.
    drop(stop.wait_for(|s| *s).await);
}
