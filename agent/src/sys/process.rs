//! System calls about processes: pidfds, other processes' descriptors, capabilities.
//!
//! Owns nothing; wraps what nix does not have. Called by the launcher and by the control socket's side of it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// A descriptor that stands for the process and not for its number.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers, gives a descriptor that is ours or -1.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })?;
    // SAFETY: just made, owned by nobody else; descriptors fit a RawFd.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A duplicate of another process's descriptor. Needs the right to trace it.
pub fn pidfd_getfd(pidfd: impl AsFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: as for `pidfd_open`.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) })?;
    // SAFETY: as for `pidfd_open`.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Gives a signal back its default action.
pub fn default_signal(signal: nix::sys::signal::Signal) -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Takes capabilities out of the bounding, permitted, effective, inheritable and ambient sets of the calling thread,
/// so that nothing it executes can get them back.
pub fn drop_capabilities(numbers: &[u8]) -> io::Result<()> {
    for &number in numbers {
        // SAFETY: integers only. EINVAL: the kernel does not know this capability, so nobody has it.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if let Err(e) = check(dropped.into())
            && e.raw_os_error() != Some(libc::EINVAL)
        {
            return Err(e);
        }
    }
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())?;
    change_capabilities(|sets| {
        for &number in numbers {
            let (word, bit) = (usize::from(number / 32), 1_u32 << (number % 32));
            if let Some(set) = sets.get_mut(word) {
                set.effective &= !bit;
                set.permitted &= !bit;
                set.inheritable &= !bit;
            }
        }
    })
}

/// Takes every capability out of the permitted, effective and inheritable sets of the calling thread, and of no other.
pub fn clear_capabilities() -> io::Result<()> {
    change_capabilities(|sets| *sets = [Sets::default(); 2])
}

/// Changes the supplementary groups of the calling thread, and of no other: the C library's call changes all threads.
pub fn set_thread_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads as many 32-bit numbers as the length says, and they outlive the call.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

fn change_capabilities(change: impl FnOnce(&mut [Sets; 2])) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: both structures are of the layout that version 3 has, and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    change(&mut sets);
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) })?;
    Ok(())
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
