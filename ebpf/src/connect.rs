//! `connect4/6` and `sendmsg4/6`: where a tagged process may go.
//!
//! Minimum kernel 4.17 (sendmsg 4.18); root form 5.7. TCP to the configured ports and to metadata addresses goes to the
//! listener of the socket's network namespace, and what is known about it hangs on the socket. Fails closed: no
//! listener registered, no memory for the flow, or a full table refuse the connection.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::warn;
use tollgate_common::{Address, Carried, CgroupId, Config, Counter, Flow, Kind, NetPort, Protocol, Tag, Verdict};

use crate::context;
use crate::maps::{FOREIGN, LISTENERS, SOCKETS};
use crate::report::{Attempt, ECONNREFUSED, PASS, count, refuse, refuse_quietly, refused_before};
use crate::tag;

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect::<false, true>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect::<true, true>(&ctx)
}

#[cgroup_sock_addr(connect4)]
pub fn connect4_tag(ctx: SockAddrContext) -> i32 {
    connect::<false, false>(&ctx)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6_tag(ctx: SockAddrContext) -> i32 {
    connect::<true, false>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg::<false, true>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg::<true, true>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4_tag(ctx: SockAddrContext) -> i32 {
    sendmsg::<false, false>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6_tag(ctx: SockAddrContext) -> i32 {
    sendmsg::<true, false>(&ctx)
}

/// One call to be judged.
struct Call<'a> {
    ctx: &'a SockAddrContext,
    to: Address,
    port: NetPort,
    protocol: u32,
    tag: Tag,
}

impl Call<'_> {
    #[inline(always)]
    fn refuse(&self, kind: Kind) -> i32 {
        let attempt = Attempt { kind, tag: self.tag, address: self.to, port: self.port, protocol: self.protocol };
        refuse(&attempt, ECONNREFUSED)
    }

    /// Refuses for want of memory, and says so in the log.
    #[inline(always)]
    fn exhausted(&self) -> i32 {
        warn!(self.ctx, "no room to note a connection of process {}: refused", tag::tgid());
        self.refuse(Kind::Exhausted)
    }
}

#[inline(always)]
fn connect<const V6: bool, const ROOT: bool>(ctx: &SockAddrContext) -> i32 {
    let Some(config) = tag::config() else { return PASS };
    let carried: *mut Carried = context::stored(&SOCKETS, context::socket(ctx));
    let call = Call {
        ctx,
        to: context::address::<V6>(ctx),
        port: context::port(ctx),
        protocol: context::protocol(ctx),
        tag: Tag::NONE,
    };
    let to_listener = call.port.net() == config.proxy.net() && call.to.is_local();
    // The hook on the tag's own cgroup ran before and has rewritten this very call. Only the root hook settles it, so
    // that a later direct connection on the same socket is not mistaken for one.
    if ROOT && to_listener && swap(carried, Carried::REWRITTEN, Carried::SETTLED) {
        return PASS;
    }
    let tag = match owner(config, carried) {
        Ok(tag) => tag,
        Err(tag::Unnoted) => return call.exhausted(),
    };
    let call = Call { tag, ..call };
    if !tag.is_some() && ROOT {
        return outsider(&call, to_listener, carried);
    }
    if refused_before() {
        return PASS;
    }
    match config.judge(Protocol::of(call.protocol), &call.to, call.port) {
        Verdict::Pass => {
            set(carried, Carried::IDLE);
            PASS
        }
        _ if !tag.is_some() => call.refuse(Kind::ForeignSocket),
        Verdict::Proxy if is(carried, Carried::REWRITTEN) => PASS,
        Verdict::Proxy => call.refuse(Kind::Direct),
        Verdict::RefuseUdp => refuse_udp(&call),
        Verdict::RefuseProtocol => call.refuse(Kind::OtherProtocol),
        Verdict::Redirect => redirect::<V6, ROOT>(&call, config, carried),
    }
}

/// The tag of the calling process, or else of the socket.
#[inline(always)]
fn owner(config: &Config, carried: *mut Carried) -> Result<Tag, tag::Unnoted> {
    let tag = tag::of_current(config)?;
    if tag.is_some() || carried.is_null() {
        return Ok(tag);
    }
    // SAFETY: not null; written once, at creation.
    Ok(unsafe { (*carried).born })
}

/// Somebody whom no tag governs goes where he wants; but to the listener itself, where none but redirected connections
/// have any business: what a dead flow may have left in the table would be taken for his. It looks as if nobody listened.
#[inline(always)]
fn outsider(call: &Call<'_>, to_listener: bool, carried: *mut Carried) -> i32 {
    set(carried, Carried::IDLE);
    let reaches = to_listener && matches!(call.protocol, IPPROTO_TCP | IPPROTO_MPTCP);
    if reaches && LISTENERS.get_ptr(context::netns(call.ctx)).is_some() {
        return refuse_quietly(Kind::Direct, ECONNREFUSED);
    }
    PASS
}

#[inline(always)]
fn redirect<const V6: bool, const ROOT: bool>(call: &Call<'_>, config: &Config, carried: *mut Carried) -> i32 {
    let netns = context::netns(call.ctx);
    if LISTENERS.get_ptr(netns).is_none() {
        return call.refuse(Kind::NoListener);
    }
    let flow = Flow {
        original: call.to,
        // SAFETY: the helpers have no preconditions.
        cgroup: CgroupId(unsafe { bpf_get_current_cgroup_id() }),
        netns,
        // SAFETY: as above.
        since: unsafe { bpf_ktime_get_boot_ns() },
        tag: call.tag,
        pid: tag::tgid(),
        uid: bpf_get_current_uid_gid() as u32,
        port: call.port,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    // No hook of a tag has seen this call, so none will hand the flow over.
    if ROOT {
        if FOREIGN.insert(context::cookie(call.ctx), flow, 0).is_err() {
            return call.exhausted();
        }
        count(Counter::REDIRECTED);
    }
    let state = if ROOT { Carried::SETTLED } else { Carried::REWRITTEN };
    if carried.is_null() {
        let mut fresh = Carried { flow, born: Tag::NONE, state };
        if !context::store(&SOCKETS, context::socket(call.ctx), &mut fresh) {
            return call.exhausted();
        }
    } else {
        // SAFETY: not null, and the socket is locked by the caller.
        unsafe {
            (*carried).flow = flow;
            (*carried).state = state;
        }
    }
    let listener = if !V6 || call.to.as_v4().is_some() { Address::LOCALHOST_V4 } else { Address::LOCALHOST_V6 };
    if context::rewrite::<V6>(call.ctx, &listener, config.proxy) { PASS } else { call.exhausted() }
}

/// Whether the socket is in that state.
#[inline(always)]
fn is(carried: *mut Carried, state: u32) -> bool {
    // SAFETY: not null, and the socket is locked by the caller.
    !carried.is_null() && unsafe { (*carried).state } == state
}

/// Notes the socket's state, if it carries anything.
#[inline(always)]
fn set(carried: *mut Carried, state: u32) {
    if !carried.is_null() {
        // SAFETY: not null, and the socket is locked by the caller.
        unsafe { (*carried).state = state };
    }
}

/// From one state into another; `false`: it is not in the first.
#[inline(always)]
fn swap(carried: *mut Carried, from: u32, to: u32) -> bool {
    let there = is(carried, from);
    if there {
        set(carried, to);
    }
    there
}

#[inline(always)]
fn refuse_udp(call: &Call<'_>) -> i32 {
    call.refuse(if call.to.is_metadata() { Kind::MetadataUdp } else { Kind::Quic })
}

/// A datagram of an unconnected socket.
#[inline(always)]
fn sendmsg<const V6: bool, const ROOT: bool>(ctx: &SockAddrContext) -> i32 {
    let Some(config) = tag::config() else { return PASS };
    let to = context::address::<V6>(ctx);
    let port = context::port(ctx);
    // Judged before asking who calls: nearly every datagram passes for anybody.
    match config.judge(Protocol::Udp, &to, port) {
        Verdict::Pass => return PASS,
        _ if refused_before() => return PASS,
        _ => {}
    }
    let call = Call { ctx, to, port, protocol: context::protocol(ctx), tag: Tag::NONE };
    match owner(config, context::stored(&SOCKETS, context::socket(ctx))) {
        Ok(tag) if tag.is_some() => refuse_udp(&Call { tag, ..call }),
        Ok(_) if ROOT => PASS,
        Ok(_) => call.refuse(Kind::ForeignSocket),
        Err(tag::Unnoted) => call.exhausted(),
    }
}
