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
        // Closing one with unread data would reset it before the answer is read.
        let mut kept = Vec::new();
        while let Ok((mut stream, peer)) = listener.accept() {
            let flow = capture.take(peer, local).expect("a look-up");
            if let Some(flow) = &flow {
                let _ = writeln!(stream, "to {}", flow.original);
            }
            let _ = stream.shutdown(std::net::Shutdown::Write);
            kept.push(stream);
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

#[test]
fn metadata_addresses_are_redirected_on_any_port() {
    isolated("metadata_addresses_are_redirected_on_any_port", |bed| {
        bed.tag();
        bed.serve();
        for address in ["169.254.169.254", "169.254.170.2", "169.254.170.23"] {
            let want = format!("to {address}:8080 peer {address}:8080");
            assert_eq!(bed.agent(&format!("print(tries(('{address}', 8080)))")), want);
        }
        for address in ["fd00:ec2::254", "fd00:ec2::23"] {
            let want = format!("to [{address}]:80 peer {address}:80");
            assert_eq!(bed.agent(&format!("print(tries(('{address}', 80), socket.AF_INET6))")), want);
        }
    });
}

#[test]
fn every_way_to_connect_is_seen() {
    isolated("every_way_to_connect_is_seen", |bed| {
        bed.tag();
        bed.serve();
        let way = |script: &str| {
            let got = bed.agent(&format!("to = ('192.0.2.1', 443)\n{script}"));
            assert_eq!(got, "to 192.0.2.1:443", "{script}");
        };
        // TCP fast open, by a sendto without connect.
        way(
            "s = socket.socket()\ns.sendto(b'x', 0x20000000, to); s.settimeout(10)\nprint(s.makefile().readline().strip())",
        );
        // The same, asked for by an option.
        way(
            "s = socket.socket(); s.setsockopt(6, 30, 1)\ns.connect(to); s.send(b'x'); s.settimeout(10)\nprint(s.makefile().readline().strip())",
        );
        way(
            "s = socket.socket(); s.setblocking(False)\ne = s.connect_ex(to)\nassert e in (0, errno.EINPROGRESS), e\nselect.select([], [s], [], 10); s.settimeout(10)\nprint(s.makefile().readline().strip())",
        );
        // Bound to a source port first, then connected twice after a failure.
        way(
            "s = socket.socket(); s.settimeout(10); s.bind(('127.0.0.1', 0))\ns.connect(to)\nprint(s.makefile().readline().strip())",
        );
        // io_uring, without a library.
        let uring = bed.agent(URING);
        assert!(uring == "to 192.0.2.1:443" || uring == "no io_uring", "{uring}");
    });
}

/// IORING_OP_CONNECT through the bare system calls. The rings are mapped, one entry is filled in, and submitted.
const URING: &str = r#"
import mmap
params = bytearray(120)
buf = (ctypes.c_char * 120).from_buffer(params)
fd = libc.syscall(425, 4, buf)
if fd < 0:
    print('no io_uring'); sys.exit()
sq = struct.unpack_from('10I', params, 40)
size = sq[6] + 4 * 4
ring = mmap.mmap(fd, size, offset=0)
sqes = mmap.mmap(fd, 64 * 4, offset=0x10000000)
s = socket.socket(); s.settimeout(10)
address = ctypes.create_string_buffer(struct.pack('=HH4s8x', 2, socket.htons(443), socket.inet_aton('192.0.2.1')))
struct.pack_into('=BBHiQQIIQ', sqes, 0, 16, 0, 0, s.fileno(), 16, ctypes.addressof(address), 0, 0, 7)
struct.pack_into('=I', ring, sq[6], 0)
struct.pack_into('=I', ring, sq[1], 1)
assert libc.syscall(426, fd, 1, 1, 1, 0, 0) == 1
print(s.makefile().readline().strip())
"#;

#[test]
fn untagged_processes_see_no_change() {
    isolated("untagged_processes_see_no_change", |bed| {
        bed.tag();
        bed.serve();
        let unreachable = "ENETUNREACH";
        assert_eq!(bed.outsider("print(tries(('192.0.2.1', 443)))"), unreachable);
        assert_eq!(bed.outsider("print(tries(('169.254.169.254', 80)))"), unreachable);
        let udp = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint(attempt(lambda: s.sendto(b'x', ('192.0.2.1', 443))))";
        assert_eq!(bed.outsider(udp), unreachable);
        assert_eq!(bed.run_in(None, 0, "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\nprint('made')"), "made");
        let mptcp = "print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) and 'made'))";
        assert_eq!(bed.outsider(mptcp), "made");
        let other_port = "s = socket.socket(); s.bind(('127.0.0.1', 15002)); s.listen()\nu = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 15001))\nprint('bound')";
        assert_eq!(bed.outsider(other_port), "bound");
        let counters = bed.capture().counters().expect("counters");
        assert_eq!((counters.redirected, counters.refused.len()), (0, 0));
    });
}

#[test]
fn loopback_and_other_ports_pass() {
    isolated("loopback_and_other_ports_pass", |bed| {
        bed.tag();
        bed.serve();
        let local = "l = socket.socket(); l.bind(('127.0.0.1', 443)); l.listen()\nc = socket.create_connection(('127.0.0.1', 443))\nprint(c.getpeername()[1])";
        assert_eq!(bed.run_in(Some(&bed.dir), 0, local), "443");
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 8443)))"), "ENETUNREACH");
        let dns = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint(attempt(lambda: s.sendto(b'x', ('127.0.0.1', 53)) and 'sent'))";
        assert_eq!(bed.agent(dns), "sent");
    });
}

