//! Sockets that the service manager hands over (`LISTEN_FDS`), so that they outlive the daemon.
//!
//! Owns taking them, once. Called at start, before other threads open descriptors of their own.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

/// The first descriptor of the protocol.
const FIRST: i32 = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors meant for this process; empty if there are none, or when asked again.
pub fn take() -> Vec<OwnedFd> {
    let read = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let count = match (read("LISTEN_PID"), read("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count.min(64),
        _ => return Vec::new(),
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    (FIRST..FIRST + count as i32)
        .filter(|fd| {
            // SAFETY: harmless on any number; fails on one that is not open, which is then left alone. Children must not
            // inherit what is ours.
            unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
        })
        // SAFETY: it is open, the service manager made it for this process, and `TAKEN` lets nobody own it twice.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
        .collect()
}
