//! Mount points that had to be made on the host: shared by the sessions of a user, and gone with the last of them.
//!
//! Removing one earlier would take the mount away from every other session, in whose namespace it is still in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Facts, TrustError, file, own};

#[derive(Debug, Default)]
struct Use {
    sessions: usize,
    /// It was not there before.
    made: bool,
}

/// Those that sessions of this daemon have bound over.
static USED: Mutex<BTreeMap<PathBuf, Use>> = Mutex::new(BTreeMap::new());

/// One session's claim on a directory to bind over.
#[derive(Debug)]
pub struct MountPoint(PathBuf);

impl MountPoint {
    /// Claims a directory; makes it, as the caller's, if it is not there.
    pub(super) fn claim(path: &Path, facts: &Facts<'_>) -> Result<Self, TrustError> {
        let mut used = lock();
        let made = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => false,
            Ok(_) => return Err(TrustError::Home(path.into())),
            Err(_) => {
                fs::create_dir(path).map_err(file("make the mount point", path))?;
                own(path, facts)?;
                true
            }
        };
        let entry = used.entry(path.into()).or_default();
        entry.sessions += 1;
        entry.made |= made;
        Ok(Self(path.into()))
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        let mut used = lock();
        let Some(entry) = used.get_mut(&self.0) else { return };
        entry.sessions -= 1;
        if entry.sessions == 0 {
            if entry.made {
                // What is not empty any more is the user's.
                let _ = fs::remove_dir(&self.0);
            }
            used.remove(&self.0);
        }
    }
}

fn lock() -> MutexGuard<'static, BTreeMap<PathBuf, Use>> {
    USED.lock().unwrap_or_else(PoisonError::into_inner)
}
