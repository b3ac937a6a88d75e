//! Connections and datagrams of every kind, sockets from elsewhere, and the proxy's own port.

use serde_json::json;
use tollgate_tests::host::Agent;

use super::{aws_name, host, outcomes, python, reached, text, told};

#[test]
fn every_way_to_connect_leads_to_the_gateway() {
    let (agent, name) = (host().agent("ways"), aws_name("ways"));
    let ways = outcomes(
        &agent,
        &name,
        r"
def fast_open():
    s = socket.socket()
    def first(data):
        s.settimeout(None)
        s.sendto(data, socket.MSG_FASTOPEN, (AWS4, 443))
        s.settimeout(10)
    return talk(s, first=first)

def fast_open_connect():
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    return connect(sock=s)

def non_blocking():
    s = socket.socket()
    s.setblocking(False)
    assert s.connect_ex((AWS4, 443)) in (0, errno.EINPROGRESS)
    return talk(s)

def bound():
    s = socket.socket()
    s.bind(('127.0.0.1', 0))
    return connect(sock=s)

def again():
    # Dissolved by AF_UNSPEC and connected a second time.
    s = socket.socket()
    s.connect((AWS4, 443))
    libc.connect(s.fileno(), struct.pack('=H14x', 0), 16)
    return connect(sock=s)

def of_a_child():
    return subprocess.run([sys.executable, '-c', CHILD], capture_output=True, text=True).stdout.strip()
CHILD = f'''import socket
s = socket.create_connection(({AWS4!r}, 80), 10)
s.sendall(b'GET / HTTP/1.1\\r\\nHost: {NAME}\\r\\n\\r\\n')
print('gateway' if b'is not signed' in s.recv(65536) else 'other')'''

def of_a_thread():
    found = []
    t = threading.Thread(target=lambda: found.append(connect()))
    t.start(); t.join()
    return found[0]

say(**{w.__name__: attempt(w) for w in (fast_open, fast_open_connect, non_blocking, bound, again, of_a_child, of_a_thread)},
    v4=attempt(connect),
    v6=attempt(lambda: connect((AWS6, 443), socket.AF_INET6)),
    mapped=attempt(lambda: connect(('::ffff:' + AWS4, 443), socket.AF_INET6)))
",
    );
    for (way, outcome) in ways.as_object().expect("an object") {
        assert_eq!(outcome, "gateway", "{way}: {ways}");
    }
    assert_eq!(ways.as_object().map(serde_json::Map::len), Some(10));
    assert!(!reached(&name));
    let timeline = agent.timeline();
    assert_eq!(timeline.exchanges.len(), 10, "{:#?}", timeline.exchanges);
    assert!(timeline.exchanges.iter().all(|e| e.host == name && e.decision == "refuse"), "{timeline:#?}");
}

#[test]
fn an_outsider_gets_to_the_world_by_the_same_ways() {
    // Or the test above would prove nothing, and untagged processes would see a change.
    let name = aws_name("outsider");
    let ways = outcomes(
        &host().outsider("ways"),
        &name,
        "say(v4=attempt(connect), v6=attempt(lambda: connect((AWS6, 443), socket.AF_INET6)), mapped=attempt(lambda: connect(('::ffff:' + AWS4, 443), socket.AF_INET6)))",
    );
    assert_eq!(ways, json!({ "v4": "world", "v6": "world", "mapped": "world" }));
    assert!(reached(&name));
}

#[test]
fn io_uring_is_refused() {
    // setup, enter, register: one makes a ring, the others would use one that was handed in.
    let agent = host().agent("uring");
    let script = "b = ctypes.create_string_buffer(120)\nsay(setup=call(425, 4, b), enter=call(426, 0, 1, 1, 1, 0, 0), register=call(427, 0, 0, 0, 0))";
    let refused = outcomes(&agent, "-", script);
    assert_eq!(refused, json!({ "setup": "EPERM", "enter": "EPERM", "register": "EPERM" }));
}

