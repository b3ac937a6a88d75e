//! What the kernel side refused, in the daemon's types.

use std::net::SocketAddr;

use tollgate_common::Kind;

use super::{TagId, comm, ip};

/// What was attempted. [`BypassKind::name`] is how events name it.
pub type BypassKind = Kind;

/// One refused attempt to get round the control point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    pub kind: BypassKind,
    /// `None`: a process outside every tag tried to take the listeners' port.
    pub tag: Option<TagId>,
    /// In the initial pid namespace.
    pub pid: u32,
    pub uid: u32,
    pub comm: String,
    /// Where it was to go, or what was to be bound; `None` for sockets that were not even made.
    pub destination: Option<SocketAddr>,
    /// Protocol number of the socket (6 TCP, 17 UDP, 132 SCTP, 262 MPTCP…).
    pub protocol: u32,
    /// How many alike were seen within the second before this was handed on, this one included.
    pub count: u32,
}

impl Bypass {
    /// `None` if the number is of no kind that this version knows.
    pub(super) fn from_kernel(raw: &tollgate_common::Bypass) -> Option<Self> {
        let address = ip(raw.address);
        let port = raw.port.host();
        Some(Self {
            kind: Kind::from_number(raw.kind)?,
            tag: raw.tag.is_some().then_some(TagId(raw.tag.0)),
            pid: raw.pid,
            uid: raw.uid,
            comm: comm(&raw.comm),
            destination: (port != 0 || !address.is_unspecified()).then(|| SocketAddr::new(address, port)),
            protocol: raw.protocol,
            count: 1,
        })
    }

    /// Whether another one says nothing new.
    pub(super) fn alike(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.pid == other.pid
            && self.tag == other.tag
            && self.destination == other.destination
    }
}

/// Totals since the maps were made, which is before the daemon started if it adopted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    pub redirected: u64,
    /// Refusals by kind, those that occurred.
    pub refused: Vec<(BypassKind, u64)>,
    /// Refusals that were not reported, for want of room.
    pub events_lost: u64,
    /// Connections that had to be closed since the table of flows was full.
    pub flows_lost: u64,
    /// Processes that may lose their tag with their cgroup, since the table was full.
    pub sticky_lost: u64,
    /// Connections to the listeners without a flow, since this daemon started.
    pub no_flow: u64,
}
