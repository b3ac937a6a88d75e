//! Capture: what the kernel side does for the daemon.
//!
//! Owns the eBPF object, its pins, the tags, the listeners and the look-up of flows. Never speaks HTTP or TLS, never
//! decides. [`Capture`] is shared through an `Arc`; its calls are short system calls and may be made from any task, but
//! [`Capture::start`], [`Capture::tag`] and [`Capture::untag`] take milliseconds and belong outside the data path. One
//! thread of its own reads what the kernel side reports, and sweeps.
//!
//! The links and maps are pinned: they stay when the daemon ends, in whatever way, and tagged processes are then refused.
//! [`unpin`] alone takes them away.

mod bypass;
mod error;
mod listen;
mod load;
mod object;
mod pins;
mod process;
mod tags;
mod watch;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_common::{Address, FlowKey, NetPort, NetnsCookie, SocketCookie};

pub use bypass::{Bypass, BypassKind, Counters};
pub use error::CaptureError;
pub use pins::unpin;
pub use process::{Process, process};

use crate::sys::diag::SocketDiag;
use crate::sys::{bpf, netns};

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

/// The kernel side, loaded and attached.
#[derive(Debug)]
pub struct Capture {
    maps: object::Maps,
    tags: Mutex<tags::Tags>,
    /// Namespace of the thread that called [`Capture::start`]; its listeners' flows are looked up under it.
    home: NetnsCookie,
    /// Tells whose socket is at the other end of a connection in that namespace.
    peers: SocketDiag,
    port: u16,
    /// Process ids mean the same here and in the kernel side.
    initial_pids: bool,
    /// The kernel side follows forks.
    sticky: bool,
    no_flow: AtomicU64,
    events: Mutex<Option<tokio::sync::mpsc::Receiver<Bypass>>>,
    /// Ends the thread when dropped.
    _watch: watch::Watch,
}

impl Capture {
    /// Loads the object, or takes over what an earlier daemon left pinned: maps keep their content, links get the new
    /// programs without a gap. Nothing is redirected before the first tag.
    pub fn start(config: &crate::config::Capture) -> Result<Self, CaptureError> {
        load::start(config)
    }

    /// The listeners, on 127.0.0.1 and (where there is IPv6) ::1, non-blocking, in the calling thread's network
    /// namespace, which from then on has its flows redirected to them. Sockets handed over by the service manager are
    /// used if they fit.
    pub fn listen(&self) -> Result<Vec<TcpListener>, CaptureError> {
        listen::listen(&self.maps, self.port)
    }

    /// Tags a cgroup and all below it, with the processes that are in it. One that is tagged already keeps its tag.
    pub fn tag(&self, cgroup: &Path) -> Result<TagId, CaptureError> {
        self.tags().add(&self.maps, cgroup, self.initial_pids)
    }

    /// Ends a tag: the cgroup is no longer governed. Processes that were in it are: their flows keep coming, under a tag
    /// that no session has, and are refused. See [`Capture::release`].
    pub fn untag(&self, tag: TagId) -> Result<(), CaptureError> {
        self.tags().remove(&self.maps, tag)
    }

    /// Ends a tag and lets its processes go free.
    pub fn release(&self, tag: TagId) -> Result<(), CaptureError> {
        let mut tags = self.tags();
        tags.remove(&self.maps, tag)?;
        tags.forget(&self.maps, tag)
    }

    /// The tags there are, with their cgroups' ids: after a restart, those of the daemon before.
    pub fn tagged(&self) -> Result<Vec<(TagId, u64)>, CaptureError> {
        self.maps.tagged()
    }

