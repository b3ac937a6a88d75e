//! What the redo log holds, laid out in the database for reading: links, and the rows of exchanges and events.
//!
//! An exchange is durable when its links are in the log. They come to the database later, with those of some hundred others,
//! and its row mostly whole, since its outcome is known by then: each page is written once for all of them. Owns what has
//! been promised and is not in the database yet, in memory; after a death it is read from the log again, and from links
//! that no row speaks of. Runs on the writer's thread, and once before that.

use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, Statement, params};
use serde::Deserialize;

use super::line::{EventLine, IntentLine, OutcomeLine};
use super::writer::micros;
use super::{ExchangeId, Intent, Outcome, chain, redo, schema};
use crate::config::Durability;
use crate::journal::Event;

/// So many rows are laid out at once. With more, those who wait for the writer meanwhile would feel it.
const ENOUGH: usize = 256;
/// Or links of so many bytes: those of an agent that says much must not fill the memory.
const LARGE: usize = 1 << 20;
/// How long a row may be owed.
const LONGEST: Duration = Duration::from_millis(100);
/// How long nothing is tried again by itself after it has failed.
const RETRY: Duration = Duration::from_secs(5);
/// Rows, and bytes, that may be owed where they cannot be laid out: then nothing more is written.
const MOST: usize = 1 << 14;
const LARGEST: usize = 16 << 20;

/// A link that the database does not have yet.
#[derive(Debug)]
pub(super) struct OwedLink {
    pub seq: i64,
    pub kind: &'static str,
    pub body: String,
    pub hash: [u8; 32],
}

/// An exchange that has no row yet.
#[derive(Debug)]
struct OwedExchange {
    row: ExchangeRow,
    outcome: Option<Outcome>,
}

/// What a row has of an intent; the rest is in the link that it points to.
#[derive(Debug)]
struct ExchangeRow {
    id: i64,
    link: i64,
    session: String,
    started: i64,
    decision: String,
}

/// What the database owes to the log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Owed {
    links: Vec<OwedLink>,
    exchanges: Vec<OwedExchange>,
    /// Of exchanges that have a row already.
    outcomes: Vec<(ExchangeId, Outcome)>,
    events: Vec<(i64, SystemTime, Box<Event>)>,
    /// Of the links.
    bytes: usize,
    since: Option<Instant>,
    /// When it could not be paid last.
    failed: Option<Instant>,
}

impl Owed {
    pub(super) fn links(&mut self, links: &mut Vec<OwedLink>) {
        self.begin();
        self.bytes += links.iter().map(|l| l.body.len()).sum::<usize>();
        self.links.append(links);
    }

    /// `link`: number of the one that says it.
    pub(super) fn intent(&mut self, id: ExchangeId, link: i64, intent: &Intent) {
        self.begin();
        let (session, started) = (intent.session.as_str().to_owned(), micros(intent.started));
        let row = ExchangeRow { id: id.0, link, session, started, decision: intent.decision.into() };
        self.exchanges.push(OwedExchange { row, outcome: None });
    }

    pub(super) fn outcome(&mut self, id: ExchangeId, outcome: Outcome) {
        self.begin();
        // The oldest have theirs already.
        match self.exchanges.iter_mut().rev().find(|e| e.row.id == id.0 && e.outcome.is_none()) {
            Some(exchange) => exchange.outcome = Some(outcome),
            None => self.outcomes.push((id, outcome)),
        }
    }

    pub(super) fn event(&mut self, id: i64, at: SystemTime, event: Box<Event>) {
        self.begin();
        self.events.push((id, at, event));
    }

    fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn rows(&self) -> usize {
        self.exchanges.len() + self.outcomes.len() + self.events.len()
    }

    /// Whether there is anything to lay out, and no reason to put it off.
    pub(super) fn is_payable(&self) -> bool {
        self.since.is_some() && self.failed.is_none_or(|at| at.elapsed() >= RETRY)
    }