#[test]
fn quic_and_datagrams_to_the_metadata_service_are_refused() {
    let (agent, name) = (host().agent("udp"), aws_name("udp"));
    let script = r"
def udp(family, how, to):
    s = socket.socket(family, socket.SOCK_DGRAM)
    return attempt(lambda: s.connect(to) if how == 'connect' else s.sendto(NAME.encode(), to))
four, six = socket.AF_INET, socket.AF_INET6
say(connected=udp(four, 'connect', (AWS4, 443)), unconnected=udp(four, 'send', (AWS4, 443)),
    connected6=udp(six, 'connect', (AWS6, 443)), unconnected6=udp(six, 'send', (AWS6, 443)),
    mapped=udp(six, 'send', ('::ffff:' + AWS4, 443)), web=udp(four, 'send', (WEB, 443)),
    metadata=udp(four, 'send', ('169.254.169.254', 53)), metadata_connected=udp(four, 'connect', ('169.254.169.254', 80)),
    metadata6=udp(six, 'send', ('fd00:ec2::254', 80)))
";
    let outcomes = outcomes(&agent, &name, script);
    for (way, outcome) in outcomes.as_object().expect("an object") {
        assert_eq!(outcome, "ECONNREFUSED", "{way}");
    }
    assert!(!host().world().iter().any(|entry| entry["data"] == name.as_str()));
    let quic = told(&agent, "bypass", "quic refused in the kernel");
    assert_eq!(quic.field("TOLLGATE_EXE"), "python3", "{quic:?}");
    told(&agent, "bypass", "metadata-udp refused in the kernel");
}

#[test]
fn other_protocols_are_refused() {
    let agent = host().agent("protocols");
    let script = r"
def make(family, kind, protocol): return attempt(lambda: socket.socket(family, kind, protocol).close())
inet, stream, dgram, raw = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
say(tcp=make(inet, stream, 6), udp=make(inet, dgram, 17), mptcp=make(inet, stream, 262), sctp=make(inet, stream, 132),
    smc=make(inet, stream, 256), udplite=make(inet, dgram, 136), raw=make(inet, raw, 255),
    packet=make(17, raw, 0), packet_dgram=make(17, dgram, 0), vsock=make(40, stream, 0), xdp=make(44, raw, 0),
    smc_family=make(43, stream, 0), tipc=make(30, dgram, 0), netlink=make(16, raw, 0),
    route=subprocess.run(['/bin/sh', '-c', 'PATH=$PATH:/sbin:/usr/sbin ip route add 192.0.2.0/24 dev lo'], capture_output=True, text=True).stderr.strip())
";
    let made = outcomes(&agent, "-", script);
    let refused = [
        ("mptcp", &["EPROTONOSUPPORT"][..]),
        // A kernel without them has nothing to refuse.
        ("sctp", &["EPROTONOSUPPORT", "ESOCKTNOSUPPORT"]),
        ("smc", &["EPROTONOSUPPORT"]),
        ("udplite", &["EPROTONOSUPPORT"]),
        ("raw", &["EPERM"]),
        ("packet", &["EAFNOSUPPORT"]),
        ("packet_dgram", &["EAFNOSUPPORT"]),
        ("vsock", &["EAFNOSUPPORT"]),
        ("xdp", &["EAFNOSUPPORT"]),
        ("smc_family", &["EAFNOSUPPORT"]),
        ("tipc", &["EAFNOSUPPORT"]),
        // Questions to the kernel are free, changes are not.
        ("route", &["RTNETLINK answers: Operation not permitted"]),
    ];
    for (what, expected) in refused {
        assert!(expected.contains(&made[what].as_str().expect("text")), "{what}: {made}");
    }
    for what in ["tcp", "udp", "netlink"] {
        assert_eq!(made[what], "ok", "{what}");
    }
    told(&agent, "bypass", "mptcp refused in the kernel");
}

