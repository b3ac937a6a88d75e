//! A redirected connection: what is known of it, and the key by which the daemon finds it on accept.
//!
//! Pure data.

use crate::{Address, CgroupId, NetPort, NetnsCookie, Tag};

/// One redirected connection, as its `connect` was seen.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where the process wanted to go.
    pub original: Address,
    /// Cgroup of the process, not of the tag.
    pub cgroup: CgroupId,
    pub netns: NetnsCookie,
    /// Nanoseconds since boot.
    pub since: u64,
    pub tag: Tag,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    pub port: NetPort,
    pub reserved: u16,
    /// The kernel's name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

/// Finds a flow when its connection is accepted.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub netns: NetnsCookie,
    /// The agent's end.
    pub peer: Address,
    /// The listener's end.
    pub local: Address,
    pub peer_port: NetPort,
    pub local_port: NetPort,
    /// Always 0; part of the hashed key.
    pub reserved: u32,
}

/// A flow while it hangs on its socket.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    pub flow: Flow,
    /// [`Pending::REWRITTEN`] or [`Pending::SETTLED`].
    pub state: u32,
    pub reserved: u32,
}

impl Pending {
    /// A tag's own hook has rewritten the destination, and the root hook has not yet run for this `connect`.
    pub const REWRITTEN: u32 = 1;
    /// No hook may take the proxy's address for its own rewriting any more.
    pub const SETTLED: u32 = 2;
}
