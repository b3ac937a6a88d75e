//! Who may answer: groups, how many, never for themselves.

use super::*;

#[test]
fn only_members_of_the_group_answer() {
    let host = Host::start(settings("hold = 25"));
    let agent = host.agent("asks-group");
    let (mut running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    for verb in ["approve", "deny"] {
        let text = person(&host, 5001, &[ADM], &["approvals", verb, &id]).failed();
        assert!(text.contains("you are in none of the groups that are asked: `staff`"), "{text}");
    }
    // The group is the process's, and not a name that it gives.
    let text = person(&host, u32::MAX - 2, &[], &["approvals", "approve", &id]).failed();
    assert!(text.contains("none of the groups"), "{text}");
    // A member whose own agent asks: nobody, as agents run here.
    let text = person(&host, 65534, &[STAFF], &["approvals", "approve", &id]).failed();
    assert!(text.contains("one of your own user's"), "{text}");
    assert!(running.is_running());
    person(&host, 5001, &[STAFF], &["approvals", "approve", &id]).ok();
    running.wait(BUDGET).ok();
    // Root counts unless the configuration says that it does not.
    host.write_settings(&settings("hold = 25\nroot = false"));
    host.tollgate(&["reload"]).ok();
    let agent = host.agent("asks-group");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = self::id(&approval);
    let text = host.tollgate(&["approvals", "approve", &id]).failed();
    assert!(text.contains("none of the groups"), "{text}");
    person(&host, 5002, &[STAFF], &["approvals", "deny", &id]).ok();
    assert!(running.wait(BUDGET).failed().contains("user 5002 denied request"));
}

#[test]
fn two_people_are_two() {
    let host = Host::start(settings("hold = 25"));
    let agent = host.agent("asks-two");
    let (mut running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    let said = person(&host, 5001, &[STAFF], &["approvals", "approve", &id]).ok();
    assert!(said.contains("it waits for 2 people of `staff` (1 of 2 so far)"), "{said}");
    let text = person(&host, 5001, &[STAFF, ADM], &["approvals", "approve", &id]).failed();
    assert!(text.contains("you have said yes already"), "{text}");
    assert!(running.is_running());
    person(&host, 5002, &[STAFF], &["approvals", "approve", &id]).ok();
    running.wait(BUDGET).ok();
    assert_eq!(steps(&host, &id), ["pending", "pending", "approved", "consumed"]);
    let timeline = agent.timeline();
    let reason = &timeline.only("sts:GetCallerIdentity").reason;
    assert!(reason.contains("by user 5001 and user 5002"), "{reason}");
}

#[test]
fn every_group_has_a_person_of_its_own_but_in_an_emergency() {
    let host = Host::start(settings("hold = 25"));
    let agent = host.agent("asks-glass");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = id(&approval);
    person(&host, 5001, &[STAFF, ADM], &["approvals", "approve", &id]).ok();
    assert_eq!(pending(&host, &agent)["id"], id.as_str(), "one person is not two");
    person(&host, 5002, &[STAFF], &["approvals", "approve", &id]).ok();
    running.wait(BUDGET).ok();

    let agent = host.agent("asks-glass");
    let (running, approval) = waiting(&host, &agent, &WHO);
    let id = self::id(&approval);
    let text = person(&host, 5003, &[GAMES], &["approvals", "approve", &id]).failed();
    assert!(text.contains("--break-glass"), "{text}");
    let text = person(&host, 5003, &[GAMES], &["approvals", "approve", &id, "--break-glass"]).failed();
    assert!(text.contains("--note"), "{text}");
    let glass = ["approvals", "approve", &id, "--break-glass", "--note", "it burns"];
    let text = person(&host, 5004, &[STAFF], &glass).failed();
    assert!(text.contains("only a member of `games`"), "{text}");
    person(&host, 5003, &[GAMES], &glass).ok();
    running.wait(BUDGET).ok();
    let timeline = agent.timeline();
    let event = timeline.event("break-glass", "approved in an emergency by user 5003, alone: it burns");
    assert_eq!((event.field("TOLLGATE_APPROVAL"), event.field("PRIORITY")), (id.as_str(), "3"));
    assert!(timeline.events.iter().all(|e| e.kind != "approved"), "{timeline:#?}");
}
