//! The daemon of the demonstration: this same binary, started as a service manager would start it, and asked by its
//! own command line. Ends with the demonstration.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stage::Stage;
use super::{DemoError, lookalike};

/// How long the daemon may take to listen, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// The audience that tokens of the demonstration must carry.
pub(super) const AUDIENCE: &str = "tollgate";

/// What the daemon is told of the world.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub issuer: &'a str,
    pub key: &'a lookalike::HeldKey,
    /// Group that may use the control socket.
    pub group: &'a str,
}

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Child,
    binary: PathBuf,
    socket: PathBuf,
    slice: String,
}

impl Daemon {
    /// Writes the configuration and starts the daemon; returns when it listens.
    pub(super) fn start(stage: &Stage, facts: &Facts<'_>) -> Result<Self, DemoError> {
        let slice = format!("tollgate-demo-{}.slice", std::process::id());
        stage.write("held-key", facts.key.secret_access_key.expose(), 0o600)?;
        let config = stage.write("tollgate.toml", &configuration(stage, facts, &slice), 0o600)?;
        let log = stage.path("daemon.log");
        let file = File::create(&log).map_err(|source| DemoError::File { what: "write", path: log.clone(), source })?;
        let binary = stage.path("tollgate");
        let process = Command::new(&binary)
            .args(["daemon", "--config"])
            .arg(config)
            .env_clear()
            .env("PATH", super::stage::PATH)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|source| DemoError::Start { command: "tollgate daemon".into(), source })?;
        let mut daemon = Self { process, binary, socket: stage.path("run/control.sock"), slice };
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&daemon.socket).is_err() {
            let ended = daemon.process.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(DemoError::Daemon(log.trim().to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// `tollgate` with the arguments that reach this daemon.
    pub(super) fn client(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket);
        command
    }

    /// What a verb prints.
    pub(super) fn ask(&self, args: &[&str]) -> Result<String, DemoError> {
        let command = format!("tollgate {}", args.join(" "));
        let output = self
            .client()
            .args(args)
            .output()
            .map_err(|source| DemoError::Start { command: command.clone(), source })?;
        if !output.status.success() {
            return Err(DemoError::Failed {
                command,
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).map(Pid::from_raw);
        if let Ok(pid) = pid {
            // It may have ended already.
            let _ = kill(pid, Signal::SIGTERM);
        }
        let end = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        for mount in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            let _ = fs::remove_dir(PathBuf::from(mount).join(&self.slice));
        }
    }
}

fn configuration(stage: &Stage, facts: &Facts<'_>, slice: &str) -> String {
    let path = |name: &str| stage.path(name).display().to_string();
    let account = lookalike::ACCOUNT;
    format!(
        r#"state_dir = "{state}"
runtime_dir = "{run}"

[capture]
bpffs = "{bpf}/tollgate"
slice = "{slice}"

[[identity.issuer]]
url = "{issuer}"
audience = ["{AUDIENCE}"]

[[binding]]
group = "s3-writers"
broker = {{ kind = "static", access_key_id = "{key}", secret_access_key_file = "{held}", account = "{account}" }}

# Instead of where the names point to: the look-alike.
[[upstream]]
host = "*.amazonaws.com"
address = "{aws}:443"
extra_root = "{root}"

[defaults]
region = "us-east-1"

[policy]
dir = "{policies}"

[journal]
to = "stderr"

[control]
group = "{group}"
"#,
        state = path("state"),
        run = path("run"),
        bpf = path("bpf"),
        issuer = facts.issuer,
        key = facts.key.access_key_id,
        held = path("held-key"),
        aws = super::stage::AWS,
        root = path("look-alike-root.pem"),
        policies = path("policies"),
        group = facts.group,
    )
}