#[test]
fn a_socket_made_before_the_tag_is_captured() {
    isolated("a_socket_made_before_the_tag_is_captured", |bed| {
        bed.tag();
        bed.serve();
        let script = format!(
            "s = socket.socket()\nopen('{}/cgroup.procs', 'w').write(str(os.getpid()))\nprint(tries(('192.0.2.1', 443), sock=s))",
            bed.dir.display()
        );
        assert_eq!(bed.run_in(None, 0, &script), "to 192.0.2.1:443 peer 192.0.2.1:443");
    });
}

#[test]
fn leaving_the_cgroup_does_not_untag() {
    isolated("leaving_the_cgroup_does_not_untag", |bed| {
        let tag = bed.tag();
        bed.serve();
        assert!(bed.capture().follows_processes());
        let leave = format!(
            "open('{}/cgroup.procs', 'w').write(str(os.getpid()))\n",
            cgroup::mount().expect("cgroup v2").display()
        );
        let itself = format!("{leave}print(tries(('192.0.2.1', 443)))");
        assert_eq!(bed.run_in(Some(&bed.dir), 0, &itself), "to 192.0.2.1:443 peer 192.0.2.1:443");
        assert_eq!(bed.flow().map(|flow| flow.tag), Some(tag));
        // And its children and grandchildren, which never were in it.
        let child = format!(
            "{leave}import subprocess\nprint(subprocess.run([sys.executable, '-c', 'import os, socket; os.fork() and os._exit(os.wait()[1]); s = socket.create_connection((\"192.0.2.1\", 443), 10); print(s.makefile().readline().strip())'], capture_output=True, text=True).stdout.strip())"
        );
        assert_eq!(bed.run_in(Some(&bed.dir), 0, &child), "to 192.0.2.1:443");
        let thread = format!(
            "import threading\n{leave}t = threading.Thread(target=lambda: print(tries(('192.0.2.1', 443)))); t.start(); t.join()"
        );
        assert_eq!(bed.run_in(Some(&bed.dir), 0, &thread), "to 192.0.2.1:443 peer 192.0.2.1:443");
        // The first thread ends, and the others go on.
        let orphan = format!(
            "import threading\n{leave}\ndef late():\n    time.sleep(0.3); print(tries(('192.0.2.1', 443)), flush=True); os._exit(0)\nthreading.Thread(target=late).start()\nlibc.pthread_exit(None)"
        );
        assert_eq!(bed.run_in(Some(&bed.dir), 0, &orphan), "to 192.0.2.1:443 peer 192.0.2.1:443");
    });
}

#[test]
fn a_socket_handed_to_an_outsider_stays_governed() {
    isolated("a_socket_handed_to_an_outsider_stays_governed", |bed| {
        let tag = bed.tag();
        bed.serve();
        // Abstract addresses belong to the network namespace, which both share.
        let outsider = bed.spawn_in(None, 65534, "l = socket.socket(socket.AF_UNIX); l.bind('\\0hand'); l.listen(); l.settimeout(10)\nc, _ = l.accept()\n_, fds, _, _ = socket.recv_fds(c, 10, 1)\nprint(tries(('192.0.2.1', 443), sock=socket.socket(fileno=fds[0])))");
        bed.agent("for _ in range(200):\n    c = socket.socket(socket.AF_UNIX)\n    try: c.connect('\\0hand'); break\n    except OSError: time.sleep(0.05)\ns = socket.socket()\nsocket.send_fds(c, [b'x'], [s.fileno()])\ntime.sleep(0.2)");
        let output = outsider.wait_with_output().expect("python3");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "to 192.0.2.1:443 peer 192.0.2.1:443");
        assert_eq!(bed.flow().map(|flow| flow.tag), Some(tag));
    });
}

