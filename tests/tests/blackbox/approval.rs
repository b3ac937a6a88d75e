//! Requests that wait for people: what the agent and they see, who may answer, and what becomes of it.

mod answers;
mod clients;
mod grants;
mod people;

use nix::sys::signal::Signal;
use serde_json::Value;
use tollgate_tests::host::{Agent, BUDGET, Host, Output, Running, Settings, wait_for};

/// Sessions are held by their names: `asks-*`, and more with terms.
const POLICIES: &str = r#"
@id("tests-allow")
permit (principal, action, resource)
unless { context.session.name like "asks-*" };

@id("tests-ask")
@approval("staff")
@reason("Somebody of staff looks at this first.")
permit (principal, action, resource)
when { context.session.name like "asks-*" }
unless { context.session.name like "asks-two-*" || context.session.name like "asks-why-*" || context.session.name like "asks-glass-*" };

@id("tests-two")
@approval("staff")
@min_approvals("2")
permit (principal, action, resource)
when { context.session.name like "asks-two-*" };

@id("tests-why")
@approval("staff")
@justification("both")
permit (principal, action, resource)
when { context.session.name like "asks-why-*" };

@id("tests-glass")
@approval("staff")
@required_groups("adm")
@break_glass("games")
permit (principal, action, resource)
when { context.session.name like "asks-glass-*" };
"#;

/// Groups of every Debian, and the one that may use the socket on test hosts.
const STAFF: u32 = 50;
const ADM: u32 = 4;
const GAMES: u32 = 60;
const SOCKET: u32 = 65534;

const WHO: [&str; 3] = ["aws", "sts", "get-caller-identity"];

fn settings(approval: &str) -> Settings {
    Settings { policies: POLICIES.into(), extra: format!("[approval]\n{approval}\n"), ..Settings::default() }
}

/// The requests of a session that are not over.
fn open(host: &Host, agent: &Agent<'_>) -> Vec<Value> {
    let Some(session) = host.session_id(agent.name()) else { return Vec::new() };
    let list = host.tollgate(&["approvals", "list", "--json", "--session", &session]).ok();
    serde_json::from_str(&list).expect("JSON")
}

/// The one request of an agent's that waits, once there is one.
#[track_caller]
fn pending(host: &Host, agent: &Agent<'_>) -> Value {
    wait_for("a request that waits", || open(host, agent).into_iter().find(|a| a["state"] == "pending"))
}

fn id(approval: &Value) -> String {
    approval["id"].as_str().expect("an id").to_owned()
}

/// Starts a request that waits; gives it and what the list says of it.
fn waiting(host: &Host, agent: &Agent<'_>, argv: &[&str]) -> (Running, Value) {
    let running = agent.start(argv);
    let approval = pending(host, agent);
    (running, approval)
}

/// What a person on the host does, with these groups besides the socket's.
fn person(host: &Host, uid: u32, groups: &[u32], args: &[&str]) -> Output {
    let socket = host.socket().display().to_string();
    let tollgate = host.dir().join("bin/tollgate").display().to_string();
    let all: Vec<String> = [SOCKET].iter().chain(groups).map(ToString::to_string).collect();
    let (uid, groups) = (uid.to_string(), all.join(","));
    let argv = ["setpriv", "--reuid", &uid, "--regid", &uid, "--groups", &groups, "--", &tollgate, "--socket", &socket];
    host.root(&[&argv[..], args].concat())
}

/// What the record says of a request: its state, and its steps' states.
fn steps(host: &Host, id: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(&host.tollgate(&["approvals", "show", id, "--json"]).ok()).expect("JSON");
    let steps = answer["steps"].as_array().expect("steps");
    steps.iter().map(|s| s["state"].as_str().expect("a state").to_owned()).collect()
}

/// How many requests moto has had.
fn upstream(host: &Host) -> usize {
    let log = std::fs::read_to_string(host.dir().join("moto.log")).expect("moto's log");
    log.lines().filter(|line| line.contains("\"POST / HTTP/1.1\"")).count()
}

/// A boto3 script with a client of STS whose retries are `mode` and `attempts`.
fn boto(mode: &str, attempts: u32, script: &str) -> String {
    format!(
        r#"
import boto3, sys, subprocess, threading
from botocore.config import Config
sts = boto3.client("sts", region_name="us-east-1", config=Config(retries={{"mode": "{mode}", "total_max_attempts": {attempts}}}))
{script}
"#
    )
}

