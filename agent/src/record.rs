//! The durable, chained account of every session.
//!
//! Owns the database and its redo log. One thread writes: it takes what has queued up, commits its links to the log at once,
//! and answers all who wait; the database follows. Readers have connections of their own. Never loses a decided exchange: [`Store::intent`] returns when it is durable, and what
//! cannot be written is an error that stops the exchange.

mod approval;
mod chain;
mod layout;
mod line;
mod queue;
mod read;
mod redo;
mod schema;
mod writer;

use std::path::PathBuf;
use std::time::SystemTime;

pub use approval::{ApprovalRow, ApprovalStep};
pub use chain::{Broken, verify};
pub use read::{EventFilter, EventRow, ExchangeRow, Judged, Reader, SessionSummary};
pub use writer::Store;

use crate::session::SessionId;

/// A session as it is recorded when it opens.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: SessionId,
    pub name: String,
    pub issuer: Option<String>,
    pub subject: String,
    pub uid: u32,
    pub cgroup: String,
    /// Command line, secrets already taken out.
    pub command: Vec<String>,
    pub started: SystemTime,
}

/// Who a session acts for from now on: what policies see of them besides issuer and subject.
#[derive(Debug, Clone)]
pub struct PrincipalRow {
    pub session: SessionId,
    pub at: SystemTime,
    pub issuer: Option<String>,
    pub subject: String,
    /// A JSON array of texts.
    pub groups: String,
    /// A JSON object.
    pub claims: String,
}

/// What is written before an exchange leaves, or instead of its leaving.
#[derive(Debug, Clone)]
pub struct Intent {
    pub session: SessionId,
    pub issuer: Option<String>,
    pub subject: String,
    pub started: SystemTime,
    pub pid: u32,
    pub exe: String,
    pub host: String,
    pub method: String,
    /// Path and query, signature parameters taken out.
    pub target: String,
    /// `s3:GetObject`; `unknown:unknown` if not recognised.
    pub action: String,
    pub operation: String,
    pub resources: Vec<String>,
    pub region: String,
    pub account: Option<String>,
    /// Request members, sensitive ones taken out, as JSON.
    pub parameters: String,
    /// `allow`, `deny`, `hold`, or `refuse` (not judged: malformed, bad signature, foreign key).
    pub decision: &'static str,
    pub policies: Vec<String>,
    pub reason: String,
    /// Decided in observe mode: a deny was let through.
    pub observed: bool,
    /// What the policies were told besides, as JSON: each action with its own resources where there are several, derived
    /// credentials, a user who is not the session's. `None`: nothing that the other members do not say.
    pub facts: Option<String>,
}

/// Number of an exchange in the record, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub i64);

/// What became of an exchange.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// HTTP status that the agent got; 0: none.
    pub status: u16,
    /// AWS's request id, or ours for a denial.
    pub request_id: Option<String>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub ended: SystemTime,
    /// Why it did not complete, if it did not.
    pub error: Option<String>,
}

impl Outcome {
    /// Nothing came of it, and nobody got an answer.
    fn unanswered(why: &str) -> Self {
        Self {
            status: 0,
            request_id: None,
            bytes_sent: 0,
            bytes_received: 0,
            ended: SystemTime::now(),
            error: Some(why.into()),
        }
    }
}

/// Why something was not recorded, or not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    #[error("cannot open the record `{path}`: {message}; check the directory's permissions and free space")]
    Open { path: PathBuf, message: String },
    #[error(
        "the record `{path}` has schema {found}, and this version knows {known}; use the version that wrote it, or a newer one"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot write the record: {0}; check free space where it stands")]
    Write(String),
    #[error("cannot read the record: {0}")]
    Read(String),
    #[error("somebody else moved it on meanwhile; look at it again")]
    Stale,
    #[error("the record's writer has stopped; see the journal for why")]
    Stopped,
}

