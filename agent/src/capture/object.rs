//! The compiled object, its programs' hooks, and its maps.
//!
//! Owns the map descriptors. A descriptor is used with the one key and value type it is checked for here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use tollgate_common::{
    Carried, CgroupId, Config, Counter, Flow, FlowKey, Kind, NetnsCookie, SocketCookie, Sticky, Tag,
};

use super::TagId;
use super::bypass::Counters;
use super::error::CaptureError;
use super::tags::TAGS;
use crate::sys::bpf::{self, Attach};

/// Built by `cargo xtask ebpf` from `ebpf/` and `common/`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("tollgate.bpf.o");

/// One cgroup program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub program: &'static str,
    pub attach: Attach,
}

const fn hook(program: &'static str, attach: Attach) -> Hook {
    Hook { program, attach }
}

/// On the root of the hierarchy, in order of attachment: what redirects comes last.
pub(super) const ROOT_HOOKS: [Hook; 9] = [
    hook("getpeername4", Attach::Getpeername4),
    hook("getpeername6", Attach::Getpeername6),
    hook("bind4", Attach::Bind4),
    hook("bind6", Attach::Bind6),
    hook("sock_create", Attach::SockCreate),
    hook("sendmsg4", Attach::Sendmsg4),
    hook("sendmsg6", Attach::Sendmsg6),
    hook("connect4", Attach::Connect4),
    hook("connect6", Attach::Connect6),
];

/// On each tagged cgroup: the hooks that the kernel finds by the socket's cgroup, not the process's. In order of
/// attachment: what hands a flow over comes before what redirects.
pub(super) const TAG_HOOKS: [Hook; 7] = [
    hook("stream", Attach::SockOps),
    hook("bind4_tag", Attach::Bind4),
    hook("bind6_tag", Attach::Bind6),
    hook("sendmsg4_tag", Attach::Sendmsg4),
    hook("sendmsg6_tag", Attach::Sendmsg6),
    hook("connect4_tag", Attach::Connect4),
    hook("connect6_tag", Attach::Connect6),
];

/// Program, category and name of each tracepoint.
pub(super) const TRACEPOINTS: [(&str, &str, &str); 3] = [
    ("process_fork", "sched", "sched_process_fork"),
    ("process_exec", "sched", "sched_process_exec"),
    ("process_exit", "sched", "sched_process_exit"),
];

/// Maps that are pinned, with the sizes of key and value.
pub(super) const MAPS: [(&str, usize, usize); 10] = [
    ("CONFIG", 4, size_of::<Config>()),
    ("TAGGED", size_of::<CgroupId>(), size_of::<Tag>()),
    ("LISTENERS", size_of::<NetnsCookie>(), 4),
    ("FLOWS", size_of::<FlowKey>(), size_of::<Flow>()),
    ("STICKY", 4, size_of::<Sticky>()),
    ("FOREIGN", size_of::<SocketCookie>(), size_of::<Flow>()),
    ("SOCKETS", 4, size_of::<Carried>()),
    ("OURS", 4, 4),
    ("COUNTERS", 4, 8),
    ("EVENTS", 0, 0),
];

/// More than any map holds; bounds a walk over one that changes.
const MAX_KEYS: usize = 1 << 17;

/// The pinned maps.
#[derive(Debug)]
pub(super) struct Maps {
    config: OwnedFd,
    tagged: OwnedFd,
    listeners: OwnedFd,
    flows: OwnedFd,
    foreign: OwnedFd,
    sticky: OwnedFd,
    ours: OwnedFd,
    counters: OwnedFd,
}

impl Maps {
    /// Opens the pins, which must all be there, and checks their layout.
    pub(super) fn open(dir: &Path) -> Result<Self, CaptureError> {
        for (name, key, value) in MAPS {
            check(&dir.join(name), name, key, value)?;
        }
        let open = |name: &'static str| bpf::open_pin(&dir.join(name)).map_err(CaptureError::map(name));
        Ok(Self {
            config: open("CONFIG")?,
            tagged: open("TAGGED")?,
            listeners: open("LISTENERS")?,
            flows: open("FLOWS")?,
            foreign: open("FOREIGN")?,
            sticky: open("STICKY")?,
            ours: open("OURS")?,
            counters: open("COUNTERS")?,
        })
    }

