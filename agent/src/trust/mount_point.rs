//! Mount points that had to be made on the host: shared by the sessions of a user, and gone with the last of them.
//!
//! Removing one earlier would take the mount away from every other session, in whose namespace it is still in use. They
//! lie in a directory that the caller can change at any time, so making and removing is done with the caller's rights.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::PATIENCE;
use crate::sys::rights::{self, Rights, Working};

#[derive(Debug, Default)]
struct Use {
    sessions: usize,
    /// It was not there before.
    made: bool,
}

/// Those that sessions of this daemon have bound over. Each has a lock of its own: a file system that hangs under one
/// keeps nobody else waiting.
static USED: Mutex<BTreeMap<PathBuf, Arc<Mutex<Use>>>> = Mutex::new(BTreeMap::new());

/// One session's claim on a directory to bind over.
#[derive(Debug)]
pub struct MountPoint {
    home: PathBuf,
    name: &'static str,
    rights: Rights,
    released: bool,
}

impl MountPoint {
    /// Claims a directory of `home`, and opens it; makes it if it is not there. Runs on a thread that has `rights`.
    pub(super) fn claim(
        home: &Path,
        opened: &OwnedFd,
        name: &'static str,
        rights: Rights,
    ) -> io::Result<(Self, OwnedFd)> {
        let entry = entry(&home.join(name));
        let mut used = lock(&entry);
        let made = match mkdirat(opened, name, Mode::S_IRWXU) {
            Ok(()) => true,
            Err(nix::Error::EEXIST) => false,
            Err(e) => return Err(e.into()),
        };
        let dir = rights::open_below(opened, Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        used.sessions += 1;
        used.made |= made;
        Ok((Self { home: home.into(), name, rights, released: false }, dir))
    }

    /// Gives the claim up, and waits until it is.
    pub fn release(mut self) {
        if let Some(Err(e)) = self.give_up().map(|working| working.wait(PATIENCE)) {
            tracing::warn!("the mount point `{}` was left behind: {e}", self.home.join(self.name).display());
        }
    }

    fn give_up(&mut self) -> Option<Working<()>> {
        if std::mem::replace(&mut self.released, true) {
            return None;
        }
        let (home, name) = (self.home.clone(), self.name);
        self.rights.start(move || give_up(&home, name)).ok()
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        // Nobody waits.
        let _ = self.give_up();
    }
}

fn give_up(home: &Path, name: &str) -> io::Result<()> {
    let path = home.join(name);
    let entry = entry(&path);
    let mut used = lock(&entry);
    used.sessions = used.sessions.saturating_sub(1);
    if used.sessions > 0 {
        return Ok(());
    }
    let made = std::mem::take(&mut used.made);
    let removed = if made {
        rights::open(home, OFlag::O_PATH | OFlag::O_DIRECTORY).and_then(|home| {
            match unlinkat(&home, name, UnlinkatFlags::RemoveDir) {
                // What is not empty any more, or not a directory, is the user's.
                Ok(()) | Err(nix::Error::ENOTEMPTY | nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(()),
                Err(e) => Err(e.into()),
            }
        })
    } else {
        Ok(())
    };
    drop(used);
    let mut all = lock(&USED);
    // The table's and ours: whoever else has one is about to claim.
    if Arc::strong_count(&entry) == 2 {
        all.remove(&path);
    }
    removed
}

fn entry(path: &Path) -> Arc<Mutex<Use>> {
    lock(&USED).entry(path.into()).or_default().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
