//! The maps, which are pinned and outlive the daemon, and the values that the loader sets.
//!
//! All are plain tables that refuse when full; none evicts, since then one agent could push out another's entries.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use tollgate_common::{
    Bypass, Carried, CgroupId, Config, Counter, Flow, FlowKey, NetnsCookie, SocketCookie, Sticky, Tag,
};

/// One element: what the daemon wants.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Tagged cgroups.
#[btf_map]
pub static TAGGED: HashMap<CgroupId, Tag, 4096> = HashMap::new();

/// Network namespaces in which the daemon listens.
#[btf_map]
pub static LISTENERS: HashMap<NetnsCookie, u32, 1024> = HashMap::new();

/// Redirected connections that were not accepted yet.
#[btf_map]
pub static FLOWS: HashMap<FlowKey, Flow, 16384> = HashMap::new();

/// Processes that were tagged once, by thread group id.
#[btf_map]
pub static STICKY: HashMap<u32, Sticky, 32768> = HashMap::new();

/// Redirected connections of sockets that were born outside of every tag, where no `sock_ops` program of ours runs: the
/// daemon asks the kernel for the cookie of its peer.
#[btf_map]
pub static FOREIGN: HashMap<SocketCookie, Flow, 4096> = HashMap::new();

/// What each socket of a tagged process carries. Other sockets have none until they are redirected.
#[btf_map]
pub static SOCKETS: SkStorage<Carried> = SkStorage::new();

/// Set by the daemon on its own listeners, through the descriptor, before it binds them: no process id is involved, so
/// neither pid namespaces nor a reused id matter.
#[btf_map]
pub static OURS: SkStorage<u32> = SkStorage::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

/// What was refused.
#[btf_map]
pub static EVENTS: RingBuf<Bypass, 262144> = RingBuf::new();

/// 1 if the kernel has `bpf_set_retval` and `bpf_get_retval` (5.18).
#[unsafe(no_mangle)]
static HAS_RETVAL: Global<u8> = Global::new(0);

/// Where the child's pid lies in a record of `sched_process_fork`.
#[unsafe(no_mangle)]
static FORK_CHILD: Global<u32> = Global::new(0);

/// Where `group_dead` lies in a record of `sched_process_exit`; 0 where the kernel has no such field (before 6.16).
#[unsafe(no_mangle)]
static EXIT_GROUP_DEAD: Global<u32> = Global::new(0);

#[inline(always)]
pub fn has_retval() -> bool {
    HAS_RETVAL.load() == 1
}

#[inline(always)]
pub fn fork_child_offset() -> usize {
    FORK_CHILD.load() as usize
}

#[inline(always)]
pub fn exit_group_dead_offset() -> usize {
    EXIT_GROUP_DEAD.load() as usize
}
