//! Resource limits: those of another process, and giving them to this one.
//!
//! Owns the names under which `/proc` lists them. Reading asks for no right over the process; `prlimit` would.

use std::io;

use nix::libc;

/// One limit; [`libc::RLIM_INFINITY`] for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    resource: u32,
    soft: u64,
    hard: u64,
}

const NAMES: &[(&str, u32)] = &[
    ("Max cpu time", libc::RLIMIT_CPU),
    ("Max file size", libc::RLIMIT_FSIZE),
    ("Max data size", libc::RLIMIT_DATA),
    ("Max stack size", libc::RLIMIT_STACK),
    ("Max core file size", libc::RLIMIT_CORE),
    ("Max resident set", libc::RLIMIT_RSS),
    ("Max processes", libc::RLIMIT_NPROC),
    ("Max open files", libc::RLIMIT_NOFILE),
    ("Max locked memory", libc::RLIMIT_MEMLOCK),
    ("Max address space", libc::RLIMIT_AS),
    ("Max file locks", libc::RLIMIT_LOCKS),
    ("Max pending signals", libc::RLIMIT_SIGPENDING),
    ("Max msgqueue size", libc::RLIMIT_MSGQUEUE),
    ("Max nice priority", libc::RLIMIT_NICE),
    ("Max realtime priority", libc::RLIMIT_RTPRIO),
    ("Max realtime timeout", libc::RLIMIT_RTTIME),
];

/// The limits of a process.
pub fn of(pid: u32) -> io::Result<Vec<Limit>> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/limits"))?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its limits are not listed as expected"))
}

/// `None` unless all are there: a limit that is missing would be the daemon's own.
fn parse(text: &str) -> Option<Vec<Limit>> {
    let number = |text: &str| if text == "unlimited" { Some(libc::RLIM_INFINITY) } else { text.parse().ok() };
    NAMES
        .iter()
        .map(|(name, resource)| {
            let mut values = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
            Some(Limit { resource: *resource, soft: number(values.next()?)?, hard: number(values.next()?)? })
        })
        .collect()
}

/// Gives them to this process. One that may not be raised stays as low as it is.
pub fn apply(limits: &[Limit]) -> io::Result<()> {
    for limit in limits {
        if let Err(e) = set(*limit) {
            if e.raw_os_error() != Some(libc::EPERM) {
                return Err(e);
            }
            let hard = limit.hard.min(hard(limit.resource as _)?);
            set(Limit { soft: limit.soft.min(hard), hard, ..*limit })?;
        }
    }
    Ok(())
}

/// Nothing of this process's memory is ever written to a core file, nor read by who is not root: there are keys and secrets
/// in it. What it executes is not bound by that: the hard limit stays for those whose own it is.
pub fn no_core() -> io::Result<()> {
    set(Limit { resource: libc::RLIMIT_CORE, soft: 0, hard: hard(libc::RLIMIT_CORE as _)? })?;
    // A program that takes cores through a pipe is told of no limit.
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)
}

/// This process's hard limit.
fn hard(resource: i32) -> io::Result<u64> {
    let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is of the kernel's layout, and outlives the call.
    match unsafe { libc::getrlimit(resource as _, &raw mut own) } {
        0 => Ok(own.rlim_max),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(limit: Limit) -> io::Result<()> {
    let wanted = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: as above; the number is one of `NAMES`, and any other is refused.
    match unsafe { libc::setrlimit(limit.resource as _, &raw const wanted) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_is_understood_whole() {
        let own = of(std::process::id()).expect("our own");
        assert_eq!(own.len(), NAMES.len());
        let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is of the kernel's layout, and outlives the call.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) }, 0);
        let listed = own.iter().find(|l| l.resource == libc::RLIMIT_NOFILE).expect("listed");
        assert_eq!((listed.soft, listed.hard), (files.rlim_cur, files.rlim_max));
        assert_eq!(parse("Max open files 1 2 files\n"), None);
    }
}
