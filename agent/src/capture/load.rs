//! Loading and attaching, or taking over what is attached.
//!
//! Owns the order of things at start. Nothing that is attached is ever detached here, so that there is no moment in which
//! a tagged process is not governed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use aya::maps::RingBuf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupSock, CgroupSockAddr, SockOps, TracePoint};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use nix::mount::MsFlags;
use tollgate_common::rule::MAX_PORTS;
use tollgate_common::{Config, NetPort, SCHEMA};

use super::error::CaptureError;
use super::object::{self, MAPS, Maps, OBJECT, ROOT_HOOKS, TAG_HOOKS, TRACEPOINTS};
use super::pins::{self, Link, Pins};
use super::tags::Tags;
use super::{Capture, watch};
use crate::sys::cgroup;
use crate::sys::diag::SocketDiag;

/// First with the network namespace cookie in sock_ops.
const OLDEST: (u32, u32) = (5, 15);
/// First with `bpf_set_retval`.
const RETVAL: (u32, u32) = (5, 18);
/// Inode of the initial pid namespace, fixed by the kernel (`PROC_PID_INIT_INO`).
const INITIAL_PIDS: &str = "pid:[4026531836]";
const TRACEFS: &str = "/sys/kernel/tracing";

pub(super) fn start(config: &crate::config::Capture) -> Result<Capture, CaptureError> {
    let kernel = kernel()?;
    let mount = match &config.cgroup_root {
        Some(root) => root.clone(),
        None => cgroup::mount().map_err(CaptureError::NoCgroups)?,
    };
    let pins = Pins::open(&config.bpffs)?;
    let trace = Trace::find();

    let mut object = load(&pins, kernel, &trace)?;
    let maps = Maps::open(&pins.maps())?;
    let root_programs = programs(&mut object, &ROOT_HOOKS)?;
    let tag_programs = programs(&mut object, &TAG_HOOKS)?;

    configure(&maps, config)?;
    attach_root(&pins, &mount, &root_programs)?;
    let sticky = match trace.fork_child {
        0 => false,
        _ => attach_tracepoints(&mut object, &pins)?,
    };
    if !sticky {
        tracing::warn!(
            "processes cannot be followed when they leave their cgroup (no usable tracefs); root processes can leave it, others cannot"
        );
    }
    let tags = Tags::adopt(pins, mount, tag_programs, &maps)?;

    let peers = SocketDiag::open().map_err(CaptureError::Peer)?;
    let initial_pids = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new(INITIAL_PIDS));
    let logger = EbpfLogger::init_with_logger(&mut object, watch::Tracing)
        .map_err(|e| CaptureError::Watch(std::io::Error::other(e)))?;
    let events = object.take_map("EVENTS").ok_or(CaptureError::Missing("EVENTS"))?;
    let events = RingBuf::try_from(events).map_err(|e| CaptureError::Watch(std::io::Error::other(e)))?;
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map_err(CaptureError::Watch);
    let sources = watch::Sources {
        events,
        logger,
        flows: own(maps.flows())?,
        foreign: own(maps.foreign())?,
        sticky: if initial_pids && trace.group_dead == 0 { Some(own(maps.sticky())?) } else { None },
    };
    let (watch, receiver) = watch::start(sources).map_err(CaptureError::Watch)?;
    Ok(Capture {
        maps,
        tags: Mutex::new(tags),
        home: super::here()?,
        peers,
        port: config.port,
        initial_pids,
        sticky,
        no_flow: AtomicU64::new(0),
        events: Mutex::new(Some(receiver)),
        _watch: watch,
    })
}

/// Loads the object with the maps that are pinned, making and pinning those that are not.
fn load(pins: &Pins, kernel: (u32, u32), trace: &Trace) -> Result<Ebpf, CaptureError> {
    let has_retval = u8::from(kernel >= RETVAL);
    let level = aya_log::Level::Info as u8;
    let mut loader = EbpfLoader::new();
    for (name, ..) in MAPS {
        loader.map_pin_path(name, pins.maps().join(name));
    }
    loader
        .override_global("HAS_RETVAL", &has_retval, true)
        .override_global("FORK_CHILD", &trace.fork_child, true)
        .override_global("EXIT_GROUP_DEAD", &trace.group_dead, true)
        .override_global(aya_log::LEVEL, &level, true)
        .load(OBJECT)
        .map_err(|e| CaptureError::Load(Box::new(e)))
}

/// Loads the hooks' programs into the kernel, in the hooks' order.
fn programs(object: &mut Ebpf, hooks: &[object::Hook]) -> Result<Vec<OwnedFd>, CaptureError> {
    let mut loaded = Vec::with_capacity(hooks.len());
    for hook in hooks {
        let name = hook.program;
        let failed = |e| CaptureError::Program { name, source: Box::new(e) };
        let program = object.program_mut(name).ok_or(CaptureError::Missing(name))?;
        if let Ok(program) = <&mut CgroupSockAddr>::try_from(&mut *program) {
            program.load().map_err(failed)?;
        } else if let Ok(program) = <&mut CgroupSock>::try_from(&mut *program) {
            program.load().map_err(failed)?;
        } else {
            <&mut SockOps>::try_from(&mut *program).and_then(|program| program.load()).map_err(failed)?;
        }
        let fd = program.fd().map_err(failed)?;
        let fd = fd.as_fd().try_clone_to_owned().map_err(|source| CaptureError::Link { name, source })?;
        loaded.push(fd);
    }
    Ok(loaded)
}

