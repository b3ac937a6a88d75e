//! The daemon of a test host: started as a service manager would start it, signalled, killed, started again.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, Output, Running, agent, place, wait_for};

impl Host {
    /// Starts the daemon and returns when it answers on its control socket.
    pub fn start_daemon(&self) {
        if let Err(log) = self.try_start_daemon() {
            panic!("the daemon did not start:\n{log}");
        }
    }

    /// Starts the daemon; gives its log if it ends before it answers.
    pub fn try_start_daemon(&self) -> Result<(), String> {
        self.try_start_daemon_with(&self.settings.daemon_env)
    }

    /// The same with other variables than the host's settings name.
    pub fn try_start_daemon_with(&self, env: &[(String, String)]) -> Result<(), String> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = self.enter();
        command.envs(std::env::var_os("TOLLGATE_LOG").map(|level| ("TOLLGATE_LOG", level)));
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.arg(self.tollgate_path()).args(["daemon", "--config"]).arg(self.config());
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("nsenter starts");
        let mut daemon = self.lock();
        assert!(daemon.is_none(), "there is a daemon already");
        let socket = self.socket();
        let started = {
            let child = daemon.insert(child);
            wait_for("the daemon's control socket, or its end", || {
                if UnixStream::connect(&socket).is_ok() {
                    return Some(Ok(()));
                }
                child.try_wait().expect("a child").map(|_| Err(self.daemon_log()))
            })
        };
        if started.is_err() {
            *daemon = None;
        }
        started
    }

    /// Sends a signal to the daemon.
    pub fn signal_daemon(&self, signal: Signal) {
        let pid = self.lock().as_ref().expect("a daemon").id();
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("a running daemon");
    }

    /// Waits for the daemon to end by itself.
    pub fn daemon_ended(&self) -> ExitStatus {
        let mut child = self.lock().take().expect("a daemon");
        wait_for("the daemon's end", || child.try_wait().expect("a child"))
    }

    /// `kill -9`.
    pub fn kill_daemon(&self) {
        self.signal_daemon(Signal::SIGKILL);
        self.daemon_ended();
    }

    pub fn daemon_is_running(&self) -> bool {
        self.lock().as_mut().is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    /// Most memory that the daemon has taken since it was started, in bytes.
    pub fn daemon_memory(&self) -> u64 {
        let pid = self.lock().as_ref().expect("a daemon").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running daemon");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// What the daemon has written to its standard error, all starts together.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A verb of `tollgate`, asked by root outside of the tag.
    pub fn tollgate(&self, args: &[&str]) -> Output {
        agent::finish(self.verb(args), &format!("tollgate {}", args.join(" ")), &[], super::BUDGET)
    }

    /// The same for one that goes on.
    pub fn start_tollgate(&self, args: &[&str]) -> Running {
        Running::start(self.verb(args), &format!("tollgate {}", args.join(" ")), &[])
    }

    fn verb(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(place::binary("tollgate"));
        command.env_clear().env("PATH", place::PATH).stdin(Stdio::null());
        command.arg("--socket").arg(self.socket()).args(args);
        command
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/control.sock")
    }

    pub(super) fn tollgate_path(&self) -> PathBuf {
        self.dir.join("bin/tollgate")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
