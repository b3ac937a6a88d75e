//! Tags: cgroups whose processes are governed.
//!
//! Owns the tag programs, and the links and map entries of each tag. A tag's number is kept in the maps, so that it is
//! used once as long as pins live, over restarts. Called under one lock; takes milliseconds.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tollgate_common::{MAX_LEVEL, Sticky, Tag};

use super::TagId;
use super::error::CaptureError;
use super::object::{Maps, TAG_HOOKS};
use super::pins::{self, Link, Pins};
use crate::sys::cgroup;

/// Places in the map of tagged cgroups.
pub(super) const TAGS: u32 = 4096;

/// The kernel's id of the root of the hierarchy, as opposed to that of a container's part of it.
const ROOT_ID: u64 = 1;

#[derive(Debug)]
pub(super) struct Tags {
    pins: Pins,
    mount: PathBuf,
    /// In the order of [`TAG_HOOKS`].
    programs: Vec<OwnedFd>,
    cgroups: HashMap<u32, u64>,
}

impl Tags {
    /// Takes over the tags that the maps know, with this daemon's programs; drops those whose cgroup is gone.
    pub(super) fn adopt(pins: Pins, mount: PathBuf, programs: Vec<OwnedFd>, maps: &Maps) -> Result<Self, CaptureError> {
        let mut tags = Self { pins, mount, programs, cgroups: HashMap::new() };
        for (tag, id) in maps.tagged()? {
            let severed = tags.attach(tag.0, id, None)?;
            let severed = match (severed, severed.then(|| tags.find(id))) {
                // A link may be missing because an earlier start was cut short; the cgroup itself tells.
                (true, Some(Some(dir))) => tags.attach(tag.0, id, Some(&dir))?,
                (severed, _) => severed,
            };
            if severed {
                tracing::info!(tag = tag.0, "the tagged cgroup is gone: tag dropped");
                tags.drop_tag(maps, tag.0, id)?;
            } else {
                tags.cgroups.insert(tag.0, id);
            }
        }
        Ok(tags)
    }

    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    pub(super) fn add(&mut self, maps: &Maps, cgroup: &Path, initial_pids: bool) -> Result<TagId, CaptureError> {
        let dir = cgroup.canonicalize().map_err(CaptureError::cgroup(cgroup))?;
        let mount = self.mount.canonicalize().map_err(CaptureError::cgroup(&self.mount))?;
        let refuse = |reason| CaptureError::Untaggable { path: cgroup.to_owned(), reason };
        let level = match cgroup::depth(&mount, &dir) {
            Some(0) => return Err(refuse("it is the root, and holds the daemon itself")),
            Some(level) if level <= MAX_LEVEL => level,
            Some(_) => return Err(refuse("it is too deep; at most 24 levels below the root")),
            None => return Err(refuse("it is not below the cgroup v2 mount")),
        };
        let id = cgroup::id(&dir).map_err(CaptureError::cgroup(&dir))?;
        if let Some(tag) = maps.tag_of_cgroup(id).map_err(CaptureError::map("TAGGED"))? {
            return Ok(TagId(tag.0));
        }
        let mut config = maps.config()?;
        let tag = config.next_tag;
        config.next_tag = tag.checked_add(1).ok_or(CaptureError::TooManyTags(u32::MAX))?;
        config.levels |= levels(level, cgroup::id(&mount).map_err(CaptureError::cgroup(&mount))?);
        maps.set_config(&config)?;
        maps.set_tag(id, Tag(tag))?;
        let done = self.attach(tag, id, Some(&dir)).and_then(|severed| {
            if severed {
                Err(refuse("it was removed meanwhile"))
            } else {
                note_members(maps, &dir, Tag(tag), initial_pids)
            }
        });
        if let Err(e) = done {
            // The attempt is what counts for the caller; a leftover entry of a cgroup only means that it is governed.
            let _ = self.drop_tag(maps, tag, id);
            return Err(e);
        }
        self.cgroups.insert(tag, id);
        Ok(TagId(tag))
    }

    pub(super) fn remove(&mut self, maps: &Maps, tag: TagId) -> Result<(), CaptureError> {
        let id = *self.cgroups.get(&tag.0).ok_or(CaptureError::UnknownTag(tag.0))?;
        self.drop_tag(maps, tag.0, id)?;
        self.cgroups.remove(&tag.0);
        Ok(())
    }

    /// Takes the sticky tag off all processes that have it.
    pub(super) fn forget(&mut self, maps: &Maps, tag: TagId) -> Result<(), CaptureError> {
        for pid in maps.sticky_pids()? {
            if maps.sticky_tag(pid)?.is_some_and(|sticky| sticky.tag.0 == tag.0) {
                maps.clear_sticky(pid)?;
            }
        }
        Ok(())
    }

    /// Makes sure of all links of a tag; `true` if its cgroup is gone, or unknown and a link is missing.
    fn attach(&self, tag: u32, id: u64, dir: Option<&Path>) -> Result<bool, CaptureError> {
        let cgroup = match dir {
            Some(dir) => Some(File::open(dir).map_err(CaptureError::cgroup(dir))?),
            None => None,
        };
        let pinned = self.pins.tag(tag, id);
        self.pins.make(&pinned)?;
        for (hook, program) in TAG_HOOKS.into_iter().zip(&self.programs) {
            let on = cgroup.as_ref().map(|cgroup| (cgroup.as_fd(), id));
            if pins::link(&pinned, hook, program.as_fd(), on)? == Link::Severed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn drop_tag(&self, maps: &Maps, tag: u32, id: u64) -> Result<(), CaptureError> {
        pins::remove_dir(&self.pins.tag(tag, id))?;
        maps.clear_tag(id)
    }

    /// The directory of a cgroup, by its id.
    fn find(&self, id: u64) -> Option<PathBuf> {
        cgroup::subtree(&self.mount).ok()?.into_iter().find(|dir| cgroup::id(dir).is_ok_and(|there| there == id))
    }
}

/// The levels at which the kernel side looks for a tag that is `level` below the mount. In a container the mount is
/// somewhere below the real root, and the kernel counts from that.
fn levels(level: u32, mount_id: u64) -> u32 {
    let all = (1 << (MAX_LEVEL + 1)) - 1;
    if mount_id == ROOT_ID { 1 << level } else { all & !((1 << level) - 1) }
}

/// Notes the processes that are there already. Those that fork meanwhile pass it on, those that join are in the cgroup.
fn note_members(maps: &Maps, dir: &Path, tag: Tag, initial_pids: bool) -> Result<(), CaptureError> {
    if !initial_pids {
        return Ok(());
    }
    for dir in cgroup::subtree(dir).map_err(CaptureError::cgroup(dir))? {
        // One that was removed meanwhile has no members.
        for pid in cgroup::processes(&dir).unwrap_or_default() {
            let keeps = match maps.sticky_tag(pid)? {
                // A live tag's process stays that tag's, wherever it is.
                Some(sticky) => maps.tagged()?.iter().any(|(live, _)| live.0 == sticky.tag.0 && *live != TagId(tag.0)),
                None => false,
            };
            if !keeps {
                maps.set_sticky(pid, &Sticky { tag, reserved: 0, since: super::watch::boot_time() })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_to_look_at() {
        assert_eq!(levels(2, ROOT_ID), 0b100);
        assert_eq!(levels(1, 77) & 0b111, 0b110);
        assert_eq!(levels(MAX_LEVEL, 77), 1 << MAX_LEVEL);
    }
}