    /// The flow of an accepted connection, which is thereby taken: a second call finds none. `peer` and `local` are the
    /// accepted socket's. `None`: nobody tagged made this connection; close it.
    pub fn take(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<Flow>, CaptureError> {
        let key = FlowKey {
            netns: self.home,
            peer: address(peer.ip()),
            local: address(local.ip()),
            peer_port: NetPort::from_host(peer.port()),
            local_port: NetPort::from_host(local.port()),
            reserved: 0,
        };
        let found: Option<tollgate_common::Flow> =
            match bpf::map_take(self.maps.flows(), &key).map_err(CaptureError::map("FLOWS"))? {
                Some(flow) => Some(flow),
                None => self.take_foreign(peer, local)?,
            };
        if found.is_none() {
            self.no_flow.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found.map(|flow| Flow {
            original: SocketAddr::new(ip(flow.original), flow.port.host()),
            tag: TagId(flow.tag.0),
            pid: flow.pid,
            uid: flow.uid,
            cgroup: flow.cgroup.0,
            netns_cookie: flow.netns.0,
            comm: comm(&flow.comm),
        }))
    }

    /// The flow of a connection whose socket was born outside of every tag.
    fn take_foreign(&self, peer: SocketAddr, local: SocketAddr) -> Result<Option<tollgate_common::Flow>, CaptureError> {
        let Some(cookie) = self.peers.cookie(peer, local).map_err(CaptureError::Peer)? else { return Ok(None) };
        bpf::map_take(self.maps.foreign(), &SocketCookie(cookie)).map_err(CaptureError::map("FOREIGN"))
    }

    /// Whether a process is governed: by its cgroup, or because it, or whoever forked it, once was. An error means that
    /// it cannot be told, and is to be taken for yes.
    pub fn is_tagged(&self, pid: u32) -> std::io::Result<bool> {
        Ok(self.tag_of(pid)?.is_some())
    }

    /// The tag of a process; errors as for [`Capture::is_tagged`].
    pub fn tag_of(&self, pid: u32) -> std::io::Result<Option<TagId>> {
        if self.initial_pids
            && let Some(sticky) = bpf::map_get::<u32, tollgate_common::Sticky>(self.maps.sticky(), &pid)?
        {
            return Ok(Some(TagId(sticky.tag.0)));
        }
        let mount = self.tags().mount().to_owned();
        let dir = crate::sys::cgroup::of_process(&mount, pid)?;
        for dir in dir.ancestors().take_while(|dir| *dir != mount) {
            // A removed cgroup has no id any more; those above it do.
            let Ok(id) = crate::sys::cgroup::id(dir) else { continue };
            if let Some(tag) = self.maps.tag_of_cgroup(id)? {
                return Ok(Some(TagId(tag.0)));
            }
        }
        Ok(None)
    }

    /// Who is behind a flow: executable and arguments. `None` where process ids of the kernel side mean nothing here
    /// (the daemon runs in a pid namespace).
    pub fn process(&self, pid: u32) -> std::io::Result<Option<Process>> {
        if self.initial_pids { process(pid).map(Some) } else { Ok(None) }
    }

    /// Attempts to get round the control point, as they happen. There is one receiver: the second call gives `None`.
    /// When nobody reads, the newest are dropped and counted.
    pub fn bypasses(&self) -> Option<tokio::sync::mpsc::Receiver<Bypass>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn counters(&self) -> Result<Counters, CaptureError> {
        self.maps.counters(self.no_flow.load(Ordering::Relaxed))
    }

    /// Whether processes keep their tag when they leave their cgroup (needs tracefs).
    pub fn follows_processes(&self) -> bool {
        self.sticky
    }

    /// The version 2 hierarchy in use.
    pub fn cgroup_mount(&self) -> std::path::PathBuf {
        self.tags().mount().to_owned()
    }

    fn tags(&self) -> MutexGuard<'_, tags::Tags> {
        // What it guards is also in the maps, so that a panic elsewhere leaves nothing half done here.
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The normal form that the kernel side uses.
fn address(ip: IpAddr) -> Address {
    let v6 = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let bytes = v6.octets();
    Address(std::array::from_fn(|i| {
        u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    }))
}

fn ip(address: Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(address.0) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(bytes).to_canonical()
}

fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The namespace of the calling thread.
fn here() -> Result<NetnsCookie, CaptureError> {
    netns::cookie().map(NetnsCookie).map_err(CaptureError::Netns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_meaning() {
        for text in ["127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "2001:db8::1"] {
            let it: IpAddr = text.parse().expect("an address");
            assert_eq!(ip(address(it)), it);
        }
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(ip(address(mapped)), "192.0.2.1".parse::<IpAddr>().expect("an address"));
        assert_eq!(address("127.0.0.1".parse().expect("an address")), Address::LOCALHOST_V4);
        assert_eq!(address("::1".parse().expect("an address")), Address::LOCALHOST_V6);
    }

    #[test]
    fn names_end_at_the_first_nul() {
        assert_eq!(comm(b"curl\0\0\0\0junk\0\0\0\0"), "curl");
        assert_eq!(comm(b"sixteen-letters!"), "sixteen-letters!");
    }
}
