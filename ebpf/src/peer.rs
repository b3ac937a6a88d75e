//! `getpeername4/6`: the application sees where it wanted to go.
//!
//! Minimum kernel 5.8. Changes what a redirected socket says of its peer, and nothing else. If it is missing, the
//! application sees the listener's address: nothing gets past.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use tollgate_common::Carried;

use crate::context;
use crate::maps::SOCKETS;
use crate::report::PASS;
use crate::tag;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    restore::<false>(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    restore::<true>(&ctx)
}

#[inline(always)]
fn restore<const V6: bool>(ctx: &SockAddrContext) -> i32 {
    let Some(config) = tag::config() else { return PASS };
    let carried: *mut Carried = context::stored(&SOCKETS, context::socket(ctx));
    if carried.is_null() || context::port(ctx).net() != config.proxy.net() || !context::address::<V6>(ctx).is_local() {
        return PASS;
    }
    // SAFETY: not null; the flow was written before the connection was made.
    let (original, port) = unsafe {
        if (*carried).state == Carried::IDLE {
            return PASS;
        }
        ((*carried).flow.original, (*carried).flow.port)
    };
    context::rewrite::<V6>(ctx, &original, port);
    PASS
}
