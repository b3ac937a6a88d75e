//! Reading the record: sessions, their timelines, events.
//!
//! Each call opens nothing new; a [`Reader`] has a read-only connection and belongs on a blocking thread. Who must see what
//! has been written until now flushes the [`Store`](super::Store) first.

mod judged;

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, params};
use serde::{Deserialize, Serialize};

use super::RecordError;
pub use judged::Judged;

/// A session, as it is listed. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionSummary {
    pub id: String,
    pub name: String,
    pub issuer: Option<String>,
    pub subject: String,
    pub uid: u32,
    pub command: Vec<String>,
    pub started: i64,
    pub ended: Option<i64>,
    pub state: String,
    pub exchanges: i64,
    /// Exchanges that were not let through; those that observe mode let through do not count.
    pub blocked: i64,
}

/// An exchange, as a timeline shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExchangeRow {
    pub id: i64,
    pub session: String,
    pub subject: String,
    pub started: i64,
    pub pid: u32,
    pub exe: String,
    pub host: String,
    pub method: String,
    pub target: String,
    pub action: String,
    pub operation: String,
    pub resources: Vec<String>,
    pub region: String,
    /// Account of the held credentials, where it was known.
    pub account: Option<String>,
    pub parameters: String,
    pub decision: String,
    pub policies: Vec<String>,
    pub reason: String,
    pub observed: bool,
    pub status: Option<u16>,
    pub request_id: Option<String>,
    pub bytes_sent: Option<i64>,
    pub bytes_received: Option<i64>,
    pub ended: Option<i64>,
    pub error: Option<String>,
}

/// An event; `fields` are those that journald shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventRow {
    pub id: i64,
    pub at: i64,
    pub kind: String,
    pub session: Option<String>,
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub kind: Option<String>,
    pub session: Option<String>,
    /// The first events with a greater number, so that whoever asks again after the last one misses none. `None`: the
    /// newest.
    pub after: Option<i64>,
    pub limit: u32,
}

/// A read-only connection to the record.
#[derive(Debug)]
pub struct Reader(Connection);

impl Reader {
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|e| RecordError::Open { path: path.into(), message: e.to_string() })?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(read)?;
        Ok(Self(connection))
    }

    /// Sessions, the newest first; `state` filters.
    pub fn sessions(&self, state: Option<&str>, limit: u32) -> Result<Vec<SessionSummary>, RecordError> {
        self.all(
            &format!("{SESSIONS} WHERE ?1 IS NULL OR s.state = ?1 ORDER BY s.started DESC LIMIT ?2"),
            params![state, limit],
            session,
        )
    }

    pub fn session(&self, id: &str) -> Result<Option<SessionSummary>, RecordError> {
        Ok(self.all(&format!("{SESSIONS} WHERE s.id = ?1"), params![id], session)?.pop())
    }

    /// A session's exchanges in the order they were decided.
    pub fn exchanges(&self, session: &str) -> Result<Vec<ExchangeRow>, RecordError> {
        self.all(&format!("SELECT {EXCHANGE} FROM exchange WHERE session = ?1 ORDER BY id"), params![session], exchange)
    }

    /// Events in the order they happened: the first `limit` after a number, or the last `limit` of all.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, RecordError> {
        let order = if filter.after.is_some() { "ASC" } else { "DESC" };
        let mut rows = self.all(
            &format!(
                "SELECT id, at, kind, session, fields FROM event
                 WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR session = ?2) AND id > ?3
                 ORDER BY id {order} LIMIT ?4"
            ),
            params![filter.kind, filter.session, filter.after.unwrap_or(0), filter.limit],
            |r| {
                let fields: String = r.get(4)?;
                Ok(EventRow {
                    id: r.get(0)?,
                    at: r.get(1)?,
                    kind: r.get(2)?,
                    session: r.get(3)?,
                    fields: serde_json::from_str(&fields).unwrap_or_default(),
                })
            },
        )?;
        if filter.after.is_none() {
            rows.reverse();
        }
        Ok(rows)
    }

    /// Proves the chain; see [`super::verify`].
    pub fn verify(&self, laid_out: i64) -> Result<Result<(i64, [u8; 32]), super::Broken>, RecordError> {
        super::verify(&self.0, laid_out)
    }

    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, RecordError> {
        let mut statement = self.0.prepare_cached(sql).map_err(read)?;
        let rows = statement.query_map(params, |r| row(r)).map_err(read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read)
    }
}

