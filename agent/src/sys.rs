//! Where the kernel is called by hand: what neither the standard library nor a crate in use offers.
//!
//! Owns `unsafe`, and wraps each call so that its callers need none. Never decides anything.
#![expect(unsafe_code, reason = "this room is where the kernel is called")]

pub mod bpf;
pub mod cgroup;
pub mod diag;
pub mod inherited;
pub mod limits;
pub mod memory;
pub mod netns;
pub mod peer;
pub mod process;
pub mod rights;
