//! Whose call this is: the tag of the current process.
//!
//! A process is tagged when it, or whoever forked it, was ever seen in a tagged cgroup (sticky), or when it is in one now.

use aya_ebpf::helpers::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns};
use tollgate_common::{CgroupId, Config, Counter, MAX_LEVEL, SCHEMA, Sticky, Tag};

use crate::maps::{CONFIG, STICKY, TAGGED};
use crate::report;

/// The configuration, once the daemon has written one. Before that nothing is tagged.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    let config = CONFIG.get(0)?;
    if config.schema == SCHEMA { Some(config) } else { None }
}

#[inline(always)]
pub fn tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// A tagged process could not be noted as such.
pub struct Unnoted;

/// The tag of the current process. The sticky one comes first: moving into another tag's cgroup does not change whose
/// process it is.
#[inline(always)]
pub fn of_current(config: &Config) -> Result<Tag, Unnoted> {
    if config.next_tag <= 1 {
        return Ok(Tag::NONE);
    }
    let tgid = tgid();
    // SAFETY: values are written whole, and a stale read gives a tag that the process had.
    if let Some(sticky) = unsafe { STICKY.get(tgid) } {
        return Ok(sticky.tag);
    }
    let tag = of_cgroup(config.levels);
    if tag.is_some() && note(tgid, tag).is_err() {
        return Err(Unnoted);
    }
    Ok(tag)
}

/// Notes that a process is tagged wherever it goes.
#[inline(always)]
pub fn note(pid: u32, tag: Tag) -> Result<(), i32> {
    // SAFETY: the helper has no preconditions.
    let since = unsafe { bpf_ktime_get_boot_ns() };
    STICKY.insert(pid, Sticky { tag, reserved: 0, since }, 0).inspect_err(|_| report::count(Counter::STICKY_LOST))
}

/// The innermost tagged cgroup that the current process is in or below.
#[inline(always)]
fn of_cgroup(levels: u32) -> Tag {
    let mut level = MAX_LEVEL;
    while level > 0 {
        if levels & (1 << level) != 0 {
            // SAFETY: the helper has no preconditions; it gives 0 below the process's own level.
            let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
            if id != 0 {
                // SAFETY: a tag is written once per cgroup.
                if let Some(tag) = unsafe { TAGGED.get(CgroupId(id)) } {
                    return *tag;
                }
            }
        }
        level -= 1;
    }
    Tag::NONE
}
