//! Each step a request may take, and each it may not.

use super::super::Person;
use super::*;
use crate::policy::Terms;
use crate::session::SessionId;

const SECOND: i64 = 1_000_000;

fn ask(terms: Terms) -> Ask {
    Ask {
        session: SessionId::random(),
        session_name: "job".into(),
        issuer: Some("https://i".into()),
        subject: "alice".into(),
        uid: 1000,
        exe: "aws".into(),
        pid: 7,
        operation: "s3:PutObject".into(),
        action: "s3:PutObject".into(),
        resources: vec!["arn:aws:s3:::b/k".into()],
        region: "us-east-1".into(),
        account: None,
        credential: String::new(),
        parameters: "{}".into(),
        policies: vec!["p".into()],
        reason: "r".into(),
        terms,
        digest: "d".into(),
    }
}

fn terms(groups: &[&str], people: u32) -> Terms {
    Terms { groups: groups.iter().map(ToString::to_string).collect(), people, ..Terms::default() }
}

fn unix(uid: u32, groups: &[&str]) -> Approver {
    Approver {
        person: Person::Unix { uid, login: None, name: None },
        groups: groups.iter().map(ToString::to_string).collect(),
        every_group: false,
        via: "test",
    }
}

fn yes() -> Answer {
    Answer::Approve { window: None, resource: None, emergency: false }
}

fn window(seconds: u64, resource: Option<&str>) -> Answer {
    Answer::Approve { window: Some(seconds), resource: resource.map(str::to_owned), emergency: false }
}

fn pending() -> Status {
    Status::asked(0, 900 * SECOND, None)
}

/// Says what each of them says, one after the other, a second apart.
fn all(ask: &Ask, says: &[(Approver, Answer)]) -> Result<Status, Refused> {
    says.iter().enumerate().try_fold(pending(), |status, (n, (who, answer))| {
        status.answer(ask, who, answer, None, i64::try_from(n + 1).expect("few") * SECOND, 3600)
    })
}

#[test]
fn people_are_counted_and_not_their_groups() {
    let both = ["a", "b"];
    for (groups, people, who, expected) in [
        (&["a"][..], 1, &[(1, &["a"][..])][..], State::Approved),
        // One person is one vote, whatever they are in.
        (&["a"], 2, &[(1, &both)], State::Pending),
        (&["a"], 2, &[(1, &["a"]), (2, &["a"])], State::Approved),
        (&["a", "b"], 1, &[(1, &both)], State::Pending),
        (&["a", "b"], 1, &[(1, &both), (2, &["a"])], State::Approved),
        (&["a", "b"], 1, &[(1, &["a"]), (2, &["a"])], State::Pending),
        (&["a", "b"], 3, &[(1, &["a"]), (2, &["b"])], State::Pending),
        (&["a", "b"], 3, &[(1, &["a"]), (2, &["b"]), (3, &["b"])], State::Approved),
        // Whom each speaks for is found, in whichever order they came.
        (&["a", "b", "c"], 1, &[(1, &["a", "b"]), (2, &["a"]), (3, &["b", "c"])], State::Approved),
        (&["a", "b", "c"], 1, &[(1, &["a", "b"]), (2, &["a"]), (3, &["b", "a"])], State::Pending),
    ] {
        let says: Vec<_> = who.iter().map(|(uid, groups)| (unix(*uid, groups), yes())).collect();
        let status = all(&ask(terms(groups, people)), &says).expect("everybody may");
        assert_eq!(status.state, expected, "{groups:?} {people} {who:?}");
        assert_eq!((status.votes.len(), status.version), (who.len(), 1 + u32::try_from(who.len()).expect("few")));
    }
}

