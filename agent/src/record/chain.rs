//! The hash chain over everything that is written.
//!
//! Each write leaves a link: what was written, as one line of JSON, and the SHA-256 over the link before it and that
//! line. The tables beside it are what the links say, laid out for reading; [`verify`] checks both.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::RecordError;

/// Hash before the first link.
pub(super) const START: [u8; 32] = [0; 32];

/// The hash of a link.
pub(super) fn hash(before: &[u8; 32], seq: i64, kind: &str, body: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(seq.to_be_bytes());
    // Lengths keep two fields from being read as one.
    hash.update((kind.len() as u64).to_be_bytes());
    hash.update(kind);
    hash.update(body);
    hash.finalize().into()
}

/// The number and hash of the last link.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<(i64, [u8; 32])> {
    let mut statement = connection.prepare_cached("SELECT seq, hash FROM link ORDER BY seq DESC LIMIT 1")?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        Some(row) => Ok((row.get(0)?, row.get(1)?)),
        None => Ok((0, START)),
    }
}

/// The hash of a link that the database has; of number 0, what the chain starts from.
pub(super) fn hash_of(connection: &Connection, seq: i64) -> rusqlite::Result<Option<[u8; 32]>> {
    if seq == 0 {
        return Ok(Some(START));
    }
    connection.query_row("SELECT hash FROM link WHERE seq = ?1", [seq], |row| row.get(0)).optional()
}

/// The first link that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Broken {
    /// 0: every link holds, but a table has what none of them speaks of.
    pub seq: i64,
    pub why: String,
}

/// Walks the chain. Gives how many links there are and the last hash, or the first that does not hold.
///
/// `laid_out`: the tables must speak of every link up to that one; what the links after it say may not have come to them
/// yet. The record's own word for it, in its file, would not do: who changes a table could change that, too.
pub fn verify(connection: &Connection, laid_out: i64) -> Result<Result<(i64, [u8; 32]), Broken>, RecordError> {
    let failed = |e: rusqlite::Error| RecordError::Read(e.to_string());
    // One view of everything: a daemon that goes on writing must not look like tampering.
    let view = connection.unchecked_transaction().map_err(failed)?;
    walk(&view, laid_out).map_err(failed)
}