const SESSIONS: &str = "SELECT s.id, s.name, s.issuer, s.subject, s.uid, s.command, s.started, s.ended, s.state,
    (SELECT count(*) FROM exchange e WHERE e.session = s.id),
    (SELECT count(*) FROM exchange e WHERE e.session = s.id AND e.decision IN ('deny', 'refuse')
        AND NOT e.observed) FROM session s";

const EXCHANGE: &str =
    "id, session, subject, started, pid, exe, host, method, target, action, operation, resources, region, account, parameters,
    decision, policies, reason, observed, status, request_id, bytes_sent, bytes_received, ended, error";

fn session(r: &Row<'_>) -> rusqlite::Result<SessionSummary> {
    Ok(SessionSummary {
        id: r.get(0)?,
        name: r.get(1)?,
        issuer: r.get(2)?,
        subject: r.get(3)?,
        uid: r.get(4)?,
        command: lines(r.get(5)?),
        started: r.get(6)?,
        ended: r.get(7)?,
        state: r.get(8)?,
        exchanges: r.get(9)?,
        blocked: r.get(10)?,
    })
}

fn exchange(r: &Row<'_>) -> rusqlite::Result<ExchangeRow> {
    Ok(ExchangeRow {
        id: r.get(0)?,
        session: r.get(1)?,
        subject: r.get(2)?,
        started: r.get(3)?,
        pid: r.get(4)?,
        exe: r.get(5)?,
        host: r.get(6)?,
        method: r.get(7)?,
        target: r.get(8)?,
        action: r.get(9)?,
        operation: r.get(10)?,
        resources: lines(r.get(11)?),
        region: r.get(12)?,
        account: r.get(13)?,
        parameters: r.get(14)?,
        decision: r.get(15)?,
        policies: lines(r.get(16)?),
        reason: r.get(17)?,
        observed: r.get(18)?,
        status: r.get(19)?,
        request_id: r.get(20)?,
        bytes_sent: r.get(21)?,
        bytes_received: r.get(22)?,
        ended: r.get(23)?,
        error: r.get(24)?,
    })
}

fn lines(text: String) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn read(e: rusqlite::Error) -> RecordError {
    RecordError::Read(e.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::{Scratch, intent};
    use super::super::{Intent, SessionRow};
    use super::*;
    use crate::journal::Event;

    #[tokio::test]
    async fn what_observe_mode_let_through_was_not_blocked() {
        let scratch = Scratch::open();
        let row = SessionRow {
            id: scratch.session.clone(),
            name: "n".into(),
            issuer: None,
            subject: "s".into(),
            uid: 0,
            cgroup: "/c".into(),
            command: Vec::new(),
            started: SystemTime::now(),
        };
        scratch.store.open_session(row).await.expect("written");
        for (decision, observed) in
            [("allow", false), ("deny", false), ("deny", true), ("refuse", false), ("hold", true)]
        {
            let intent = Intent { decision, observed, ..intent(&scratch.session, 1) };
            scratch.store.intent(intent).await.expect("written");
        }
        scratch.store.flush().await;
        let session = Reader::open(scratch.store.path()).and_then(|r| r.session(scratch.session.as_str()));
        let session = session.expect("reads").expect("is there");
        assert_eq!((session.exchanges, session.blocked), (5, 2));
    }

    #[tokio::test]
    async fn who_follows_events_misses_none_however_many_came_at_once() {
        let scratch = Scratch::open();
        let reader = Reader::open(scratch.store.path()).expect("opens");
        let ask = |after, limit| {
            let rows = reader.events(&EventFilter { after, limit, ..EventFilter::default() }).expect("reads");
            rows.iter().map(|r| r.id).collect::<Vec<_>>()
        };
        // Nothing yet: who follows from here wants the first ones next, not the newest.
        assert!(ask(None, 2).is_empty());
        for _ in 0..5 {
            scratch.store.event(SystemTime::now(), Event::default());
        }
        scratch.store.flush().await;
        assert_eq!(ask(None, 2), [4, 5]);
        assert_eq!((ask(Some(0), 2), ask(Some(2), 2), ask(Some(4), 2)), (vec![1, 2], vec![3, 4], vec![5]));
        assert!(ask(Some(5), 2).is_empty());
    }
}