#[test]
fn who_may_not_answer_does_not() {
    let root = Approver { every_group: true, ..unix(0, &[]) };
    let sudo = Approver { person: Person::Unix { uid: 0, login: Some(1000), name: None }, ..root.clone() };
    let alice = |issuer: &str| Approver {
        person: Person::Oidc { issuer: issuer.into(), subject: "alice".into() },
        ..unix(0, &["a"])
    };
    let asked = ask(terms(&["a"], 1));
    for (who, expected) in [
        (unix(1000, &["a"]), Some(Refused::Own)),
        (sudo, Some(Refused::Own)),
        (alice("https://i"), Some(Refused::Own)),
        (alice("https://another"), None),
        (unix(1, &["b"]), Some(Refused::Stranger("`a`".into()))),
        (unix(0, &[]), Some(Refused::Stranger("`a`".into()))),
        (root, None),
        (unix(1, &["a"]), None),
    ] {
        for answer in [yes(), Answer::Deny] {
            let refused = pending().answer(&asked, &who, &answer, None, SECOND, 3600).err();
            assert_eq!(refused, expected, "{who:?}");
        }
    }
    // Two who became root are two; one who came twice is one.
    let two = ask(terms(&["a"], 2));
    let as_root = |login: u32| Approver {
        person: Person::Unix { uid: 0, login: Some(login), name: None },
        every_group: true,
        ..unix(0, &[])
    };
    assert_eq!(all(&two, &[(as_root(5), yes()), (as_root(5), yes())]), Err(Refused::Twice));
    assert_eq!(all(&two, &[(as_root(5), yes()), (unix(5, &["a"]), yes())]), Err(Refused::Twice));
    assert_eq!(all(&two, &[(as_root(5), yes()), (as_root(6), yes())]).map(|s| s.state), Ok(State::Approved));
    // One no is enough, also after a yes.
    let status = all(&two, &[(unix(1, &["a"]), yes()), (unix(2, &["a"]), Answer::Deny)]).expect("may");
    assert_eq!((status.state, status.who.as_str()), (State::Denied, "user 2"));
}

#[test]
fn what_is_over_stays_over() {
    let asked = ask(terms(&["a"], 1));
    let someone = unix(1, &["a"]);
    let approved = pending().answer(&asked, &someone, &yes(), None, SECOND, 3600).expect("may");
    let steps: Vec<Status> = vec![
        pending().answer(&asked, &someone, &Answer::Deny, None, SECOND, 3600).expect("may"),
        pending().expire(900 * SECOND, "").expect("due"),
        pending().cancel(SECOND, "", "").expect("pending"),
        approved.consume(2 * SECOND, "").expect("approved"),
        approved.revoke(2 * SECOND, "", "").expect("approved"),
        approved.expire(900 * SECOND, "").expect("due"),
    ];
    for over in steps {
        assert!(over.state.is_over());
        assert!(matches!(over.answer(&asked, &someone, &yes(), None, SECOND, 3600), Err(Refused::Over { .. })));
        assert!(over.consume(SECOND, "").is_err() && over.revoke(SECOND, "", "").is_err(), "{over:?}");
        assert!(over.cancel(SECOND, "", "").is_err() && over.expire(i64::MAX, "").is_none(), "{over:?}");
        assert!(over.explain(SECOND, "x").is_err());
    }
    assert!(pending().consume(SECOND, "").is_err(), "nobody approved it");
    assert!(pending().revoke(SECOND, "", "").is_err(), "there is nothing to take back");
    assert!(approved.cancel(SECOND, "", "").is_err());
    assert!(approved.answer(&asked, &unix(2, &["a"]), &yes(), None, SECOND, 3600).is_err());
}

#[test]
fn deadlines_are_absolute() {
    let asked = ask(terms(&["a"], 1));
    let someone = unix(1, &["a"]);
    let end = 900 * SECOND;
    assert_eq!(
        pending().answer(&asked, &someone, &yes(), None, end, 3600),
        Err(Refused::Late("00:15:00 UTC".into())),
        "nobody had ended it yet"
    );
    let late = pending().answer(&asked, &someone, &yes(), None, end - 1, 3600).expect("in time");
    assert!(late.consume(end - 1, "").is_ok() && late.consume(end, "").is_err());
    assert!(late.expire(end - 1, "").is_none() && late.expire(end, "").is_some());
}