    pub(super) fn flows(&self) -> BorrowedFd<'_> {
        self.flows.as_fd()
    }

    pub(super) fn foreign(&self) -> BorrowedFd<'_> {
        self.foreign.as_fd()
    }

    pub(super) fn sticky(&self) -> BorrowedFd<'_> {
        self.sticky.as_fd()
    }

    pub(super) fn config(&self) -> Result<Config, CaptureError> {
        let found = bpf::map_get(self.config.as_fd(), &0_u32).map_err(CaptureError::map("CONFIG"))?;
        Ok(found.unwrap_or(Config::EMPTY))
    }

    pub(super) fn set_config(&self, config: &Config) -> Result<(), CaptureError> {
        bpf::map_set(self.config.as_fd(), &0_u32, config).map_err(CaptureError::map("CONFIG"))
    }

    pub(super) fn tag_of_cgroup(&self, cgroup: u64) -> std::io::Result<Option<Tag>> {
        bpf::map_get(self.tagged.as_fd(), &CgroupId(cgroup))
    }

    pub(super) fn set_tag(&self, cgroup: u64, tag: Tag) -> Result<(), CaptureError> {
        bpf::map_set(self.tagged.as_fd(), &CgroupId(cgroup), &tag).map_err(|source| match source.raw_os_error() {
            Some(nix::libc::E2BIG) => CaptureError::TooManyTags(TAGS),
            _ => CaptureError::Map { name: "TAGGED", source },
        })
    }

    pub(super) fn clear_tag(&self, cgroup: u64) -> Result<(), CaptureError> {
        bpf::map_remove(self.tagged.as_fd(), &CgroupId(cgroup)).map(drop).map_err(CaptureError::map("TAGGED"))
    }

    pub(super) fn tagged(&self) -> Result<Vec<(TagId, u64)>, CaptureError> {
        let mut found = Vec::new();
        for cgroup in bpf::map_keys::<CgroupId>(self.tagged.as_fd(), MAX_KEYS).map_err(CaptureError::map("TAGGED"))? {
            if let Some(tag) = self.tag_of_cgroup(cgroup.0).map_err(CaptureError::map("TAGGED"))? {
                found.push((TagId(tag.0), cgroup.0));
            }
        }
        Ok(found)
    }

    /// Lets the kernel side redirect in a namespace.
    pub(super) fn set_listening(&self, netns: NetnsCookie) -> Result<(), CaptureError> {
        bpf::map_set(self.listeners.as_fd(), &netns, &1_u32).map_err(CaptureError::map("LISTENERS"))
    }

    /// Marks a socket as the daemon's own, so that it may bind the listeners' port.
    pub(super) fn mark_ours(&self, socket: BorrowedFd<'_>) -> Result<(), CaptureError> {
        use std::os::fd::AsRawFd;
        bpf::map_set(self.ours.as_fd(), &socket.as_raw_fd(), &1_u32).map_err(CaptureError::map("OURS"))
    }

    pub(super) fn sticky_tag(&self, pid: u32) -> Result<Option<Sticky>, CaptureError> {
        bpf::map_get(self.sticky.as_fd(), &pid).map_err(CaptureError::map("STICKY"))
    }

    pub(super) fn set_sticky(&self, pid: u32, sticky: &Sticky) -> Result<(), CaptureError> {
        bpf::map_set(self.sticky.as_fd(), &pid, sticky).map_err(CaptureError::map("STICKY"))
    }

    pub(super) fn clear_sticky(&self, pid: u32) -> Result<(), CaptureError> {
        bpf::map_remove(self.sticky.as_fd(), &pid).map(drop).map_err(CaptureError::map("STICKY"))
    }

    /// Processes with a sticky tag.
    pub(super) fn sticky_pids(&self) -> Result<Vec<u32>, CaptureError> {
        bpf::map_keys(self.sticky.as_fd(), MAX_KEYS).map_err(CaptureError::map("STICKY"))
    }

    pub(super) fn counters(&self, no_flow: u64) -> Result<Counters, CaptureError> {
        let unreadable = |e| CaptureError::Map { name: "COUNTERS", source: std::io::Error::other(e) };
        let fd = self.counters.try_clone().map_err(CaptureError::map("COUNTERS"))?;
        let map = MapData::from_fd(fd).map_err(unreadable)?;
        let map = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(map)).map_err(unreadable)?;
        let total =
            |counter: Counter| map.get(&counter.0, 0).map(|values| values.iter().sum::<u64>()).map_err(unreadable);
        let mut refused = Vec::new();
        for kind in Kind::ALL {
            match total(Counter::refused(kind))? {
                0 => {}
                count => refused.push((kind, count)),
            }
        }
        Ok(Counters {
            redirected: total(Counter::REDIRECTED)?,
            refused,
            events_lost: total(Counter::EVENTS_LOST)?,
            flows_lost: total(Counter::FLOWS_LOST)?,
            sticky_lost: total(Counter::STICKY_LOST)?,
            no_flow,
        })
    }
}

/// Removes flows older than `age` nanoseconds at `now` from a table with keys `K`; says how many.
pub(super) fn sweep_flows<K: aya::Pod>(flows: BorrowedFd<'_>, now: u64, age: u64) -> std::io::Result<u32> {
    let mut swept = 0;
    for key in bpf::map_keys::<K>(flows, MAX_KEYS)? {
        if let Some(flow) = bpf::map_get::<K, Flow>(flows, &key)?
            && now.saturating_sub(flow.since) > age
            && bpf::map_remove(flows, &key)?
        {
            swept += 1;
        }
    }
    Ok(swept)
}

fn check(pin: &Path, name: &'static str, key: usize, value: usize) -> Result<(), CaptureError> {
    let unreadable = |source| CaptureError::Map { name, source: std::io::Error::other(source) };
    let info = MapData::from_pin(pin).and_then(|map| map.info()).map_err(unreadable)?;
    if info.key_size() as usize == key && info.value_size() as usize == value {
        Ok(())
    } else {
        Err(CaptureError::Layout { name })
    }
}
