//! The launcher's process: from root in the daemon's cgroup to the command in the session's.
//!
//! Each step depends on the one before it; a step that fails ends the process before the command has run.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid, setsid};

use super::{CANNOT_EXECUTE, NOT_FOUND, Spec, seccomp};
use crate::sys::limits;
use crate::sys::process::drop_capabilities;
use crate::sys::rights::{self, Rights};
use crate::trust::{Bind, Place};

/// Capabilities that undo the capture (network and BPF administration, raw sockets, namespaces and mounts, tracing,
/// kernel modules and memory) or the identity of the session. A root job keeps the rest.
const DROPPED: &[u8] = &[
    12, // NET_ADMIN
    13, // NET_RAW
    16, // SYS_MODULE
    17, // SYS_RAWIO
    19, // SYS_PTRACE
    21, // SYS_ADMIN
    22, // SYS_BOOT
    34, // SYSLOG
    38, // PERFMON
    39, // BPF
    40, // CHECKPOINT_RESTORE
];

/// Why the command did not start.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error("cannot read the launch file: {0}")]
    Spec(String),
    #[error("cannot join the session's cgroup `{0}`: {1}")]
    Cgroup(String, io::Error),
    #[error("cannot {0}: {1}")]
    Step(&'static str, nix::Error),
    #[error("cannot bind `{from}` over `{to}`: {error}")]
    Bind { from: String, to: String, error: nix::Error },
    #[error("cannot open `{0}` as the caller: {1}; a link is not followed there")]
    Open(String, io::Error),
    #[error("cannot give `{0}` to the caller: {1}")]
    Give(String, io::Error),
    #[error("cannot set the caller's resource limits: {0}")]
    Limits(io::Error),
    #[error("cannot drop capabilities: {0}")]
    Capabilities(io::Error),
    #[error("cannot restrict system calls: {0}")]
    Seccomp(String),
    #[error("cannot enter `{0}`: {1}")]
    Cwd(String, io::Error),
    #[error("no command was given")]
    Empty,
    #[error("cannot execute `{command}`: {error}")]
    Execute { command: String, error: io::Error },
}

/// Becomes the command; returns the exit code if it cannot.
pub fn launch(spec: &Path) -> u8 {
    let error = match become_command(spec) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    eprintln!("tollgate: {error}");
    match error {
        LaunchError::Execute { error, .. } if error.kind() == io::ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_EXECUTE,
    }
}

fn become_command(path: &Path) -> Result<std::convert::Infallible, LaunchError> {
    let text = fs::read(path).map_err(|e| LaunchError::Spec(e.to_string()))?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|e| LaunchError::Spec(e.to_string()))?;
    // It holds the caller's environment.
    fs::remove_file(path).map_err(|e| LaunchError::Spec(e.to_string()))?;

    fs::write(spec.cgroup.join("cgroup.procs"), "0")
        .map_err(|e| LaunchError::Cgroup(spec.cgroup.display().to_string(), e))?;
    setsid().map_err(step("start a process session"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(step("separate the mount namespace"))?;
    let rights = Rights { uid: spec.uid, gid: spec.gid, groups: spec.groups.clone() };
    for bind in &spec.binds {
        apply(bind, &rights)?;
    }

    drop_capabilities(DROPPED).map_err(LaunchError::Capabilities)?;
    // While there is still the right to raise one above the daemon's.
    limits::apply(&spec.limits).map_err(LaunchError::Limits)?;
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(step("set the caller's groups"))?;
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    setresgid(gid, gid, gid).map_err(step("become the caller's group"))?;
    setresuid(uid, uid, uid).map_err(step("become the caller"))?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    seccomp::apply().map_err(|e| LaunchError::Seccomp(e.to_string()))?;

    umask(Mode::from_bits_truncate(spec.umask));
    // As the caller: a directory that it cannot enter, the command does not start in.
    std::env::set_current_dir(&spec.cwd).map_err(|e| LaunchError::Cwd(spec.cwd.display().to_string(), e))?;
    let (command, arguments) = spec.argv.split_first().ok_or(LaunchError::Empty)?;
    let error = Command::new(command).args(arguments).env_clear().envs(spec.env).exec();
    Err(LaunchError::Execute { command: command.to_string_lossy().into_owned(), error })
}

fn apply(bind: &Bind, rights: &Rights) -> Result<(), LaunchError> {
    let failed = |error| LaunchError::Bind { from: bind.source.to_string(), to: bind.target.to_string(), error };
    if bind.give {
        give(bind, rights).map_err(|e| LaunchError::Give(bind.source.to_string(), e))?;
    }
    let (source, target) = (reach(&bind.source, rights)?, reach(&bind.target, rights)?);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.path()), target.path(), None::<&str>, flags, None::<&str>).map_err(failed)?;
    if bind.read_only {
        let flags =
            MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, target.path(), None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

/// Makes the source the caller's: a directory of ours that root alone could change so far.
fn give(bind: &Bind, rights: &Rights) -> io::Result<()> {
    let Place::Ours(path) = &bind.source else { return Err(io::ErrorKind::InvalidInput.into()) };
    let dir =
        fs::File::options().read(true).custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits()).open(path)?;
    Ok(fchown(&dir, Some(Uid::from_raw(rights.uid)), Some(Gid::from_raw(rights.gid)))?)
}

/// What `mount` is told, and what keeps that path true.
struct Reached {
    path: PathBuf,
    _open: Option<OwnedFd>,
}

impl Reached {
    fn path(&self) -> &Path {
        &self.path
    }
}

/// The caller's side is opened in this mount namespace with the caller's rights, and mounted by its descriptor: what
/// the caller puts there afterwards does not matter.
fn reach(place: &Place, rights: &Rights) -> Result<Reached, LaunchError> {
    let (home, below) = match place {
        Place::Ours(path) => return Ok(Reached { path: path.clone(), _open: None }),
        Place::Theirs { home, below } => (home.clone(), below.clone()),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let open = rights
        // Only the command itself waits, and it can be ended like any other.
        .run(Duration::MAX, move || rights::open_below(rights::open(&home, flags)?, &below, flags))
        .map_err(|e| LaunchError::Open(place.to_string(), e))?;
    Ok(Reached { path: format!("/proc/self/fd/{}", open.as_raw_fd()).into(), _open: Some(open) })
}

fn step(what: &'static str) -> impl FnOnce(nix::Error) -> LaunchError {
    move |error| LaunchError::Step(what, error)
}
