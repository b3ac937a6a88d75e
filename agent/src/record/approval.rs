//! Approvals in the record: a row for each transition, and how they are read again.
//!
//! Rows are only ever added. The row of a transition has the number of the one before it plus one, and there is room for
//! one row of a number: of two who move the same approval on at once, one is told [`RecordError::Stale`], and nothing of
//! it is in the chain. Owns the table's columns; what `body` says is [`crate::approval`]'s. Written by the writer's thread.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Row, Statement, params};
use serde::Serialize;

use super::{Reader, RecordError};

/// One transition of one approval.
#[derive(Debug, Default)]
pub struct ApprovalRow {
    /// `a-0123456789abcdef`
    pub approval: String,
    /// 1 for the first; each transition's is one more.
    pub version: u32,
    pub session: String,
    pub state: &'static str,
    /// Microseconds since 1970.
    pub at: i64,
    /// Who brought it about; empty: time, or the daemon.
    pub who: String,
    pub why: String,
    /// JSON.
    pub body: String,
    /// Somebody else was quicker; set by the writer.
    pub stale: AtomicBool,
}

/// A transition as it was recorded.
#[derive(Debug, Clone)]
pub struct ApprovalStep {
    pub approval: String,
    pub version: u32,
    pub session: String,
    pub state: String,
    pub at: i64,
    pub who: String,
    pub why: String,
    pub body: String,
}

pub(super) const INSERT: &str =
    "INSERT OR IGNORE INTO approval (id, approval, version, session, state, at, who, why, body)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
     WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM approval WHERE id = ?10)";

impl ApprovalRow {
    /// `false`: there is such a row already, or none before it.
    pub(super) fn insert(&self, statement: &mut Statement<'_>) -> rusqlite::Result<bool> {
        let before = name(&self.approval, self.version.saturating_sub(1));
        let (id, row) = (name(&self.approval, self.version), self);
        let inserted = statement.execute(params![
            id,
            row.approval,
            row.version,
            row.session,
            row.state,
            row.at,
            row.who,
            row.why,
            row.body,
            before
        ])?;
        self.stale.store(inserted == 0, Ordering::Relaxed);
        Ok(inserted == 1)
    }

    pub(super) fn verdict(&self) -> Result<(), RecordError> {
        if self.stale.load(Ordering::Relaxed) { Err(RecordError::Stale) } else { Ok(()) }
    }
}

fn name(approval: &str, version: u32) -> String {
    format!("{approval}/{version}")
}

/// A transition's link.
#[derive(Serialize)]
pub(super) struct ApprovalLine<'a> {
    id: Cow<'a, str>,
    approval: &'a str,
    version: u32,
    session: &'a str,
    state: &'a str,
    at: i64,
    who: &'a str,
    why: &'a str,
    body: &'a str,
}

impl<'a> ApprovalLine<'a> {
    pub(super) fn new(row: &'a ApprovalRow) -> Self {
        Self {
            id: name(&row.approval, row.version).into(),
            approval: &row.approval,
            version: row.version,
            session: &row.session,
            state: row.state,
            at: row.at,
            who: &row.who,
            why: &row.why,
            body: &row.body,
        }
    }
}

impl Reader {
    /// All transitions of an approval, in order.
    pub fn approval(&self, id: &str) -> Result<Vec<ApprovalStep>, RecordError> {
        self.all(&format!("{STEPS} WHERE approval = ?1 ORDER BY version"), params![id], step)
    }

    /// First and last transition of the approvals whose last one's state is among `states` (`pending approved`), the
    /// newest `limit` of them, oldest first; each twice where it has one transition alone.
    pub fn approvals(&self, states: &str, limit: u32) -> Result<Vec<(ApprovalStep, ApprovalStep)>, RecordError> {
        let sql = format!(
            "WITH last AS (SELECT approval AS a, max(version) AS v FROM approval GROUP BY approval),
             wanted AS (SELECT approval, at FROM approval JOIN last ON approval = a AND version = v
                        WHERE instr(?1, state) > 0 ORDER BY at DESC LIMIT ?2)
             {STEPS} WHERE approval IN (SELECT approval FROM wanted) ORDER BY approval, version"
        );
        let mut found: Vec<(ApprovalStep, ApprovalStep)> = Vec::new();
        for step in self.all(&sql, params![states, limit], step)? {
            match found.last_mut() {
                Some((first, last)) if first.approval == step.approval => *last = step,
                _ => found.push((step.clone(), step)),
            }
        }
        found.sort_by_key(|(first, _)| first.at);
        Ok(found)
    }
}

const STEPS: &str = "SELECT approval, version, session, state, at, who, why, body FROM approval";

fn step(r: &Row<'_>) -> rusqlite::Result<ApprovalStep> {
    Ok(ApprovalStep {
        approval: r.get(0)?,
        version: r.get(1)?,
        session: r.get(2)?,
        state: r.get(3)?,
        at: r.get(4)?,
        who: r.get(5)?,
        why: r.get(6)?,
        body: r.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    fn row(version: u32, state: &'static str, who: &str) -> ApprovalRow {
        ApprovalRow { approval: "a-1".into(), version, state, who: who.into(), body: "{}".into(), ..Default::default() }
    }

    #[tokio::test]
    async fn of_two_who_move_it_on_at_once_one_does_and_the_chain_has_that_one() {
        let scratch = Scratch::open();
        let store = &scratch.store;
        assert!(matches!(store.approval(row(2, "approved", "x")).await, Err(RecordError::Stale)), "it never was");
        store.approval(row(1, "pending", "")).await.expect("written");
        let both = (0..10).map(|n| store.approval(row(2, "approved", &format!("person {n}"))));
        let results = futures_util::future::join_all(both).await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
        assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| matches!(e, RecordError::Stale)));
        assert!(matches!(store.approval(row(4, "consumed", "x")).await, Err(RecordError::Stale)), "one was left out");
        let reader = Reader::open(store.path()).expect("opens");
        let steps = reader.approval("a-1").expect("reads");
        assert_eq!(steps.iter().map(|s| s.state.as_str()).collect::<Vec<_>>(), ["pending", "approved"]);
        assert_eq!(reader.verify(store.laid_out()).expect("reads").expect("intact").0, 2);
        assert_eq!(reader.approvals("pending", 9).expect("reads").len(), 0);
        let found = reader.approvals("pending approved", 9).expect("reads");
        assert_eq!((found.len(), found[0].0.version, found[0].1.version), (1, 1, 2));
        for tamper in [
            "UPDATE approval SET who = 'another' WHERE version = 2",
            "DELETE FROM approval WHERE version = 2",
            "INSERT INTO approval SELECT 'a-1/3', approval, 3, session, 'revoked', at, who, why, body FROM approval LIMIT 1",
        ] {
            let connection = rusqlite::Connection::open(store.path()).expect("opens");
            connection.execute_batch("BEGIN").expect("begins");
            connection.execute_batch(tamper).expect(tamper);
            assert!(super::super::chain::walk(&connection, store.laid_out()).expect("reads").is_err(), "{tamper}");
        }
    }
}
