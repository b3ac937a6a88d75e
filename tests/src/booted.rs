//! A booted systemd with the daemon's unit installed, as a package would install it.
//!
//! Owns a container of `systemd-nspawn` over the root file system of `cargo xtask tools rootfs`: pristine at each start, in
//! a cgroup of its own, with a network of nothing but loopback. It ends with the value. Runs on the test's thread.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::bed::teardown::{cgroup_mounts, remove_tree};
use crate::host::{BUDGET, Output, PATH, binary, finish, tools, unique, wait_for};

/// What is put in place before the boot: path inside, and text.
pub type File<'a> = (&'a str, &'a str);

/// A running system.
#[derive(Debug)]
pub struct Booted {
    nspawn: Child,
    /// Process 1 of the system, as the host sees it.
    init: u32,
    dir: PathBuf,
    cgroup: PathBuf,
}

impl Booted {
    /// Boots, with the daemon's binary, its unit and these files; returns when all units have settled.
    pub fn start(files: &[File<'_>]) -> Self {
        let dir = std::env::temp_dir().join(unique(&format!("tollgate-booted-{}", std::process::id())));
        fs::create_dir(&dir).expect("a directory of the system's own");
        let mount = cgroup_mounts().expect("/proc/mounts").into_iter().next().expect("a cgroup v2 mount");
        let cgroup = mount.join(dir.file_name().expect("it has a name"));
        fs::create_dir(&cgroup).expect("a cgroup");
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/packaging/tollgate.service");
        let mut binds = vec![
            (binary("tollgate"), "/usr/local/bin/tollgate".to_owned()),
            (fs::canonicalize(unit).expect("the unit"), "/etc/systemd/system/tollgate.service".to_owned()),
        ];
        for (n, (path, text)) in files.iter().enumerate() {
            let source = dir.join(n.to_string());
            fs::write(&source, text).expect("a file");
            fs::set_permissions(&source, fs::Permissions::from_mode(0o600)).expect("its mode");
            binds.push((source, (*path).to_owned()));
        }
        let root = tools().join("rootfs/root");
        assert!(root.exists(), "`{}` is missing; run `cargo xtask tools rootfs`", root.display());
        // The container's systemd wants a unified hierarchy, which not every host mounts where it looks.
        let mut script = format!(
            "echo $$ > {}/cgroup.procs && mount --make-rprivate / && umount -R /sys/fs/cgroup && \
             mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs tmpfs /run/systemd && exec systemd-nspawn -q -D {} -b \
             --console=pipe --volatile=overlay --register=no --keep-unit --private-network --capability=all \
             --system-call-filter='bpf perf_event_open pidfd_getfd' --tmpfs=/run/log",
            cgroup.display(),
            root.display()
        );
        for (from, to) in &binds {
            script += &format!(" --bind-ro={}:{to}", from.display());
        }
        script += " systemd.show_status=0";
        let log = fs::File::create(dir.join("console")).expect("a log");
        let nspawn = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", &script])
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare starts");
        let mut booted = Self { nspawn, init: 0, dir, cgroup };
        booted.init = wait_for("a booting system", || booted.find_init());
        wait_for("a system bus", || {
            booted.try_run("systemctl is-system-running --wait").text().contains("running").then_some(())
        });
        booted
    }

    /// Runs a shell command inside, as root; panics if it fails.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.try_run(script).ok()
    }

    /// Runs a shell command inside, however it ends.
    pub fn try_run(&self, script: &str) -> Output {
        // A unit of its own: what is only let in would be in none of the system's cgroups.
        self.enter(&["systemd-run", "--quiet", "--pipe", "--wait", "sh", "-c", script])
    }

    fn enter(&self, argv: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]);
        command.arg("--").args(argv).env_clear().env("PATH", PATH);
        finish(command, "booted system", &[], BUDGET)
    }

    fn find_init(&mut self) -> Option<u32> {
        if let Ok(Some(status)) = self.nspawn.try_wait() {
            let console = fs::read_to_string(self.dir.join("console")).unwrap_or_default();
            panic!("the system did not boot ({status}): {console}");
        }
        let pid = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let init = children.split_whitespace().next()?.parse().ok()?;
        // Before it has become systemd, its namespaces are not made yet.
        let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (name.trim() == "systemd").then_some(init)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            eprintln!("---- journal of the system:\n{}", self.try_run("journalctl -b --no-pager -n 60").text());
        }
        // Everything inside ends with it.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = self.nspawn.wait();
        remove_tree(&self.cgroup);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
