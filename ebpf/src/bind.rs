//! `bind4/6`: nobody but the daemon binds the port to which flows go.
//!
//! Minimum kernel 4.17; root form 5.7. Holds in network namespaces where the daemon listens, whether it is alive or not:
//! otherwise the first process to bind the port after the daemon's death would receive the redirected flows. Fails
//! closed: a socket without the daemon's mark is refused. Root outside every tag may bind it, for systemd, which binds
//! the socket unit. A port that the kernel chooses (bind to 0, or none) does not come by here: the daemon makes sure that
//! the port is outside the range from which the kernel chooses.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use tollgate_common::{Kind, Protocol, Tag};

use crate::context;
use crate::maps::{LISTENERS, OURS};
use crate::report::{Attempt, EADDRINUSE, PASS, refuse, refused_before};
use crate::tag;

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind::<false, true>(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind::<true, true>(&ctx)
}

#[cgroup_sock_addr(bind4)]
pub fn bind4_tag(ctx: SockAddrContext) -> i32 {
    bind::<false, false>(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6_tag(ctx: SockAddrContext) -> i32 {
    bind::<true, false>(&ctx)
}

#[inline(always)]
fn bind<const V6: bool, const ROOT: bool>(ctx: &SockAddrContext) -> i32 {
    let Some(config) = tag::config() else { return PASS };
    let at = context::address::<V6>(ctx);
    let port = context::port(ctx);
    let protocol = context::protocol(ctx);
    if !config.shadows_listener(Protocol::of(protocol), &at, port) || refused_before() {
        return PASS;
    }
    let ours: *mut u32 = context::stored(&OURS, context::socket(ctx));
    if !ours.is_null() || LISTENERS.get_ptr(context::netns(ctx)).is_none() {
        return PASS;
    }
    let tag = tag::of_current(config).unwrap_or(Tag::NONE);
    if ROOT && !tag.is_some() && bpf_get_current_uid_gid() as u32 == 0 {
        return PASS;
    }
    refuse(&Attempt { kind: Kind::Bind, tag, address: at, port, protocol }, EADDRINUSE)
}
