//! Where each runtime looks for roots, region and credentials, and ours put there, for one session.
//!
//! Owns the files in the session's directory and the list of binds that puts them in place. They are bound in the
//! session's mount namespace alone: outside of it nothing changes, and they go with the namespace. The one exception is
//! a mount point that does not exist yet (`~/.aws`): an empty directory is made, and removed when its last session ends.

mod aws_config;
mod mount_point;
mod system;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

pub use mount_point::MountPoint;

/// One file or directory shown in another's place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// For whom, and what is to be trusted.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The session's own directory; made by the caller, passable for the user.
    pub dir: &'a Path,
    /// `None`: no home directory is known; only the system's files are bound.
    pub home: Option<&'a Path>,
    pub uid: u32,
    pub gid: u32,
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
}

/// What was prepared.
#[derive(Debug)]
pub struct Prepared {
    pub binds: Vec<Bind>,
    /// Claims on directories of the host, to be kept as long as the session runs.
    pub points: Vec<MountPoint>,
}

/// Writes the session's files and says what is to be bound where.
pub fn prepare(facts: &Facts<'_>) -> Result<Prepared, TrustError> {
    let root = facts.dir.join("root.pem");
    write(&root, facts.root_pem.as_bytes())?;
    let mut prepared = Prepared { binds: Vec::new(), points: Vec::new() };
    let bundle = system::bundles(facts, &mut prepared.binds)?;
    system::openssl(facts, &root, &mut prepared.binds)?;
    if let Some(home) = facts.home {
        aws_config::prepare(facts, home, &bundle, &mut prepared)?;
    }
    Ok(prepared)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    fs::write(path, bytes).map_err(file("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(file("set the mode of", path))
}

fn own(path: &Path, facts: &Facts<'_>) -> Result<(), TrustError> {
    chown(path, Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)))
        .map_err(|e| file("give away", path)(e.into()))
}

fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TrustError + 'a {
    move |source| TrustError::File { doing, path: path.into(), source }
}
