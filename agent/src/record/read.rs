//! Reading the record: sessions, their timelines, events.
//!
//! Each call opens nothing new; a [`Reader`] has a read-only connection and belongs on a blocking thread.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row, params};
use serde::{Deserialize, Serialize};

use super::RecordError;

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
    /// Exchanges that were not let through.
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
    /// Events with a greater number.
    pub after: i64,
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

    /// Events in the order they happened; without `after`, the last `limit` of them.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<EventRow>, RecordError> {
        let mut rows = self.all(
            "SELECT id, at, kind, session, fields FROM event
             WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR session = ?2) AND id > ?3 ORDER BY id DESC LIMIT ?4",
            params![filter.kind, filter.session, filter.after, filter.limit],
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
        rows.reverse();
        Ok(rows)
    }

    /// Proves the chain; see [`super::verify`].
    pub fn verify(&self) -> Result<Result<(i64, [u8; 32]), super::Broken>, RecordError> {
        super::verify(&self.0)
    }

    fn all<T>(
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
    (SELECT count(*) FROM exchange e WHERE e.session = s.id AND e.decision IN ('deny', 'refuse')) FROM session s";

const EXCHANGE: &str =
    "id, session, subject, started, pid, exe, host, method, target, action, operation, resources, region, parameters,
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
        parameters: r.get(13)?,
        decision: r.get(14)?,
        policies: lines(r.get(15)?),
        reason: r.get(16)?,
        observed: r.get(17)?,
        status: r.get(18)?,
        request_id: r.get(19)?,
        bytes_sent: r.get(20)?,
        bytes_received: r.get(21)?,
        ended: r.get(22)?,
        error: r.get(23)?,
    })
}

fn lines(text: String) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn read(e: rusqlite::Error) -> RecordError {
    RecordError::Read(e.to_string())
}
