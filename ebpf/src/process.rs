//! Tracepoints on fork, exec and exit: the tag that a process keeps when it leaves its cgroup.
//!
//! Minimum kernel 5.7 (ancestor cgroup id in tracing programs), and tracefs. They cannot refuse anything: without them a
//! process is governed by its cgroup alone, and the daemon says so at start. Fork runs in the parent before the child can
//! run, so a child never acts untagged.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use tollgate_common::Tag;

use crate::maps::{STICKY, exit_group_dead_offset, fork_child_offset};
use crate::tag;

#[tracepoint]
pub fn process_fork(ctx: TracePointContext) -> u32 {
    let Some(config) = tag::config() else { return 0 };
    let offset = fork_child_offset();
    if offset == 0 {
        return 0;
    }
    // SAFETY: the loader took the offset from the tracepoint's own description.
    let Ok(child) = (unsafe { ctx.read_at::<u32>(offset) }) else { return 0 };
    match tag::of_current(config) {
        Ok(Tag::NONE) | Err(tag::Unnoted) => {
            // The id is a new one: whatever is noted under it was a dead process's.
            let _ = STICKY.remove(child);
        }
        // For a thread this notes its thread id, which nobody looks up and its exit removes.
        Ok(tag) => {
            let _ = tag::note(child, tag);
        }
    }
    0
}

#[tracepoint]
pub fn process_exec(_: TracePointContext) -> u32 {
    if let Some(config) = tag::config() {
        // Notes it, if it is in a tagged cgroup: a child that was made directly in one has no tagged parent.
        let _ = tag::of_current(config);
    }
    0
}

#[tracepoint]
pub fn process_exit(ctx: TracePointContext) -> u32 {
    if tag::config().is_none_or(|config| config.next_tag <= 1) {
        return 0;
    }
    let ids = bpf_get_current_pid_tgid();
    let (tid, tgid) = (ids as u32, (ids >> 32) as u32);
    if tid != tgid {
        let _ = STICKY.remove(tid);
    }
    // The first thread may exit long before the others, so its exit alone proves nothing.
    let offset = exit_group_dead_offset();
    // SAFETY: the loader took the offset from the tracepoint's own description.
    if offset != 0 && unsafe { ctx.read_at::<u8>(offset) } == Ok(1) {
        let _ = STICKY.remove(tgid);
    }
    0
}
