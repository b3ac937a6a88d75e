//! Cgroups, namespaces, privileges, other processes, and the daemon itself.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tollgate_tests::host::{Agent, wait_for};

use super::{aws_name, host, outcomes, python, reached, text, told};

#[test]
fn leaving_the_cgroup_is_refused_and_would_not_help() {
    let (agent, name) = (host().agent("leaving"), aws_name("leaving"));
    // Also as root of a user namespace of its own, with a cgroup file system mounted there.
    let script = r"
root = next(l.split()[1] for l in open('/proc/mounts') if l.split()[2] == 'cgroup2')
own = next(l.strip().split('::')[1] for l in open('/proc/self/cgroup') if l.startswith('0::'))
def join(path):
    with open(path + '/cgroup.procs', 'w') as f: f.write(str(os.getpid()))
found = dict(root=attempt(lambda: join(root)), parent=attempt(lambda: join(root + os.path.dirname(own))),
    below=attempt(lambda: os.mkdir(root + own + '/below')), kill=attempt(lambda: open(root + own + '/cgroup.kill', 'w').write('1')))
pid = os.getpid()
assert libc.unshare(0x10000000 | 0x02000000 | 0x00020000) == 0
found['mount'] = call(165, b'cgroup2', b'/tmp', b'cgroup2', 0, None)
found['mounted'] = attempt(lambda: join('/tmp')) if found['mount'] == 0 else 'EACCES'
say(connect=attempt(connect), there=open('/proc/self/cgroup').read().split('::')[1].strip(), **found)
";
    let outcomes = outcomes(&agent, &name, script);
    for what in ["root", "parent", "below", "kill", "mounted"] {
        assert_eq!(outcomes[what], "EACCES", "{what}: {outcomes}");
    }
    assert_eq!(outcomes["connect"], "gateway");
    assert!(!reached(&name));
}

#[test]
fn a_network_namespace_of_its_own_leads_nowhere() {
    let (agent, name) = (host().agent("netns"), aws_name("netns"));
    // As its root: with a listener on the proxy's port, raw sockets, and the listener's address on its loopback.
    let script = r"
assert libc.unshare(0x10000000 | 0x40000000) == 0
up = subprocess.run(['/bin/sh', '-c', 'PATH=$PATH:/sbin:/usr/sbin; ip link set lo up && ip address add 198.51.100.7/32 dev lo'], capture_output=True, text=True)
l = socket.create_server(('127.0.0.1', 15001))
own = socket.create_server((AWS4, 443))
say(up=up.stderr, connect=attempt(connect), raw=attempt(lambda: socket.socket(2, 3, 255).close()),
    packet=attempt(lambda: socket.socket(17, 3, 0).close()), bpf=call(321, 5, ctypes.create_string_buffer(128), 128))
";
    let outcomes = outcomes(&agent, &name, script);
    assert_eq!(outcomes["connect"], "ECONNREFUSED", "{outcomes}");
    assert_eq!(outcomes["raw"], "EPERM", "{outcomes}");
    assert_eq!(outcomes["packet"], "EAFNOSUPPORT", "{outcomes}");
    assert_eq!(outcomes["bpf"], "EPERM", "{outcomes}");
    told(&agent, "bypass", "no-listener refused in the kernel");
    told(&agent, "bypass", "raw-socket refused in the kernel");
    assert!(!reached(&name));
}

#[test]
fn a_mount_namespace_of_its_own_changes_its_own_view_only() {
    let (agent, name) = (host().agent("mntns"), aws_name("mntns"));
    let script = r"
assert libc.unshare(0x10000000 | 0x00020000) == 0
bundle = b'/etc/ssl/certs/ca-certificates.crt'
under = call(166, bundle, 0)
lazily = call(166, b'/etc/ssl/certs', 2)
over = call(165, b'/dev/null', bundle, None, 4096, None)
untrusting = subprocess.run(['curl', '-sS', f'https://{NAME}/'], capture_output=True, text=True).stderr
say(under=under, lazily=lazily, over=over, untrusting=untrusting, connect=attempt(connect))
";
    let outcomes = outcomes(&agent, &name, script);
    // What was mounted for it before is locked in place.
    assert_eq!((&outcomes["under"], &outcomes["lazily"]), (&json!("EINVAL"), &json!("EINVAL")));
    assert_eq!(outcomes["over"], 0, "{outcomes}");
    assert!(outcomes["untrusting"].as_str().is_some_and(|e| e.contains("curl: (")), "{outcomes}");
    assert_eq!(outcomes["connect"], "gateway");
    assert!(!reached(&name));
}

