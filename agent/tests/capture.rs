//! The kernel side, black-box: real hooks, real sockets, a Python script as the agent.
//!
//! Each test runs itself again in a network namespace of its own, with its own pins and its own cgroup, so that tests do
//! not meet and no packet leaves the machine. They need root; without it they fail where `CI` is set, and say that they
//! are skipped elsewhere.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tollgate::capture::{Bypass, BypassKind, Capture, Flow, TagId, unpin};
use tollgate::config;
use tollgate::sys::cgroup;

/// Long enough for a busy machine; nothing waits for it when all is well.
const BUDGET: Duration = Duration::from_secs(20);
const PORT: u16 = 15001;
/// A test of this name runs in its namespace already.
const INSIDE: &str = "TOLLGATE_TEST_INSIDE";

/// Runs `body` in a fresh network namespace, by running this test again there.
fn isolated(name: &str, body: fn(&mut Bed)) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip").success());
        let mut bed = Bed::new(name);
        body(&mut bed);
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "{name} needs root, and CI is set");
        eprintln!("SKIPPED {name}: needs root");
        return;
    }
    let me = std::env::current_exe().expect("a test binary");
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(me)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in its namespace:\n{text}");
}

/// A kernel side of its own, and a cgroup to tag.
struct Bed {
    config: config::Capture,
    capture: Option<Arc<Capture>>,
    dir: PathBuf,
    flows: Option<mpsc::Receiver<Option<Flow>>>,
}

impl Bed {
    fn new(name: &str) -> Self {
        let unique = format!("tollgate-test-{name}-{}", std::process::id());
        let config =
            config::Capture { port: PORT, bpffs: Path::new("/sys/fs/bpf").join(&unique), ..config::Capture::default() };
        let dir = cgroup::mount().expect("cgroup v2").join(&unique).join("agent");
        cgroup::create(&dir).expect("a cgroup");
        let mut bed = Self { config, capture: None, dir, flows: None };
        bed.start();
        bed
    }

    fn start(&mut self) -> &Arc<Capture> {
        self.capture.insert(Arc::new(Capture::start(&self.config).expect("capture starts")))
    }

    fn capture(&self) -> &Arc<Capture> {
        self.capture.as_ref().expect("started")
    }

    fn tag(&self) -> TagId {
        self.capture().tag(&self.dir).expect("the cgroup can be tagged")
    }

    /// Listens, and answers each connection with where it was going.
    fn serve(&mut self) -> Vec<SocketAddr> {
        let listeners = self.capture().listen().expect("listeners");
        let addresses = listeners.iter().map(|l| l.local_addr().expect("bound")).collect();
        let (sender, receiver) = mpsc::channel();
        for listener in listeners {
            answer(listener, Arc::clone(self.capture()), sender.clone());
        }
        self.flows = Some(receiver);
        addresses
    }

    /// The next accepted connection's flow.
    fn flow(&self) -> Option<Flow> {
        self.flows.as_ref().expect("serving").recv_timeout(BUDGET).expect("a connection")
    }

    /// Runs a script in `dir`, and gives what it prints.
    fn run_in(&self, dir: Option<&Path>, uid: u32, script: &str) -> String {
        let child = self.spawn_in(dir, uid, script);
        let output = child.wait_with_output().expect("python3");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the script failed:\n{errors}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn spawn_in(&self, dir: Option<&Path>, uid: u32, script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        let join = dir.map_or(String::new(), |dir| format!("echo $$ > {}/cgroup.procs; ", dir.display()));
        let switch =
            if uid == 0 { String::new() } else { format!("setpriv --reuid {uid} --clear-groups --no-new-privs ") };
        command.args(["-c", &format!("{join}exec {switch}/usr/bin/python3 -c \"$0\""), &format!("{PRELUDE}{script}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().expect("sh")
    }

    /// As a tagged process without privileges.
    fn agent(&self, script: &str) -> String {
        self.run_in(Some(&self.dir), 65534, script)
    }

    /// Outside every tag.
    fn outsider(&self, script: &str) -> String {
        self.run_in(None, 65534, script)
    }

    /// The next reported attempt of that kind.
    fn bypass(&self, events: &mut tokio::sync::mpsc::Receiver<Bypass>, kind: BypassKind) -> Bypass {
        let deadline = Instant::now() + BUDGET;
        loop {
            match events.try_recv() {
                Ok(event) if event.kind == kind => return event,
                Ok(_) => {}
                Err(_) => {
                    assert!(Instant::now() < deadline, "no report of {kind:?}");
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let outer = self.dir.parent().expect("a parent").to_owned();
        let _ = cgroup::kill(&outer);
        self.capture = None;
        let _ = unpin(&self.config.bpffs);
        let _ = cgroup::remove(&outer, BUDGET);
    }
}

fn answer(listener: TcpListener, capture: Arc<Capture>, sender: mpsc::Sender<Option<Flow>>) {
    listener.set_nonblocking(false).expect("a listener");
    let local = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let flow = capture.take(peer, local).expect("a look-up");
            if let Some(flow) = &flow {
                let _ = writeln!(stream, "to {}", flow.original);
            }
            if sender.send(flow).is_err() {
                return;
            }
        }
    });
}

/// What the scripts have in common.
const PRELUDE: &str = r#"
import ctypes, errno, os, select, socket, struct, sys, time
def name(e): return errno.errorcode.get(e.errno, str(e))
def attempt(f):
    try: return f() or 'ok'
    except OSError as e: return name(e)
def get(address, family=socket.AF_INET, sock=None):
    s = sock or socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(10)
    s.connect(address)
    answer = s.makefile().readline().strip()
    return answer + ' peer ' + '%s:%d' % s.getpeername()[:2]
def tries(address, family=socket.AF_INET, sock=None): return attempt(lambda: get(address, family, sock))
libc = ctypes.CDLL(None, use_errno=True)
"#;

#[test]
fn redirects_tcp_of_both_families() {
    isolated("redirects_tcp_of_both_families", |bed| {
        let tag = bed.tag();
        assert_eq!(bed.serve().len(), 2);
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 443)))"), "to 192.0.2.1:443 peer 192.0.2.1:443");
        let flow = bed.flow().expect("a flow");
        assert_eq!((flow.tag, flow.uid, flow.comm.as_str()), (tag, 65534, "python3"));
        assert_eq!(flow.cgroup, cgroup::id(&bed.dir).expect("an id"));
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 80)))"), "to 192.0.2.1:80 peer 192.0.2.1:80");
        let v6 = "print(tries(('2001:db8::1', 443), socket.AF_INET6))";
        assert_eq!(bed.agent(v6), "to [2001:db8::1]:443 peer 2001:db8::1:443");
        let mapped = "print(tries(('::ffff:192.0.2.7', 443), socket.AF_INET6))";
        assert_eq!(bed.agent(mapped), "to 192.0.2.7:443 peer ::ffff:192.0.2.7:443");
        assert_eq!(bed.capture().counters().expect("counters").redirected, 4);
    });
}