    /// Whether it is time to.
    pub(super) fn is_due(&self) -> bool {
        let (many, late) = (self.rows() >= ENOUGH || self.bytes >= LARGE, |since: Instant| since.elapsed() >= LONGEST);
        self.is_payable() && (many || self.since.is_some_and(late))
    }

    /// Whether it is more than may be.
    pub(super) fn is_too_much(&self) -> bool {
        self.rows() >= MOST || self.bytes >= LARGEST
    }
}

/// Writes rows.
pub(super) struct Layout<'c> {
    connection: &'c Connection,
    durability: Durability,
    /// Commits are synced to disk less than the configuration says.
    lax: bool,
    begin: Statement<'c>,
    commit: Statement<'c>,
    link: Statement<'c>,
    exchange: Statement<'c>,
    outcome: Statement<'c>,
    event: Statement<'c>,
    upto: Statement<'c>,
}

impl<'c> Layout<'c> {
    pub(super) fn prepare(connection: &'c Connection, durability: Durability) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            durability,
            lax: false,
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            link: connection.prepare("INSERT INTO link (seq, kind, body, hash) VALUES (?1, ?2, ?3, ?4)")?,
            // A row that is there already is nobody's who writes to the chain.
            exchange: connection.prepare(
                "INSERT OR REPLACE INTO exchange_row (id, link, session, started, decision, status, request_id, bytes_sent,
                 bytes_received, ended, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?,
            outcome: connection.prepare(
                "UPDATE exchange_row SET status = ?2, request_id = ?3, bytes_sent = ?4, bytes_received = ?5, ended = ?6,
                 error = ?7 WHERE id = ?1",
            )?,
            event: connection.prepare(
                "INSERT OR REPLACE INTO event (id, at, kind, session, fields) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            upto: connection.prepare("UPDATE laid_out SET seq = ?1")?,
        })
    }

    /// Lays out all that is owed, which the links up to `head` say. What fails stays owed. The log has it, too, so the next
    /// sync to disk is soon enough.
    pub(super) fn pay(&mut self, owed: &mut Owed, head: i64) -> rusqlite::Result<()> {
        if owed.since.is_none() {
            return Ok(());
        }
        if !self.lax {
            self.lax = true;
            self.connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        }
        self.lay_out(owed, head)
    }

    /// The same, and whatever was laid out before is on the disk, too, when it returns.
    pub(super) fn pay_for_good(&mut self, owed: &mut Owed, head: i64) -> rusqlite::Result<()> {
        self.strict()?;
        self.lay_out(owed, head)
    }

    fn lay_out(&mut self, owed: &mut Owed, head: i64) -> rusqlite::Result<()> {
        // Until it has been done.
        owed.failed = Some(Instant::now());
        self.begin.execute([])?;
        let result = self.rows(owed, head).and_then(|()| self.commit.execute([]).map(drop));
        if result.is_err() {
            // Others may have to get in to mend what is wrong.
            self.rollback()?;
        }
        result?;
        // What has been there keeps its room.
        owed.links.clear();
        owed.exchanges.clear();
        owed.outcomes.clear();
        owed.events.clear();
        (owed.bytes, owed.since, owed.failed) = (0, None, None);
        Ok(())
    }

