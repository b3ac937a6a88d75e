//! The room against a real record: who comes first, who comes back, and what a restart finds.

use std::time::{Duration, Instant};

use super::super::{Held, Holding, Person};
use super::*;
use crate::config::{Durability, JournalTo};
use crate::policy::Terms;
use crate::record::testing::{Temporary, temporary};

struct Place {
    room: Approvals,
    store: Store,
    session: SessionId,
    _path: Temporary,
}

fn config() -> config::Approval {
    config::Approval {
        hold: Duration::from_millis(400),
        deadline: Duration::from_secs(60),
        grace: Duration::from_millis(300),
        ..config::Approval::default()
    }
}

fn open(store: &Store) -> Approvals {
    let journal = Arc::new(Journal::open(JournalTo::Stderr, store.clone()).expect("opens"));
    Approvals::open(store.clone(), journal, [7; 32], config()).expect("opens")
}

impl Place {
    fn new() -> Self {
        let path = temporary();
        let store = Store::open(&path, Durability::Process).expect("opens");
        Self { room: open(&store), store, session: SessionId::random(), _path: path }
    }

    fn ask(&self, digest: &str) -> Ask {
        Ask {
            session: self.session.clone(),
            session_name: "job".into(),
            issuer: None,
            subject: "s".into(),
            uid: 1000,
            exe: "aws".into(),
            pid: 7,
            operation: "s3:PutObject".into(),
            action: "s3:PutObject".into(),
            resources: vec![format!("arn:aws:s3:::b/{digest}")],
            region: "us-east-1".into(),
            account: None,
            credential: String::new(),
            parameters: "{}".into(),
            policies: vec!["p".into()],
            reason: "r".into(),
            terms: Terms { groups: vec!["ops".into()], people: 1, ..Terms::default() },
            digest: digest.into(),
        }
    }

    /// Holds on a task of its own.
    fn hold(&self, ask: Ask) -> tokio::task::JoinHandle<Held> {
        hold(&self.room, ask)
    }

