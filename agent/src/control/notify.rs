//! The service manager: ready, reloading, stopping, and the watchdog. Silent where there is none.

use std::time::Duration;

use sd_notify::NotifyState;

/// The beat that the service manager expects.
#[derive(Debug)]
pub struct Watchdog(Option<Duration>);

/// Tells that connections are served from now on.
pub fn ready() -> Watchdog {
    send(&[NotifyState::Ready]);
    Watchdog(sd_notify::watchdog_enabled())
}

pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

pub fn reloaded() {
    send(&[NotifyState::Ready]);
}

pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

impl Watchdog {
    /// Waits half a period, then beats. Without a watchdog it waits forever.
    pub async fn tick(&self) {
        match self.0 {
            Some(period) => {
                tokio::time::sleep(period / 2).await;
                send(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    // There is nobody else to tell that nobody is there.
    let _ = sd_notify::notify(states);
}
