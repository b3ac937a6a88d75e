//! What can go wrong with capture, and what to check next.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of the room.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("kernel `{0}` is older than 5.15; capture needs the network namespace cookie in sock_ops programs")]
    OldKernel(String),
    #[error("cannot find the cgroup v2 hierarchy: {0}; mount it, or set `capture.cgroup_root`")]
    NoCgroups(#[source] io::Error),
    #[error("cgroup `{path}`: {source}; check that it exists and lies below the cgroup v2 mount")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("`{path}` cannot be tagged: {reason}")]
    Untaggable { path: PathBuf, reason: &'static str },
    #[error("`{path}` cannot hold pins: {reason}; check `capture.bpffs`")]
    Bpffs { path: PathBuf, reason: String },
    #[error(
        "`{found}` holds pins of another version; stop the processes it governs, then remove them with that version's `tollgate unpin`"
    )]
    OtherSchema { found: PathBuf },
    #[error(
        "pinned map `{name}` has another layout than this version's; remove the pins with the version that made them"
    )]
    Layout { name: &'static str },
    #[error(
        "cannot load the kernel side: {0}; check that the daemon has CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN"
    )]
    Load(#[source] Box<aya::EbpfError>),
    #[error("cannot load program `{name}`: {source}; check the daemon's capabilities and the kernel's log")]
    Program { name: &'static str, source: Box<aya::programs::ProgramError> },
    #[error("the object lacks `{0}`; it was built from other sources: run `cargo xtask ebpf`")]
    Missing(&'static str),
    #[error("map `{name}`: {source}")]
    Map { name: &'static str, source: io::Error },
    #[error(
        "cannot attach `{name}`: {source}; check whether another program holds the cgroup's hook exclusively (`bpftool cgroup tree`)"
    )]
    Link { name: &'static str, source: io::Error },
    #[error("pin `{path}`: {source}")]
    Pin { path: PathBuf, source: io::Error },
    #[error("all {0} tag numbers or places are taken; end tags, or restart the machine")]
    TooManyTags(u32),
    #[error("there is no tag {0}")]
    UnknownTag(u32),
    #[error("cannot tell the network namespace: {0}")]
    Netns(#[source] io::Error),
    #[error(
        "port {0} is in the range that the kernel hands out (`net.ipv4.ip_local_port_range`), so that another process could be given it; choose another `capture.port`, or reserve it in `net.ipv4.ip_local_reserved_ports`"
    )]
    EphemeralPort(u16),
    #[error("cannot listen on {address}: {source}; check what else uses the port (`ss -ltnp`)")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot ask the kernel whose connection it is: {0}; check that it has `inet_diag` and `tcp_diag`")]
    Peer(#[source] io::Error),
    #[error("cannot start the thread that reads the kernel's reports: {0}")]
    Watch(#[source] io::Error),
}

impl CaptureError {
    pub(super) fn map(name: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Map { name, source }
    }
    pub(super) fn pin(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Pin { path: path.to_owned(), source }
    }
    pub(super) fn cgroup(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Cgroup { path: path.to_owned(), source }
    }
    pub(super) fn bpffs(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Bpffs { path: path.to_owned(), reason: reason.to_string() }
    }
}
