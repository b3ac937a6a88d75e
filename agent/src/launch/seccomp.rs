//! Which socket families a governed process may use.
//!
//! Packet, vsock and XDP sockets are seen by no cgroup hook, so they are taken away here. Everything that is not named
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

/// Restricts the calling thread and all that it executes. Needs `no_new_privs`.
pub fn apply() -> Result<(), seccompiler::Error> {
    let rules = REFUSED
        .iter()
        .map(|family| {
            let family = u64::try_from(*family).unwrap_or(u64::MAX);
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?])
        })
        .collect::<Result<Vec<_>, seccompiler::BackendError>>()?;
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_socket, rules.clone()), (libc::SYS_socketpair, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EAFNOSUPPORT.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}
