//! Sessions that are ended by somebody else: what is under way is cut, at once, and nothing goes on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_tests::host::{Agent, BUDGET, Host, Running, Settings, wait_for};

const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource)
unless { context.session.name like "cut-*" && context.service == "sts" };

@id("tests-ask")
@approval("staff")
permit (principal, action, resource)
when { context.session.name like "cut-*" && context.service == "sts" };
"#;

const BIG: u64 = 256 << 20;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// A session that does nothing, with its number.
fn idle<'h>(host: &'h Host, name: &str) -> (Agent<'h>, Running, String) {
    let agent = host.agent(name);
    let running = agent.start(&["sleep", "300"]);
    let id = wait_for("the session", || host.session_id(agent.name()));
    (agent, running, id)
}

/// Uploads, downloads, HTTP/2 and a request that waits, all open when the session is revoked.
#[test]
fn what_is_under_way_is_cut_within_a_second() {
    let host = Host::start(Settings { policies: POLICIES.into(), ..Settings::default() });
    let big = std::fs::File::create(host.dir().join("s3/tollgate-test/big")).expect("a file");
    big.set_len(BIG).expect("room");
    let agent = host.agent("cut");
    let place = host.work("cut");
    std::fs::create_dir(&place).expect("a directory");
    std::os::unix::fs::chown(&place, Some(65534), None).expect("chown");
    let running = agent.start_probe(&format!(
        r#"
import os, signal, threading
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.chdir("{}")
def note(name, text=""):
    open(name + ".new", "w").write(json.dumps([time.time(), text]))
    os.rename(name + ".new", name)
def upload():
    line, fields = signed(S3, "", "PUT", "/tollgate-test/cut", "s3", s3=True, payload="UNSIGNED-PAYLOAD")
    connection = tls(S3)
    connection.settimeout(None)
    connection.sendall(head(line, [*fields, ("Content-Length", 1 << 20)]) + b"x" * 1000)
    note("uploading")
    everything(connection)
    note("upload-cut")
def download():
    line, fields = signed(S3, "", "GET", "/tollgate-test/big", "s3", s3=True)
    connection = tls(S3)
    connection.sendall(head(line, fields))
    first = connection.recv(1000)
    note("downloading", first[:15].decode())
    wait_for("revoked")
    note("download-cut", len(first) + len(everything(connection)))
def h2():
    line, fields = signed(S3, "", "GET", "/tollgate-test/big", "s3", s3=True)
    given = [part for k, v in fields for part in ("-H", f"{{k}}: {{v}}")]
    curl = subprocess.Popen(["curl", "--http2", "-sS", "--limit-rate", "4M", "-o", "h2.out", *given, f"https://{{S3}}/tollgate-test/big"])
    while not os.path.exists("h2.out") or not os.path.getsize("h2.out"):
        time.sleep(0.01)
    note("h2ing")
    note("h2-cut", [curl.wait(), os.path.getsize("h2.out")])
def held():
    line, fields = signed(STS, WHO)
    connection = tls(STS)
    connection.settimeout(None)
    note("holding")
    note("held-cut", ask(connection, message(line, fields, WHO))[1])
all = [threading.Thread(target=one) for one in (upload, download, h2, held)]
[one.start() for one in all]
wait_for("revoked")
try:
    tls(STS)
    note("again", "a connection")
except OSError as e:
    note("again", "refused")
[one.join() for one in all]
note("over")
time.sleep(60)
"#,
        place.display()
    ));
    let said = |name: &str| -> Option<(f64, serde_json::Value)> {
        serde_json::from_str(&std::fs::read_to_string(place.join(name)).ok()?).ok()
    };
    for name in ["uploading", "downloading", "h2ing", "holding"] {
        wait_for(name, || said(name));
    }
    assert_eq!(said("downloading").expect("there").1, "HTTP/1.1 200 OK");
    let id = host.session_id(agent.name()).expect("a session");
    let approvals = || host.tollgate(&["approvals", "list", "--session", &id, "--json"]).ok();
    let approval = wait_for("the held request", || {
        let list: Vec<serde_json::Value> = serde_json::from_str(&approvals()).expect("JSON");
        list.first().map(|a| a["id"].as_str().expect("an id").to_owned())
    });

    let begun = now();
    let out = host.tollgate(&["sessions", "revoke", &id, "--note", "its key was seen elsewhere"]).ok();
    assert_eq!(out, format!("{id}: revoked"));
    std::fs::write(place.join("revoked"), "").expect("a file");
    for name in ["upload-cut", "held-cut"] {
        let (at, text) = wait_for(name, || said(name));
        assert!(at - begun < 1.0, "{name} after {} s", at - begun);
        assert!(name != "held-cut" || text == "", "it was answered: {text}");
    }
    let (_, got) = wait_for("the download's end", || said("download-cut"));
    assert!(got.as_u64().expect("a number") < BIG / 2, "{got} bytes came all the same");
    let (_, got) = wait_for("curl's end", || said("h2-cut"));
    assert!(got[0] != 0 && got[1].as_u64().expect("a number") < BIG / 2, "{got}");
    assert_eq!(wait_for("another connection", || said("again")).1, "refused");
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("the session was revoked"), "{text}");
    assert!(!host.dir().join("s3/tollgate-test/cut").exists(), "the half of an upload was stored");

    let timeline = agent.timeline();
    assert_eq!(timeline.state(), "revoked");
    timeline.event("session-ended", "revoked by user 0 (root): its key was seen elsewhere; its processes are hung up");
    timeline.event("approval", &format!("request {approval} is cancelled by user 0 (root): its session was revoked"));
    assert_eq!(approvals(), "[]");
    for action in ["s3:PutObject", "s3:GetObject"] {
        for exchange in timeline.exchanges.iter().filter(|e| e.action == action) {
            assert!(exchange.ended.is_some() && exchange.error.is_some(), "{exchange:?}");
        }
    }
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}

