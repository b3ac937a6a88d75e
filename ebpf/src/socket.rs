//! `sock_create`: which sockets a tagged process may make.
//!
//! Minimum kernel 4.10; storage on the new socket 5.8. On the root cgroup alone, since a socket is born in the cgroup of
//! the process that makes it. Refuses all inet sockets but TCP, UDP and ping: raw and SCTP get past the address hooks, and
//! MPTCP's subflows are other sockets than the application's. The new socket carries its maker's tag, so that it stays
//! governed in another process's hands, and the room for its flow, so that `connect` need not make any. Fails closed: a
//! socket that cannot carry the tag is not made. Families other than
//! inet do not come by here; the launcher takes those away.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use tollgate_common::rule::may_create;
use tollgate_common::{Address, Carried, Flow, Kind, NetPort, Tag};

use crate::context;
use crate::maps::SOCKETS;
use crate::report::{Attempt, EPERM, EPROTONOSUPPORT, PASS, refuse};
use crate::tag;

const SOCK_RAW: u32 = 3;
const IPPROTO_MPTCP: u32 = 262;
const IPPROTO_SCTP: u32 = 132;

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let Some(config) = tag::config() else { return PASS };
    // SAFETY: the kernel hands a valid context; each read is one word of it.
    let (kind, protocol) = unsafe {
        (
            core::ptr::addr_of!((*ctx.sock).type_).read_volatile(),
            core::ptr::addr_of!((*ctx.sock).protocol).read_volatile(),
        )
    };
    let attempt = |kind, tag| Attempt { kind, tag, address: Address([0; 4]), port: NetPort::from_host(0), protocol };
    let tag = match tag::of_current(config) {
        Ok(Tag::NONE) => return PASS,
        Ok(tag) => tag,
        Err(tag::Unnoted) => return refuse(&attempt(Kind::Exhausted, Tag::NONE), EPERM),
    };
    if !may_create(kind, protocol) {
        return match (kind, protocol) {
            (SOCK_RAW, _) => refuse(&attempt(Kind::Raw, tag), EPERM),
            (_, IPPROTO_MPTCP) => refuse(&attempt(Kind::Mptcp, tag), EPROTONOSUPPORT),
            (_, IPPROTO_SCTP) => refuse(&attempt(Kind::Sctp, tag), EPROTONOSUPPORT),
            _ => refuse(&attempt(Kind::OtherProtocol, tag), EPROTONOSUPPORT),
        };
    }
    // The context of this program type is the socket.
    let mut carried = Carried { flow: Flow::EMPTY, born: tag, state: Carried::IDLE };
    if !context::store(&SOCKETS, ctx.as_ptr(), &mut carried) {
        return refuse(&attempt(Kind::Exhausted, tag), EPERM);
    }
    PASS
}
