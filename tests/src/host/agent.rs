//! Commands as agents run them: as `nobody`, with an empty environment and a home of their own, in a tag or outside.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{BUDGET, Host, NOBODY, Timeline, unique};

/// One agent: a home, and how its commands are started.
#[derive(Debug, Clone)]
pub struct Agent<'a> {
    host: &'a Host,
    name: String,
    tagged: bool,
    uid: u32,
    home: PathBuf,
    env: Vec<(String, String)>,
    flags: Vec<String>,
    stdin: Vec<u8>,
    budget: Duration,
}

impl Host {
    /// An agent whose commands run in the tag, each in a session named `name-N`.
    pub fn agent(&self, name: &str) -> Agent<'_> {
        let name = unique(name);
        let home = self.dir().join("homes").join(&name);
        fs::create_dir(&home).expect("a home");
        chown(&home, Some(NOBODY), Some(NOBODY)).expect("chown");
        let (env, flags, stdin) = (Vec::new(), Vec::new(), Vec::new());
        Agent { host: self, name, tagged: true, uid: NOBODY, home, env, flags, stdin, budget: BUDGET }
    }

    /// The same outside of every tag.
    pub fn outsider(&self, name: &str) -> Agent<'_> {
        Agent { tagged: false, ..self.agent(name) }
    }
}

impl<'a> Agent<'a> {
    /// The session's name in lists.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A variable besides `PATH` and `HOME`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Flags of `tollgate run`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// Lives in another agent's home.
    #[must_use]
    pub fn at_home_with(mut self, other: &Agent<'_>) -> Self {
        self.home.clone_from(&other.home);
        self
    }

    /// How long its commands may take.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Another user than `nobody`.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = uid;
        chown(&self.home, Some(uid), Some(uid)).expect("chown");
        self
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Output {
        finish(self.command(argv), &format!("{}: {}", self.name, argv.join(" ")), &self.stdin, self.budget)
    }

    /// Runs Python with the clients' packages.
    #[track_caller]
    pub fn python(&self, script: &str) -> Output {
        self.run(&["python3", "-c", script])
    }

    /// Runs a script that has all of `clients/python/probe.py`; gives what it prints, one JSON value a line.
    #[track_caller]
    pub fn probe(&self, script: &str) -> Vec<Value> {
        let text = self.python(&self.prelude(script)).ok();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The same for a script that goes on.
    pub fn start_probe(&self, script: &str) -> Running {
        self.start(&["python3", "-c", &self.prelude(script)])
    }

    fn prelude(&self, script: &str) -> String {
        let clients = self.host.dir().join("clients");
        format!("import sys\nsys.path.insert(0, '{}')\nfrom probe import *\n{script}", clients.display())
    }

    /// Starts a command that goes on.
    pub fn start(&self, argv: &[&str]) -> Running {
        Running::start(self.command(argv), &format!("{}: {}", self.name, argv.join(" ")), &self.stdin)
    }

    /// What the record says of the newest session of this agent.
    pub fn timeline(&self) -> Timeline {
        self.host.timeline(&self.name)
    }

    fn command(&self, argv: &[&str]) -> Command {
        let mut command = self.host.enter();
        let bin = self.host.dir().join("bin");
        command.args(["env", "-i", "-C"]).arg(&self.home);
        command.arg(format!("PATH={}:/usr/bin:/bin", bin.display())).arg(format!("HOME={}", self.home.display()));
        command.args(self.env.iter().map(|(name, value)| format!("{name}={value}")));
        let uid = self.uid.to_string();
        command.args(["setpriv", "--reuid", &uid, "--regid", &uid, "--groups", "65534", "--"]);
        if self.tagged {
            command.arg(self.host.tollgate_path()).arg("--socket").arg(self.host.socket());
            command.args(["run", "--name", &self.name]).args(&self.flags).arg("--");
        }
        command.args(argv);
        command
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    what: String,
}

impl Output {
    /// What it printed, trimmed; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout.trim().to_owned()
    }

    /// Both streams; panics if it did not fail.
    #[track_caller]
    pub fn failed(self) -> String {
        assert!(!self.status.success(), "it should have failed: {self}");
        self.stdout + &self.stderr
    }

    /// Both streams, however it ended.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr, what } = self;
        write!(f, "`{what}` ended with {status}\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }
}

/// A command that goes on; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    streams: [Stream; 2],
}

impl Running {
    pub(super) fn start(mut command: Command, what: &str, stdin: &[u8]) -> Self {
        let what = what.to_owned();
        command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a command");
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = stdin.to_vec();
            // A command that does not read all of it has its reasons.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        Self { child, what, streams: [Stream::of(stdout), Stream::of(stderr)] }
    }

    /// Of what was started: `tollgate run` for a tagged command.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).expect("a pid")), signal).expect("a running command");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.streams[0].bytes.lock().expect("a buffer")).into_owned()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self, budget: Duration) -> Output {
        let end = Instant::now() + budget;
        let mut late = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > end {
                late = true;
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = [self.streams[0].text(), self.streams[1].text()];
        let output = Output { status, stdout, stderr, what: self.what.clone() };
        assert!(!late, "not within {budget:?}: {output}");
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn finish(command: Command, what: &str, stdin: &[u8], budget: Duration) -> Output {
    Running::start(command, what, stdin).wait(budget)
}

/// What a command writes, as it comes.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(mut stream: impl std::io::Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let into = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 16384];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                into.lock().expect("a buffer").extend_from_slice(&piece[..n]);
            }
        });
        Self { bytes, reader }
    }

    /// All of it, if the stream has ended or ends soon: a command that outlives `tollgate run` keeps it open.
    fn text(&self) -> String {
        let end = Instant::now() + Duration::from_secs(1);
        while !self.reader.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        String::from_utf8_lossy(&self.bytes.lock().expect("a buffer")).into_owned()
    }
}