#[test]
fn quic_and_metadata_datagrams_are_refused() {
    isolated("quic_and_metadata_datagrams_are_refused", |bed| {
        let tag = bed.tag();
        bed.serve();
        let mut events = bed.capture().bypasses().expect("the first reader");
        assert!(bed.capture().bypasses().is_none());
        let udp = |family: &str, call: &str| {
            bed.agent(&format!(
                "s = socket.socket(socket.{family}, socket.SOCK_DGRAM)\nprint(attempt(lambda: s.{call}))"
            ))
        };
        assert_eq!(udp("AF_INET", "connect(('192.0.2.1', 443))"), "ECONNREFUSED");
        let event = bed.bypass(&mut events, BypassKind::Quic);
        assert_eq!((event.tag, event.uid, event.protocol, event.comm.as_str()), (Some(tag), 65534, 17, "python3"));
        assert_eq!(event.destination, Some("192.0.2.1:443".parse().expect("an address")));
        assert_eq!(udp("AF_INET", "sendto(b'x', ('192.0.2.1', 443))"), "ECONNREFUSED");
        assert_eq!(udp("AF_INET6", "connect(('2001:db8::1', 443))"), "ECONNREFUSED");
        assert_eq!(udp("AF_INET6", "sendto(b'x', ('2001:db8::1', 443))"), "ECONNREFUSED");
        assert_eq!(udp("AF_INET6", "sendto(b'x', ('::ffff:192.0.2.1', 443))"), "ECONNREFUSED");
        assert_eq!(udp("AF_INET", "sendto(b'x', ('169.254.169.254', 53))"), "ECONNREFUSED");
        bed.bypass(&mut events, BypassKind::MetadataUdp);
        assert_eq!(udp("AF_INET", "sendto(b'x', ('192.0.2.1', 53))"), "ENETUNREACH");
    });
}

#[test]
fn other_protocols_are_refused() {
    isolated("other_protocols_are_refused", |bed| {
        bed.tag();
        let mut events = bed.capture().bypasses().expect("the first reader");
        let make = |kind: &str, protocol: u32| {
            let script =
                format!("print(attempt(lambda: socket.socket(socket.AF_INET, socket.{kind}, {protocol}) and 'made'))");
            bed.run_in(Some(&bed.dir), 0, &script)
        };
        assert_eq!(make("SOCK_RAW", 1), "EPERM");
        bed.bypass(&mut events, BypassKind::Raw);
        assert_eq!(make("SOCK_RAW", 255), "EPERM");
        assert_eq!(make("SOCK_STREAM", 262), "EPROTONOSUPPORT");
        bed.bypass(&mut events, BypassKind::Mptcp);
        // Without its module the kernel has no SCTP to refuse; with it, the hook does.
        assert!(["EPROTONOSUPPORT", "ESOCKTNOSUPPORT"].contains(&make("SOCK_STREAM", 132).as_str()));
        assert_ne!(make("SOCK_DGRAM", 136), "made");
        assert_eq!(make("SOCK_STREAM", 6), "made");
        assert_eq!(make("SOCK_DGRAM", 17), "made");
    });
}

#[test]
fn nobody_else_binds_the_listeners_port() {
    isolated("nobody_else_binds_the_listeners_port", |bed| {
        bed.tag();
        bed.serve();
        // With the daemon dead the port is free, and only the hook stands in the way.
        let mut events = bed.capture().bypasses().expect("the first reader");
        let bind = |address: &str, family: &str| {
            format!(
                "s = socket.socket(socket.{family}); s.setsockopt(1, 2, 1); s.setsockopt(1, 15, 1)\nprint(attempt(lambda: s.bind(('{address}', 15001))))"
            )
        };
        for (address, family) in [
            ("127.0.0.1", "AF_INET"),
            ("0.0.0.0", "AF_INET"),
            ("::1", "AF_INET6"),
            ("::", "AF_INET6"),
            ("::ffff:127.0.0.1", "AF_INET6"),
        ] {
            assert_eq!(bed.agent(&bind(address, family)), "EADDRINUSE", "{address}");
            assert_eq!(bed.run_in(Some(&bed.dir), 0, &bind(address, family)), "EADDRINUSE", "{address} as root");
        }
        let event = bed.bypass(&mut events, BypassKind::Bind);
        assert_eq!(event.destination, Some("127.0.0.1:15001".parse().expect("an address")));
        assert_eq!(bed.outsider(&bind("127.0.0.1", "AF_INET")), "EADDRINUSE");
        assert_eq!(bed.agent(&bind("127.0.0.1", "AF_INET").replace("15001", "15002")), "ok");
    });
}