/// Writes what the file says, and keeps what the tags before need.
fn configure(maps: &Maps, config: &crate::config::Capture) -> Result<(), CaptureError> {
    let there = maps.config()?;
    let mut wanted = if there.schema == SCHEMA { there } else { Config { schema: SCHEMA, ..Config::EMPTY } };
    wanted.proxy = NetPort::from_host(config.port);
    wanted.ports = [NetPort::from_host(0); MAX_PORTS];
    for (place, port) in wanted.ports.iter_mut().zip(&config.ports) {
        *place = NetPort::from_host(*port);
    }
    wanted.count = config.ports.len().min(MAX_PORTS) as u16;
    if wanted == there { Ok(()) } else { maps.set_config(&wanted) }
}

fn attach_root(pins: &Pins, mount: &Path, programs: &[OwnedFd]) -> Result<(), CaptureError> {
    let root = File::open(mount).map_err(CaptureError::cgroup(mount))?;
    let id = cgroup::id(mount).map_err(CaptureError::cgroup(mount))?;
    for (hook, program) in ROOT_HOOKS.into_iter().zip(programs) {
        let link = pins::link(&pins.root(), hook, program.as_fd(), Some((root.as_fd(), id)))?;
        if link == Link::Severed {
            let source = std::io::Error::other("the cgroup it was on is gone");
            return Err(CaptureError::Link { name: hook.program, source });
        }
    }
    Ok(())
}

/// Attaches and pins the tracepoint programs. A link of theirs cannot be changed in place: the new one is there before
/// the old one goes.
fn attach_tracepoints(object: &mut Ebpf, pins: &Pins) -> Result<bool, CaptureError> {
    for (name, category, tracepoint) in TRACEPOINTS {
        let failed = |e| CaptureError::Program { name, source: Box::new(e) };
        let program = object.program_mut(name).ok_or(CaptureError::Missing(name))?;
        let program = <&mut TracePoint>::try_from(program).map_err(failed)?;
        program.load().map_err(failed)?;
        let id = match program.attach(category, tracepoint) {
            Ok(id) => id,
            Err(e) => {
                tracing::warn!(error = %e, tracepoint, "cannot attach to a tracepoint");
                return Ok(false);
            }
        };
        let link: FdLink = match program.take_link(id).map_err(failed)?.try_into() {
            Ok(link) => link,
            Err(_) => {
                tracing::warn!("this kernel's tracepoint links cannot be pinned");
                return Ok(false);
            }
        };
        let (path, fresh) = (pins.trace().join(name), pins.trace().join(format!("{name}_new")));
        remove_file(&fresh)?;
        link.pin(&fresh).map_err(|e| CaptureError::Pin { path: fresh.clone(), source: std::io::Error::other(e) })?;
        remove_file(&path)?;
        std::fs::rename(&fresh, &path).map_err(CaptureError::pin(&path))?;
    }
    Ok(true)
}

fn remove_file(path: &Path) -> Result<(), CaptureError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(CaptureError::Pin { path: path.to_owned(), source: e })
        }
        _ => Ok(()),
    }
}

fn kernel() -> Result<(u32, u32), CaptureError> {
    let release =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    match version(&release) {
        Some(version) if version >= OLDEST => Ok(version),
        _ => Err(CaptureError::OldKernel(release)),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Offsets in the records of tracepoints, which differ between kernels. 0: not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trace {
    fork_child: u32,
    group_dead: u32,
}

impl Trace {
    /// Reads them from tracefs, which is mounted if need be.
    fn find() -> Self {
        let events = PathBuf::from(TRACEFS).join("events/sched");
        if !events.exists() {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            if let Err(e) = nix::mount::mount(Some("tracefs"), TRACEFS, Some("tracefs"), flags, None::<&str>) {
                tracing::warn!(error = %e, "cannot mount tracefs on {TRACEFS}");
            }
        }
        let format = |name| std::fs::read_to_string(events.join(name).join("format")).unwrap_or_default();
        Self {
            fork_child: offset(&format("sched_process_fork"), "child_pid", 4).unwrap_or(0),
            group_dead: offset(&format("sched_process_exit"), "group_dead", 1).unwrap_or(0),
        }
    }
}

/// The offset of a field of that size in a tracepoint's description.
fn offset(format: &str, field: &str, size: u32) -> Option<u32> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declared = parts.next()?.strip_prefix("field:")?;
        if declared.split_whitespace().next_back()? != field {
            return None;
        }
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        (parts.next()?.strip_prefix("size:")?.parse::<u32>().ok()? == size).then_some(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.12.0"), Some((6, 12)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert_eq!(version("5.15"), Some((5, 15)));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn offsets_of_old_and_new_kernels() {
        let new = "name: sched_process_fork\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\tfield:__data_loc char[] parent_comm;\toffset:8;\tsize:4;\tsigned:0;\n\tfield:pid_t parent_pid;\toffset:12;\tsize:4;\tsigned:1;\n\tfield:pid_t child_pid;\toffset:20;\tsize:4;\tsigned:1;\n";
        assert_eq!(offset(new, "child_pid", 4), Some(20));
        let old = "\tfield:char parent_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\tfield:pid_t child_pid;\toffset:44;\tsize:4;\tsigned:1;\n";
        assert_eq!(offset(old, "child_pid", 4), Some(44));
        assert_eq!(offset(new, "group_dead", 1), None);
        assert_eq!(offset("\tfield:bool group_dead;\toffset:32;\tsize:1;\tsigned:0;", "group_dead", 1), Some(32));
        assert_eq!(offset(new, "child_pid", 8), None);
    }
}