#[test]
fn names_and_other_ports_carry_data_out() {
    // Not stopped: DNS to any server, and TCP to ports that AWS's API does not use.
    let (agent, name) = (host().agent("tunnel"), aws_name("tunnel"));
    let script = r"
def dns(data):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.sendto(data, (AWS4, 53))
    return who(s.recv(2048))
say(dns=attempt(lambda: dns(NAME.encode())), port=attempt(lambda: connect((AWS4, 8443))),
    resolver=attempt(lambda: socket.gethostbyname('secret.example.org')))
";
    let outcomes = outcomes(&agent, &name, script);
    assert_eq!(outcomes, json!({ "dns": "world", "port": "world", "resolver": "203.0.113.5" }));
    assert!(host().world().iter().any(|entry| entry["data"] == name.as_str()));
    assert!(reached(&name));
}

/// Runs an outsider that listens on `\0NAME` and an agent that goes there; gives what both print.
fn hand_over(name: &str, outside: &str, inside: &str) -> (Agent<'static>, String, String) {
    let outside = format!(
        "l = socket.socket(socket.AF_UNIX); l.bind('\\0' + NAME); l.listen(); l.settimeout(30)\nc, _ = l.accept()\n{outside}"
    );
    let inside = format!(
        "c = socket.socket(socket.AF_UNIX)\nfor _ in range(600):\n    if attempt(lambda: c.connect('\\0' + NAME)) == 'ok': break\n    time.sleep(0.05)\n{inside}"
    );
    let running = host().outsider("helper").start(&["python3", "-c", &python(name, &outside)]);
    let agent = host().agent("handing");
    let inside = agent.run(&["python3", "-c", &python(name, &inside)]).ok();
    (agent, running.wait(tollgate_tests::host::BUDGET).ok(), inside)
}

const TAKE: &str = "_, fds, _, _ = socket.recv_fds(c, 10, 1)\ns = socket.socket(fileno=fds[0])\n";

#[test]
fn a_socket_made_outside_is_governed_once_the_agent_connects_it() {
    let name = aws_name("given");
    let (agent, _, inside) = hand_over(
        &name,
        "s = socket.socket(); socket.send_fds(c, [b'x'], [s.fileno()]); c.recv(1)",
        &format!("{TAKE}print(attempt(lambda: connect(sock=s)))"),
    );
    assert_eq!(inside, "gateway");
    assert!(!reached(&name));
    assert_eq!(agent.timeline().exchanges.len(), 1);
}

#[test]
fn a_socket_handed_to_an_outsider_stays_governed() {
    let name = aws_name("passed");
    let (agent, outside, _) = hand_over(
        &name,
        &format!("{TAKE}print(attempt(lambda: connect(sock=s))); c.send(b'x')"),
        "s = socket.socket(); socket.send_fds(c, [b'x'], [s.fileno()]); c.recv(1)",
    );
    assert_eq!(outside, "gateway");
    assert!(!reached(&name));
    assert_eq!(agent.timeline().exchanges.len(), 1, "it is on the agent's account");
}

#[test]
fn a_connection_that_an_outsider_made_and_gives_is_not_governed() {
    // Not stopped: it is the outsider's connection, and takes an outsider who helps.
    let name = aws_name("connected");
    let (_, _, inside) = hand_over(
        &name,
        "s = socket.create_connection((AWS4, 443), 10); socket.send_fds(c, [b'x'], [s.fileno()]); c.recv(1)",
        &format!("{TAKE}print(attempt(lambda: talk(s)))"),
    );
    assert_eq!(inside, "world");
    assert!(reached(&name));
}

