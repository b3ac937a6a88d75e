//! The daemon's own life: who may ask it, how it stops, how it takes new settings.

use std::ffi::OsString;

use nix::sys::signal::Signal;
use serde_json::json;
use tollgate_tests::host::{BUDGET, Host, POLICIES, Settings, unique, wait_for};

#[test]
fn a_tagged_process_may_not_use_the_control_socket() {
    let host = Host::shared();
    let agent = host.agent("control");
    let socket = host.socket().display().to_string();
    for verb in [&["sessions", "list"][..], &["events"], &["status"], &["reload"], &["run", "--", "true"]] {
        let text = agent.run(&[&["tollgate", "--socket", &socket], verb].concat()).failed();
        assert!(text.contains("governed processes may not use the control socket"), "{verb:?}: {text}");
        agent.timeline().event("bypass", "a governed process opened the control socket");
    }
    let root = host.agent("control-root").uid(0);
    let text = root.run(&["tollgate", "--socket", &socket, "sessions", "list"]).failed();
    assert!(text.contains("governed processes may not use the control socket"), "root in the tag: {text}");
    host.outsider("control-outside").run(&["tollgate", "--socket", &socket, "sessions", "list"]).ok();
}

#[test]
fn a_stranger_may_not_use_the_control_socket() {
    let host = Host::shared();
    let socket = host.socket().display().to_string();
    let argv = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "--"];
    let tollgate = host.dir().join("bin/tollgate").display().to_string();
    let text = host.root(&[&argv[..], &[&tollgate, "--socket", &socket, "sessions", "list"]].concat()).failed();
    assert!(text.contains("member of the group in `control.group`"), "{text}");
}

#[test]
fn sigterm_lets_open_exchanges_finish() {
    let host = Host::start(Settings::default());
    let agent = host.agent("drain");
    let (begun, go) = (host.work("begun"), host.work("go"));
    let running = agent.start_probe(&format!(
        r#"
body = b"d" * (1 << 20)
line, fields = signed(S3, "", "PUT", "/tollgate-test/drained", "s3", s3=True, payload="UNSIGNED-PAYLOAD")
connection = tls(S3)
connection.sendall(head(line, [*fields, ("Content-Length", len(body))]) + body[:1000])
open("{}", "w")
wait_for("{}")
open("{}.answer", "w").write(json.dumps(ask(connection, body[1000:])))
"#,
        begun.display(),
        go.display(),
        go.display()
    ));
    wait_for("the upload", || begun.exists().then_some(()));
    wait_for("its intent", || (!agent.timeline().exchanges.is_empty()).then_some(()));
    host.signal_daemon(Signal::SIGTERM);
    wait_for("the event", || host.daemon_log().contains("stopping").then_some(()));
    std::fs::write(&go, "").expect("a file");
    assert!(host.daemon_ended().success(), "{}", host.daemon_log());
    let stored = std::fs::read(host.dir().join("s3/tollgate-test/drained")).expect("the upload was finished");
    assert_eq!(stored, [b'd'; 1 << 20]);
    drop(running);
    host.start_daemon();
    let timeline = agent.timeline();
    let exchange = timeline.only("s3:PutObject");
    assert_eq!((exchange.status, exchange.error.as_deref()), (Some(200), None), "{exchange:?}");
}

