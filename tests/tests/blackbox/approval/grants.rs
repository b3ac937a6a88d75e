//! For how long, on what, and why.

use super::*;

const BUCKETS: &str = r#"
import boto3, sys, time
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client("s3", region_name="us-east-1", config=Config(retries={"mode": "standard", "total_max_attempts": 1}))
def head(key):
    try:
        s3.get_object(Bucket="tollgate-test", Key=key)
        print(key, "passed", flush=True)
    except ClientError as e:
        print(key, e.response["Error"]["Code"], flush=True)
"#;

#[test]
fn a_window_lets_through_what_is_like_it_until_it_ends() {
    let host = Host::start(settings("hold = 1"));
    let agent = host.agent("asks-window");
    let (go, late) = (host.work("go"), host.work("late"));
    let script = format!(
        r#"{BUCKETS}
import os
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)
head("one")
wait_for("{}")
for key in ["one", "two", "three"]:
    head(key)
try:
    s3.delete_object(Bucket="tollgate-test", Key="one")
    print("deleted", flush=True)
except ClientError as e:
    print("delete", e.response["Error"]["Code"], flush=True)
wait_for("{}")
head("two")
"#,
        go.display(),
        late.display()
    );
    let (running, approval) = waiting(&host, &agent, &["python3", "-c", &script]);
    let id = id(&approval);
    wait_for("the error", || agent.timeline().exchanges.iter().any(|e| e.decision == "deny").then_some(()));
    let wrong =
        |args: &[&str]| person(&host, 5001, &[STAFF], &[&["approvals", "approve", &id], args].concat()).failed();
    assert!(wrong(&["--for", "9h"]).contains("the longest window for this request is 28800 seconds"));
    assert!(wrong(&["--for", "5m", "--resource", "arn:aws:s3:::other/*"]).contains("does not match"));
    assert!(wrong(&["--for", "5"]).contains("write a number and s, m or h"));
    let grant = ["approvals", "approve", &id, "--for", "8s", "--resource", "arn:aws:s3:::tollgate-test/*"];
    let said = person(&host, 5001, &[STAFF], &grant).ok();
    assert!(said.contains("approved until"), "{said}");
    std::fs::write(&go, "").expect("a file");
    let ended =
        || agent.timeline().events.iter().any(|e| e.kind == "approval" && e.reason().contains("its window has ended"));
    wait_for("its end", || ended().then_some(()));
    std::fs::write(&late, "").expect("a file");
    let text = running.wait(BUDGET).ok();
    let lines: Vec<&str> = text.lines().collect();
    // There are no such objects, which S3 says: the requests went through.
    assert_eq!(
        lines,
        [
            "one AccessDenied",
            "one NoSuchKey",
            "two NoSuchKey",
            "three NoSuchKey",
            "delete AccessDenied",
            "two AccessDenied"
        ],
        "{text}"
    );
    assert_eq!(steps(&host, &id), ["pending", "approved", "expired"]);
    let timeline = agent.timeline();
    let held: Vec<_> = timeline.exchanges.iter().filter(|e| e.decision == "hold").collect();
    assert!(held.len() == 3 && held.iter().all(|e| e.reason.contains(&id)), "{timeline:#?}");
}

#[test]
fn what_was_approved_can_be_taken_back() {
    let host = Host::start(settings("hold = 1"));
    let agent = host.agent("asks-revoke");
    let go = host.work("go");
    let script = format!(
        "{BUCKETS}\nimport os\nhead('one')\nwhile not os.path.exists('{}'):\n    time.sleep(0.02)\nhead('one')",
        go.display()
    );
    let (running, approval) = waiting(&host, &agent, &["python3", "-c", &script]);
    let id = id(&approval);
    let text = person(&host, 5001, &[STAFF], &["approvals", "revoke", &id]).failed();
    assert!(text.contains("the request is pending"), "{text}");
    wait_for("the error", || agent.timeline().exchanges.iter().any(|e| e.decision == "deny").then_some(()));
    person(&host, 5001, &[STAFF], &["approvals", "approve", &id]).ok();
    let text = person(&host, 5002, &[ADM], &["approvals", "revoke", &id]).failed();
    assert!(text.contains("none of the groups"), "{text}");
    person(&host, 5002, &[STAFF], &["approvals", "revoke", &id, "--note", "changed my mind"]).ok();
    std::fs::write(&go, "").expect("a file");
    let text = running.wait(BUDGET).ok();
    assert_eq!(text, "one AccessDenied\none AccessDenied");
    assert_eq!(steps(&host, &id), ["pending", "approved", "revoked"]);
    agent.timeline().event("approval", "is revoked by user 5002: changed my mind");
}

#[test]
fn the_agent_and_the_approver_say_why() {
    let host = Host::start(settings("hold = 25"));
    let agent = host.agent("asks-why");
    let text = agent.run(&WHO).failed();
    assert!(text.contains("(AccessDenied)") && text.contains("tollgate note"), "{text}");
    assert!(open(&host, &agent).is_empty(), "nobody was to be asked");
    let (running, approval) = waiting(
        &host,
        &host.agent("asks-why"),
        &["sh", "-c", "tollgate note 'ticket 7' >&2 && aws sts get-caller-identity"],
    );
    assert_eq!(approval["note"], "ticket 7");
    let id = id(&approval);
    assert!(host.tollgate(&["approvals", "list"]).ok().contains("says: ticket 7"));
    let text = person(&host, 5001, &[STAFF], &["approvals", "approve", &id]).failed();
    assert!(text.contains("--note"), "{text}");
    person(&host, 5001, &[STAFF], &["approvals", "approve", &id, "--note", "seen it"]).ok();
    running.wait(BUDGET).ok();

    // By a header, which is not sent on.
    let agent = host.agent("asks-why");
    let script = boto(
        "standard",
        1,
        r#"
sts.meta.events.register("before-sign.*.*", lambda request, **_: request.headers.add_header("x-tollgate-note", "by header"))
print(sts.get_caller_identity()["Arn"])
"#,
    );
    let (running, approval) = waiting(&host, &agent, &["python3", "-c", &script]);
    assert_eq!(approval["note"], "by header");
    person(&host, 5001, &[STAFF], &["approvals", "approve", &self::id(&approval), "--note", "seen it"]).ok();
    running.wait(BUDGET).ok();
    // Only from inside.
    let text = host.outsider("note").run(&["tollgate", "note", "x"]).failed();
    assert!(text.contains("not governed"), "{text}");
    // What a program can be talked into fetching is not enough.
    let probe = host.agent("asks-why").probe(
        "show(imds('/tollgate/note', 'PUT'))\nshow(imds('/tollgate/approvals/a-0000000000000000/wait', x_tollgate='1'))",
    );
    assert_eq!(probe[0][0], 403, "{probe:?}");
    assert_eq!(probe[1][0], 404, "{probe:?}");
}
