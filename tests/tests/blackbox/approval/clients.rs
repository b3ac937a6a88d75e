//! What clients see of a request that nobody has answered yet: an error that they try again on, and in the end one that they
//! do not.

use super::*;

#[test]
fn clients_try_again_by_themselves_and_find_their_request() {
    let host = Host::start(settings("hold = 1"));
    for (name, argv) in [
        ("asks-cli", WHO.map(str::to_owned).to_vec()),
        (
            "asks-boto",
            vec!["python3".into(), "-c".into(), boto("legacy", 5, "print(sts.get_caller_identity()['Arn'])")],
        ),
        (
            "asks-standard",
            vec!["python3".into(), "-c".into(), boto("standard", 5, "print(sts.get_caller_identity()['Arn'])")],
        ),
    ] {
        let before = upstream(&host);
        let agent = host.agent(name);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let (running, approval) = waiting(&host, &agent, &argv);
        let id = id(&approval);
        let tries = || agent.timeline().exchanges.iter().filter(|e| e.decision == "wait").count();
        wait_for("a second try", || (tries() >= 2).then_some(()));
        assert_eq!(open(&host, &agent).len(), 1, "it was asked twice");
        host.tollgate(&["approvals", "approve", &id]).ok();
        let text = running.wait(BUDGET).ok();
        assert!(text.contains("user/held"), "{name}: {text}");
        assert_eq!(upstream(&host), before + 1);
        let timeline = agent.timeline();
        let waits: Vec<_> = timeline.exchanges.iter().filter(|e| e.decision == "wait").collect();
        assert!(waits.iter().all(|e| e.status == Some(503) && e.reason.contains(&id)), "{timeline:#?}");
        assert_eq!(timeline.exchanges.iter().filter(|e| e.decision == "hold").count(), 1);
        assert!(timeline.events.iter().all(|e| e.kind != "blocked"), "{timeline:#?}");
        assert_eq!(steps(&host, &id), ["pending", "approved", "consumed"]);
    }
}

/// A client with less patience than `hold` hangs up, and comes back by itself.
#[test]
fn a_client_that_loses_patience_finds_its_request() {
    let host = Host::start(settings("hold = 25\ngrace = 10"));
    let agent = host.agent("asks-hurry");
    let script = r#"
import boto3
from botocore.config import Config
sts = boto3.client("sts", region_name="us-east-1", config=Config(read_timeout=1, retries={"mode": "standard", "total_max_attempts": 9}))
print(sts.get_caller_identity()["Arn"])
"#;
    let (running, approval) = waiting(&host, &agent, &["python3", "-c", script]);
    let id = id(&approval);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(open(&host, &agent).len(), 1, "it was asked again");
    host.tollgate(&["approvals", "approve", &id]).ok();
    assert!(running.wait(BUDGET).ok().contains("user/held"));
    assert_eq!(steps(&host, &id), ["pending", "approved", "consumed"]);
}

#[test]
fn the_last_try_is_denied_and_says_how_to_wait() {
    let host = Host::start(settings("hold = 1"));
    let before = upstream(&host);
    let agent = host.agent("asks-patient");
    let script = boto(
        "standard",
        2,
        r#"
try:
    sts.get_caller_identity()
    sys.exit("it went through")
except Exception as e:
    said = str(e)
    print(type(e).__name__, said, flush=True)
request = said.split("tollgate approvals wait ")[1].split("`")[0]
print(subprocess.run(["tollgate", "approvals", "wait", request], check=True, capture_output=True, text=True).stdout, flush=True)
print(sts.get_caller_identity()["Arn"])
"#,
    );
    let (running, approval) = waiting(&host, &agent, &["python3", "-c", &script]);
    let id = id(&approval);
    wait_for("the last try", || agent.timeline().exchanges.iter().any(|e| e.decision == "deny").then_some(()));
    // Waiting from another session of the same user and principal is as good; another user's is nobody's business.
    let text = host.agent("other").uid(12345).run(&["tollgate", "approvals", "wait", &id]).failed();
    assert!(text.contains("has no request"), "{text}");
    let text = host.agent("other").run(&["tollgate", "approvals", "wait", &id, "--timeout", "1s"]).failed();
    assert!(text.contains("still waits"), "{text}");
    host.tollgate(&["approvals", "approve", &id]).ok();
    let text = running.wait(BUDGET).ok();
    assert!(text.contains("ClientError An error occurred (AccessDenied)"), "{text}");
    assert!(text.contains(&format!("{id}: approved")) && text.contains("user/held"), "{text}");
    assert_eq!(upstream(&host), before + 1);
    let timeline = agent.timeline();
    let decisions: Vec<_> = timeline.exchanges.iter().map(|e| e.decision.as_str()).collect();
    assert_eq!(decisions, ["wait", "deny", "hold"], "{timeline:#?}");
    assert_eq!(timeline.events.iter().filter(|e| e.kind == "blocked").count(), 1);
    assert!(timeline.events.iter().all(|e| e.kind != "bypass"), "waiting from inside is no attempt to get round");
    // What was not approved, fails to be waited for.
    let (running, approval) = waiting(&host, &host.agent("asks-wait"), &WHO);
    let id = self::id(&approval);
    host.tollgate(&["approvals", "deny", &id, "--note", "no"]).ok();
    running.wait(BUDGET).failed();
    let text = host.agent("other").run(&["tollgate", "approvals", "wait", &id]).failed();
    assert!(text.contains(&format!("{id} is denied by user 0 (root): no")), "{text}");
}

#[test]
fn what_nobody_answers_expires() {
    let host = Host::start(settings("hold = 1\ndeadline = 3"));
    let agent = host.agent("asks-expired");
    let running = agent.start(&["python3", "-c", &boto("standard", 9, "sts.get_caller_identity()")]);
    let text = running.wait(BUDGET).failed();
    assert!(text.contains("(AccessDenied)") && text.contains("nobody approved request a-"), "{text}");
    let timeline = agent.timeline();
    let event = timeline.event("approval", "is expired: its deadline has come");
    assert_eq!(steps(&host, event.field("TOLLGATE_APPROVAL")), ["pending", "expired"]);
    assert_eq!(timeline.events.iter().filter(|e| e.kind == "blocked").count(), 1);
    let list = host.tollgate(&["approvals", "list", "--state", "expired"]).ok();
    assert!(list.contains(event.field("TOLLGATE_APPROVAL")), "{list}");
}
