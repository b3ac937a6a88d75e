//! Refusing, and telling the daemon about it.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_uid_gid, bpf_get_retval, bpf_ktime_get_boot_ns, bpf_set_retval,
};
use tollgate_common::{Address, Bypass, Counter, Kind, NetPort, Tag};

use crate::maps::{COUNTERS, EVENTS, has_retval};
use crate::tag;

pub const EPERM: i32 = 1;
pub const EPROTONOSUPPORT: i32 = 93;
pub const EADDRINUSE: i32 = 98;
pub const ECONNREFUSED: i32 = 111;

/// What a hook returns to let the call go on.
pub const PASS: i32 = 1;

/// What was attempted, by whom the helpers tell.
pub struct Attempt {
    pub kind: Kind,
    pub tag: Tag,
    pub address: Address,
    pub port: NetPort,
    pub protocol: u32,
}

/// Counts and reports the attempt, and refuses the call with `errno` (EPERM on kernels before 5.18).
#[inline(always)]
pub fn refuse(attempt: &Attempt, errno: i32) -> i32 {
    count(Counter::refused(attempt.kind));
    match EVENTS.reserve(0) {
        Some(mut entry) => {
            entry.write(Bypass {
                // SAFETY: the helper has no preconditions.
                at: unsafe { bpf_ktime_get_boot_ns() },
                address: attempt.address,
                kind: attempt.kind as u32,
                tag: attempt.tag,
                pid: tag::tgid(),
                uid: bpf_get_current_uid_gid() as u32,
                port: attempt.port,
                reserved: 0,
                protocol: attempt.protocol,
                comm: bpf_get_current_comm().unwrap_or_default(),
            });
            entry.submit(0);
        }
        None => count(Counter::EVENTS_LOST),
    }
    fail(errno)
}

/// Refuses what is no attempt to get round anything: counts it, and tells nobody.
#[inline(always)]
pub fn refuse_quietly(kind: Kind, errno: i32) -> i32 {
    count(Counter::refused(kind));
    fail(errno)
}

#[inline(always)]
fn fail(errno: i32) -> i32 {
    if has_retval() {
        // SAFETY: the helper takes any negative errno; it is reached only where the loader found it.
        unsafe { bpf_set_retval(-errno) };
    }
    0
}

/// Whether a hook that ran before this one has refused the call already, so that it is not reported twice.
#[inline(always)]
pub fn refused_before() -> bool {
    // SAFETY: reached only where the loader found the helper.
    has_retval() && unsafe { bpf_get_retval() } < 0
}

#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter.0) {
        // SAFETY: the slot is this CPU's; a lost increment under preemption is acceptable for a counter.
        unsafe { *slot += 1 };
    }
}