#[test]
fn sessions_are_revoked_by_whose_they_are() {
    let issuer = "[[identity.issuer]]\nurl = \"http://127.0.0.1:9411\"\naudience = [\"tollgate\"]\n";
    let host = Host::start(Settings { extra: issuer.into(), ..Settings::default() });
    let provider = host.provider(9411);
    let of = |subject: &str| {
        let file = host.file("token", provider.issue(subject, "tollgate", 3600).as_bytes());
        let agent = host.agent(subject).flags(&["--identity-token-file", file.to_str().expect("UTF-8")]);
        let running = agent.start(&["sleep", "300"]);
        wait_for("the session", || host.session_id(agent.name()));
        (agent, running)
    };
    let (alice, bob, carol, other) = (of("alice"), of("bob"), of("carol"), idle(&host, "other"));
    let state = |agent: &Agent<'_>| agent.timeline().state().to_owned();
    for nobody in [
        &["--subject", "dave"][..],
        &["--issuer", "https://elsewhere.example"],
        &["--tag", "system.slice"],
        &["--subject", "alice", "--issuer", "https://elsewhere.example"],
    ] {
        let text = host.tollgate(&[&["sessions", "revoke"], nobody].concat()).failed();
        assert!(text.contains("no open session is meant by that"), "{text}");
    }
    let text = host.tollgate(&["sessions", "revoke"]).failed();
    assert!(text.contains("required"), "{text}");
    host.tollgate(&["sessions", "revoke", "--subject", "al*", "--kill"]).ok();
    assert_eq!([&alice.0, &bob.0, &carol.0, &other.0].map(state), ["revoked", "open", "open", "open"]);
    let text = alice.1.wait(BUDGET).failed();
    assert!(text.contains("the session was revoked"), "{text}");
    let out = host.tollgate(&["sessions", "revoke", "--issuer", &provider.issuer, "--kill"]).ok();
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!([&bob.0, &carol.0, &other.0].map(state), ["revoked", "revoked", "open"]);
    let (again, _running, id) = idle(&host, "again");
    let slice = tollgate_tests::bed::slice(host.dir());
    host.tollgate(&["sessions", "revoke", "--tag", &format!("{slice}/{id}"), "--kill"]).ok();
    assert_eq!([&again, &other.0].map(state), ["revoked", "open"]);
    host.tollgate(&["sessions", "revoke", "--tag", &slice, "--kill"]).ok();
    assert_eq!(state(&other.0), "revoked");
    // Not for whoever is governed, as everything else there.
    let socket = host.socket().display().to_string();
    let (mine, _running, id) = idle(&host, "mine");
    let text = host.agent("attacker").run(&["tollgate", "--socket", &socket, "sessions", "revoke", &id]).failed();
    assert!(text.contains("governed processes may not"), "{text}");
    assert_eq!(state(&mine), "open");
}

