//! A redirected connection: what is known of it, and the keys by which the daemon finds it on accept.
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

impl Flow {
    pub const EMPTY: Self = Self {
        original: Address([0; 4]),
        cgroup: CgroupId(0),
        netns: NetnsCookie(0),
        since: 0,
        tag: Tag::NONE,
        pid: 0,
        uid: 0,
        port: NetPort::from_host(0),
        reserved: 0,
        comm: [0; 16],
    };
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

/// Identifies a socket; never reused while the machine is up.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketCookie(pub u64);

/// What hangs on a socket: made with it by a tagged process, or when it is first redirected.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Of the redirected connection; says nothing while `state` is [`Carried::IDLE`].
    pub flow: Flow,
    /// The tag of the process that made the socket.
    pub born: Tag,
    /// One of the constants below.
    pub state: u32,
}

impl Carried {
    /// Not redirected, or not any more.
    pub const IDLE: u32 = 0;
    /// A tag's own hook has rewritten the destination, and the root hook has not yet run for this `connect`.
    pub const REWRITTEN: u32 = 1;
    /// No hook may take the proxy's address for its own rewriting any more.
    pub const SETTLED: u32 = 2;
    /// The flow is in the table where accept finds it.
    pub const HANDED: u32 = 3;
}