#[test]
fn a_process_namespace_of_its_own_stays_governed() {
    let (agent, name) = (host().agent("pidns"), aws_name("pidns"));
    let script = r"
assert libc.unshare(0x10000000 | 0x20000000) == 0
here, there = os.pipe()
if os.fork() == 0:
    os.write(there, f'{os.getpid()} {attempt(connect)}'.encode()); os._exit(0)
os.wait()
say(found=os.read(here, 100).decode())
";
    assert_eq!(outcomes(&agent, &name, script)["found"], "1 gateway");
    assert!(!reached(&name));
    assert_eq!(agent.timeline().exchanges.len(), 1);
}

#[test]
fn setuid_programs_give_nothing() {
    let id = host().dir().join("setuid-id");
    host().root(&["install", "-m", "4755", "/usr/bin/id", text(&id)]).ok();
    let run = |agent: Agent<'_>| agent.run(&[text(&id), "-u"]).ok();
    assert_eq!(run(host().outsider("setuid")), "0", "or this test shows nothing");
    assert_eq!(run(host().agent("setuid")), "65534");
    // As `sudo` would be used: to read what is root's. (`-p`: or a shell gives the privilege up by itself.)
    let (shell, secret) = (host().dir().join("setuid-sh"), host().dir().join("held-secret"));
    host().root(&["install", "-m", "4755", "/bin/sh", text(&shell)]).ok();
    let read = |agent: Agent<'_>| agent.run(&[text(&shell), "-p", "-c", &format!("cat {}", text(&secret))]);
    assert_eq!(read(host().outsider("setuid")).ok(), host().info.held_secret_access_key, "or this test shows nothing");
    let refused = read(host().agent("setuid")).failed();
    assert!(
        refused.contains("Permission denied") && !refused.contains(&host().info.held_secret_access_key),
        "{refused}"
    );
    let status = host().agent("privileges").run(&["cat", "/proc/self/status"]).ok();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).expect("a field");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1", "2"));
    assert_eq!((field("CapEff:"), field("CapPrm:")), ("0000000000000000", "0000000000000000"));
}

/// Only there: no other architecture that Tollgate runs on lets a 64-bit process enter its 32-bit table of calls.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_system_call_ends_the_process() {
    // It would name another table of calls than the one that the launcher restricts.
    let script = r"
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
child = os.fork()
if child == 0:
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    os._exit(0)
say(ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
    assert_eq!(outcomes(&host().agent("x86"), "-", script)["ended"], -31, "SIGSYS");
}

/// The same calls by their x32 numbers, which the filter sees as of this architecture. A kernel without x32 answers
/// ENOSYS to what the filter lets through.
#[test]
fn an_x32_system_call_is_refused_like_any_other() {
    let script = r"
X32 = 0x40000000
say(packet=call(X32 | 41, 17, 3, 0), vsock=call(X32 | 41, 40, 1, 0), pair=call(X32 | 53, 17, 3, 0, None), ring=call(X32 | 425, 8, None))
";
    if cfg!(target_arch = "x86_64") {
        let found = outcomes(&host().agent("x32"), "-", script);
        let expected =
            json!({"packet": "EAFNOSUPPORT", "vsock": "EAFNOSUPPORT", "pair": "EAFNOSUPPORT", "ring": "EPERM"});
        assert_eq!(found, expected);
    }
}