#[test]
fn sighup_takes_good_policies_and_none_of_bad_ones() {
    let host = Host::start(Settings::default());
    let agent = host.agent("reload");
    let ask = || agent.run(&["aws", "sts", "get-caller-identity"]);
    ask().ok();
    let broken = |policies: &str| Settings { policies: policies.into(), ..Settings::default() };
    for (text, told) in [
        ("permit (principal, action, resource", "tests.cedar"),
        ("@id(\"a\") permit (principal, action, resource) when { principal.nonsense };", "nonsense"),
    ] {
        host.write_settings(&broken(text));
        host.signal_daemon(Signal::SIGHUP);
        let event = wait_for("the refusal", || {
            host.events("daemon")
                .into_iter()
                .find(|e| e.reason().contains("reload refused") && e.reason().contains(told))
        });
        assert!(event.reason().contains("everything stays as it was"), "{event:?}");
        ask().ok();
        let said = host.tollgate(&["reload"]).failed();
        assert!(said.contains(told), "{said}");
    }
    host.write_settings(&broken("@id(\"nobody\") @reason(\"Closed.\") forbid (principal, action, resource);"));
    host.signal_daemon(Signal::SIGHUP);
    host.event("daemon", "configuration and policies reloaded");
    let text = ask().failed();
    assert!(text.contains("Closed.") && text.contains("policy nobody"), "{text}");
    host.write_settings(&broken(POLICIES));
    assert_eq!(host.tollgate(&["reload"]).ok(), "reloaded");
    ask().ok();
}

#[test]
fn a_bad_configuration_stops_the_start_with_what_to_mend() {
    let host = Host::without_daemon(Settings::default());
    for (settings, told) in [
        (Settings { gateway: "handshake_timout = 5".into(), ..Settings::default() }, "handshake_timout"),
        (Settings { egress: "default = \"maybe\"".into(), ..Settings::default() }, "maybe"),
        (Settings { policies: "permit (principal".into(), ..Settings::default() }, "tests.cedar"),
        (
            Settings {
                bindings: Some(
                    "[[binding]]\nbroker = { kind = \"static\", access_key_id = \"AKIA0123456789ABCDEF\", secret_access_key_file = \"/nowhere\" }"
                        .into(),
                ),
                ..Settings::default()
            },
            "/nowhere",
        ),
    ] {
        host.write_settings(&settings);
        let log = host.try_start_daemon().expect_err("it should not start");
        assert!(log.contains(told), "`{told}` is not in: {log}");
    }
    host.write_settings(&Settings::default());
    host.start_daemon();
}

#[test]
fn malformed_control_requests_get_a_clear_error() {
    use std::io::{Read as _, Write as _};
    let host = Host::shared();
    let ask = |request: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(host.socket()).expect("the socket");
        stream.set_read_timeout(Some(BUDGET)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let post = |path: &str, body: &str| {
        ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for (answer, status, text) in [
        (ask("nonsense\r\n\r\n"), "400", ""),
        (
            ask("GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            "404",
            "there is no `GET /v1/nothing`",
        ),
        (post("/v1/run", "{"), "400", "the request is not what was expected"),
        (post("/v1/run", "{\"argv\": 7}"), "400", "the request is not what was expected"),
        (post("/v1/sessions/nonsense/signal/15", ""), "404", "there is no open session `nonsense`"),
        (post("/v1/approvals/nonsense/approve", ""), "409", ""),
    ] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text), "{text}: {answer}");
    }
    for told in ["malformed request on the control socket, from user 0", "the request is not what was expected"] {
        host.event("refused", told);
    }
    // A command that is empty, or that there is not, opens no session that stays.
    let home = host.work("home");
    std::fs::create_dir(&home).expect("a home");
    for argv in [&[][..], &[""], &["/nonexistent/command"]] {
        let name = unique("malformed");
        let argv: Vec<OsString> = argv.iter().map(Into::into).collect();
        let order = json!({"argv": argv, "env": [(OsString::from("HOME"), home.as_os_str())], "cwd": "/", "umask": 18, "name": name}).to_string();
        let answer = post("/v1/run", &order);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("exited"), "{argv:?}: {answer}");
        let timeline = host.timeline(&name);
        assert_eq!(timeline.state(), "ended", "{argv:?}: {timeline:#?}");
        timeline.event("session-ended", "");
        let open = host.tollgate(&["sessions", "list", "--state", "open", "--json"]).ok();
        let open: Vec<serde_json::Value> = serde_json::from_str(&open).expect("JSON");
        assert!(open.iter().all(|s| s["name"] != name), "{argv:?}: {open:?}");
    }
    assert!(host.daemon_is_running(), "{}", host.daemon_log());
    assert!(!host.daemon_log().contains("panicked"), "{}", host.daemon_log());
}

