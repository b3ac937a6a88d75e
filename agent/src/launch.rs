//! Starting a governed command.
//!
//! The daemon writes a [`Spec`] and starts `tollgate __launch SPEC`, a process of its own with one thread, whose
//! standard streams are the caller's. It joins the session's cgroup before anything else, makes its mount namespace,
//! gives up privileges, and becomes the command. Never runs inside the daemon's process, never adds a variable to the
//! command's environment.

mod child;
mod seccomp;

use std::ffi::OsString;
use std::path::PathBuf;

pub use child::launch;

use crate::sys::limits::Limit;
use crate::trust::Bind;

/// What the launcher is to do; written for it by the daemon, readable by root alone.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    pub argv: Vec<OsString>,
    /// The caller's environment, unchanged.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    pub umask: u32,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// The session's cgroup directory.
    pub cgroup: PathBuf,
    pub binds: Vec<Bind>,
    /// The caller's resource limits.
    pub limits: Vec<Limit>,
}

/// Exit code when the launcher itself fails, or the command cannot be executed; shells use the same.
pub const CANNOT_EXECUTE: u8 = 126;
/// Exit code when there is no such command.
pub const NOT_FOUND: u8 = 127;