#[test]
fn asking_a_service_manager_or_a_container_engine_gets_nothing_here() {
    // Not stopped by Tollgate where they answer everybody: see the next test. These are the sockets that `systemd-run`
    // and `docker` would use, whether or not the programs are here.
    let sockets = [
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/user/65534/bus",
        "/run/user/65534/systemd/private",
    ];
    let script = format!(
        r"
def ask(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.close()
say(**{{path: attempt(lambda: ask(path)) for path in {sockets:?}}})
"
    );
    let inside = outcomes(&host().agent("managers"), "-", &script);
    // The tag changes nothing about them: what answers this user outside answers it inside, and nothing else does.
    let outside = outcomes(&host().outsider("managers"), "-", &script);
    assert_eq!(inside, outside);
    for path in sockets {
        let there = std::path::Path::new(path).exists();
        let outcome = inside[path].as_str().expect("text");
        let expected: &[&str] = match path {
            // A bus is open to everybody; who may start units is a question of polkit's, and root is not in the tag.
            _ if !there => &["ENOENT", "EACCES"],
            _ if path.ends_with("bus") || path.ends_with("bus_socket") => &["ok", "ECONNREFUSED"],
            _ => &["EACCES", "ECONNREFUSED"],
        };
        assert!(expected.contains(&outcome), "{path}, there: {there}: {outcome}");
    }
    // Not every host has one. This is one as an engine makes it, root's alone, and what keeps agents from it is its mode.
    let engine = host().work("engine.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&engine).expect("a socket");
    let mode = |mode| std::fs::set_permissions(&engine, std::fs::Permissions::from_mode(mode)).expect("its mode");
    let script = format!(
        r"
def ask():
    s = socket.socket(socket.AF_UNIX)
    s.connect({:?})
    s.close()
plain = attempt(ask)
assert libc.unshare(0x10000000) == 0
open('/proc/self/setgroups', 'w').write('deny'); open('/proc/self/uid_map', 'w').write('0 65534 1')
say(plain=plain, root_of_a_namespace=attempt(ask))
",
        text(&engine)
    );
    for (bits, outcome) in [(0o660, "EACCES"), (0o666, "ok")] {
        mode(bits);
        let found = outcomes(&host().agent("engine"), "-", &script);
        assert_eq!(found, json!({ "plain": outcome, "root_of_a_namespace": outcome }), "{bits:o}");
    }
}

#[test]
fn a_service_outside_that_runs_what_it_is_told_is_not_governed() {
    // Not stopped: the docker socket, the user's service manager, cron and the like are this in essence.
    let name = aws_name("service");
    let path = host().work("service.sock");
    let service = format!(
        "l = socket.socket(socket.AF_UNIX); l.bind({0:?}); l.listen(); l.settimeout(30)\nc, _ = l.accept()\nexec(c.recv(100))\nc.send(result.encode())",
        text(&path)
    );
    let service = host().outsider("service").start(&["python3", "-c", &python(&name, &service)]);
    wait_for("the service", || path.exists().then_some(()));
    let script = format!(
        "c = socket.socket(socket.AF_UNIX)\nwhile attempt(lambda: c.connect({:?})) != 'ok': time.sleep(0.05)\nc.send(b'result = attempt(connect)')\nsay(found=c.recv(100).decode())",
        text(&path)
    );
    assert_eq!(outcomes(&host().agent("asking"), &name, &script)["found"], "world");
    assert!(reached(&name));
    drop(service);
}

#[test]
fn processes_of_the_same_user_outside_can_be_traced_but_not_its_own_stand_in() {
    // The first is not stopped but by the host (`kernel.yama.ptrace_scope`); the second is always there.
    let victim = host().outsider("victim").start(&["sleep", "61.7"]);
    let agent = host().agent("tracer");
    let script = format!(
        r"
def trace(pid):
    found = call(101, 16, pid, 0, 0)
    if found == 0:
        os.waitpid(pid, 0); call(101, 17, pid, 0, 0)
    return found
def fd(pid):
    handle = os.pidfd_open(pid)
    return call(438, handle, 0, 0)
victim = next(p for p in find('sleep', '61.7'))
stand_in = next(p for p in find('run', {0:?}, '--name'))
scope = attempt(lambda: open('/proc/sys/kernel/yama/ptrace_scope').read().strip())
say(victim=trace(victim), scope=scope, uid=os.stat(f'/proc/{{stand_in}}').st_uid, trace=trace(stand_in), fd=fd(stand_in),
    memory=attempt(lambda: open(f'/proc/{{stand_in}}/mem', 'r+b').close()), environ=attempt(lambda: open(f'/proc/{{stand_in}}/environ').read()))
",
        agent.name()
    );
    let found = outcomes(&agent, "-", &script);
    let traced = if found["scope"] == "0" || found["scope"] == "ENOENT" { json!(0) } else { json!("EPERM") };
    assert_eq!(found["victim"], traced, "{found}");
    for what in ["trace", "fd"] {
        assert_eq!(found[what], "EPERM", "{what}: {found}");
    }
    for what in ["memory", "environ"] {
        assert_eq!(found[what], "EACCES", "{what}: {found}");
    }
    drop(victim);
}

#[test]
fn the_daemon_cannot_be_touched() {
    let agent = host().agent("saboteur");
    let script = r"
daemon = next(p for p in find('daemon', '--config', DIR + '/tollgate.toml'))
def read(what): return attempt(lambda: open(f'/proc/{daemon}/{what}').read() and 'read')
say(kill=attempt(lambda: os.kill(daemon, signal.SIGKILL)), stop=attempt(lambda: os.kill(daemon, signal.SIGSTOP)),
    trace=call(101, 16, daemon, 0, 0), fd=call(438, os.pidfd_open(daemon), 3, 0), environ=read('environ'), mem=read('mem'), maps=read('maps'),
    root=attempt(lambda: os.listdir(f'/proc/{daemon}/root/')), fds=attempt(lambda: os.listdir(f'/proc/{daemon}/fd')),
    parent=attempt(lambda: os.kill(os.getppid(), signal.SIGTERM)))
";
    let found = outcomes(&agent, "-", script);
    for what in ["kill", "stop", "trace", "fd", "parent"] {
        assert_eq!(found[what], "EPERM", "{what}: {found}");
    }
    for what in ["environ", "mem", "maps", "root", "fds"] {
        assert_eq!(found[what], "EACCES", "{what}: {found}");
    }
    assert!(host().daemon_is_running());
}

#[test]
fn the_daemons_files_cannot_be_read() {
    let agent = host().agent("reader");
    let files = ["held-secret", "tollgate.toml", "state/record.db", "state/ca/issuing.key"];
    for file in files {
        assert!(host().dir().join(file).is_file(), "`{file}` has gone elsewhere, and this test shows nothing");
    }
    let script = r"
found = {}
for top in ('state', 'run', 'policies', 'bpf'):
    for where, dirs, files in os.walk(f'{DIR}/{top}', onerror=lambda e: found.__setitem__(e.filename, errno.errorcode[e.errno])):
        for f in files: found[f'{where}/{f}'] = attempt(lambda: open(f'{where}/{f}', 'rb').read(1) and 'read')
for f in FILES + ['state/ca']:
    found[f] = attempt(lambda: open(f'{DIR}/{f}', 'rb').read(1) and 'read')
say(found=found)
";
    let found = outcomes(&agent, "-", &format!("FILES = {files:?}\n{script}"))["found"].take();
    for (path, outcome) in found.as_object().expect("an object") {
        // Policies are the operator's to hide; a session's own public files must be readable to be of use.
        let public = path.contains("/policies/") || path.ends_with(".pem") || path.contains("/certs/");
        assert!(
            public || ["EACCES", "ENOENT", "ENXIO"].contains(&outcome.as_str().expect("text")),
            "{path}: {outcome}"
        );
    }
    for file in files {
        assert_eq!(found[file], "EACCES", "{file}");
    }
    // Nor would they be readable if a directory above them were.
    let files = host().root(&["find", text(&host().dir().join("state")), "-type", "f", "-perm", "/077"]).ok();
    let open: Vec<&str> = files.lines().filter(|f| !f.ends_with(".pem")).collect();
    assert!(open.is_empty(), "others may use {open:?}");
}

#[test]
fn the_control_socket_answers_no_roundabout_way_from_inside() {
    // The harness lets this user's group ask: it is the tag that makes the difference; see the module `control`.
    let agent = host().agent("control");
    // As root of a user namespace, by the daemon's own view of the files, and as somebody whose maker has gone.
    let script = r"
def ask(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(path)
    s.sendall(b'GET /v1/status HTTP/1.1\r\nHost: tollgate\r\n\r\n')
    return s.recv(4096).split(b' ')[1].decode()
path = DIR + '/run/control.sock'
daemon = next(p for p in find('daemon', '--config', DIR + '/tollgate.toml'))
found = dict(plain=attempt(lambda: ask(path)), root=attempt(lambda: ask(f'/proc/{daemon}/root{path}')))
a, b = socket.socketpair()
if os.fork() == 0:
    s = socket.socket(socket.AF_UNIX); s.connect(path)
    socket.send_fds(b, [b'x'], [s.fileno()]); os._exit(0)
_, fds, _, _ = socket.recv_fds(a, 10, 1)
os.wait()
s = socket.socket(fileno=fds[0]); s.settimeout(10)
s.sendall(b'GET /v1/status HTTP/1.1\r\nHost: tollgate\r\n\r\n')
found['orphan'] = s.recv(4096).split(b' ')[1].decode()
assert libc.unshare(0x10000000) == 0
open('/proc/self/setgroups', 'w').write('deny'); open('/proc/self/uid_map', 'w').write('0 65534 1')
say(namespace=attempt(lambda: ask(path)), uid=os.getuid(), **found)
";
    let found = outcomes(&agent, "-", script);
    assert_eq!(found, json!({ "plain": "403", "root": "EACCES", "orphan": "403", "namespace": "403", "uid": 0 }));
}

#[test]
fn the_jobs_variables_are_passed_on_and_mint_nothing_that_works() {
    // Not stopped: the agent sees what its caller's environment holds, and may ask the CI system for tokens with it.
    // Stopped: trading such a token for credentials of AWS's, and using credentials that were traded elsewhere. A token of
    // a configured issuer gives the session's own placeholder (`web_identity`), any other nothing.
    let url = "https://token.example.org/?api-version=2";
    let agent = host().agent("ci").env("ACTIONS_ID_TOKEN_REQUEST_URL", url).env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t");
    let seen = agent.run(&["env"]).ok();
    assert!(seen.contains(&format!("ACTIONS_ID_TOKEN_REQUEST_URL={url}")), "{seen}");
    let trade = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::999999999999:role/x&RoleSessionName=xx&WebIdentityToken=x.y.z";
    let answer = agent.run(&["curl", "-sS", "-d", trade, "https://sts.us-east-1.amazonaws.com/"]).ok();
    assert!(answer.contains("AccessDenied") && answer.contains("the web identity token was not taken"), "{answer}");
    assert!(!answer.contains("SessionToken"), "{answer}");
    told(&agent, "refused", "the web identity token was not taken");
    assert!(!reached("sts.us-east-1.amazonaws.com"));
}

#[test]
fn ending_its_own_stand_in_ends_the_session() {
    // It is a process of the same user, so the signal arrives; nothing of the session outlives it.
    let agent = host().agent("patricide");
    let alive = host().work("alive");
    let script = format!(
        r"
stand_in = next(p for p in find('run', {:?}, '--name'))
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    while True:
        open({:?}, 'w').write(str(os.getpid())); time.sleep(0.05)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
while not os.path.exists({:?}): time.sleep(0.05)
os.kill(stand_in, signal.SIGKILL)
while True: time.sleep(1)
",
        agent.name(),
        text(&alive),
        text(&alive)
    );
    agent.run(&["python3", "-c", &python("-", &script)]).failed();
    wait_for("the session's end", || (agent.timeline().state() == "ended").then_some(()));
    let survivor = std::fs::read_to_string(&alive).expect("it was there");
    wait_for("the end of what it left behind", || {
        (!std::path::Path::new("/proc").join(&survivor).exists()).then_some(())
    });
}