#[test]
fn connecting_to_the_listener_itself_is_refused() {
    isolated("connecting_to_the_listener_itself_is_refused", |bed| {
        bed.tag();
        bed.serve();
        let mut events = bed.capture().bypasses().expect("the first reader");
        for (address, family) in [
            ("127.0.0.1", "AF_INET"),
            ("127.1.2.3", "AF_INET"),
            ("0.0.0.0", "AF_INET"),
            ("::1", "AF_INET6"),
            ("::", "AF_INET6"),
            ("::ffff:127.0.0.1", "AF_INET6"),
        ] {
            let script = format!("print(tries(('{address}', 15001), socket.{family}))");
            assert_eq!(bed.agent(&script), "ECONNREFUSED", "{address}");
        }
        bed.bypass(&mut events, BypassKind::Direct);
        // On a socket that was redirected before, too.
        let again = "s = socket.socket()\nfirst = tries(('192.0.2.1', 443), sock=s)\nlibc.connect(s.fileno(), struct.pack('=H14x', 0), 16)\nprint(first.startswith('to'), attempt(lambda: s.connect(('127.0.0.1', 15001))))";
        assert_eq!(bed.agent(again), "True ECONNREFUSED");
        bed.flow().expect("the first connection's");
        // For an outsider it is as if nobody listened.
        assert_eq!(bed.outsider("print(tries(('127.0.0.1', 15001)))"), "ECONNREFUSED");
        assert_eq!(bed.capture().counters().expect("counters").no_flow, 0);
    });
}

#[test]
fn a_namespace_without_a_listener_refuses() {
    isolated("a_namespace_without_a_listener_refuses", |bed| {
        bed.tag();
        bed.serve();
        let mut events = bed.capture().bypasses().expect("the first reader");
        let own = "CLONE_NEWNET = 0x40000000\nassert libc.unshare(CLONE_NEWNET) == 0\nos.system('ip link set lo up')\nl = socket.socket(); l.bind(('127.0.0.1', 15001)); l.listen()\nprint(tries(('192.0.2.1', 443)))";
        assert_eq!(bed.run_in(Some(&bed.dir), 0, own), "ECONNREFUSED");
        bed.bypass(&mut events, BypassKind::NoListener);
    });
}

#[test]
fn a_dead_daemon_means_refused_and_a_restart_takes_over() {
    isolated("a_dead_daemon_means_refused_and_a_restart_takes_over", |bed| {
        let tag = bed.tag();
        // No listener was ever there.
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 443)))"), "ECONNREFUSED");
        drop(bed.capture().listen().expect("listeners"));
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 443)))"), "ECONNREFUSED");
        bed.capture = None;
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 443)))"), "ECONNREFUSED");
        let take = "s = socket.socket(); print(attempt(lambda: s.bind(('127.0.0.1', 15001))))";
        assert_eq!(bed.agent(take), "EADDRINUSE");
        assert_eq!(bed.outsider(take), "EADDRINUSE");

        let id = cgroup::id(&bed.dir).expect("an id");
        assert_eq!(bed.start().tagged().expect("tags"), [(tag, id)]);
        bed.serve();
        assert_eq!(bed.agent("print(tries(('192.0.2.1', 443)))"), "to 192.0.2.1:443 peer 192.0.2.1:443");
        assert_eq!(bed.tag(), tag, "the same cgroup keeps its tag");
        let other = bed.dir.with_file_name("other");
        cgroup::create(&other).expect("a cgroup");
        let next = bed.capture().tag(&other).expect("another tag");
        assert!(next > tag, "numbers are not used again");

        // Cgroups that went while nobody watched are dropped.
        bed.flows = None;
        bed.capture = None;
        cgroup::remove(&other, BUDGET).expect("empty");
        assert_eq!(bed.start().tagged().expect("tags"), [(tag, id)]);
    });
}