#[test]
fn a_proxy_outside_on_loopback_is_not_governed() {
    // Not stopped: what a process outside the tag connects to is its own.
    let name = aws_name("relay");
    let relay = r"
l = socket.create_server(('127.0.0.1', 18443)); l.settimeout(30)
print('ready', flush=True)
a, _ = l.accept()
b = socket.create_connection((AWS4, 443), 10)
def copy(x, y):
    while True:
        data = attempt(lambda: x.recv(65536))
        if not data or isinstance(data, str): break
        y.sendall(data)
    attempt(lambda: y.shutdown(socket.SHUT_WR))
t = threading.Thread(target=copy, args=(b, a)); t.start()
copy(a, b); t.join()
";
    let relay = host().outsider("relay").start(&["python3", "-c", &python(&name, relay)]);
    let agent = host().agent("relayed");
    let script = r"
for _ in range(600):
    found = attempt(lambda: connect(('127.0.0.1', 18443)))
    if found != 'ECONNREFUSED': break
    time.sleep(0.05)
say(found=found)
";
    assert_eq!(outcomes(&agent, &name, script)["found"], "world");
    assert!(reached(&name));
    drop(relay);
}

/// Starts `tollgate run -- touch MARKER` with a socket as its standard input; gives what it says.
fn with_stdin(make: &str) -> String {
    let marker = host().work("started");
    let (tollgate, socket) = (host().dir().join("bin/tollgate"), host().socket());
    let script = format!(
        "{make}\nos.dup2(s.fileno(), 0)\nos.execv({0:?}, [{0:?}, '--socket', {1:?}, 'run', '--', 'touch', {2:?}])",
        text(&tollgate),
        text(&socket),
        text(&marker)
    );
    let output = host().outsider("stdin").run(&["python3", "-c", &python("-", &script)]);
    assert_eq!(marker.exists(), output.status.success(), "{output}");
    output.text()
}

#[test]
fn a_network_socket_is_not_taken_over_as_a_standard_stream() {
    for make in [
        "s = socket.socket()",
        "s = socket.create_connection((AWS4, 443), 10)",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((AWS4, 443))",
        "s = socket.socket(socket.AF_INET6)",
        "s = socket.socket(40, socket.SOCK_STREAM)",
    ] {
        let said = with_stdin(make);
        assert!(said.contains("the standard input is a network socket"), "{make}: {said}");
        assert!(said.contains("use a pipe or a file; the command was not started"), "{make}: {said}");
    }
    // What node's child_process gives its children is no way out.
    assert_eq!(with_stdin("s, other = socket.socketpair()"), "");
}

#[test]
fn a_connection_to_the_control_socket_is_not_taken_over_as_a_standard_stream() {
    let socket = host().socket();
    let said = with_stdin(&format!("s = socket.socket(socket.AF_UNIX); s.connect({:?})", text(&socket)));
    assert!(said.contains("the standard input is a connection to the control socket"), "{said}");
}

#[test]
fn the_proxys_port_can_be_neither_bound_nor_connected_to() {
    let agent = host().agent("port");
    let script = r"
def bind(address, family=socket.AF_INET):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return attempt(lambda: s.bind((address, 15001)))
def direct(address, family=socket.AF_INET): return attempt(lambda: connect((address, 15001), family))
six = socket.AF_INET6
say(bind=[bind('127.0.0.1'), bind('0.0.0.0'), bind('::1', six), bind('::', six), bind('::ffff:127.0.0.1', six)],
    direct=[direct('127.0.0.1'), direct('127.1.2.3'), direct('0.0.0.0'), direct('::1', six), direct('::ffff:127.0.0.1', six)])
";
    let outcomes = outcomes(&agent, "-", script);
    assert_eq!(outcomes["bind"], json!(vec!["EADDRINUSE"; 5]));
    assert_eq!(outcomes["direct"], json!(vec!["ECONNREFUSED"; 5]));
    told(&agent, "bypass", "bind-listener-port refused in the kernel");
    told(&agent, "bypass", "direct-to-listener refused in the kernel");
}

#[test]
fn outside_it_is_as_if_nobody_listened_on_the_proxys_port() {
    let name = aws_name("direct");
    let script = "say(found=attempt(lambda: connect(('127.0.0.1', 15001))))";
    assert_eq!(outcomes(&host().outsider("direct"), &name, script)["found"], "ECONNREFUSED");
}
