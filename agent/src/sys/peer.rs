//! Who asks us something over a unix socket.
//!
//! Owns holding on to the process itself, so that its number cannot come to mean another one unnoticed, and what `/proc`
//! says of it. Never decides who may ask.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use super::process::pidfd_open;

/// The process that connected.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// Takes hold of the process at the other end, which the kernel says has the number `pid`.
    ///
    /// The socket knows its process since Linux 6.5. Below that it is looked up by its number: ask right after accepting,
    /// since a process that ended before that, and whose number was given anew, is not told from its successor.
    pub fn of(socket: impl AsFd, pid: u32) -> io::Result<Self> {
        match getsockopt(&socket, sockopt::PeerPidfd) {
            Ok(process) => Ok(Self(process)),
            Err(nix::Error::ENOPROTOOPT) => pidfd_open(pid).map(Self),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether it still runs. If so, its number has meant it, and nobody else, since it connected.
    pub fn is_running(&self) -> bool {
        // Readable once it has ended.
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::ZERO) == Ok(0)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The user that a process's session logged in as, however it changed its user since; `None`: the host does not keep that, or
/// nobody logged in (a service).
pub fn login(pid: u32) -> io::Result<Option<u32>> {
    match std::fs::read_to_string(format!("/proc/{pid}/loginuid")) {
        // -1 is nobody.
        Ok(text) => Ok(text.trim().parse().ok().filter(|uid| *uid != u32::MAX)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Supplementary groups of a process.
pub fn groups(pid: u32) -> io::Result<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("Groups:")).unwrap_or_default();
    Ok(line.split_whitespace().filter_map(|g| g.parse().ok()).collect())
}
