//! Many at once: people who answer, and requests that want the same answer.

use super::*;

#[test]
fn of_two_people_who_answer_at_once_one_does() {
    let host = Host::start(settings("hold = 25"));
    for n in 0..3 {
        let agent = host.agent(&format!("asks-race-{n}"));
        let (running, approval) = waiting(&host, &agent, &WHO);
        let id = id(&approval);
        let answers: Vec<Output> = std::thread::scope(|scope| {
            let say = |uid: u32, verb: &'static str| {
                let (host, id) = (&host, id.as_str());
                scope.spawn(move || person(host, uid, &[STAFF], &["approvals", verb, id]))
            };
            let all: Vec<_> = (0..3).flat_map(|n| [say(5001 + n, "approve"), say(6001 + n, "deny")]).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        let taken: Vec<&Output> = answers.iter().filter(|a| a.status.success()).collect();
        assert_eq!(taken.len(), 1, "{answers:?}");
        let approved = taken[0].text().contains("approved");
        let output = running.wait(BUDGET);
        assert_eq!(output.status.success(), approved, "{output}");
        let expected = if approved { &["pending", "approved", "consumed"][..] } else { &["pending", "denied"] };
        assert_eq!(steps(&host, &id), expected);
    }
    assert!(host.tollgate(&["verify"]).ok().starts_with("intact"));
}

#[test]
fn of_two_requests_that_want_one_answer_one_gets_it() {
    let host = Host::start(settings("hold = 25"));
    let before = upstream(&host);
    let agent = host.agent("asks-twice");
    let script = boto(
        "standard",
        1,
        r#"
def ask():
    try:
        print("passed", sts.get_caller_identity()["Arn"], flush=True)
    except Exception as e:
        print("denied", e, flush=True)
both = [threading.Thread(target=ask) for _ in range(2)]
[one.start() for one in both]
[one.join() for one in both]
"#,
    );
    let running = agent.start(&["python3", "-c", &script]);
    let first = id(&pending(&host, &agent));
    // Both wait for the same answer.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(open(&host, &agent).len(), 1);
    host.tollgate(&["approvals", "approve", &first]).ok();
    let second = id(&pending(&host, &agent));
    assert_ne!(second, first);
    host.tollgate(&["approvals", "deny", &second]).ok();
    let text = running.wait(BUDGET).ok();
    assert_eq!((text.matches("passed").count(), text.matches("denied An error").count()), (1, 1), "{text}");
    assert_eq!(upstream(&host), before + 1);
    assert_eq!(steps(&host, &first), ["pending", "approved", "consumed"]);
}

#[test]
fn who_watches_sees_every_step() {
    let host = Host::start(settings("hold = 25"));
    let watcher = host.start_tollgate(&["approvals", "watch", "--json"]);
    let agent = host.agent("asks-watched");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    host.tollgate(&["approvals", "approve", &id]).ok();
    running.wait(BUDGET).ok();
    let seen = || {
        let text = watcher.printed();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let mine = lines.filter(|l| l["approval"]["id"] == id.as_str());
        mine.map(|l| l["approval"]["state"].as_str().expect("a state").to_owned()).collect::<Vec<_>>()
    };
    wait_for("all steps", || (seen() == ["pending", "approved", "consumed"]).then_some(()));
}