#[test]
fn a_request_waits_until_a_person_outside_answers() {
    let host = Host::start(settings("hold = 25\ngrace = 1"));
    let before = upstream(&host);

    let agent = host.agent("asks-approved");
    let (mut running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    for (field, value) in [
        ("action", "sts:GetCallerIdentity"),
        ("operation", "sts:GetCallerIdentity"),
        ("subject", "unidentified"),
        ("session_name", agent.name()),
        ("account", "123456789012"),
        ("reason", "Somebody of staff looks at this first."),
    ] {
        assert_eq!(approval[field], value, "{field} in {approval}");
    }
    assert_eq!(approval["terms"]["groups"][0], "staff");
    let list = host.tollgate(&["approvals", "list"]).ok();
    assert!(
        list.contains(&id) && list.contains("asks for sts:GetCallerIdentity") && list.contains("`staff`"),
        "{list}"
    );
    let found = |text: &str| host.tollgate(&["approvals", "list", "--search", text]).ok().contains(&id);
    assert!(found("getcalleridentity") && found(agent.name()) && !found("nothing of the kind"));
    let shown = host.tollgate(&["approvals", "show", &id]).ok();
    assert!(shown.contains("until") && shown.contains("Somebody of staff"), "{shown}");
    let held = agent.timeline().event("held", "waits for a person of `staff`").clone();
    assert_eq!(held.field("TOLLGATE_APPROVAL"), id);

    // Whoever is governed may neither look nor answer, root no more than others.
    let socket = host.socket().display().to_string();
    for other in [host.agent("governed"), host.agent("governed-root").uid(0)] {
        for verb in [&["list"][..], &["approve", &id], &["deny", &id], &["revoke", &id], &["watch"]] {
            let argv = [&["tollgate", "--socket", &socket, "approvals"], verb].concat();
            let text = other.run(&argv).failed();
            assert!(text.contains("governed processes may not use the control socket"), "{verb:?}: {text}");
        }
    }
    assert!(running.is_running(), "it did not wait");
    assert_eq!(upstream(&host), before, "something was sent before anybody answered");

    // Nor may what its user runs outside.
    let outside = host.outsider("accomplice").run(&["tollgate", "--socket", &socket, "approvals", "approve", &id]);
    let text = outside.failed();
    assert!(text.contains("one of your own user's"), "{text}");
    assert!(running.is_running(), "its own user let it through");

    let said = host.tollgate(&["approvals", "approve", &id, "--note", "looks fine"]).ok();
    assert!(said.contains(&id), "{said}");
    let text = running.wait(BUDGET).ok();
    assert!(text.contains("user/held"), "{text}");
    assert_eq!(upstream(&host), before + 1);
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("hold", Some(200)), "{exchange:?}");
    assert!(exchange.reason.contains(&id) && exchange.reason.contains("user 0 (root)"), "{exchange:?}");
    timeline.event("approved", "by user 0 (root): looks fine");
    assert_eq!(steps(&host, &id), ["pending", "approved", "consumed"]);
    // Once.
    let again = host.tollgate(&["approvals", "deny", &id]).failed();
    assert!(again.contains("it is over, or never was"), "{again}");

    let agent = host.agent("asks-denied");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = self::id(&approval);
    host.tollgate(&["approvals", "deny", &id, "--note", "not today"]).ok();
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("(AccessDenied) when calling the GetCallerIdentity"), "{text}");
    assert!(text.contains(&format!("user 0 (root) denied request {id}: not today")), "{text}");
    assert_eq!(upstream(&host), before + 1, "what was denied was sent");
    let timeline = agent.timeline();
    let exchange = timeline.only("sts:GetCallerIdentity");
    assert_eq!((exchange.decision.as_str(), exchange.status), ("deny", Some(403)), "{exchange:?}");
    timeline.event("blocked", &id);
    timeline.event("approval", &format!("request {id} is denied by user 0 (root): not today"));
    assert_eq!(timeline.events.iter().filter(|e| e.kind == "blocked").count(), 1, "one a denial: {timeline:#?}");

    // A client that goes away takes its request with it.
    let agent = host.agent("asks-impatient");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = self::id(&approval);
    drop(running);
    wait_for("its withdrawal", || (host.tollgate(&["approvals", "list"]).ok() == "nothing waits").then_some(()));
    assert!(host.tollgate(&["approvals", "approve", &id]).failed().contains("it is over, or never was"));
    assert_eq!(steps(&host, &id), ["pending", "cancelled"]);
    assert_eq!(upstream(&host), before + 1, "what nobody waits for was sent");
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}

/// SIGKILL while somebody waits: the request is there when the daemon is back, and answered then.
#[test]
fn a_request_outlives_a_killed_daemon() {
    let host = Host::start(settings("hold = 25"));
    let before = upstream(&host);
    let agent = host.agent("asks-restart");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    host.kill_daemon();
    drop(running);
    host.start_daemon();
    let list = host.tollgate(&["approvals", "list"]).ok();
    assert!(list.contains(&id), "{list}");
    host.tollgate(&["approvals", "approve", &id]).ok();
    assert_eq!(upstream(&host), before);
    // What the same user asks for the same principal.
    let again = host.agent("asks-restart");
    let text = again.run(&WHO).ok();
    assert!(text.contains("user/held"), "{text}");
    assert_eq!(upstream(&host), before + 1);
    assert_eq!(steps(&host, &id), ["pending", "approved", "consumed"]);
    assert!(again.timeline().only("sts:GetCallerIdentity").reason.contains(&id));
    // Somebody else's is another request, and so is the next one.
    let other = host.agent("asks-restart").uid(12345);
    let (running, approval) = waiting(&host, &other, &WHO);
    assert_ne!(self::id(&approval), id);
    host.signal_daemon(Signal::SIGTERM);
    let text = running.wait(BUDGET).failed();
    assert!(!text.is_empty());
    assert!(host.daemon_ended().success(), "{}", host.daemon_log());
    host.start_daemon();
    assert_eq!(steps(&host, &self::id(&approval)), ["pending"], "a daemon that stops cancels nothing");
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}
