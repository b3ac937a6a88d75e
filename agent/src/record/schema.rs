//! Tables, and how older ones become newer.
//!
//! `link` is the chain, see [`super::chain`], and what is written first; `laid_out` says up to which of its links the
//! others speak, see [`super::layout`]. Times are microseconds since 1970, UTC.

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
