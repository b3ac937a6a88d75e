//! Reading and writing the kernel's contexts, word by word: a copy of a whole array makes a derived context pointer,
//! which the verifier rejects.

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut, from_mut, from_ref, null_mut};

use aya_ebpf::bindings::BPF_SK_STORAGE_GET_F_CREATE;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sk_storage_get};
use aya_ebpf::programs::SockAddrContext;
use tollgate_common::{Address, NetPort, NetnsCookie, SocketCookie};

/// The address in the context: of an AF_INET call, or of an AF_INET6 one.
#[inline(always)]
pub fn address<const V6: bool>(ctx: &SockAddrContext) -> Address {
    let raw = ctx.sock_addr;
    // SAFETY: the kernel hands a valid context to the program; each read is one aligned word of it.
    unsafe {
        if V6 {
            Address([
                addr_of!((*raw).user_ip6[0]).read_volatile(),
                addr_of!((*raw).user_ip6[1]).read_volatile(),
                addr_of!((*raw).user_ip6[2]).read_volatile(),
                addr_of!((*raw).user_ip6[3]).read_volatile(),
            ])
        } else {
            Address::v4(addr_of!((*raw).user_ip4).read_volatile())
        }
    }
}

#[inline(always)]
pub fn port(ctx: &SockAddrContext) -> NetPort {
    // SAFETY: as in `address`; the port is the lower half of the word, in network order.
    NetPort::from_net(unsafe { addr_of!((*ctx.sock_addr).user_port).read_volatile() } as u16)
}

#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as in `address`.
    unsafe { addr_of!((*ctx.sock_addr).protocol).read_volatile() }
}

/// Writes address and port. An AF_INET context takes an IPv4 address only; `false` if `to` is none.
#[inline(always)]
pub fn rewrite<const V6: bool>(ctx: &SockAddrContext, to: &Address, port: NetPort) -> bool {
    let raw = ctx.sock_addr;
    // SAFETY: as in `address`; the kernel lets these hooks write these words.
    unsafe {
        if V6 {
            addr_of_mut!((*raw).user_ip6[0]).write_volatile(to.0[0]);
            addr_of_mut!((*raw).user_ip6[1]).write_volatile(to.0[1]);
            addr_of_mut!((*raw).user_ip6[2]).write_volatile(to.0[2]);
            addr_of_mut!((*raw).user_ip6[3]).write_volatile(to.0[3]);
        } else {
            let Some(v4) = to.as_v4() else { return false };
            addr_of_mut!((*raw).user_ip4).write_volatile(v4);
        }
        addr_of_mut!((*raw).user_port).write_volatile(u32::from(port.net()));
    }
    true
}

/// The network namespace of the socket, which need not be the process's.
#[inline(always)]
pub fn netns(ctx: &SockAddrContext) -> NetnsCookie {
    // SAFETY: the helper takes the context of this program type.
    NetnsCookie(unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) })
}

/// The socket's own cookie.
#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> SocketCookie {
    // SAFETY: the helper takes the context of this program type.
    SocketCookie(unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) })
}

/// The value that a socket has in `map`, or null. `sk` must be the context's own socket pointer, or one that was checked.
#[inline(always)]
pub fn stored<T>(map: &'static SkStorage<T>, sk: *mut c_void) -> *mut T {
    // SAFETY: the verifier checks map and socket; a null value with no flags only looks up.
    unsafe { bpf_sk_storage_get(raw(map), sk, null_mut(), 0) }.cast()
}

/// Stores a copy of `value` with a socket that has none; `false` without memory.
#[inline(always)]
pub fn store<T>(map: &'static SkStorage<T>, sk: *mut c_void, value: &mut T) -> bool {
    // SAFETY: as in `stored`; the value is copied.
    !unsafe { bpf_sk_storage_get(raw(map), sk, from_mut(value).cast(), BPF_SK_STORAGE_GET_F_CREATE.into()) }.is_null()
}

/// The map's definition, whose address the loader replaces by the map. aya keeps its own accessor to itself.
#[inline(always)]
fn raw<T>(map: &'static SkStorage<T>) -> *mut c_void {
    from_ref(map).cast_mut().cast()
}

/// The socket of an address hook.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut c_void {
    // SAFETY: as in `address`; these hooks always have a socket.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }.cast()
}
