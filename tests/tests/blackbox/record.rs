//! What is decided is recorded before anything leaves, and told; a daemon that dies loses nothing of it.

use tollgate_tests::host::{BUDGET, Host, Settings, wait_for};

/// An upload that sends its head and its first half, then waits for `go`.
fn slow_upload(go: &std::path::Path) -> String {
    format!(
        r#"
body = b"s" * (1 << 20)
line, fields = signed(S3, "", "PUT", "/tollgate-test/slow", "s3", s3=True, payload="UNSIGNED-PAYLOAD")
connection = tls(S3)
connection.sendall(head(line, [*fields, ("Content-Length", len(body)), ("Connection", "close")]) + body[:1 << 19])
wait_for("{}")
show(ask(connection, body[1 << 19:]))
"#,
        go.display()
    )
}

#[test]
fn an_intent_is_recorded_before_the_answer_and_its_outcome_after() {
    let host = Host::shared();
    let agent = host.agent("intent");
    let go = host.work("go");
    let running = agent.start_probe(&slow_upload(&go));
    let before = wait_for("the intent", || {
        host.session_id(agent.name())?;
        agent.timeline().exchanges.into_iter().next()
    });
    assert_eq!((before.action.as_str(), before.decision.as_str()), ("s3:PutObject", "allow"));
    assert_eq!((before.status, before.ended), (None, None), "it has not ended yet");
    std::fs::write(go, "").expect("a file");
    let answer: serde_json::Value = serde_json::from_str(&running.wait(BUDGET).ok()).expect("JSON");
    assert_eq!(answer[0], 200, "{answer}");
    let timeline = agent.timeline();
    let after = timeline.only("s3:PutObject");
    assert_eq!((after.status, after.bytes_sent), (Some(200), Some(1 << 20)));
    assert!(after.ended.is_some_and(|ended| ended > after.started) && after.error.is_none(), "{after:?}");
    assert_eq!(timeline.state(), "ended");
}

#[test]
fn sessions_and_events_can_be_listed_shown_and_read_by_machines() {
    let host = Host::shared();
    let agent = host.agent("denied-shown");
    agent.run(&["aws", "sts", "get-caller-identity"]).failed();
    let timeline = agent.timeline();
    let list = host.tollgate(&["sessions", "list"]).ok();
    let line = list.lines().find(|l| l.contains(timeline.id())).unwrap_or_else(|| panic!("{list}"));
    assert!(line.contains("unidentified") && line.contains("denied-shown") && line.contains("ended"), "{line}");
    let shown = host.tollgate(&["sessions", "show", timeline.id()]).ok();
    for part in ["BLOCKED", "sts:GetCallerIdentity", "HTTP 403", "policy tests-deny", "aws sts get-caller-identity"] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let events = host.tollgate(&["events", "--session", timeline.id()]).ok();
    for part in ["session-opened", "blocked sts:GetCallerIdentity", "session-ended"] {
        assert!(events.contains(part), "`{part}` is not in:\n{events}");
    }
    let blocked = timeline.event("blocked", "may do nothing");
    for (name, value) in [
        ("TOLLGATE_EVENT", "blocked"),
        ("PRIORITY", "4"),
        ("MESSAGE_ID", "5f1d0b8a63c94f0c9c7be2a1f4c10002"),
        ("TOLLGATE_SESSION", timeline.id()),
        ("TOLLGATE_SUBJECT", "unidentified"),
        ("AWS_ACTION", "sts:GetCallerIdentity"),
        ("AWS_REGION", "us-east-1"),
    ] {
        assert_eq!(blocked.field(name), value, "{name}");
    }
    assert!(blocked.field("TOLLGATE_EXE").contains("python"), "{blocked:?}");
    // The same event, as a line of JSON, is on the daemon's standard error.
    let logged = host.daemon_log();
    assert!(logged.lines().any(|l| l.contains("\"TOLLGATE_EVENT\":\"blocked\"") && l.contains(timeline.id())));
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
    let missing = host.tollgate(&["sessions", "show", "s-0000000000000000"]).failed();
    assert!(missing.contains("there is no session"), "{missing}");
    assert!(host.tollgate(&["sessions", "show", "nonsense"]).failed().contains("is not a session id"));
}

#[test]
fn a_killed_daemon_leaves_intents_refuses_connections_and_comes_back() {
    let host = Host::start(Settings::default());
    let uploader = host.agent("upload");
    let go = host.work("go");
    let upload = uploader.start_probe(&slow_upload(&go));
    // A second agent tells how its connections fare, and goes on after the daemon's death.
    let survivor = host.agent("survivor");
    let (ready, dead, back) = (host.work("ready"), host.work("dead"), host.work("back"));
    let result = host.work("result");
    let running = survivor.start_probe(&format!(
        r#"
def reach():
    try: return tls(STS) and "connected"
    except OSError as e: return type(e).__name__
def tell(*what): open("{result}", "a").write(json.dumps(what) + "\n")
tell(reach())
open("{ready}", "w")
wait_for("{dead}")
tell(reach())
wait_for("{back}")
tell(reach())
"#,
        result = result.display(),
        ready = ready.display(),
        dead = dead.display(),
        back = back.display()
    ));
    wait_for("the survivor", || ready.exists().then_some(()));
    wait_for("the upload's intent", || {
        host.session_id(uploader.name())?;
        (!uploader.timeline().exchanges.is_empty()).then_some(())
    });

    host.kill_daemon();
    let lines = |n| {
        let result = result.clone();
        wait_for("the survivor's answer", move || {
            let text = std::fs::read_to_string(&result).ok()?;
            (text.lines().count() == n).then(|| text.lines().last().expect("a line").to_owned())
        })
    };
    assert_eq!(lines(1), "[\"connected\"]");
    std::fs::write(&dead, "").expect("a file");
    assert_eq!(lines(2), "[\"ConnectionRefusedError\"]", "a dead daemon means refused");
    assert!(uploader.start(&["true"]).wait(BUDGET).failed().contains("the daemon does not answer"));
    let told = running.wait(BUDGET).failed();
    assert!(told.contains("the daemon went away"), "its caller is told: {told}");

    host.start_daemon();
    std::fs::write(&back, "").expect("a file");
    let after = lines(3);
    assert_ne!(after, "[\"connected\"]", "a session does not outlive the daemon that knew its principal");
    drop(upload);
    let timeline = uploader.timeline();
    let exchange = timeline.only("s3:PutObject");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("allow", None), "{exchange:?}");
    assert!(exchange.error.as_deref().is_some_and(|e| e.contains("interrupted")), "{exchange:?}");
    assert_ne!(timeline.state(), "open");
    assert!(!host.dir().join("s3/tollgate-test/slow").exists(), "half an upload was stored");
    let next = host.agent("next").run(&["aws", "sts", "get-caller-identity"]).ok();
    assert!(next.contains("user/held"), "{next}");
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}
