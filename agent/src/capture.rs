//! Capture: the eBPF object, tags, and flow look-up.

use std::net::SocketAddr;

/// Identifies a tag (a governed cgroup subtree) to the kernel side. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u32);

/// One redirected connection, as the kernel side saw its `connect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where the process wanted to go.
    pub original: SocketAddr,
    pub tag: TagId,
    pub pid: u32,
    pub uid: u32,
    pub cgroup: u64,
    pub netns_cookie: u64,
    /// Kernel's name of the thread, lossily decoded.
    pub comm: String,
}
