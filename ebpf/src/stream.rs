//! `sock_ops`: hands the flow over to whoever accepts the connection.
//!
//! Minimum kernel 4.13; socket storage here 5.9, netns cookie 5.15. On each tag, and not on the root: it runs a dozen times
//! for each connection, which nobody outside the tags is to pay for. The kernel finds it by the socket's cgroup of birth;
//! for sockets born elsewhere there is `FOREIGN`. At `TCP_CONNECT_CB` the local port is already chosen and the SYN not yet
//! sent, so the entry is there before accept can return. Fails closed: without an entry the daemon closes the connection.
//! Entries of connections that were never established go when their socket closes; whatever is left goes by the daemon's
//! sweep.

use core::ptr::addr_of;

use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::warn;
use tollgate_common::{Address, Carried, Config, Counter, FlowKey, NetPort, NetnsCookie};

use crate::context;
use crate::maps::{FLOWS, SOCKETS};
use crate::report::count;
use crate::tag;

const TCP_CONNECT_CB: u32 = 3;
const STATE_CB: u32 = 10;
const STATE_CB_FLAG: i32 = 4;
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// Not named `sockops`: that is its section, and the linker would see two symbols of one name.
#[sock_ops]
pub fn stream(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT_CB => connecting(&ctx),
        STATE_CB => changed(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(config) = tag::config() else { return };
    let Some(key) = key(ctx, config) else { return };
    let carried = carried(ctx);
    if carried.is_null() {
        return;
    }
    // SAFETY: not null, the flow was written by `connect` of this socket, and the socket is locked.
    let (flow, state) = unsafe { (&(*carried).flow, &mut (*carried).state) };
    // A tag within a tag: the inner one's program ran before.
    if *state == Carried::IDLE || *state == Carried::HANDED {
        return;
    }
    if FLOWS.insert(key, flow, 0).is_err() {
        count(Counter::FLOWS_LOST);
        warn!(ctx, "the table of flows is full: a connection of process {} will be closed", flow.pid);
        return;
    }
    *state = Carried::HANDED;
    count(Counter::REDIRECTED);
    // Without the callback the sweep does it.
    let _ = ctx.set_cb_flags(ctx.cb_flags() as i32 | STATE_CB_FLAG);
}

#[inline(always)]
fn changed(ctx: &SockOpsContext) {
    if ctx.arg(0) != SYN_SENT || ctx.arg(1) != CLOSE {
        return;
    }
    if let Some(config) = tag::config()
        && let Some(key) = key(ctx, config)
        && !carried(ctx).is_null()
    {
        let _ = FLOWS.remove(key);
    }
}

#[inline(always)]
fn carried(ctx: &SockOpsContext) -> *mut Carried {
    // SAFETY: a field of the context; null without a full socket.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return core::ptr::null_mut();
    }
    context::stored(&SOCKETS, sk.cast())
}

/// The key of a connection to the listener; `None` if it goes elsewhere.
#[inline(always)]
fn key(ctx: &SockOpsContext, config: &Config) -> Option<FlowKey> {
    // In the upper half, in network order.
    let local_port = NetPort::from_net((ctx.remote_port() >> 16) as u16);
    if local_port.net() != config.proxy.net() {
        return None;
    }
    let ops = ctx.ops;
    // SAFETY: the kernel hands a valid context; each read is one word of it.
    let (peer, local) = unsafe {
        match ctx.family() {
            AF_INET => (Address::v4(ctx.local_ip4()), Address::v4(ctx.remote_ip4())),
            AF_INET6 => (
                Address([
                    addr_of!((*ops).local_ip6[0]).read_volatile(),
                    addr_of!((*ops).local_ip6[1]).read_volatile(),
                    addr_of!((*ops).local_ip6[2]).read_volatile(),
                    addr_of!((*ops).local_ip6[3]).read_volatile(),
                ]),
                Address([
                    addr_of!((*ops).remote_ip6[0]).read_volatile(),
                    addr_of!((*ops).remote_ip6[1]).read_volatile(),
                    addr_of!((*ops).remote_ip6[2]).read_volatile(),
                    addr_of!((*ops).remote_ip6[3]).read_volatile(),
                ]),
            ),
            _ => return None,
        }
    };
    if !local.is_local() {
        return None;
    }
    // SAFETY: the helper takes this program type's context.
    let netns = NetnsCookie(unsafe { aya_ebpf::helpers::bpf_get_netns_cookie(ops.cast()) });
    Some(FlowKey {
        netns,
        peer,
        local,
        peer_port: NetPort::from_host(ctx.local_port() as u16),
        local_port,
        reserved: 0,
    })
}
