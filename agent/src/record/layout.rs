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
/// Or rows of so many bytes: those of an agent that says much must not fill the memory.
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

/// What the database owes to the log, oldest first.
#[derive(Debug, Default)]
pub(super) struct Owed {
    links: Vec<OwedLink>,
    exchanges: Vec<(ExchangeId, Box<Intent>, Option<Outcome>)>,
    /// Of exchanges that have a row already.
    outcomes: Vec<(ExchangeId, Outcome)>,
    events: Vec<(i64, SystemTime, Box<Event>)>,
    /// Of the texts that may be long.
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

    pub(super) fn intent(&mut self, id: ExchangeId, intent: Box<Intent>) {
        self.begin();
        self.bytes += intent.parameters.len() + intent.target.len() + intent.reason.len();
        self.bytes += intent.facts.as_ref().map_or(0, String::len);
        self.bytes += intent.resources.iter().map(String::len).sum::<usize>();
        self.exchanges.push((id, intent, None));
    }

    pub(super) fn outcome(&mut self, id: ExchangeId, outcome: Outcome) {
        self.begin();
        // The oldest are the likeliest to have ended.
        match self.exchanges.iter_mut().find(|(i, _, known)| *i == id && known.is_none()) {
            Some((_, _, known)) => *known = Some(outcome),
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
                "INSERT OR REPLACE INTO exchange (id, session, issuer, subject, started, pid, exe, host, method, target,
                 action, operation, resources, region, account, parameters, decision, policies, reason, observed,
                 status, request_id, bytes_sent, bytes_received, ended, error, facts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
                 ?21, ?22, ?23, ?24, ?25, ?26, ?27)",
            )?,
            outcome: connection.prepare(
                "UPDATE exchange SET status = ?2, request_id = ?3, bytes_sent = ?4, bytes_received = ?5, ended = ?6, error = ?7
                 WHERE id = ?1",
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
        for (id, intent, outcome) in &owed.exchanges {
            let outcome = outcome.as_ref().map(|o| OutcomeLine::new(*id, o));
            self.exchange(&IntentLine::new(*id, intent), outcome.as_ref())?;
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

    fn exchange(&mut self, i: &IntentLine<'_>, o: Option<&OutcomeLine<'_>>) -> rusqlite::Result<()> {
        self.exchange.execute(params![
            i.id,
            i.session,
            i.issuer,
            i.subject,
            i.started,
            i.pid,
            i.exe,
            i.host,
            i.method,
            i.target,
            i.action,
            i.operation,
            i.resources,
            i.region,
            i.account,
            i.parameters,
            i.decision,
            i.policies,
            i.reason,
            i.observed,
            o.and_then(|o| (o.status != 0).then_some(o.status)),
            o.map(|o| &o.request_id),
            o.map(|o| o.bytes_sent),
            o.map(|o| o.bytes_received),
            o.map(|o| o.ended),
            o.map(|o| &o.error),
            i.facts,
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
pub(super) fn replay(connection: &Connection, durability: Durability, log: &[u8]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let mut layout = Layout::prepare(connection, durability)?;
    let (head, _) = chain::head(connection)?;
    for link in redo::promised(log, |seq| chain::hash_of(connection, seq))? {
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
        let (kind, body) = (link.get_ref(1)?.as_str()?, link.get_ref(2)?.as_str()?);
        // A link that cannot be read is not ours: `verify` says which. The rows of the others are made all the same.
        match kind {
            "intent" => said(body).map(|line| layout.exchange(&line, None)),
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
        last = Some(link.get::<_, i64>(0)?);
    }
    if let Some(last) = last {
        layout.upto.execute([last])?;
    }
    transaction.commit()
}

fn said<'a, T: Deserialize<'a>>(body: &'a str) -> Option<T> {
    serde_json::from_str(body).ok()
}
