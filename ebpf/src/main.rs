//! The kernel side of Tollgate.
//!
//! Owns the hooks that notice what tagged processes do on the network, and send it to the daemon or refuse it. They are
//! thin: the rules are in `tollgate_common::rule`. Never decides about AWS, and never lets anything pass because
//! something went wrong. Runs in the context of whichever process makes the system call.
//!
//! Every hook comes in one or two forms: one on the root of the cgroup hierarchy, which asks whether the calling process
//! or the socket is tagged, and, for hooks that the kernel looks up by the socket's cgroup of birth, one on each tagged
//! cgroup (`…_tag`). The kernel runs the tag's first. Both may act; a connection is rewritten once.
//!
//! Minimum kernel: 5.15 for all of it (netns cookie in sock_ops). `bpf_set_retval` is 5.18; below, a refusal is EPERM
//! instead of ECONNREFUSED.
#![no_std]
#![no_main]

mod bind;
mod connect;
mod context;
mod maps;
mod peer;
mod process;
mod report;
mod socket;
mod stream;
mod tag;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives some helpers only to programs that say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
