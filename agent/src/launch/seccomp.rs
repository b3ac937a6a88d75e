//! Which socket families a governed process may use.
//!
//! Packet, vsock and XDP sockets are seen by no cgroup hook, so they are taken away here; and with them io_uring, which
//! makes sockets of every family without the system call that is looked at here (`IORING_OP_SOCKET`, Linux 5.19). Programs
//! find the same on hosts that have `kernel.io_uring_disabled` set and in most containers. Everything that is not named
//! stays allowed: this is about ways round the capture, not a sandbox.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

const AF_KCM: libc::c_int = 41;
const AF_SMC: libc::c_int = 43;

/// Families that no hook of ours sees.
const REFUSED: &[libc::c_int] =
    &[libc::AF_PACKET, libc::AF_VSOCK, libc::AF_XDP, AF_SMC, libc::AF_TIPC, libc::AF_RDS, AF_KCM];

/// The system calls of io_uring: also on a ring that was made outside and handed in.
const RINGS: &[libc::c_long] = &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Restricts the calling thread and all that it executes. Needs `no_new_privs`.
pub fn apply() -> Result<(), seccompiler::Error> {
    let rules = REFUSED
        .iter()
        .map(|family| {
            let family = u64::try_from(*family).unwrap_or(u64::MAX);
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?])
        })
        .collect::<Result<Vec<_>, seccompiler::BackendError>>()?;
    install(BTreeMap::from([(libc::SYS_socket, rules.clone()), (libc::SYS_socketpair, rules)]), libc::EAFNOSUPPORT)?;
    // No condition: every call.
    install(RINGS.iter().map(|call| (*call, Vec::new())).collect(), libc::EPERM)
}

/// Numbers of the x32 calls are of the same architecture, and differ by this bit (`__X32_SYSCALL_BIT`). Kernels that are
/// built for them do the same for both.
const X32: libc::c_long = 0x4000_0000;

/// Answers the calls that a rule matches with `errno`. A program of another architecture is killed.
fn install(mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>>, errno: libc::c_int) -> Result<(), seccompiler::Error> {
    if cfg!(target_arch = "x86_64") {
        let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twins);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}