    /// Makes sure that nothing is left of a transaction that failed.
    fn rollback(&mut self) -> rusqlite::Result<()> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }

    /// Makes sure that the next commit is synced to disk as the configuration says, and that nothing is left of the last.
    pub(super) fn strict(&mut self) -> rusqlite::Result<()> {
        self.rollback()?;
        if self.lax {
            self.connection.execute_batch(schema::synced(self.durability))?;
            self.lax = false;
        }
        Ok(())
    }

    fn rows(&mut self, owed: &Owed, head: i64) -> rusqlite::Result<()> {
        for link in &owed.links {
            self.link(link.seq, link.kind, &link.body, &link.hash)?;
        }
        for OwedExchange { row, outcome } in &owed.exchanges {
            let outcome = outcome.as_ref().map(|o| OutcomeLine::new(ExchangeId(row.id), o));
            self.exchange(row, outcome.as_ref())?;
        }
        for (id, outcome) in &owed.outcomes {
            self.outcome(&OutcomeLine::new(*id, outcome))?;
        }
        for (id, at, event) in &owed.events {
            self.event(&EventLine::new(*id, micros(*at), event), event.session.as_deref())?;
        }
        self.upto.execute([head])?;
        Ok(())
    }

    pub(super) fn link(&mut self, seq: i64, kind: &str, body: &str, hash: &[u8; 32]) -> rusqlite::Result<()> {
        self.link.execute(params![seq, kind, body, hash])?;
        Ok(())
    }

    fn exchange(&mut self, row: &ExchangeRow, o: Option<&OutcomeLine<'_>>) -> rusqlite::Result<()> {
        self.exchange.execute(params![
            row.id,
            row.link,
            row.session,
            row.started,
            row.decision,
            o.and_then(|o| (o.status != 0).then_some(o.status)),
            o.map(|o| &o.request_id),
            o.map(|o| o.bytes_sent),
            o.map(|o| o.bytes_received),
            o.map(|o| o.ended),
            o.map(|o| &o.error),
        ])?;
        Ok(())
    }

    fn outcome(&mut self, o: &OutcomeLine<'_>) -> rusqlite::Result<()> {
        let status = (o.status != 0).then_some(o.status);
        self.outcome.execute(params![o.id, status, o.request_id, o.bytes_sent, o.bytes_received, o.ended, o.error])?;
        Ok(())
    }

    fn event(&mut self, e: &EventLine<'_>, session: Option<&str>) -> rusqlite::Result<()> {
        self.event.execute(params![e.id, e.at, e.kind, session, e.fields])?;
        Ok(())
    }
}

/// Lays out what a daemon promised in its log before it died, and what links say whose rows it did not come to.
/// `false`: the log is another database's.
pub(super) fn replay(connection: &Connection, durability: Durability, log: &[u8]) -> rusqlite::Result<bool> {
    let transaction = connection.unchecked_transaction()?;
    let mut layout = Layout::prepare(connection, durability)?;
    let (head, _) = chain::head(connection)?;
    let promised = redo::promised(log, |seq| chain::hash_of(connection, seq))?;
    let is_ours = promised.is_some();
    for link in promised.into_iter().flatten() {
        if link.seq > head {
            layout.link(link.seq, link.kind, link.body, &link.hash)?;
        }
    }
    let mut links = connection.prepare(
        "SELECT seq, kind, body FROM link WHERE seq > (SELECT coalesce(max(seq), 0) FROM laid_out) ORDER BY seq",
    )?;
    let mut links = links.query([])?;
    let mut last = None;
    while let Some(link) = links.next()? {
        let (seq, kind, body) = (link.get(0)?, link.get_ref(1)?.as_str()?, link.get_ref(2)?.as_str()?);
        // A link that cannot be read is not ours: `verify` says which. The rows of the others are made all the same.
        match kind {
            "intent" => said(body).map(|i: IntentLine<'_>| {
                let (session, decision) = (i.session.into_owned(), i.decision.into_owned());
                layout.exchange(&ExchangeRow { id: i.id, link: seq, session, started: i.started, decision }, None)
            }),
            "outcome" => said(body).map(|line| layout.outcome(&line)),
            "event" => said(body).map(|line: EventLine<'_>| {
                let fields: Option<serde_json::Value> = said(&line.fields);
                let session = fields.as_ref().and_then(|f| f["TOLLGATE_SESSION"].as_str());
                layout.event(&line, session)
            }),
            // The tables of sessions and principals are written with their links.
            _ => None,
        }
        .transpose()?;
        last = Some(seq);
    }
    if let Some(last) = last {
        layout.upto.execute([last])?;
    }
    transaction.commit()?;
    Ok(is_ours)
}

fn said<'a, T: Deserialize<'a>>(body: &'a str) -> Option<T> {
    serde_json::from_str(body).ok()
}