pub(super) fn walk(connection: &Connection, laid_out: i64) -> rusqlite::Result<Result<(i64, [u8; 32]), Broken>> {
    let mut statement = connection.prepare("SELECT seq, kind, body, hash FROM link ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let (mut before, mut last) = (START, 0);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let (kind, body): (String, String) = (row.get(1)?, row.get(2)?);
        let stored: Vec<u8> = row.get(3)?;
        if seq != last + 1 {
            return Ok(Err(Broken { seq: last + 1, why: "a link is missing".into() }));
        }
        let expected = hash(&before, seq, &kind, &body);
        if stored != expected {
            return Ok(Err(Broken { seq, why: "its hash is not that of its content".into() }));
        }
        if let Some(why) = contradiction(connection, &kind, &body, seq > laid_out)? {
            return Ok(Err(Broken { seq, why }));
        }
        (before, last) = (expected, seq);
    }
    for (what, rows, kind) in ROWS {
        // All links are JSON by now.
        let sql = format!(
            "{rows} EXCEPT SELECT json_extract(body, '$.id') FROM link WHERE kind = '{kind}' ORDER BY 1 LIMIT 1"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut extra = statement.query([])?;
        if let Some(row) = extra.next()? {
            let id = match row.get_ref(0)? {
                ValueRef::Text(id) => String::from_utf8_lossy(id).into_owned(),
                id => id.as_i64().unwrap_or_default().to_string(),
            };
            return Ok(Err(Broken { seq: 0, why: format!("{what} {id} is in its table, and no link speaks of it") }));
        }
    }
    Ok(Ok((last, before)))
}

/// What a table may hold only with a link of a kind: in words, the ids, the kind.
const ROWS: [(&str, &str, &str); 7] = [
    ("exchange", "SELECT id FROM exchange", "intent"),
    (
        "the outcome of exchange",
        "SELECT id FROM exchange
         WHERE coalesce(status, request_id, bytes_sent, bytes_received, ended, error) IS NOT NULL",
        "outcome",
    ),
    ("session", "SELECT id FROM session", "session"),
    ("the end of session", "SELECT id FROM session WHERE state <> 'open' OR ended IS NOT NULL", "end"),
    ("event", "SELECT id FROM event", "event"),
    ("principal", "SELECT id FROM principal", "principal"),
    ("approval", "SELECT id FROM approval", "approval"),
];

/// How a table row differs from the link that says what was written to it. `young`: it may not be there yet.
fn contradiction(connection: &Connection, kind: &str, body: &str, young: bool) -> rusqlite::Result<Option<String>> {
    let Ok(link) = serde_json::from_str::<Value>(body) else { return Ok(Some("it is not JSON".into())) };
    // All that the lines of `super::line` say; a column is called as its member, but for the end's time.
    let (table, sql, members): (_, _, &[&str]) = match kind {
        "intent" => (
            "exchange",
            "SELECT session, issuer, subject, started, pid, exe, host, method, target, action, operation, resources,
             region, account, parameters, decision, policies, reason, observed, facts FROM exchange WHERE id = ?1",
            &[
                "session",
                "issuer",
                "subject",
                "started",
                "pid",
                "exe",
                "host",
                "method",
                "target",
                "action",
                "operation",
                "resources",
                "region",
                "account",
                "parameters",
                "decision",
                "policies",
                "reason",
                "observed",
                "facts",
            ],
        ),
        "outcome" => (
            "exchange",
            // A link says 0 where there was no status.
            "SELECT coalesce(status, 0), request_id, bytes_sent, bytes_received, ended, error FROM exchange WHERE id = ?1",
            &["status", "request_id", "bytes_sent", "bytes_received", "ended", "error"],
        ),
        "session" => (
            "session",
            "SELECT name, issuer, subject, uid, cgroup, command, started FROM session WHERE id = ?1",
            &["name", "issuer", "subject", "uid", "cgroup", "command", "started"],
        ),
        "principal" => (
            "principal",
            "SELECT session, at, issuer, subject, groups, claims FROM principal WHERE id = ?1",
            &["session", "at", "issuer", "subject", "groups", "claims"],
        ),
        "end" => ("session", "SELECT state, ended FROM session WHERE id = ?1", &["state", "at"]),
        "event" => ("event", "SELECT at, kind, fields, session FROM event WHERE id = ?1", &["at", "kind", "fields"]),
        "approval" => (
            "approval",
            "SELECT approval, version, session, state, at, who, why, body FROM approval WHERE id = ?1",
            &["approval", "version", "session", "state", "at", "who", "why", "body"],
        ),
        _ => return Ok(Some(format!("`{kind}` is no kind of link"))),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = match &link["id"] {
        Value::String(id) => statement.query([id])?,
        id => statement.query([id.as_i64()])?,
    };
    let young = young && matches!(kind, "intent" | "outcome" | "event");
    let row = match rows.next()? {
        Some(row) => row,
        None if young => return Ok(None),
        None => return Ok(Some(format!("the {table} beside it is gone"))),
    };
    if young && kind == "outcome" && (1..members.len()).all(|n| row.get_ref(n).is_ok_and(|c| c == ValueRef::Null)) {
        return Ok(None);
    }
    for (n, member) in members.iter().enumerate() {
        if !same(&link[*member], row.get_ref(n)?) {
            return Ok(Some(format!("the {table} beside it says something else (`{member}`)")));
        }
    }
    if kind == "event" {
        // The column is for looking up; what the link says of the session is among the fields.
        let fields = link["fields"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if !same(&fields.unwrap_or_default()["TOLLGATE_SESSION"], row.get_ref(members.len())?) {
            return Ok(Some("the event beside it says something else (`session`)".into()));
        }
    }
    Ok(None)
}

/// Whether a link's member and a table's cell say the same.
fn same(member: &Value, cell: ValueRef<'_>) -> bool {
    match (member, cell) {
        (Value::Null, ValueRef::Null) => true,
        (Value::Bool(member), ValueRef::Integer(cell)) => i64::from(*member) == cell,
        (Value::Number(member), ValueRef::Integer(cell)) => member.as_i64() == Some(cell),
        (Value::String(member), ValueRef::Text(cell)) => member.as_bytes() == cell,
        _ => false,
    }
}