#[test]
fn a_revoked_session_is_cut_off_at_once() {
    let host = Host::shared();
    let agent = host.agent("revoked");
    let ready = host.work("ready");
    let running = agent.start_probe(&format!(
        "connection = tls(STS)\nopen('{}', 'w')\neverything(connection)\ntime.sleep(60)",
        ready.display()
    ));
    wait_for("the connection", || ready.exists().then_some(()));
    let id = agent.timeline().id().to_owned();
    host.tollgate(&["sessions", "revoke", &id]).ok();
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("the session was revoked"), "{text}");
    assert_eq!(agent.timeline().state(), "revoked");
    assert!(host.tollgate(&["sessions", "revoke", &id]).failed().contains("there is no open session"));
}

/// Its tag goes when it is closed; what ran under it must be gone by then, and not when it pleases.
#[test]
fn a_revoked_session_has_no_processes_left_when_the_answer_comes() {
    let host = Host::shared();
    let agent = host.agent("stubborn");
    let pids = host.work("pids");
    let script = format!(
        "trap '' HUP TERM; setsid sleep 300 & echo $! > {0}.new; echo $$ >> {0}.new; mv {0}.new {0}; while :; do sleep 1; done",
        pids.display()
    );
    let running = agent.start(&["sh", "-c", &script]);
    wait_for("the command", || pids.exists().then_some(()));
    let pids = std::fs::read_to_string(&pids).expect("two numbers");
    let alive = || pids.lines().filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()).count();
    assert_eq!(alive(), 2, "{pids}");
    host.tollgate(&["sessions", "revoke", agent.timeline().id(), "--kill"]).ok();
    assert_eq!(alive(), 0, "{pids}");
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("the session was revoked"), "{text}");
}

/// A governed process connects and ends; somebody who is not governed gets its number before the daemon looks.
#[test]
fn a_connection_is_not_taken_for_that_of_whoever_has_its_process_number_next() {
    let host = Host::start(Settings::default());
    let agent = host.agent("number");
    let (up, go) = (host.work("up"), host.work("go"));
    let (number, ask) = (host.work("number"), host.work("ask"));
    let running = agent.start_probe(&format!(
        r#"
import os
open("{up}", "w")
wait_for("{go}")
first = os.fork()
if first == 0:
    control = socket.socket(socket.AF_UNIX)
    control.connect("{socket}")
    if os.fork():
        os._exit(0)
    wait_for("{ask}")
    control.sendall(b"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    control.settimeout(30)
    answer = b""
    while piece := control.recv(65536):
        answer += piece
    show(answer.decode())
    sys.stdout.flush()
    open("{ask}.answered", "w")
    os._exit(0)
os.waitpid(first, 0)
open("{number}.new", "w").write(str(first))
os.rename("{number}.new", "{number}")
wait_for("{ask}.answered")
"#,
        up = up.display(),
        go = go.display(),
        number = number.display(),
        ask = ask.display(),
        socket = host.socket().display(),
    ));
    wait_for("the session", || up.exists().then_some(()));
    host.signal_daemon(Signal::SIGSTOP);
    std::fs::write(&go, "").expect("a file");
    wait_for("the number", || number.exists().then_some(()));
    let number: i32 = std::fs::read_to_string(&number).expect("written").parse().expect("a number");
    let mut successor = wait_for("a process of that number", || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).expect("as root");
        let mut child = std::process::Command::new("sleep").arg("120").spawn().expect("sleep");
        if child.id().cast_signed() == number {
            return Some(child);
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    });
    host.signal_daemon(Signal::SIGCONT);
    std::fs::write(&ask, "").expect("a file");
    let output = running.wait(BUDGET);
    let _ = successor.kill();
    let _ = successor.wait();
    let text = output.ok();
    assert!(text.contains("HTTP/1.1 403"), "{text}");
}
