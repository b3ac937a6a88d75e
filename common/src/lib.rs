//! Types that the kernel side and the daemon share, and the pure matching code that both use.
//!
//! Owns the layout of every value that lies in a map (`repr(C)`, no padding that is not named), and the rules that say
//! what becomes of a connection. Never does I/O, never calls a helper of the kernel. Runs on both sides.
#![no_std]

pub mod address;
pub mod event;
pub mod flow;
pub mod rule;

pub use address::{Address, NetPort};
pub use event::{Bypass, Counter, Kind};
pub use flow::{Carried, Flow, FlowKey, SocketCookie};
pub use rule::{Config, Protocol, Verdict};

/// Version of the layout of maps and of the meaning of pins. A change to either raises it, and it is part of the
/// pins' directory, so that two versions never share a map.
pub const SCHEMA: u32 = 2;

/// Deepest level below the cgroup root at which a tag can be.
pub const MAX_LEVEL: u32 = 24;

/// Identifies a cgroup: its inode number on the cgroup2 file system.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// Identifies a network namespace; never reused while the machine is up.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsCookie(pub u64);

/// A tag's number. 0 means no tag.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

impl Tag {
    pub const NONE: Self = Self(0);

    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// What a process carries with it when it leaves its cgroup, and passes on when it forks.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sticky {
    pub tag: Tag,
    pub reserved: u32,
    /// Nanoseconds since boot when it was noted.
    pub since: u64,
}

#[cfg(feature = "user")]
mod pod {
    macro_rules! pod {
        ($($shared:ty),+) => {
            // SAFETY: each is `repr(C)` or `repr(transparent)`, of integers alone, and has no padding (asserted below).
            $(unsafe impl aya::Pod for $shared {})+
        };
    }
    pod!(super::CgroupId, super::NetnsCookie, super::Tag, super::Sticky);
    pod!(super::Flow, super::FlowKey, super::SocketCookie, super::Config, super::Bypass);
}

const _: () = {
    assert!(size_of::<FlowKey>() == 8 + 2 * 16 + 2 * 2 + 4);
    assert!(size_of::<Flow>() == 16 + 3 * 8 + 3 * 4 + 2 + 2 + 16);
    assert!(size_of::<Carried>() == size_of::<Flow>() + 8);
    assert!(size_of::<Sticky>() == 16);
    assert!(size_of::<Bypass>() == 8 + 16 + 4 * 4 + 2 + 2 + 4 + 16);
    assert!(size_of::<Config>() == 4 + 2 + 2 + 2 * rule::MAX_PORTS + 4 + 4);
};
