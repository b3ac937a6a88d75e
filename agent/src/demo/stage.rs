//! The stage: namespaces, loopback addresses, private mounts and the files of one demonstration.
//!
//! Must be set while the process has one thread, because namespaces are entered thread by thread. Everything on it
//! disappears with the process, but for the work directory, which is removed on drop.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::DemoError;

/// Where names of AWS resolve to on this stage (RFC 5737: no such host exists anywhere).
pub(super) const AWS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The `PATH` of everything that is started here.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The bucket of the play.
pub(super) const BUCKET: &str = "tollgate-demo";

const NAMES: [&str; 8] = [
    "sts.us-east-1.amazonaws.com",
    "sts.amazonaws.com",
    "s3.us-east-1.amazonaws.com",
    "s3.amazonaws.com",
    "tollgate-demo.s3.us-east-1.amazonaws.com",
    "tollgate-demo.s3.amazonaws.com",
    "ec2.us-east-1.amazonaws.com",
    "secretsmanager.us-east-1.amazonaws.com",
];

/// The policies that are shipped, as they are.
const POLICIES: [(&str, &str); 2] = [
    ("00-baseline.cedar", include_str!("../../../policies/00-baseline.cedar")),
    ("10-examples.cedar", include_str!("../../../policies/10-examples.cedar")),
];

/// A set stage.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    keep: bool,
    /// Mount points below the directory, in order.
    bound: RefCell<Vec<PathBuf>>,
}

impl Stage {
    /// Enters the namespaces and lays out the files.
    pub(super) fn set(keep: bool) -> Result<Self, DemoError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(DemoError::NotRoot);
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .map_err(|source| DemoError::Namespace { what: "make namespaces", source })?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|source| DemoError::Namespace { what: "make the mounts private", source })?;
        let stage = Self {
            dir: std::env::temp_dir().join(format!("tollgate-demo-{}", std::process::id())),
            keep,
            bound: RefCell::default(),
        };
        stage.files()?;
        stage.network()?;
        stage.mounts()?;
        Ok(stage)
    }

    /// Makes `source` visible at `name`, so that the agent's user gets there whatever lies above the original.
    pub(super) fn bind(&self, source: &Path, name: &str) -> Result<PathBuf, DemoError> {
        let target = self.path(name);
        let made = if source.is_dir() { fs::create_dir(&target) } else { fs::write(&target, "") };
        made.map_err(|source| DemoError::File { what: "make", path: target.clone(), source })?;
        let none = None::<&str>;
        mount(Some(source), &target, none, MsFlags::MS_BIND, none)
            .map_err(|source| DemoError::Namespace { what: "bind a file", source })?;
        self.bound.borrow_mut().push(target.clone());
        Ok(target)
    }

    /// Below the work directory.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf, DemoError> {
        let path = self.path(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|source| DemoError::File { what: "write", path: path.clone(), source })?;
        Ok(path)
    }

    fn files(&self) -> Result<(), DemoError> {
        for dir in ["", "state", "run", "bpf", "policies", "home"] {
            let path = self.path(dir);
            fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
                .map_err(|source| DemoError::File { what: "make", path, source })?;
        }
        for (name, text) in POLICIES {
            self.write(&format!("policies/{name}"), text, 0o644)?;
        }
        self.write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{AWS} {}\n", NAMES.join(" ")), 0o644)?;
        Ok(())
    }

    fn network(&self) -> Result<(), DemoError> {
        run("ip", ["link", "set", "lo", "up"])?;
        run("ip", ["address", "add", &format!("{AWS}/32"), "dev", "lo"])
    }

    fn mounts(&self) -> Result<(), DemoError> {
        let none = None::<&str>;
        mount(Some(&self.path("hosts")), "/etc/hosts", none, MsFlags::MS_BIND, none)
            .map_err(|source| DemoError::Namespace { what: "bind a hosts file", source })?;
        let bpf = self.path("bpf");
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), none)
            .map_err(|source| DemoError::Namespace { what: "mount a BPF file system", source })?;
        self.bound.borrow_mut().push(bpf);
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The mounts would vanish with the process; here they are in the way of removing the directory, and what is
        // mounted must not be removed with it.
        let gone = self.bound.borrow_mut().drain(..).rev().all(|path| nix::mount::umount(&path).is_ok());
        if gone && !self.keep {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Runs a short tool of the system; its own words are the error.
fn run<const N: usize>(program: &'static str, args: [&str; N]) -> Result<(), DemoError> {
    let command = format!("{program} {}", args.join(" "));
    let output =
        Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DemoError::Missing("ip", "iproute2"),
            _ => DemoError::Start { command: command.clone(), source },
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(DemoError::Failed { command, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// The first executable of that name on the `PATH`.
pub(super) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program.as_ref()))
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
}
