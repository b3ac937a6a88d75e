//! Requests that wait for a person: what the agent and the person see, and who may answer.

use serde_json::Value;
use tollgate_tests::host::{Agent, BUDGET, Host, Running, Settings, wait_for};

const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource)
unless { context.session.name like "asks-*" };

@id("tests-ask")
@approval("ops")
@reason("Somebody of ops looks at this first.")
permit (principal, action, resource)
when { context.session.name like "asks-*" };
"#;

/// Starts a request that waits; gives it and what the list says of it.
fn waiting(host: &Host, agent: &Agent<'_>, argv: &[&str]) -> (Running, Value) {
    let running = agent.start(argv);
    let session = wait_for("a session", || host.session_id(agent.name()));
    let pending = wait_for("a request that waits", || {
        let list = host.tollgate(&["approvals", "list", "--json"]).ok();
        let list: Vec<Value> = serde_json::from_str(&list).expect("JSON");
        list.into_iter().find(|p| p["session"] == session.as_str())
    });
    (running, pending)
}

/// How many requests moto has had.
fn upstream(host: &Host) -> usize {
    let log = std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log");
    log.lines().filter(|line| line.contains("\"POST / HTTP/1.1\"")).count()
}

#[test]
fn a_request_waits_until_a_person_outside_answers() {
    let host = Host::start(Settings { policies: POLICIES.into(), ..Settings::default() });
    let who = ["aws", "sts", "get-caller-identity"];
    let before = upstream(&host);

    let agent = host.agent("asks-approved");
    let (mut running, pending) = waiting(&host, &agent, &who);
    let id = pending["id"].as_str().expect("an id");
    for (field, value) in
        [("action", "sts:GetCallerIdentity"), ("group", "ops"), ("subject", "unidentified"), ("resource", "*")]
    {
        assert_eq!(pending[field], value, "{field} in {pending}");
    }
    let list = host.tollgate(&["approvals", "list"]).ok();
    assert!(list.contains(id) && list.contains("asks for sts:GetCallerIdentity") && list.contains("`ops`"), "{list}");
    agent.timeline().event("held", "waits for a person of `ops`");

    // Whoever is governed may neither look nor answer, root no more than others.
    let socket = host.socket().display().to_string();
    for other in [host.agent("governed"), host.agent("governed-root").uid(0)] {
        for verb in [&["list"][..], &["approve", id], &["deny", id]] {
            let argv = [&["tollgate", "--socket", &socket, "approvals"], verb].concat();
            let text = other.run(&argv).failed();
            assert!(text.contains("governed processes may not use the control socket"), "{verb:?}: {text}");
        }
    }
    assert!(running.is_running(), "it did not wait");
    assert_eq!(upstream(&host), before, "something was sent before anybody answered");

    // Nor may what its user runs outside.
    let outside = host.outsider("accomplice").run(&["tollgate", "--socket", &socket, "approvals", "approve", id]);
    let text = outside.failed();
    assert!(text.contains("one of your own user's"), "{text}");
    assert!(running.is_running(), "its own user let it through");

    let said = host.tollgate(&["approvals", "approve", id]).ok();
    assert!(said.contains(id), "{said}");
    let text = running.wait(BUDGET).ok();
    assert!(text.contains("user/held"), "{text}");
    assert_eq!(upstream(&host), before + 1);
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("hold", Some(200)), "{exchange:?}");
    timeline.event("approved", id);
    // Once.
    let again = host.tollgate(&["approvals", "deny", id]).failed();
    assert!(again.contains("is not pending"), "{again}");

    let agent = host.agent("asks-denied");
    let (running, pending) = waiting(&host, &agent, &who);
    let id = pending["id"].as_str().expect("an id");
    host.tollgate(&["approvals", "deny", id]).ok();
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("(AccessDenied) when calling the GetCallerIdentity"), "{text}");
    assert!(text.contains("a person (user 0) denied request"), "{text}");
    assert_eq!(upstream(&host), before + 1, "what was denied was sent");
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("deny", Some(403)), "{exchange:?}");
    timeline.event("blocked", id);

    // A client that goes away takes its request with it.
    let (running, pending) = waiting(&host, &host.agent("asks-impatient"), &who);
    drop(running);
    wait_for("its withdrawal", || (host.tollgate(&["approvals", "list"]).ok() == "nothing waits").then_some(()));
    let id = pending["id"].as_str().expect("an id");
    assert!(host.tollgate(&["approvals", "approve", id]).failed().contains("is not pending"));
    assert_eq!(upstream(&host), before + 1, "what nobody waits for was sent");
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}