#[test]
fn processes_can_be_kept_as_they_are_and_killed_later() {
    let host = Host::start(Settings::default());
    let agent = host.agent("frozen");
    let count = host.work("count");
    let script =
        format!("trap '' HUP TERM; echo $$ > {0}.pid; while :; do echo >> {0}; sleep 0.02; done", count.display());
    let running = agent.start(&["sh", "-c", &script]);
    let lines = || std::fs::read_to_string(&count).unwrap_or_default().len();
    wait_for("some lines", || (lines() > 3).then_some(()));
    let id = agent.timeline().id().to_owned();
    host.tollgate(&["sessions", "revoke", &id, "--freeze"]).ok();
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("the session was revoked"), "{text}");
    agent.timeline().event("session-ended", "its processes are stopped, and stay");
    let before = lines();
    // Longer than what is left of other sessions gets.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(lines(), before, "it goes on");
    let pid = std::fs::read_to_string(format!("{}.pid", count.display())).expect("a number").trim().to_owned();
    let alive = || std::path::Path::new("/proc").join(&pid).join("cgroup").exists();
    assert!(alive(), "it is gone");
    let out = host.tollgate(&["sessions", "revoke", &id, "--kill"]).ok();
    assert!(out.contains("what was left of it is killed"), "{out}");
    wait_for("its end", || (!alive()).then_some(()));
    let cgroup = std::path::Path::new("/sys/fs/cgroup").join(tollgate_tests::bed::slice(host.dir())).join(&id);
    wait_for("its cgroup's end", || (!cgroup.exists()).then_some(()));
    let text = host.tollgate(&["sessions", "revoke", &id, "--kill"]).failed();
    assert!(text.contains("there is no open session"), "{text}");
}

/// On one connection: before, and after a reload.
#[test]
fn a_changed_policy_is_for_the_next_request_of_an_open_connection() {
    let host = Host::start(Settings::default());
    let agent = host.agent("reloaded");
    let (asked, go) = (host.work("asked"), host.work("go"));
    let running = agent.start_probe(&format!(
        r#"
connection = http.client.HTTPSConnection(STS, timeout=TIMEOUT)
def who():
    line, fields = signed(STS, WHO)
    connection.request("POST", "/", WHO, dict(fields))
    port = connection.sock.getsockname()[1]
    answer = connection.getresponse()
    show(answer.status, answer.read().decode(), port)
connection.auto_open = 1
who()
connection.auto_open = 0
open("{}", "w")
wait_for("{}")
who()
"#,
        asked.display(),
        go.display()
    ));
    wait_for("the first answer", || asked.exists().then_some(()));
    let policies = "@id(\"closed\") @reason(\"Closed.\") forbid (principal, action, resource);".to_owned();
    host.write_settings(&Settings { policies, ..Settings::default() });
    host.tollgate(&["reload"]).ok();
    std::fs::write(&go, "").expect("a file");
    let text = running.wait(BUDGET).ok();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!((&lines[0][0], &lines[1][0]), (&200.into(), &403.into()), "{text}");
    assert_eq!(lines[0][2], lines[1][2], "it was another connection");
    assert!(lines[1][1].as_str().expect("text").contains("Closed."), "{text}");
}
