//! The hash chain over everything that is written.
//!
//! Each write leaves a link: what was written, as one line of JSON, and the SHA-256 over the link before it and that
//! line. The tables beside it are what the links say, laid out for reading; [`verify`] checks both.

use rusqlite::{Connection, params};
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

/// The first link that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Broken {
    pub seq: i64,
    pub why: String,
}

/// Walks the chain. Gives how many links there are and the last hash, or the first that does not hold.
pub fn verify(connection: &Connection) -> Result<Result<(i64, [u8; 32]), Broken>, RecordError> {
    let failed = |e: rusqlite::Error| RecordError::Read(e.to_string());
    let mut statement = connection.prepare("SELECT seq, kind, body, hash FROM link ORDER BY seq").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut before, mut last) = (START, 0);
    while let Some(row) = rows.next().map_err(failed)? {
        let seq: i64 = row.get(0).map_err(failed)?;
        let (kind, body): (String, String) = (row.get(1).map_err(failed)?, row.get(2).map_err(failed)?);
        let stored: Vec<u8> = row.get(3).map_err(failed)?;
        if seq != last + 1 {
            return Ok(Err(Broken { seq: last + 1, why: "a link is missing".into() }));
        }
        let expected = hash(&before, seq, &kind, &body);
        if stored != expected {
            return Ok(Err(Broken { seq, why: "its hash is not that of its content".into() }));
        }
        if let Some(why) = contradiction(connection, &kind, &body).map_err(failed)? {
            return Ok(Err(Broken { seq, why }));
        }
        (before, last) = (expected, seq);
    }
    Ok(Ok((last, before)))
}

/// How a table row differs from the link that says what was written to it.
fn contradiction(connection: &Connection, kind: &str, body: &str) -> rusqlite::Result<Option<String>> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else { return Ok(Some("it is not JSON".into())) };
    let differs = |what: &str| Some(format!("the {what} beside it says something else"));
    Ok(match kind {
        "intent" => {
            let sql = "SELECT action, decision, subject, session, host, target, method, reason, parameters, resources FROM exchange WHERE id = ?1";
            let row: Option<Vec<String>> = row(connection, sql, params![value["id"].as_i64()], 10)?;
            let fields = [
                "action",
                "decision",
                "subject",
                "session",
                "host",
                "target",
                "method",
                "reason",
                "parameters",
                "resources",
            ];
            let same = row.is_some_and(|row| fields.iter().zip(&row).all(|(f, r)| value[*f].as_str() == Some(r)));
            if same { None } else { differs("exchange") }
        }
        "outcome" => {
            let row = row(
                connection,
                "SELECT CAST(coalesce(status, 0) AS TEXT), CAST(bytes_sent AS TEXT), CAST(bytes_received AS TEXT) FROM exchange WHERE id = ?1",
                params![value["id"].as_i64()],
                3,
            )?;
            let same = row.is_some_and(|row| {
                ["status", "bytes_sent", "bytes_received"]
                    .iter()
                    .zip(&row)
                    .all(|(f, r)| r.parse().is_ok_and(|r: i64| value[*f] == r))
            });
            if same { None } else { differs("exchange") }
        }
        "session" => {
            let row = row(
                connection,
                "SELECT subject, name, command FROM session WHERE id = ?1",
                params![value["id"].as_str()],
                3,
            )?;
            let same = row.is_some_and(|row| {
                ["subject", "name", "command"].iter().zip(&row).all(|(f, r)| value[*f].as_str() == Some(r))
            });
            if same { None } else { differs("session") }
        }
        "event" => {
            let row = row(connection, "SELECT fields FROM event WHERE id = ?1", params![value["id"].as_i64()], 1)?;
            if row.is_some_and(|row| row[0] == value["fields"].as_str().unwrap_or_default()) {
                None
            } else {
                differs("event")
            }
        }
        _ => None,
    })
}

fn row(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    columns: usize,
) -> rusqlite::Result<Option<Vec<String>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    match rows.next()? {
        Some(row) => (0..columns).map(|n| row.get(n)).collect::<rusqlite::Result<_>>().map(Some),
        None => Ok(None),
    }
}
