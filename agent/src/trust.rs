//! Where each runtime looks for roots, region and credentials, and ours put there, for one session.
//!
//! Owns the files in the session's directory and the list of binds that puts them in place. They are bound in the
//! session's mount namespace alone: outside of it nothing changes, and they go with the namespace. The one exception is
//! a mount point that does not exist yet (`~/.aws`): an empty directory is made, and removed when its last session ends.

mod aws_config;
mod java;
mod mount_point;
mod system;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use mount_point::MountPoint;

use crate::sys::rights::Rights;

/// How long looking at the caller's files may take; a file system can hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// One file or directory shown in another's place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bind {
    pub source: Place,
    pub target: Place,
    pub read_only: bool,
    /// The source becomes the caller's just before it is bound. Until then nobody but root can put a link into it.
    pub give: bool,
}

/// One side of a bind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// Where root alone can change anything: taken by its path.
    Ours(PathBuf),
    /// Where the caller can: opened with the caller's rights, and below the home no link is followed.
    Theirs { home: PathBuf, below: PathBuf },
}

impl Bind {
    /// A file of the host's that the session sees another in place of.
    fn instead_of(target: PathBuf, source: PathBuf) -> Self {
        Self { source: Place::Ours(source), target: Place::Ours(target), read_only: true, give: false }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours(path) => path.display().fmt(f),
            Self::Theirs { home, below } => home.join(below).display().fmt(f),
        }
    }
}

/// For whom, and what is to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The session's own directory; made by the caller, passable for the user.
    pub dir: &'a Path,
    /// `None`: no home directory is known; only the system's files are bound.
    pub home: Option<&'a Path>,
    pub rights: &'a Rights,
    pub region: &'a str,
    pub root_pem: &'a str,
}

/// Why a session's trust cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("cannot {doing} `{path}`: {source}; check its permissions")]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("`{0}` is not a directory of the caller; check HOME")]
    Home(PathBuf),
    #[error("`{0}` is not a directory, or a link to one; put a directory there, or set HOME to where there is none")]
    NotDirectory(PathBuf),
    #[error("`{path}` has more than {most} directories; remove those that no client uses")]
    Many { path: PathBuf, most: usize },
}

/// What was prepared.
#[derive(Debug)]
pub struct Prepared {
    pub binds: Vec<Bind>,
    /// Claims on directories of the host, to be kept as long as the session runs.
    pub points: Vec<MountPoint>,
}

/// Writes the session's files and says what is to be bound where. Blocks, for a bounded time: not for the data path's
/// threads.
pub fn prepare(facts: &Facts<'_>) -> Result<Prepared, TrustError> {
    let root = facts.dir.join("root.pem");
    write(&root, facts.root_pem.as_bytes())?;
    let mut prepared = Prepared { binds: Vec::new(), points: Vec::new() };
    let bundle = system::bundles(facts, &mut prepared.binds)?;
    system::openssl(facts, &root, &mut prepared.binds)?;
    java::keystores(facts, &mut prepared.binds)?;
    if let Some(home) = facts.home {
        aws_config::prepare(facts, home, &bundle, &mut prepared)?;
    }
    Ok(prepared)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    fs::write(path, bytes).map_err(file("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(file("set the mode of", path))
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TrustError + 'a {
    move |source| TrustError::File { doing, path: path.into(), source }
}
