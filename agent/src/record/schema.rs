//! Tables, and how older ones become newer.
//!
//! `link` is the chain, see [`super::chain`]; `exchange` is a view of it and of what became of each. `laid_out` says up to
//! which of its links the other tables speak, see [`super::layout`]. Times are microseconds since 1970, UTC.

use std::path::Path;

use rusqlite::Connection;

use super::RecordError;
use crate::config::Durability;

/// One step each; the database's `user_version` counts those taken.
const STEPS: &[&str] = &[
    "
    CREATE TABLE link (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        hash BLOB NOT NULL
    );
    CREATE TABLE session (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        issuer TEXT,
        subject TEXT NOT NULL,
        uid INTEGER NOT NULL,
        cgroup TEXT NOT NULL,
        command TEXT NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER,
        state TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE exchange (
        id INTEGER PRIMARY KEY,
        session TEXT NOT NULL,
        issuer TEXT,
        subject TEXT NOT NULL,
        started INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        exe TEXT NOT NULL,
        host TEXT NOT NULL,
        method TEXT NOT NULL,
        target TEXT NOT NULL,
        action TEXT NOT NULL,
        operation TEXT NOT NULL,
        resources TEXT NOT NULL,
        region TEXT NOT NULL,
        account TEXT,
        parameters TEXT NOT NULL,
        decision TEXT NOT NULL,
        policies TEXT NOT NULL,
        reason TEXT NOT NULL,
        observed INTEGER NOT NULL,
        status INTEGER,
        request_id TEXT,
        bytes_sent INTEGER,
        bytes_received INTEGER,
        ended INTEGER,
        error TEXT
    );
    CREATE INDEX exchange_session ON exchange (session, id);
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        session TEXT,
        fields TEXT NOT NULL
    );
    CREATE INDEX event_session ON event (session, id);
",
    "
    CREATE TABLE laid_out (seq INTEGER NOT NULL);
    INSERT INTO laid_out SELECT coalesce(max(seq), 0) FROM link;
",
    "
    CREATE TABLE principal (
        id TEXT PRIMARY KEY,
        session TEXT NOT NULL,
        at INTEGER NOT NULL,
        issuer TEXT,
        subject TEXT NOT NULL,
        groups TEXT NOT NULL,
        claims TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX principal_session ON principal (session, at);
    ALTER TABLE exchange ADD COLUMN facts TEXT;
",
    "
    CREATE TABLE approval (
        id TEXT PRIMARY KEY,
        approval TEXT NOT NULL,
        version INTEGER NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX approval_versions ON approval (approval, version);
",
    // What an exchange is stands in its link alone, once; a row has what is looked for and what became of it.
    "
    ALTER TABLE exchange RENAME TO exchange_whole;
    CREATE TABLE exchange_row (
        id INTEGER PRIMARY KEY,
        link INTEGER NOT NULL,
        session TEXT NOT NULL,
        started INTEGER NOT NULL,
        decision TEXT NOT NULL,
        status INTEGER,
        request_id TEXT,
        bytes_sent INTEGER,
        bytes_received INTEGER,
        ended INTEGER,
        error TEXT
    );
    INSERT INTO exchange_row SELECT e.id, l.seq, e.session, e.started, e.decision, e.status, e.request_id, e.bytes_sent,
        e.bytes_received, e.ended, e.error
        FROM link l JOIN exchange_whole e ON e.id = json_extract(l.body, '$.id') WHERE l.kind = 'intent';
    DROP TABLE exchange_whole;
    CREATE INDEX exchange_session ON exchange_row (session, id);
    CREATE VIEW exchange AS SELECT r.id, r.link, r.session, r.started, r.decision, r.status, r.request_id, r.bytes_sent,
        r.bytes_received, r.ended, r.error,
        json_extract(l.body, '$.issuer') AS issuer,
        json_extract(l.body, '$.subject') AS subject,
        json_extract(l.body, '$.pid') AS pid,
        json_extract(l.body, '$.exe') AS exe,
        json_extract(l.body, '$.host') AS host,
        json_extract(l.body, '$.method') AS method,
        json_extract(l.body, '$.target') AS target,
        json_extract(l.body, '$.action') AS action,
        json_extract(l.body, '$.operation') AS operation,
        json_extract(l.body, '$.resources') AS resources,
        json_extract(l.body, '$.region') AS region,
        json_extract(l.body, '$.account') AS account,
        json_extract(l.body, '$.parameters') AS parameters,
        json_extract(l.body, '$.policies') AS policies,
        json_extract(l.body, '$.reason') AS reason,
        json_extract(l.body, '$.observed') AS observed,
        json_extract(l.body, '$.facts') AS facts
        FROM exchange_row r LEFT JOIN link l ON l.seq = r.link;
",
];

/// Opens for writing: makes what is missing, refuses what is newer.
pub(super) fn open(path: &Path, durability: Durability) -> Result<Connection, RecordError> {
    let failed = |message: String| RecordError::Open { path: path.into(), message };
    private(path).map_err(|e| failed(e.to_string()))?;
    let connection = Connection::open(path).map_err(|e| failed(e.to_string()))?;
    connection
        .execute_batch(&format!("PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; {}; PRAGMA busy_timeout = 5000; PRAGMA wal_autocheckpoint = 2000; PRAGMA cache_size = -1024;", synced(durability)))
        .map_err(|e| failed(e.to_string()))?;
    let taken: i64 =
        connection.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(|e| failed(e.to_string()))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if taken > known {
        return Err(RecordError::Newer { path: path.into(), found: taken, known });
    }
    for (n, step) in STEPS.iter().enumerate().skip(usize::try_from(taken).unwrap_or(0)) {
        connection
            .execute_batch(&format!("BEGIN; {step} PRAGMA user_version = {}; COMMIT;", n + 1))
            .map_err(|e| failed(e.to_string()))?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// How a commit is synced to disk.
pub(super) fn synced(durability: Durability) -> &'static str {
    match durability {
        Durability::Power => "PRAGMA synchronous = FULL",
        Durability::Process => "PRAGMA synchronous = NORMAL",
    }
}

/// The file exists and is the daemon's alone before SQLite opens it.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}
