//! The pins' directory on a bpffs, and what is in it.
//!
//! ```text
//! <bpffs>/v1/maps/<MAP>           maps
//! <bpffs>/v1/root/<program>       links on the root of the hierarchy
//! <bpffs>/v1/trace/<program>      links on tracepoints
//! <bpffs>/v1/tags/<tag>-<cgroup>/<program>
//! ```
//! Directories are 0700. A link holds its program, so that programs need no pins of their own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, statfs};
use tollgate_common::SCHEMA;

use super::error::CaptureError;
use super::object::Hook;
use crate::sys::bpf;

const BPF_FS: FsType = FsType(0xcafe_4a11);
/// Where distributions mount it.
const USUAL: &str = "/sys/fs/bpf";

/// The directory of this version's pins.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    base: PathBuf,
}

/// What became of a link on start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Attached,
    Adopted,
    /// Its cgroup is gone.
    Severed,
}

impl Pins {
    /// Makes sure of the directory. Refuses one that others can write to, or with pins of another version.
    pub(super) fn open(bpffs: &Path) -> Result<Self, CaptureError> {
        mount_if_missing(bpffs)?;
        make_dir(bpffs)?;
        if let Some(found) = other_version(bpffs).map_err(|e| CaptureError::bpffs(bpffs, e))? {
            return Err(CaptureError::OtherSchema { found });
        }
        let pins = Self { base: bpffs.join(format!("v{SCHEMA}")) };
        for dir in [pins.base.clone(), pins.maps(), pins.root(), pins.trace(), pins.tags()] {
            make_dir(&dir)?;
        }
        Ok(pins)
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.base.join("maps")
    }
    pub(super) fn root(&self) -> PathBuf {
        self.base.join("root")
    }
    pub(super) fn trace(&self) -> PathBuf {
        self.base.join("trace")
    }
    pub(super) fn tags(&self) -> PathBuf {
        self.base.join("tags")
    }
    pub(super) fn tag(&self, tag: u32, cgroup: u64) -> PathBuf {
        self.tags().join(format!("{tag}-{cgroup}"))
    }

    pub(super) fn make(&self, dir: &Path) -> Result<(), CaptureError> {
        make_dir(dir)
    }
}

/// Makes sure that `program` is attached where `cgroup` is, and pinned in `dir`: swaps it into the link that is there, or
/// makes one.
pub(super) fn link(
    dir: &Path,
    hook: Hook,
    program: BorrowedFd<'_>,
    cgroup: Option<(BorrowedFd<'_>, u64)>,
) -> Result<Link, CaptureError> {
    let path = dir.join(hook.program);
    let failed = |source| CaptureError::Link { name: hook.program, source };
    match bpf::open_pin(&path) {
        Ok(link) => {
            let on = bpf::link_info(link.as_fd()).map_err(failed)?.cgroup;
            if on == 0 {
                return Ok(Link::Severed);
            }
            if cgroup.is_some_and(|(_, id)| id != on) {
                let source =
                    io::Error::other(format!("the pinned link is on cgroup {on}; was the hierarchy mounted anew?"));
                return Err(failed(source));
            }
            match bpf::replace(link.as_fd(), program) {
                Ok(()) => Ok(Link::Adopted),
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOLINK) => Ok(Link::Severed),
                Err(e) => Err(failed(e)),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let Some((cgroup, _)) = cgroup else { return Ok(Link::Severed) };
            let link = bpf::attach(program, cgroup, hook.attach).map_err(failed)?;
            bpf::pin(link.as_fd(), &path).map_err(CaptureError::pin(&path))?;
            Ok(Link::Attached)
        }
        Err(e) => Err(CaptureError::Pin { path, source: e }),
    }
}

/// Removes a directory of pins, and what is in it: its links are thereby detached.
pub(super) fn remove_dir(dir: &Path) -> Result<(), CaptureError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CaptureError::Pin { path: dir.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Takes everything away: nothing is governed any more. For uninstalling; a daemon that ends leaves its pins.
pub fn unpin(bpffs: &Path) -> Result<(), CaptureError> {
    let base = bpffs.join(format!("v{SCHEMA}"));
    // What redirects goes before what it needs.
    for part in ["tags", "root", "trace", "maps"] {
        remove_dir(&base.join(part))?;
    }
    remove_dir(&base)?;
    match std::fs::remove_dir(bpffs) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CaptureError::Pin { path: bpffs.to_owned(), source: e }),
        _ => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), CaptureError> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(CaptureError::bpffs(dir, e)),
    }
    let there = std::fs::symlink_metadata(dir).map_err(|e| CaptureError::bpffs(dir, e))?;
    if !there.is_dir() || there.mode() & 0o077 != 0 || there.uid() != nix::unistd::geteuid().as_raw() {
        return Err(CaptureError::bpffs(dir, "it is not a directory that only the daemon's user can enter"));
    }
    Ok(())
}

fn mount_if_missing(bpffs: &Path) -> Result<(), CaptureError> {
    let parent = bpffs.parent().ok_or_else(|| CaptureError::bpffs(bpffs, "it has no parent"))?;
    let kind = |path: &Path| statfs(path).map(|s| s.filesystem_type()).map_err(|e| CaptureError::bpffs(path, e));
    if kind(parent)? == BPF_FS {
        return Ok(());
    }
    if parent == Path::new(USUAL) {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
        nix::mount::mount(Some("bpf"), parent, Some("bpf"), flags, Some("mode=700"))
            .map_err(|e| CaptureError::bpffs(parent, format!("cannot mount a bpffs there: {e}")))?;
        return Ok(());
    }
    Err(CaptureError::bpffs(bpffs, "its parent is not on a bpffs"))
}

/// A directory of another version's pins, if there is one.
fn other_version(bpffs: &Path) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(bpffs)? {
        let name = entry?.file_name();
        let version =
            name.to_str().and_then(|name| name.strip_prefix('v')).and_then(|digits| digits.parse::<u32>().ok());
        if version.is_some_and(|version| version != SCHEMA) {
            return Ok(Some(bpffs.join(name)));
        }
    }
    Ok(None)
}
