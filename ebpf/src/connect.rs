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
use tollgate_common::{Address, CgroupId, Config, Flow, Kind, NetPort, Pending, Protocol, Tag, Verdict};

use crate::context;
use crate::maps::{BORN, LISTENERS, PENDING};
use crate::report::{Attempt, ECONNREFUSED, PASS, refuse, refused_before};
use crate::tag;

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
    if refused_before() {
        return PASS;
    }
    let to = context::address::<V6>(ctx);
    let port = context::port(ctx);
    let pending: *mut Pending = context::stored(&PENDING, context::socket(ctx));
    // The hook on the tag's own cgroup ran before and has rewritten this very call. Only the root hook settles it, so
    // that a later direct connection on the same socket is not mistaken for one.
    if ROOT && !pending.is_null() && to.is_local() && port.net() == config.proxy.net() {
        // SAFETY: not null, and the socket is locked by the caller.
        unsafe {
            if (*pending).state == Pending::REWRITTEN {
                (*pending).state = Pending::SETTLED;
                return PASS;
            }
        }
    }
    let mut call = Call { ctx, to, port, protocol: context::protocol(ctx), tag: Tag::NONE };
    let verdict = config.judge(Protocol::of(call.protocol), &to, port);
    match owner(&mut call, config) {
        Ok(true) => {}
        Ok(false) if ROOT || verdict == Verdict::Pass => {
            forget(ctx, pending);
            return PASS;
        }
        Ok(false) => return call.refuse(Kind::ForeignSocket),
        Err(tag::Unnoted) => return call.exhausted(),
    }
    match verdict {
        Verdict::Pass => {
            forget(ctx, pending);
            PASS
        }
        Verdict::Proxy => {
            // SAFETY: not null, and the socket is locked by the caller.
            if !pending.is_null() && unsafe { (*pending).state } == Pending::REWRITTEN {
                return PASS;
            }
            call.refuse(Kind::Direct)
        }
        Verdict::RefuseUdp => refuse_udp(&call),
        Verdict::RefuseProtocol => call.refuse(Kind::OtherProtocol),
        Verdict::Redirect => redirect::<V6, ROOT>(&call, config, pending),
    }
}

/// Finds the tag of the calling process, or else of the socket. `false`: neither has one.
#[inline(always)]
fn owner(call: &mut Call<'_>, config: &Config) -> Result<bool, tag::Unnoted> {
    call.tag = tag::of_current(config)?;
    if !call.tag.is_some() {
        let born: *mut Tag = context::stored(&BORN, context::socket(call.ctx));
        if !born.is_null() {
            // SAFETY: not null; written once, at creation.
            call.tag = unsafe { *born };
        }
    }
    Ok(call.tag.is_some())
}

#[inline(always)]
fn redirect<const V6: bool, const ROOT: bool>(call: &Call<'_>, config: &Config, pending: *mut Pending) -> i32 {
    let netns = context::netns(call.ctx);
    if LISTENERS.get_ptr(netns).is_none() {
        return call.refuse(Kind::NoListener);
    }
    let mut noted = Pending {
        flow: Flow {
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
        },
        state: if ROOT { Pending::SETTLED } else { Pending::REWRITTEN },
        reserved: 0,
    };
    if pending.is_null() {
        if !context::store(&PENDING, context::socket(call.ctx), &mut noted) {
            return call.exhausted();
        }
    } else {
        // SAFETY: not null, and the socket is locked by the caller.
        unsafe { *pending = noted };
    }
    let listener = if !V6 || call.to.as_v4().is_some() { Address::LOCALHOST_V4 } else { Address::LOCALHOST_V6 };
    if context::rewrite::<V6>(call.ctx, &listener, config.proxy) { PASS } else { call.exhausted() }
}

/// Takes a flow of an earlier connection off the socket, so that it is not taken for this one's.
#[inline(always)]
fn forget(ctx: &SockAddrContext, pending: *mut Pending) {
    if !pending.is_null() {
        context::unstore(&PENDING, context::socket(ctx));
    }
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
    let mut call = Call { ctx, to, port, protocol: context::protocol(ctx), tag: Tag::NONE };
    match owner(&mut call, config) {
        Ok(true) => refuse_udp(&call),
        Ok(false) if ROOT => PASS,
        Ok(false) => call.refuse(Kind::ForeignSocket),
        Err(tag::Unnoted) => call.exhausted(),
    }
}