#[test]
fn a_window_ends_when_it_ends_however_late_it_was_granted() {
    let asked = ask(terms(&["a"], 1));
    let someone = unix(1, &["a"]);
    for at in [SECOND, 500 * SECOND, 899 * SECOND] {
        let status = pending().answer(&asked, &someone, &window(1800, None), None, at, 3600).expect("may");
        assert_eq!(status.window, Some(Window { ends: 1800 * SECOND, resource: None }));
        assert_eq!(status.ends(), 1800 * SECOND);
        assert!(status.expire(1800 * SECOND - 1, "").is_none() && status.expire(1800 * SECOND, "").is_some());
    }
    let bad =
        |answer: &Answer, terms: Terms| match pending().answer(&ask(terms), &someone, answer, None, 700 * SECOND, 3600)
        {
            Err(Refused::Window(text)) => text,
            other => panic!("{other:?}"),
        };
    assert!(bad(&window(600, None), terms(&["a"], 1)).contains("was over at 00:10:00 UTC"));
    assert!(bad(&window(3601, None), terms(&["a"], 1)).contains("3600 seconds"));
    assert!(bad(&window(60, Some("arn:aws:s3:::c/*")), terms(&["a"], 1)).contains("does not match"));
    assert!(bad(&window(1800, None), Terms { window: Some(0), ..terms(&["a"], 1) }).contains("once only"));
    assert!(bad(&window(1800, None), Terms { window: Some(900), ..terms(&["a"], 1) }).contains("900 seconds"));
    // As far as all of them would go.
    let two = ask(terms(&["a"], 2));
    let status =
        all(&two, &[(unix(1, &["a"]), window(1800, None)), (unix(2, &["a"]), window(900, Some("arn:aws:s3:::b/*")))]);
    assert_eq!(status.expect("may").window, Some(Window { ends: 900 * SECOND, resource: None }));
    let status = all(&two, &[(unix(1, &["a"]), window(1800, None)), (unix(2, &["a"]), yes())]);
    assert_eq!(status.expect("may").window, None);
}

#[test]
fn a_window_covers_what_it_says() {
    let asked = ["arn:aws:s3:::b/k".to_owned()];
    let on = |resource: Option<&str>| Window { ends: 0, resource: resource.map(str::to_owned) };
    for (resource, arns, expected) in [
        (None, &["arn:aws:s3:::b/k"][..], true),
        (None, &["arn:aws:s3:::b/other"], false),
        (Some("arn:aws:s3:::b/*"), &["arn:aws:s3:::b/other", "arn:aws:s3:::b/x"], true),
        (Some("arn:aws:s3:::b/*"), &["arn:aws:s3:::b/other", "arn:aws:s3:::c/x"], false),
        (Some("*"), &["*"], true),
    ] {
        let arns: Vec<String> = arns.iter().map(ToString::to_string).collect();
        assert_eq!(on(resource).covers(&asked, &arns), expected, "{resource:?} {arns:?}");
    }
}

#[test]
fn reasons_are_asked_where_the_policy_says_so() {
    let asked = ask(Terms { approver_says_why: true, ..terms(&["a"], 1) });
    let someone = unix(1, &["a"]);
    for note in [None, Some(""), Some(" \n")] {
        assert_eq!(pending().answer(&asked, &someone, &yes(), note, SECOND, 1), Err(Refused::NoReason));
    }
    let status = pending().answer(&asked, &someone, &yes(), Some("ticket\n7"), SECOND, 1).expect("said");
    assert_eq!(status.why, "ticket 7");
    let long = pending().answer(&asked, &someone, &yes(), Some(&"é".repeat(2000)), SECOND, 1).expect("said");
    assert!(long.why.len() <= LONGEST_NOTE + '…'.len_utf8());
}

#[test]
fn in_an_emergency_one_who_may_is_enough_and_says_why() {
    let asked = ask(Terms { break_glass: vec!["oncall".into()], ..terms(&["a", "b"], 3) });
    let glass = Answer::Approve { window: None, resource: None, emergency: true };
    let oncall = unix(1, &["oncall"]);
    let say = |who: &Approver, answer: &Answer, note| pending().answer(&asked, who, answer, note, SECOND, 3600);
    let status = say(&oncall, &glass, Some("it burns")).expect("may");
    assert!(status.state == State::Approved && status.emergency);
    assert!(matches!(say(&oncall, &glass, None), Err(Refused::Emergency(_))));
    assert!(matches!(say(&oncall, &yes(), Some("x")), Err(Refused::Stranger(_))), "not in the usual way");
    assert!(matches!(say(&unix(2, &["a"]), &glass, Some("x")), Err(Refused::Emergency(_))));
    assert_eq!(say(&unix(1000, &["oncall"]), &glass, Some("x")), Err(Refused::Own));
    let without = ask(terms(&["a"], 1));
    let refused = pending().answer(&without, &unix(2, &["a"]), &glass, Some("x"), SECOND, 3600);
    assert!(matches!(refused, Err(Refused::Emergency(_))));
}

#[test]
fn the_agents_word_is_on_one_line() {
    let status = pending().explain(SECOND, "because\r\nI say so\u{7}").expect("pending");
    assert_eq!((status.note.as_deref(), status.state), (Some("because  I say so"), State::Pending));
}
