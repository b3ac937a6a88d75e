//! One test host: a bed, a daemon in it, and commands inside and outside of the tag.
//!
//! Owns the bed's process and the daemon's; both end with the [`Host`], and if the test is killed, with the pipe to the
//! bed, which kills whatever is left in its namespaces. Agents run as `nobody` with an empty environment. Everything
//! that waits has a budget and panics with what is known when it is used up. Runs on the tests' threads.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::bed::Info;

mod account;
mod agent;
mod daemon;
mod place;
mod provider;
mod settings;

pub use account::{Event, Exchange, Timeline};
pub(crate) use agent::finish;
pub use agent::{Agent, Output, Running};
pub(crate) use place::{PATH, binary, tools};
pub use provider::Provider;
pub use settings::{POLICIES, Settings};

/// Long enough for a busy machine; nothing waits for it when all is well.
pub const BUDGET: Duration = Duration::from_secs(60);
/// The user that agents run as.
pub const NOBODY: u32 = 65534;

/// A running test host.
#[derive(Debug)]
pub struct Host {
    pub info: Info,
    dir: PathBuf,
    settings: Settings,
    bed: Child,
    daemon: Mutex<Option<Child>>,
}

impl Host {
    /// The host that most tests share. They tell their sessions apart by name.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Host> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Settings::default()))
    }

    /// A host of the caller's own, with a running daemon.
    pub fn start(settings: Settings) -> Self {
        let host = Self::without_daemon(settings);
        host.start_daemon();
        host
    }

    /// A host whose daemon has yet to be started.
    pub fn without_daemon(settings: Settings) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "the black-box tests need root: namespaces, cgroups, BPF");
        let dir = make_dir();
        let mut bed = Command::new("unshare")
            .args(["--net", "--mount", "--"])
            .arg(place::binary("tollgate-testbed"))
            .arg("--dir")
            .arg(&dir)
            .arg("--tools")
            .arg(place::tools())
            // Ctrl-C is for the test; the bed ends when its pipe does, and cleans up.
            .process_group(0)
            .env_clear()
            .env("PATH", place::PATH)
            .envs(std::env::var_os("TOLLGATE_TEST_KEEP").map(|keep| ("TOLLGATE_TEST_KEEP", keep)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("unshare starts");
        let mut line = String::new();
        let stdout = bed.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("the bed's answer");
        let info: Info = serde_json::from_str(&line).unwrap_or_else(|e| panic!("the bed did not start ({e}): {line}"));
        let host = Self { info, dir, settings, bed, daemon: Mutex::new(None) };
        place::furnish(&host);
        host.write_settings(&host.settings);
        host
    }

    /// The bed's directory, the same path inside and outside of its namespaces.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in a place that agents can read and write.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.work(name);
        fs::write(&path, bytes).expect("a file");
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        path
    }

    /// A path in a directory that agents can read and write; each call's is another.
    pub fn work(&self, name: &str) -> PathBuf {
        self.dir.join("work").join(unique(name))
    }

    /// What [`crate::bed::world`] has seen: whoever got out of the namespace's loopback services.
    pub fn world(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&self.info.world_log).expect("the world's log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A command that starts in the bed's namespaces, as root.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.info.pid.to_string()).args(["--net", "--mount", "--"]);
        command.env_clear().env("PATH", place::PATH).stdin(Stdio::null());
        command
    }

    /// Runs a command in the bed's namespaces as root, outside of every tag.
    pub fn root(&self, argv: &[&str]) -> Output {
        let mut command = self.enter();
        command.args(argv);
        agent::finish(command, &argv.join(" "), &[], BUDGET)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- daemon of `{}`:\n{}", self.dir.display(), self.daemon_log());
        }
        // Its end of the pipe tells the bed to kill, unmount and remove everything.
        drop(self.bed.stdin.take());
        let _ = self.bed.wait();
        if let Some(mut daemon) = self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            let _ = daemon.wait();
        }
    }
}

/// Waits until `look` finds what it looks for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BUDGET;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {BUDGET:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A name that no other call has got.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn make_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(unique(&format!("tollgate-blackbox-{}", std::process::id())));
    fs::create_dir(&dir).expect("a directory of the host's own");
    for (name, mode) in [("", 0o755), ("work", 0o1777), ("homes", 0o755), ("policies", 0o755)] {
        let path = dir.join(name);
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
    }
    dir
}