    async fn one(&self) -> Approval {
        loop {
            if let Some(approval) = self.room.list(&Filter::default()).pop() {
                return approval;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn states(&self, id: &str) -> Vec<String> {
        let steps = Reader::open(self.store.path()).and_then(|r| r.approval(id)).expect("reads");
        steps.into_iter().map(|s| s.state).collect()
    }

    fn intact(&self) {
        let reader = Reader::open(self.store.path()).expect("opens");
        reader.verify(self.store.laid_out()).expect("reads").expect("intact");
    }
}

fn hold(room: &Approvals, ask: Ask) -> tokio::task::JoinHandle<Held> {
    let room = room.clone();
    tokio::spawn(async move { room.hold(ask, Holding { note: None, is_open: &|_| true }).await })
}

fn member(uid: u32) -> Approver {
    Approver {
        person: Person::Unix { uid, login: None, name: None },
        groups: vec!["ops".into()],
        every_group: false,
        via: "test",
    }
}

fn yes() -> Answer {
    Answer::Approve { window: None, resource: None, emergency: false }
}

#[tokio::test]
async fn an_approved_request_goes_through_once() {
    let place = Place::new();
    let waiting = place.hold(place.ask("d"));
    let id = place.one().await.id;
    place.room.decide(&id, member(1), yes(), Some("fine".into())).await.expect("may");
    assert!(matches!(waiting.await.expect("no panic"), Held::Passed { id: passed, .. } if passed == id));
    assert_eq!(place.states(&id), ["pending", "approved", "consumed"]);
    assert!(place.room.list(&Filter::default()).is_empty());
    assert!(matches!(place.room.decide(&id, member(2), Answer::Deny, None).await, Err(ApprovalError::Unknown(_))));
    // The next one is asked anew.
    let waiting = place.hold(place.ask("d"));
    assert_ne!(place.one().await.id, id);
    assert!(matches!(waiting.await.expect("no panic"), Held::Later { .. }));
    place.intact();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_approvers_and_many_consumers_one_each_counts() {
    let place = Place::new();
    place.room.configure(config::Approval { hold: Duration::from_secs(30), ..config() });
    for n in 0..20 {
        let digest = format!("d{n}");
        let waiting: Vec<_> = (0..5).map(|_| place.hold(place.ask(&digest))).collect();
        let id = place.one().await.id;
        let says = (0..8).map(|who| {
            let answer = if who % 2 == 0 { yes() } else { Answer::Deny };
            place.room.decide(&id, member(who), answer, None)
        });
        let said = futures_util::future::join_all(says).await;
        assert_eq!(said.iter().filter(|s| s.is_ok()).count(), 1, "{said:?}");
        let approved = said.iter().flatten().any(|a| a.status.state == State::Approved);
        // Whoever came too late is asked about anew, and told no.
        let mut passed = 0;
        for mut one in waiting {
            let held = loop {
                match tokio::time::timeout(Duration::from_millis(20), &mut one).await {
                    Ok(held) => break held.expect("no panic"),
                    Err(_) => {
                        for other in place.room.list(&Filter { state: Some(State::Pending), ..Filter::default() }) {
                            let _ = place.room.decide(&other.id, member(9), Answer::Deny, None).await;
                        }
                    }
                }
            };
            match held {
                Held::Passed { .. } => passed += 1,
                Held::No(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(passed, usize::from(approved));
        let states = place.states(&id);
        assert_eq!(states, if approved { vec!["pending", "approved", "consumed"] } else { vec!["pending", "denied"] });
    }
    place.intact();
}

#[tokio::test]
async fn a_no_stands_until_the_deadline() {
    let place = Place::new();
    let waiting = place.hold(place.ask("d"));
    let id = place.one().await.id;
    place.room.decide(&id, member(1), Answer::Deny, Some("use less".into())).await.expect("may");
    let said = |held: Held| match held {
        Held::No(text) => text,
        other => panic!("{other:?}"),
    };
    let first = said(waiting.await.expect("no panic"));
    assert_eq!(first, format!("user 1 denied request {id}: use less"));
    assert_eq!(said(place.hold(place.ask("d")).await.expect("no panic")), first, "nobody is asked again");
    assert!(place.room.list(&Filter::default()).is_empty());
    assert!(matches!(place.hold(place.ask("other")).await.expect("no panic"), Held::Later { .. }));
    // Nor by the next daemon.
    let again = open(&place.store);
    assert_eq!(said(hold(&again, place.ask("d")).await.expect("no panic")), first);
}

#[tokio::test]
async fn a_client_that_comes_again_finds_its_request_and_one_that_does_not_takes_it_along() {
    let place = Place::new();
    assert!(matches!(place.hold(place.ask("d")).await.expect("no panic"), Held::Later { .. }));
    let id = place.one().await.id;
    // Told to come again, it may take its time.
    tokio::time::sleep(config().grace * 2).await;
    let waiting = place.hold(place.ask("d"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(place.room.list(&Filter::default()).len(), 1);
    // It loses patience, and comes back at once.
    waiting.abort();
    let waiting = place.hold(place.ask("d"));
    tokio::time::sleep(config().grace + Duration::from_millis(50)).await;
    assert_eq!(place.one().await.id, id, "it was withdrawn while somebody waited");
    waiting.abort();
    let begun = Instant::now();
    while !place.room.list(&Filter::default()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "nobody withdrew it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(place.states(&id), ["pending", "cancelled"]);
}

#[tokio::test]
async fn a_request_outlives_the_daemon_and_is_answered_by_the_next() {
    let place = Place::new();
    let _waiting = place.hold(place.ask("d"));
    let id = place.one().await.id;
    let next = open(&place.store);
    next.decide(&id, member(1), yes(), None).await.expect("may");
    // What the first one still has in memory moves nothing on.
    let stale = place.room.decide(&id, member(2), Answer::Deny, None).await;
    assert!(matches!(stale, Err(ApprovalError::Record(RecordError::Stale))), "{stale:?}");
    let third = open(&place.store);
    assert!(matches!(hold(&third, place.ask("d")).await.expect("no panic"), Held::Passed { .. }));
    assert_eq!(place.states(&id), ["pending", "approved", "consumed"]);
    assert!(open(&place.store).list(&Filter::default()).is_empty());
    place.intact();
}

#[tokio::test]
async fn a_live_sessions_approval_is_its_own_and_an_ended_ones_its_principals() {
    let place = Place::new();
    assert!(matches!(place.hold(place.ask("d")).await.expect("no panic"), Held::Later { .. }));
    let id = place.one().await.id;
    place.room.decide(&id, member(1), yes(), None).await.expect("may");
    let other = Ask { session: SessionId::random(), ..place.ask("d") };
    assert!(matches!(place.hold(other.clone()).await.expect("no panic"), Held::Later { .. }));
    let ended = place.room.hold(other, Holding { note: None, is_open: &|s| *s != place.session }).await;
    assert!(matches!(ended, Held::Passed { id: passed, .. } if passed == id));
}

#[tokio::test]
async fn a_window_is_for_its_session_operation_and_resources_and_ends() {
    let place = Place::new();
    let waiting = place.hold(place.ask("one"));
    let id = place.one().await.id;
    let answer = Answer::Approve { window: Some(2), resource: Some("arn:aws:s3:::b/*".into()), emergency: false };
    place.room.decide(&id, member(1), answer, None).await.expect("may");
    assert!(matches!(waiting.await.expect("no panic"), Held::Passed { .. }));
    for n in 0..3 {
        let held = place.hold(place.ask(&format!("more{n}"))).await.expect("no panic");
        assert!(matches!(held, Held::Passed { id: passed, .. } if passed == id));
    }
    let base = place.ask("more");
    for other in [
        Ask { session: SessionId::random(), ..base.clone() },
        Ask { operation: "s3:DeleteObject".into(), digest: "1".into(), ..base.clone() },
        Ask { resources: vec!["arn:aws:s3:::c/k".into()], digest: "2".into(), ..base.clone() },
        Ask { account: Some("1".into()), digest: "3".into(), ..base.clone() },
        Ask { terms: Terms { people: 2, ..base.terms.clone() }, digest: "4".into(), ..base.clone() },
    ] {
        assert!(matches!(place.hold(other).await.expect("no panic"), Held::Later { .. }));
    }
    let keeper = tokio::spawn(place.room.clone().keep_time());
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert!(matches!(place.hold(place.ask("late")).await.expect("no panic"), Held::Later { .. }));
    assert_eq!(place.states(&id), ["pending", "approved", "expired"]);
    keeper.abort();
}

#[tokio::test]
async fn what_nobody_answers_expires_and_who_waits_is_told() {
    let place = Place::new();
    place.room.configure(config::Approval { hold: Duration::from_secs(20), ..config() });
    let keeper = tokio::spawn(place.room.clone().keep_time());
    let mut ask = place.ask("d");
    ask.terms.deadline = Some(1);
    let held = place.hold(ask).await.expect("no panic");
    assert!(matches!(&held, Held::No(text) if text.contains("nobody approved request")), "{held:?}");
    // Also who comes again later, once.
    place.room.configure(config::Approval { hold: Duration::from_millis(10), ..config() });
    let mut ask = place.ask("again");
    ask.terms.deadline = Some(1);
    assert!(matches!(place.hold(ask.clone()).await.expect("no panic"), Held::Later { .. }));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(place.room.list(&Filter::default()).is_empty());
    assert!(matches!(place.hold(ask.clone()).await.expect("no panic"), Held::No(_)));
    assert!(matches!(place.hold(ask).await.expect("no panic"), Held::Later { .. }));
    keeper.abort();
}

#[tokio::test]
async fn a_revoked_session_takes_everything_of_its_own_along() {
    let place = Place::new();
    let waiting = place.hold(place.ask("waits"));
    let waits = place.one().await.id;
    assert!(matches!(place.hold(place.ask("approved")).await.expect("no panic"), Held::Later { .. }));
    let filter = Filter { text: Some("b/approved".into()), ..Filter::default() };
    let approved = place.room.list(&filter).pop().expect("waits").id;
    place.room.decide(&approved, member(1), yes(), None).await.expect("may");
    let other = SessionId::random();
    let _ = place.hold(Ask { session: other.clone(), ..place.ask("other") }).await;
    place.room.session_over(&place.session, Some("user 0")).await;
    drop(waiting);
    assert_eq!(place.states(&waits), ["pending", "cancelled"]);
    assert_eq!(place.states(&approved), ["pending", "approved", "revoked"]);
    let left = place.room.list(&Filter::default());
    assert!(left.len() == 1 && left[0].ask.session == other);
}

#[tokio::test]
async fn a_session_says_what_it_is_about() {
    let place = Place::new();
    let mut why = place.ask("why");
    why.terms.agent_says_why = true;
    let held = place.hold(why.clone()).await.expect("no panic");
    assert!(matches!(&held, Held::No(text) if text.contains("tollgate note")), "{held:?}");
    assert!(place.room.list(&Filter::default()).is_empty(), "nobody was asked");
    let _ = place.hold(place.ask("silent")).await;
    place.room.note(&place.session, "ticket 7").await;
    assert_eq!(place.one().await.status.note.as_deref(), Some("ticket 7"), "also of what waits already");
    assert!(matches!(place.hold(why.clone()).await.expect("no panic"), Held::Later { .. }));
    let holding = Holding { note: Some("a word of its own".into()), is_open: &|_| true };
    let _ = place.room.hold(Ask { digest: "own".into(), ..why }, holding).await;
    let notes: Vec<_> = place.room.list(&Filter::default()).iter().map(|a| a.status.note.clone()).collect();
    assert_eq!(notes, [Some("ticket 7".into()), Some("ticket 7".into()), Some("a word of its own".into())]);
}

#[tokio::test]
async fn a_session_may_ask_so_much_and_no_more() {
    let place = Place::new();
    place.room.configure(config::Approval { max_pending: 2, hold: Duration::from_millis(10), ..config() });
    for n in 0..2 {
        assert!(matches!(place.hold(place.ask(&format!("d{n}"))).await.expect("no panic"), Held::Later { .. }));
    }
    let held = place.hold(place.ask("d2")).await.expect("no panic");
    assert!(matches!(&held, Held::No(text) if text.contains("max_pending")), "{held:?}");
    let other = Ask { session: SessionId::random(), ..place.ask("d3") };
    assert!(matches!(place.hold(other).await.expect("no panic"), Held::Later { .. }));
}

/// Of this thread: how busy the machine is otherwise is not what is asked.
fn cpu() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("a clock").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_are_listed_and_searched_in_no_time() {
    let place = Place::new();
    place.room.configure(config::Approval { hold: Duration::from_millis(1), ..config() });
    let sessions: Vec<_> = (0..100).map(|_| SessionId::random()).collect();
    let all = (0..10_000).map(|n| {
        let parameters = format!("{{\"Key\":\"{}\"}}", "k".repeat(500));
        let ask = Ask { session: sessions[n / 100].clone(), parameters, ..place.ask(&format!("key-{n}-")) };
        place.hold(ask)
    });
    for one in futures_util::future::join_all(all).await {
        assert!(matches!(one.expect("no panic"), Held::Later { .. }));
    }
    for (text, expected) in [(None, 10_000), (Some("B/KEY-77"), 111), (Some("nothing of the kind"), 0)] {
        let filter = Filter { text: text.map(str::to_owned), ..Filter::default() };
        let begun = cpu();
        let found = place.room.list(&filter);
        let json = serde_json::to_vec(&found).expect("JSON");
        let took = cpu() - begun;
        assert_eq!(found.len(), expected);
        // Of a build without optimisation; what a user runs is several times as fast.
        assert!(
            took < Duration::from_millis(200 * if cfg!(debug_assertions) { 5 } else { 1 }),
            "{took:?} for {} bytes",
            json.len()
        );
        eprintln!("{text:?}: {} found, {} bytes of JSON, in {took:?}", found.len(), json.len());
    }
    let begun = Instant::now();
    let again = open(&place.store);
    assert_eq!(again.list(&Filter::default()).len(), 10_000);
    eprintln!("taken up by the next daemon in {:?}", begun.elapsed());
}