/// What tests of this and other rooms write to a record of their own.
#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::config::Durability;

    /// A record that goes away with its directory.
    #[derive(Debug)]
    pub struct Scratch {
        pub store: Store,
        pub session: SessionId,
        _path: Temporary,
    }

    impl Scratch {
        pub fn open() -> Self {
            let path = temporary();
            let store = Store::open(&path, Durability::Process).expect("opens");
            Self { store, session: SessionId::random(), _path: path }
        }
    }

    pub fn intent(session: &SessionId, n: u32) -> Intent {
        Intent {
            session: session.clone(),
            issuer: Some("https://i.example".into()),
            subject: "s".into(),
            started: SystemTime::now(),
            pid: n,
            exe: "/bin/true".into(),
            host: "s3.amazonaws.com".into(),
            method: "GET".into(),
            target: "/".into(),
            action: "s3:ListAllMyBuckets".into(),
            operation: "s3:ListBuckets".into(),
            resources: vec!["*".into()],
            region: "us-east-1".into(),
            account: Some("111122223333".into()),
            parameters: "{}".into(),
            decision: "allow",
            policies: vec!["p".into()],
            reason: "permitted".into(),
            observed: false,
            facts: None,
        }
    }

    /// Where a database may stand; its directory goes with it.
    #[derive(Debug)]
    pub struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.parent().expect("a directory"));
        }
    }

    impl std::ops::Deref for Temporary {
        type Target = std::path::Path;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    impl AsRef<std::path::Path> for Temporary {
        fn as_ref(&self) -> &std::path::Path {
            &self.0
        }
    }

    pub fn temporary() -> Temporary {
        let dir = std::env::temp_dir().join(format!("tollgate-record-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&dir).expect("a directory");
        Temporary(dir.join("record.db"))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{intent, temporary};
    use super::*;
    use crate::config::Durability;
    use crate::journal::Event;

    fn outcome() -> Outcome {
        Outcome {
            status: 200,
            request_id: None,
            bytes_sent: 1,
            bytes_received: 2,
            ended: SystemTime::now(),
            error: None,
        }
    }

    fn row(id: &SessionId) -> SessionRow {
        SessionRow {
            id: id.clone(),
            name: "n".into(),
            issuer: Some("https://i.example".into()),
            subject: "s".into(),
            uid: 0,
            cgroup: "/c".into(),
            command: vec!["a".into(), "b".into()],
            started: SystemTime::now(),
        }
    }

    fn principal(session: &SessionId) -> PrincipalRow {
        PrincipalRow {
            session: session.clone(),
            at: SystemTime::now(),
            issuer: Some("https://i.example".into()),
            subject: "s".into(),
            groups: r#"["g"]"#.into(),
            claims: r#"{"sub":"s"}"#.into(),
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_its_chain_holds() {
        let path = temporary();
        let store = Store::open(&path, Durability::Power).expect("opens");
        let session = SessionId::random();
        store.open_session(row(&session)).await.expect("written");
        let all = futures_util::future::join_all((0..300).map(|n| store.intent(intent(&session, n)))).await;
        for id in all {
            store.outcome(id.expect("written"), outcome());
        }
        store.event(SystemTime::now(), Event { session: Some(session.to_string()), ..Event::default() });
        store.end_session(session.clone(), "ended", SystemTime::now()).await.expect("written");
        store.flush().await;
        let reader = Reader::open(&path).expect("opens");
        let exchanges = reader.exchanges(session.as_str()).expect("reads");
        assert_eq!(exchanges.len(), 300);
        assert!(exchanges.iter().all(|e| e.status == Some(200) && e.policies == ["p"]));
        assert!(exchanges.iter().all(|e| e.account.as_deref() == Some("111122223333") && e.parameters == "{}"));
        let summary = reader.session(session.as_str()).expect("reads").expect("is there");
        assert_eq!((summary.state.as_str(), summary.exchanges, summary.command.len()), ("ended", 300, 2));
        assert_eq!(reader.events(&EventFilter { limit: 10, ..EventFilter::default() }).expect("reads").len(), 1);
        let (links, _) = reader.verify(store.laid_out()).expect("reads").expect("intact");
        assert_eq!(links, 300 * 2 + 3);
    }

    #[tokio::test]
    async fn one_changed_byte_is_found_in_the_chain_and_in_the_tables() {
        let chain = [
            "UPDATE link SET body = replace(body, 'ListAllMyBuckets', 'ListAllMyBuckett') WHERE seq = 2",
            "UPDATE link SET kind = 'session' WHERE seq = 2",
            "DELETE FROM link WHERE seq = 2",
            "DELETE FROM exchange_row",
            "DELETE FROM session WHERE state = 'ended'",
            "DELETE FROM event",
            // What was never written by the daemon.
            "INSERT INTO event (id, at, kind, fields) VALUES (99, 0, 'blocked', '{}')",
            "INSERT INTO principal SELECT 'forged', session, at, issuer, subject, groups, claims FROM principal",
            "DELETE FROM principal",
            "INSERT INTO session SELECT 's-forged', name, issuer, subject, uid, cgroup, command, started, NULL, 'open' FROM session LIMIT 1",
            "INSERT INTO exchange_row (id, link, session, started, decision)
             SELECT 99, link, session, started, decision FROM exchange_row WHERE id = 1",
            // An outcome, and an end, that came from somebody else.
            "UPDATE exchange_row SET status = 200, ended = 1 WHERE id = 2",
            "UPDATE exchange_row SET error = 'e' WHERE id = 2",
            "UPDATE session SET state = 'revoked' WHERE state = 'open'",
            "UPDATE session SET ended = 1 WHERE state = 'open'",
        ];
        let columns = [
            (
                "exchange_row WHERE id = 1",
                "link session started decision status request_id bytes_sent bytes_received ended error",
            ),
            ("session WHERE state = 'ended'", "name issuer subject uid cgroup command started ended state"),
            ("event", "at kind session fields"),
            ("principal", "session at issuer subject groups claims"),
        ];
        let columns = columns.iter().flat_map(|(rows, names)| {
            let (table, which) = rows.split_once(' ').unwrap_or((rows, ""));
            names.split_whitespace().flat_map(move |column| {
                // Another value, and the lack of one where the table takes that.
                ["coalesce(CASE typeof({}) WHEN 'integer' THEN {} + 1 ELSE {} || 'x' END, 'x')", "NULL"].map(|value| {
                    format!("UPDATE OR IGNORE {table} SET {column} = {} {which}", value.replace("{}", column))
                })
            })
        });
        let mut tampered = 0;
        for tamper in chain.iter().map(ToString::to_string).chain(columns) {
            let path = temporary();
            let store = Store::open(&path, Durability::Process).expect("opens");
            let (session, other) = (SessionId::random(), SessionId::random());
            store.open_session(row(&session)).await.expect("written");
            let told = Intent { facts: Some("{}".into()), ..intent(&session, 1) };
            let id = store.intent(told).await.expect("written");
            store.outcome(id, Outcome { request_id: Some("r".into()), error: Some("e".into()), ..outcome() });
            store.intent(intent(&session, 2)).await.expect("written");
            store.event(SystemTime::now(), Event { session: Some(session.to_string()), ..Event::default() });
            store.end_session(session.clone(), "ended", SystemTime::now()).await.expect("written");
            store.open_session(row(&other)).await.expect("written");
            store.principal(principal(&session));
            store.flush().await;
            let connection = rusqlite::Connection::open(&path).expect("opens");
            assert_eq!(verify(&connection, store.laid_out()).expect("reads").map(|(links, _)| links), Ok(8));
            connection.execute_batch(&tamper).expect(&tamper);
            // A column that cannot be NULL has been left as it was.
            if connection.changes() > 0 {
                tampered += 1;
                assert!(verify(&connection, store.laid_out()).expect("reads").is_err(), "{tamper}");
            }
        }
        assert!(tampered > 50, "{tampered}");
    }

    #[tokio::test]
    async fn an_exchange_without_an_outcome_is_marked_at_the_next_start() {
        let path = temporary();
        let session = SessionId::random();
        let store = Store::open(&path, Durability::Process).expect("opens");
        store.intent(intent(&session, 1)).await.expect("written");
        drop(store);
        let store = Store::open(&path, Durability::Process).expect("opens");
        store.flush().await;
        let exchanges = Reader::open(&path).and_then(|r| r.exchanges(session.as_str())).expect("reads");
        assert!(exchanges[0].error.as_deref().is_some_and(|e| e.contains("interrupted")));
        assert!(store.intent(intent(&session, 2)).await.expect("written") > ExchangeId(1));
    }

    #[tokio::test]
    async fn what_was_not_laid_out_is_at_the_next_start() {
        let path = temporary();
        let session = SessionId::random();
        let store = Store::open(&path, Durability::Process).expect("opens");
        store.open_session(row(&session)).await.expect("written");
        for n in 0..3 {
            let odd = Intent {
                parameters: r#"{"a":"\"é\n"}"#.into(),
                policies: vec!["p".into(), "q".into()],
                ..intent(&session, n)
            };
            let id = store.intent(odd).await.expect("written");
            store.outcome(id, Outcome { status: 0, error: Some("e".into()), ..outcome() });
        }
        store.intent(intent(&session, 4)).await.expect("written");
        store.event(SystemTime::now(), Event { session: Some(session.to_string()), ..Event::default() });
        store.flush().await;
        let connection = rusqlite::Connection::open(&path).expect("opens");
        let all = || {
            let reader = Reader::open(&path).expect("opens");
            let events = EventFilter { limit: 10, ..EventFilter::default() };
            format!("{:#?} {:#?}", reader.exchanges(session.as_str()), reader.events(&events))
        };
        let before = all();
        assert_eq!(store.laid_out(), 9);
        drop(store);
        // As a death leaves it that came before the second outcome's row, and what was written after it.
        let death = "DELETE FROM exchange_row WHERE id > 2; DELETE FROM event; UPDATE laid_out SET seq = 4;
             UPDATE exchange_row SET status = NULL, bytes_sent = NULL, bytes_received = NULL, ended = NULL, error = NULL
             WHERE id = 2;";
        connection.execute_batch(death).expect("writes");
        assert_ne!(all(), before);
        assert_eq!(verify(&connection, 4).expect("reads").map(|(links, _)| links), Ok(9), "they may be on their way");
        assert!(verify(&connection, 5).expect("reads").is_err(), "they may not");
        let store = Store::open(&path, Durability::Process).expect("opens");
        assert_eq!(all(), before, "laid out before anybody can ask");
        store.flush().await;
        assert_eq!(verify(&connection, store.laid_out()).expect("reads").map(|(links, _)| links), Ok(10));
        assert!(all().contains("interrupted"));
    }

    #[tokio::test]
    async fn what_cannot_be_laid_out_is_recorded_all_the_same_and_laid_out_later() {
        let path = temporary();
        let session = SessionId::random();
        let store = Store::open(&path, Durability::Power).expect("opens");
        let connection = rusqlite::Connection::open(&path).expect("opens");
        connection.execute_batch("ALTER TABLE exchange_row RENAME TO away").expect("writes");
        for n in 0..300 {
            store.intent(intent(&session, n)).await.expect("written");
        }
        store.flush().await;
        assert_eq!(store.laid_out(), 0);
        connection.execute_batch("ALTER TABLE away RENAME TO exchange_row").expect("writes");
        store.flush().await;
        assert_eq!(Reader::open(&path).and_then(|r| r.exchanges(session.as_str())).expect("reads").len(), 300);
        assert_eq!(verify(&connection, store.laid_out()).expect("reads").map(|(links, _)| links), Ok(300));
    }

    #[tokio::test]
    async fn what_was_promised_and_not_laid_out_is_at_the_next_start_and_another_records_log_is_kept() {
        let (path, other) = (temporary(), temporary());
        let session = SessionId::random();
        let store = Store::open(&path, Durability::Power).expect("opens");
        store.open_session(row(&session)).await.expect("written");
        for n in 0..3 {
            store.intent(intent(&session, n)).await.expect("written");
        }
        // As a death leaves it: the log has what the database does not.
        let log = std::fs::read(redo::beside(&path)).expect("reads");
        store.flush().await;
        drop(store);
        let connection = rusqlite::Connection::open(&path).expect("opens");
        connection
            .execute_batch("DELETE FROM link WHERE seq > 1; DELETE FROM exchange_row; UPDATE laid_out SET seq = 1")
            .expect("writes");
        std::fs::write(redo::beside(&path), &log).expect("writes");
        let store = Store::open(&path, Durability::Power).expect("opens");
        let exchanges = Reader::open(&path).and_then(|r| r.exchanges(session.as_str())).expect("reads");
        assert_eq!(exchanges.len(), 3);
        store.flush().await;
        let (links, _) = verify(&connection, store.laid_out()).expect("reads").expect("holds");
        assert_eq!(links, 4 + 3, "with the outcomes of what was interrupted");
        // The log of a record that is not there.
        std::fs::write(redo::beside(&other), &log).expect("writes");
        let store = Store::open(&other, Durability::Power).expect("opens");
        assert_eq!(Reader::open(&other).and_then(|r| r.exchanges(session.as_str())).expect("reads").len(), 0);
        let dir = other.parent().expect("a directory");
        let aside = std::fs::read_dir(dir).expect("reads").flatten().map(|e| e.path());
        let aside: Vec<_> = aside.filter(|p| p.to_string_lossy().contains("-redo.")).collect();
        assert_eq!(aside.len(), 1);
        assert_eq!(std::fs::read(&aside[0]).expect("reads"), log, "nothing of it is lost");
        drop(store);
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let path = temporary();
        rusqlite::Connection::open(&path).and_then(|c| c.execute_batch("PRAGMA user_version = 99")).expect("writes");
        let message = Store::open(&path, Durability::Power).expect_err("newer").to_string();
        assert!(message.contains("has schema 99"), "{message}");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error_and_then_goes_on() {
        let path = temporary();
        let store = Store::open(&path, Durability::Process).expect("opens");
        let session = SessionId::random();
        store.open_session(row(&session)).await.expect("written");
        // The same key again fails, alone, beside intents that do not.
        let (again, fine) = tokio::join!(store.open_session(row(&session)), store.intent(intent(&session, 1)));
        assert!(again.is_err());
        fine.expect("written");
        let reader = Reader::open(&path).expect("opens");
        assert!(reader.verify(store.laid_out()).expect("reads").is_ok());
    }
}
