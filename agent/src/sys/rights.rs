//! Looking at files with somebody else's rights.
//!
//! Owns the one way in which the daemon, which is root, touches what a caller can put links, pipes or hung file systems
//! into: a thread of its own that has the caller's user, groups and no capability, so that the kernel checks every
//! directory and link on the way as it does for the caller. The thread ends with these rights. Whoever waits for it
//! does so for a bounded time. Never decides what is looked at.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use super::process::{clear_capabilities, set_thread_groups};

/// Whose rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Work that goes on on its own thread.
#[derive(Debug)]
pub struct Working<T> {
    result: Receiver<io::Result<T>>,
    thread: JoinHandle<()>,
}

impl Rights {
    /// Starts `work` on a thread that has these rights; it does not begin if they cannot be taken.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Working<T>> {
        let (answer, result) = sync_channel(1);
        let thread = self.thread("as-caller", move |taken| {
            // Nobody waits any more: nothing is lost.
            let _ = answer.send(taken.and_then(|()| work()));
        })?;
        Ok(Working { result, thread })
    }

    /// Starts `work` on a thread that has these rights, or is told that they cannot be taken.
    pub fn thread(&self, name: &str, work: impl FnOnce(io::Result<()>) + Send + 'static) -> io::Result<JoinHandle<()>> {
        let rights = self.clone();
        std::thread::Builder::new().name(name.into()).stack_size(256 << 10).spawn(move || work(rights.take()))
    }

    /// Runs `work` on a thread that has these rights, and waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.start(work)?.wait(patience)
    }

    /// Gives the calling thread these rights, for files, for good.
    fn take(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if Uid::effective().is_root() {
            set_thread_groups(&self.groups)?;
        }
        // Both calls answer with what was before, so a second one tells whether the first took effect.
        setfsgid(gid);
        setfsuid(uid);
        if setfsgid(gid) != gid || setfsuid(uid) != uid {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "cannot take the caller's rights"));
        }
        // Among them is the one to follow `/proc/PID/root` of anybody. Root's own are what make root what it is.
        if uid.is_root() { Ok(()) } else { clear_capabilities() }
    }
}

impl<T> Working<T> {
    pub fn wait(self, patience: Duration) -> io::Result<T> {
        match self.result.recv_timeout(patience) {
            Ok(result) => {
                // It is at its end. The launcher, which changes its user afterwards, must have no other thread by then:
                // the C library changes all, and aborts where that does not succeed in each.
                let _ = self.thread.join();
                result
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long; the file system may hang"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that looked ended")),
        }
    }
}

/// Opens by a whole path. Links are followed, but not those of `/proc` that lead to what a process has open.
pub fn open(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(AT_FDCWD, path, how)?)
}

/// Opens what is below a directory; no link is followed.
pub fn open_below(dir: impl AsFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(openat2(dir, path, how)?)
}

/// Opens what is below a directory, or what a link there leads to; not those of `/proc`.
pub fn open_linked(dir: impl AsFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(dir, path, how)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn me() -> Rights {
        Rights { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw(), groups: Vec::new() }
    }

    /// Only root can take another's rights. Elsewhere the same attempt must fail.
    #[test]
    fn the_thread_has_the_callers_rights_and_no_others() {
        let nobody = Rights { uid: 65534, gid: 65534, groups: vec![65534] };
        if !Uid::effective().is_root() {
            assert!(nobody.run(PATIENCE, || Ok(())).is_err());
            return;
        }
        let status = nobody.run(PATIENCE, || std::fs::read_to_string("/proc/thread-self/status")).expect("readable");
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).expect("a field");
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((field("Uid:").as_str(), field("Gid:").as_str()), ("0 0 0 65534", "0 0 0 65534"));
        assert_eq!((field("Groups:").as_str(), field("CapEff:").as_str()), ("65534", "0000000000000000"));
        // The other threads keep theirs.
        let own = std::fs::read_to_string("/proc/thread-self/status").expect("readable");
        assert!(own.contains("Uid:\t0\t0\t0\t0"), "{own}");
        assert!(nobody.run(PATIENCE, || std::fs::metadata("/proc/1/root/etc").map(drop)).is_err());
    }

    #[test]
    fn one_that_hangs_is_not_waited_for() {
        let error = me().run(Duration::from_millis(20), || {
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        });
        assert_eq!(error.expect_err("too late").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn links_are_followed_only_where_they_may_be() {
        let dir = std::env::temp_dir().join(format!("tollgate-rights-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        std::fs::write(dir.join("file"), "x").expect("a file");
        symlink("file", dir.join("link")).expect("a link");
        let open_file = std::fs::File::open(dir.join("file")).expect("there");
        let magic = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open_file));
        symlink(&magic, dir.join("magic")).expect("a link");
        let top = open(&dir, OFlag::O_PATH | OFlag::O_DIRECTORY).expect("there");
        assert!(open_below(&top, Path::new("file"), OFlag::O_RDONLY).is_ok());
        assert!(open_below(&top, Path::new("link"), OFlag::O_RDONLY).is_err());
        assert!(open_below(&top, Path::new("../x"), OFlag::O_RDONLY).is_err());
        assert!(open_linked(&top, Path::new("link"), OFlag::O_RDONLY).is_ok());
        assert!(open_linked(&top, Path::new("magic"), OFlag::O_RDONLY).is_err());
        assert!(open(Path::new(&magic), OFlag::O_RDONLY).is_err());
        std::fs::remove_dir_all(dir).expect("ours");
    }
}