#[test]
fn subtrees_are_tagged_and_untagging_ends_it() {
    isolated("subtrees_are_tagged_and_untagging_ends_it", |bed| {
        let tag = bed.tag();
        bed.serve();
        let below = bed.dir.join("a/b/c");
        cgroup::create(&below).expect("a cgroup");
        let connect = "print(tries(('192.0.2.1', 443)))";
        assert_eq!(bed.run_in(Some(&below), 65534, connect), "to 192.0.2.1:443 peer 192.0.2.1:443");
        // A tag within a tag: the inner one counts.
        let inner = bed.capture().tag(&below).expect("a tag within");
        bed.flow();
        bed.run_in(Some(&below), 65534, connect);
        assert_eq!(bed.flow().map(|flow| flow.tag), Some(inner));
        bed.capture().untag(inner).expect("it is there");
        bed.run_in(Some(&below), 65534, connect);
        assert_eq!(bed.flow().map(|flow| flow.tag), Some(tag));

        let mut child = bed.spawn_in(Some(&bed.dir), 65534, "print('ready', flush=True)\nsys.stdin.readline()\nprint(tries(('192.0.2.1', 443)), flush=True)\nsys.stdin.readline()\nprint(tries(('192.0.2.1', 443)))");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        let mut next = || lines.next().expect("a line").expect("text");
        assert_eq!(next(), "ready");
        let pid = child.id();
        assert!(bed.capture().is_tagged(pid).expect("a live process"));
        assert_eq!(bed.capture().tag_of(pid).expect("a live process"), Some(tag));
        assert!(!bed.capture().is_tagged(std::process::id()).expect("this process"));
        bed.capture().untag(tag).expect("it is there");
        assert!(bed.capture().untag(tag).is_err());
        // Whoever was tagged still is, under a number that no session has.
        writeln!(child.stdin.as_ref().expect("piped")).expect("a pipe");
        assert_eq!(next(), "to 192.0.2.1:443 peer 192.0.2.1:443");
        assert_eq!(bed.run_in(Some(&bed.dir), 65534, connect), "ENETUNREACH");
        let again = bed.tag();
        bed.capture().release(again).expect("it is there");
        writeln!(child.stdin.as_ref().expect("piped")).expect("a pipe");
        assert_eq!(next(), "ENETUNREACH", "the new tag took it over, and let it go");
        child.wait().expect("the script");
    });
}

#[test]
fn what_cannot_be_tagged_is_refused_with_a_reason() {
    isolated("what_cannot_be_tagged_is_refused_with_a_reason", |bed| {
        let message = |path: &Path| bed.capture().tag(path).expect_err("refused").to_string();
        assert!(message(&cgroup::mount().expect("cgroup v2")).contains("it is the root"));
        assert!(message(Path::new("/proc")).contains("not below the cgroup v2 mount"));
        assert!(message(&bed.dir.join("missing")).contains("No such file"));
        let mut deep = bed.dir.clone();
        (0..24).for_each(|_| deep.push("d"));
        cgroup::create(&deep).expect("a cgroup");
        assert!(message(&deep).contains("too deep"));
    });
}

#[test]
fn a_connection_that_fails_leaves_no_flow() {
    isolated("a_connection_that_fails_leaves_no_flow", |bed| {
        bed.tag();
        let listeners = bed.capture().listen().expect("listeners");
        let peer = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let local = peer("127.0.0.1:15001");
        drop(listeners);
        let refused = "s = socket.socket(); s.bind(('127.0.0.1', 34567)); print(tries(('192.0.2.1', 443), sock=s))";
        assert_eq!(bed.agent(refused), "ECONNREFUSED");
        assert_eq!(bed.capture().take(peer("127.0.0.1:34567"), local).expect("a look-up"), None);
        // One that was made and closed before anybody accepted it is still known.
        let listeners = bed.capture().listen().expect("listeners");
        bed.agent("s = socket.socket(); s.bind(('127.0.0.1', 34568)); s.connect(('192.0.2.1', 443)); s.close()");
        let flow = bed.capture().take(peer("127.0.0.1:34568"), local).expect("a look-up").expect("a flow");
        assert_eq!(flow.original, peer("192.0.2.1:443"));
        assert_eq!(bed.capture().take(peer("127.0.0.1:34568"), local).expect("a look-up"), None, "taken once");
        drop(listeners);
    });
}
