//! Cgroups of version 2, through their file system.
//!
//! Owns finding the hierarchy, and making, listing, killing and removing cgroups. Never tags. Blocking file I/O on a
//! kernel file system; quick, and not on the data path.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// The cgroup's id in the kernel, which is its inode number.
pub fn id(dir: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(dir)?.ino())
}

/// Where the version 2 hierarchy is mounted: `/sys/fs/cgroup` on most hosts, `/sys/fs/cgroup/unified` on hybrid ones.
pub fn mount() -> io::Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    find_mount(&mounts)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system in /proc/self/mounts"))
}

fn find_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescape(target)))
    })
}

/// Mount tables write space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// How many levels below the mount the cgroup is; `None` if it is not below, or its path is not plain.
pub fn depth(mount: &Path, dir: &Path) -> Option<u32> {
    let below = dir.strip_prefix(mount).ok()?;
    below.components().all(|c| matches!(c, Component::Normal(_))).then(|| below.components().count() as u32)
}

/// Makes the cgroup, and its parents; one that exists is fine.
pub fn create(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)
}

/// The processes directly in the cgroup, as the caller's pid namespace numbers them.
pub fn processes(dir: &Path) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The cgroup and all below it, outermost first.
pub fn subtree(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![dir.to_owned()];
    let mut next = 0;
    while next < found.len() {
        // One that is removed meanwhile has nothing below it.
        if let Ok(entries) = std::fs::read_dir(&found[next]) {
            found.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        next += 1;
    }
    Ok(found)
}

/// Kills every process in the cgroup and below it (kernel 5.14).
pub fn kill(dir: &Path) -> io::Result<()> {
    std::fs::write(dir.join("cgroup.kill"), "1")
}

/// Stops every process in the cgroup and below it where it is, and waits until all are; at most for `patience`.
pub fn freeze(dir: &Path, patience: Duration) -> io::Result<()> {
    std::fs::write(dir.join("cgroup.freeze"), "1")?;
    let deadline = Instant::now() + patience;
    while !std::fs::read_to_string(dir.join("cgroup.events"))?.lines().any(|line| line == "frozen 1") {
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "some of its processes cannot be stopped now"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Kills every process in the cgroup and below it, and waits until none is left; at most for `patience`.
pub fn end(dir: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        if kill(dir).is_err() {
            // Before 5.14: one by one, until those forked meanwhile are dead too.
            let pids = subtree(dir)?.iter().flat_map(|d| processes(d).unwrap_or_default()).collect::<Vec<_>>();
            // 0 is how one of an outer pid namespace is listed, and would mean this process's own group.
            for pid in pids.into_iter().filter_map(|p| i32::try_from(p).ok()).filter(|p| *p > 0) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        if !is_populated(dir)? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "some of its processes do not die"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether there is a live process in the cgroup or below it; one that is gone has none.
fn is_populated(dir: &Path) -> io::Result<bool> {
    match std::fs::read_to_string(dir.join("cgroup.events")) {
        Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Lets at most `most` processes and threads be in the cgroup and below it; `false` if the hierarchy gives no such
/// control. Enables it on the way, except in the root, which is the service manager's.
pub fn limit_processes(mount: &Path, dir: &Path, most: u32) -> io::Result<bool> {
    let has = |dir: &Path, file: &str| {
        std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.split_whitespace().any(|word| word == "pids"))
    };
    let mut parents: Vec<&Path> = dir.ancestors().skip(1).take_while(|d| *d != mount).collect();
    parents.reverse();
    for parent in parents {
        if !has(parent, "cgroup.controllers") {
            return Ok(false);
        }
        if !has(parent, "cgroup.subtree_control") {
            std::fs::write(parent.join("cgroup.subtree_control"), "+pids")?;
        }
    }
    if !has(dir, "cgroup.controllers") {
        return Ok(false);
    }
    std::fs::write(dir.join("pids.max"), most.to_string())?;
    Ok(true)
}

/// Removes the cgroup and those below it, once they are empty; waits at most `patience` for that. One that is gone is fine.
pub fn remove(dir: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let mut last = Ok(());
        for dir in subtree(dir)?.iter().rev() {
            match std::fs::remove_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => last = Err(e),
                _ => {}
            }
        }
        match last {
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

/// The cgroup directory of a process. An error if it is outside what this process can see.
pub fn of_process(mount: &Path, pid: u32) -> io::Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = parse_membership(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no version 2 entry in the process's cgroup file"))?;
    let dir = mount.join(path.trim_start_matches('/'));
    if depth(mount, &dir).is_none() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the process is outside the visible cgroups"));
    }
    Ok(dir)
}

/// The path of the `0::` line, without the mark of a removed cgroup.
fn parse_membership(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.strip_suffix(" (deleted)").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchy() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(find_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("c /mnt/a\\040b cgroup2 rw 0 0"), Some("/mnt/a b".into()));
        assert_eq!(find_mount("cgroup2 /x tmpfs rw 0 0\nshort"), None);
    }

    #[test]
    fn depth_is_of_plain_paths_below() {
        let mount = Path::new("/cg");
        assert_eq!(depth(mount, Path::new("/cg")), Some(0));
        assert_eq!(depth(mount, Path::new("/cg/a/b")), Some(2));
        assert_eq!(depth(mount, Path::new("/cg/a/../../etc")), None);
        assert_eq!(depth(mount, Path::new("/other")), None);
    }

    /// Where the controller belongs to a hierarchy of version 1, none of this can be had from the kernel; so the files
    /// are ordinary ones here, and what is written into them is looked at.
    #[test]
    fn a_limit_on_processes_is_set_where_there_is_the_controller() {
        let mount = std::env::temp_dir().join(format!("tollgate-pids-{}", std::process::id()));
        let (slice, dir) = (mount.join("slice"), mount.join("slice/session"));
        create(&dir).expect("directories");
        let put = |dir: &Path, file: &str, text: &str| std::fs::write(dir.join(file), text).expect("a file");
        let get = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        put(&slice, "cgroup.controllers", "cpu memory\n");
        assert!(!limit_processes(&mount, &dir, 7).expect("looked"));
        assert_eq!((get(&dir, "pids.max"), get(&slice, "cgroup.subtree_control")), (String::new(), String::new()));
        put(&slice, "cgroup.controllers", "cpu pids\n");
        put(&dir, "cgroup.controllers", "pids\n");
        assert!(limit_processes(&mount, &dir, 7).expect("set"));
        assert_eq!((get(&dir, "pids.max").as_str(), get(&slice, "cgroup.subtree_control").as_str()), ("7", "+pids"));
        assert!(!mount.join("cgroup.subtree_control").exists(), "the root is not ours");
        std::fs::remove_dir_all(mount).expect("ours");
    }

    #[test]
    fn membership() {
        assert_eq!(parse_membership("1:name=systemd:/\n0::/a/b\n"), Some("/a/b"));
        assert_eq!(parse_membership("0::/gone (deleted)\n"), Some("/gone"));
        assert_eq!(parse_membership("1:cpu:/\n"), None);
    }
}
