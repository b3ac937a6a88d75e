//! The writer thread, and the handle that everybody else holds.
//!
//! Group commit: the thread takes everything that has queued up, writes its links to the redo log at once, and answers
//! all waiters after that. What fails is retried one by one, so that one bad row does not take the others with it. Links and rows
//! come to the database later, see [`super::layout`]; those of sessions, which are rare, at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Statement, params};
use serde::Serialize;
use tokio::sync::oneshot;

use super::approval::{self, ApprovalLine};
use super::layout::{self, Layout, Owed, OwedLink};
use super::line::{EndLine, EventLine, IntentLine, OutcomeLine, PrincipalLine, SessionLine};
use super::queue::{Queue, Refused};
use super::redo::{self, Redo};
use super::{ApprovalRow, ExchangeId, Intent, Outcome, PrincipalRow, RecordError, SessionRow, chain, schema};
use crate::config::Durability;
use crate::journal::Event;
use crate::session::SessionId;

type Answer = oneshot::Sender<Result<(), RecordError>>;

#[derive(Debug)]
enum Write {
    Intent(ExchangeId, Box<Intent>, Answer),
    Outcome(ExchangeId, Outcome),
    OpenSession(Box<SessionRow>, Answer),
    EndSession(SessionId, &'static str, SystemTime, Answer),
    Principal(Box<PrincipalRow>),
    Event(SystemTime, Box<Event>),
    Approval(Box<ApprovalRow>, Answer),
    Flush(Answer),
}

impl Write {
    /// Whether it goes to a table at once.
    fn has_a_table_of_its_own(&self) -> bool {
        matches!(self, Self::OpenSession(..) | Self::EndSession(..) | Self::Principal(_) | Self::Approval(..))
    }
}

/// The record, for writing. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Arc<Queue<Write>>,
    next: AtomicI64,
    /// Number of the last link that the tables speak of.
    laid_out: Arc<AtomicI64>,
    path: PathBuf,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Store {
    /// Opens or makes the database and starts its writer. What an earlier daemon wrote and did not lay out is laid out, and
    /// exchanges that it left without an outcome are marked as interrupted.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, RecordError> {
        let connection = schema::open(path, durability)?;
        let failed = |e: rusqlite::Error| RecordError::Open { path: path.into(), message: e.to_string() };
        let log = redo::beside(path);
        let unreadable = |e: std::io::Error| RecordError::Open { path: log.clone(), message: e.to_string() };
        if !layout::replay(&connection, durability, &redo::read(&log).map_err(unreadable)?).map_err(failed)? {
            let aside = redo::set_aside(&log).map_err(unreadable)?;
            tracing::error!(
                "`{}` goes on from a link that the record does not have; it is now `{}`: if the record is an older copy, put the \
                 newer one back with it, else remove it",
                log.display(),
                aside.display()
            );
        }
        let log = Redo::open(&log, durability).map_err(unreadable)?;
        let head = chain::head(&connection).map_err(failed)?;
        let laid_out = Arc::new(AtomicI64::new(head.0));
        let last: i64 =
            connection.query_row("SELECT coalesce(max(id), 0) FROM exchange", [], |r| r.get(0)).map_err(failed)?;
        let last_event: i64 =
            connection.query_row("SELECT coalesce(max(id), 0) FROM event", [], |r| r.get(0)).map_err(failed)?;
        let open: Vec<i64> = {
            let mut statement = connection.prepare("SELECT id FROM exchange WHERE ended IS NULL").map_err(failed)?;
            let ids = statement.query_map([], |r| r.get(0)).map_err(failed)?;
            ids.collect::<rusqlite::Result<_>>().map_err(failed)?
        };
        let queue = Arc::new(Queue::new());
        let ending = Ending(queue.clone());
        std::thread::Builder::new()
            .name("record".into())
            .spawn({
                let laid_out = laid_out.clone();
                move || match Writer::new(&connection, durability, log, head, last_event, laid_out) {
                    Ok(mut writer) => writer.run(&ending.0),
                    Err(e) => tracing::error!("the record cannot be written: {e}"),
                }
            })
            .map_err(|e| RecordError::Open { path: path.into(), message: e.to_string() })?;
        let store =
            Self { shared: Arc::new(Shared { queue, next: AtomicI64::new(last + 1), laid_out, path: path.into() }) };
        for id in open {
            let why = "interrupted: the daemon ended before the exchange did";
            store.outcome(ExchangeId(id), Outcome::unanswered(why));
        }
        Ok(store)
    }

    /// Where the database stands, for readers.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes what is about to happen, or was refused. Durable when it returns.
    pub async fn intent(&self, intent: Intent) -> Result<ExchangeId, RecordError> {
        let id = ExchangeId(self.shared.next.fetch_add(1, Ordering::Relaxed));
        let mut abandoned = Abandoned { store: self, id: Some(id) };
        let result = self.ask(|answer| Write::Intent(id, Box::new(intent), answer)).await;
        abandoned.id = None;
        result.map(|()| id)
    }

    /// Writes what became of an exchange. Does not wait.
    pub fn outcome(&self, id: ExchangeId, outcome: Outcome) {
        self.put(Write::Outcome(id, outcome));
    }

    pub async fn open_session(&self, row: SessionRow) -> Result<(), RecordError> {
        self.ask(|answer| Write::OpenSession(Box::new(row), answer)).await
    }

    pub async fn end_session(&self, id: SessionId, state: &'static str, at: SystemTime) -> Result<(), RecordError> {
        self.ask(|answer| Write::EndSession(id, state, at, answer)).await
    }

    /// Writes a transition of an approval, unless somebody else was quicker. Durable when it returns.
    pub async fn approval(&self, row: ApprovalRow) -> Result<(), RecordError> {
        self.ask(|answer| Write::Approval(Box::new(row), answer)).await
    }

    /// Writes who a session acts for. Does not wait; what is decided afterwards comes after it.
    pub fn principal(&self, row: PrincipalRow) {
        self.put(Write::Principal(Box::new(row)));
    }

    /// Writes an event. Does not wait.
    pub fn event(&self, at: SystemTime, event: Event) {
        self.put(Write::Event(at, Box::new(event)));
    }

    /// Number of the last link that the tables are sure to speak of.
    pub fn laid_out(&self) -> i64 {
        self.shared.laid_out.load(Ordering::Acquire)
    }

    /// Returns when everything before it has been written and laid out for readers.
    pub async fn flush(&self) {
        if let Err(e) = self.ask(Write::Flush).await {
            tracing::error!("the record could not be flushed: {e}");
        }
    }

    async fn ask(&self, write: impl FnOnce(Answer) -> Write) -> Result<(), RecordError> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push_urgent(write(answer)).map_err(|e| match e {
            Refused::Full => RecordError::Write("too much is waiting to be written".into()),
            Refused::Closed => RecordError::Stopped,
        })?;
        answered.await.unwrap_or(Err(RecordError::Stopped))
    }

    fn put(&self, write: Write) {
        if self.shared.queue.push(write).is_err() {
            tracing::error!("the record's writer has stopped");
        }
    }
}

/// An intent whose exchange nobody waits for any more, because the agent has gone away: it has an outcome, too.
struct Abandoned<'a> {
    store: &'a Store,
    id: Option<ExchangeId>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.store.outcome(id, Outcome::unanswered("the agent went away before the request was sent"));
        }
    }
}

/// Whatever ends the writer, a panic too: nobody may wait for an answer that will not come.
struct Ending(Arc<Queue<Write>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Prepared once: looking one up for each write would cost as much as some of them do.
struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    session: Statement<'c>,
    end: Statement<'c>,
    principal: Statement<'c>,
    approval: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            session: connection.prepare(
                "INSERT INTO session (id, name, issuer, subject, uid, cgroup, command, started, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'open')",
            )?,
            end: connection.prepare("UPDATE session SET state = ?2, ended = ?3 WHERE id = ?1")?,
            approval: connection.prepare(approval::INSERT)?,
            principal: connection.prepare(
                "INSERT INTO principal (id, session, at, issuer, subject, groups, claims) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
        })
    }
}

struct Writer<'c> {
    statements: Statements<'c>,
    layout: Layout<'c>,
    log: Redo,
    owed: Owed,
    /// Links of the commit that is being made.
    links: Vec<OwedLink>,
    /// Numbers of those that are intents, which their rows point to.
    intents: VecDeque<i64>,
    laid_out: Arc<AtomicI64>,
    head: (i64, [u8; 32]),
    /// Number of the last event whose link has been written.
    event: i64,
    /// The same, of those that have been committed.
    settled: i64,
}

impl<'c> Writer<'c> {
    fn new(
        connection: &'c Connection,
        durability: Durability,
        log: Redo,
        head: (i64, [u8; 32]),
        event: i64,
        laid_out: Arc<AtomicI64>,
    ) -> rusqlite::Result<Self> {
        let statements = Statements::prepare(connection)?;
        let layout = Layout::prepare(connection, durability)?;
        let (owed, links, intents) = (Owed::default(), Vec::new(), VecDeque::new());
        Ok(Self { statements, layout, log, owed, links, intents, laid_out, head, event, settled: event })
    }

    fn run(&mut self, queue: &Queue<Write>) {
        let (mut batch, mut flushes) = (Vec::new(), Vec::new());
        while queue.take(&mut batch, self.owed.is_payable()) {
            let idle = batch.is_empty();
            match self.commit(&batch) {
                Ok(()) => batch.drain(..).for_each(|w| self.settle(w, &mut flushes)),
                Err(_) if batch.len() > 1 => {
                    for write in batch.drain(..) {
                        match self.commit(std::slice::from_ref(&write)) {
                            Ok(()) => self.settle(write, &mut flushes),
                            Err(e) => answer(write, Err(e)),
                        }
                    }
                }
                Err(e) => batch.drain(..).for_each(|w| answer(w, Err(e.clone()))),
            }
            if !flushes.is_empty() || self.owed.is_due() || (idle && self.owed.is_payable()) {
                let result = self.lay_out();
                for flush in flushes.drain(..) {
                    answer(flush, result.clone());
                }
            }
        }
        // Nobody is there to be told; what could not be laid out now is at the next start.
        let _ = self.lay_out();
    }

    /// What has been committed: answered, and owed to the tables.
    fn settle(&mut self, write: Write, flushes: &mut Vec<Write>) {
        match write {
            Write::Intent(id, intent, waiting) => {
                // A waiter that has gone away needs no answer.
                let _ = waiting.send(Ok(()));
                if let Some(link) = self.intents.pop_front() {
                    self.owed.intent(id, link, &intent);
                }
            }
            Write::Outcome(id, outcome) => self.owed.outcome(id, outcome),
            Write::Event(at, event) => {
                self.settled += 1;
                self.owed.event(self.settled, at, event);
            }
            Write::Flush(_) => flushes.push(write),
            Write::Approval(row, waiting) => drop(waiting.send(row.verdict())),
            Write::Principal(_) => {}
            Write::OpenSession(..) | Write::EndSession(..) => answer(write, Ok(())),
        }
    }

    fn lay_out(&mut self) -> Result<(), RecordError> {
        let result = self.layout.pay(&mut self.owed, self.head.0).map_err(|e| RecordError::Write(e.to_string()));
        match &result {
            Ok(()) => self.laid_out.store(self.head.0, Ordering::Release),
            Err(e) => tracing::error!("the record's tables are behind its chain: {e}"),
        }
        result
    }

    fn commit(&mut self, batch: &[Write]) -> Result<(), RecordError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.owed.is_too_much() {
            self.lay_out()?;
        }
        let before = (self.head, self.event);
        let result = self.try_commit(batch);
        if result.is_err() {
            (self.head, self.event) = before;
        }
        result.map_err(|e| RecordError::Write(e.to_string()))
    }

    fn try_commit(&mut self, batch: &[Write]) -> Result<(), Failed> {
        self.links.clear();
        self.intents.clear();
        if batch.iter().any(Write::has_a_table_of_its_own) {
            return self.commit_to_database(batch);
        }
        let before = self.head;
        for write in batch {
            self.write(write)?;
        }
        let Some(first) = self.links.first() else { return Ok(()) };
        self.log.begin(first.seq);
        for link in &self.links {
            self.log.link(link.kind, &link.body);
        }
        if !self.log.has_room() {
            self.layout.pay_for_good(&mut self.owed, before.0)?;
            self.laid_out.store(before.0, Ordering::Release);
            self.log.restart();
        }
        self.log.commit(&self.head.1)?;
        self.owed.links(&mut self.links);
        Ok(())
    }

    /// What goes to tables of its own goes there with its links, and past the log.
    fn commit_to_database(&mut self, batch: &[Write]) -> Result<(), Failed> {
        // The links before these first.
        self.layout.pay(&mut self.owed, self.head.0)?;
        self.layout.strict()?;
        self.statements.begin.execute([])?;
        for write in batch {
            self.write(write)?;
        }
        for link in &self.links {
            self.layout.link(link.seq, link.kind, &link.body, &link.hash)?;
        }
        self.statements.commit.execute([])?;
        // Synced with the database's own log, as all that was laid out before. What the redo log gets next does not go on
        // from what it has.
        self.log.restart();
        Ok(())
    }

    fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Intent(id, intent, _) => {
                self.intents.push_back(self.head.0 + 1);
                self.link("intent", &IntentLine::new(*id, intent))
            }
            Write::Outcome(id, outcome) => self.link("outcome", &OutcomeLine::new(*id, outcome)),
            Write::OpenSession(row, _) => self.open_session(row),
            Write::EndSession(id, state, at, _) => {
                self.statements.end.execute(params![id.as_str(), state, micros(*at)])?;
                self.link("end", &EndLine::new(id, state, micros(*at)))
            }
            Write::Principal(row) => self.principal(row),
            Write::Event(at, event) => {
                self.event += 1;
                self.link("event", &EventLine::new(self.event, micros(*at), event))
            }
            Write::Approval(row, _) => match row.insert(&mut self.statements.approval)? {
                true => self.link("approval", &ApprovalLine::new(row)),
                false => Ok(()),
            },
            Write::Flush(_) => Ok(()),
        }
    }

    fn open_session(&mut self, s: &SessionRow) -> rusqlite::Result<()> {
        let command = s.command.join("\n");
        self.statements.session.execute(params![
            s.id.as_str(),
            s.name,
            s.issuer,
            s.subject,
            s.uid,
            s.cgroup,
            command,
            micros(s.started)
        ])?;
        self.link("session", &SessionLine::new(s, &command))
    }

    fn principal(&mut self, p: &PrincipalRow) -> rusqlite::Result<()> {
        // The number of the link to come: nothing else has it.
        let id = format!("{}-{}", p.session, self.head.0 + 1);
        let (session, at) = (p.session.as_str(), micros(p.at));
        self.statements.principal.execute(params![id, session, at, p.issuer, p.subject, p.groups, p.claims])?;
        self.link("principal", &PrincipalLine::new(&id, p))
    }

    fn link(&mut self, kind: &'static str, body: &impl Serialize) -> rusqlite::Result<()> {
        // As long as most are, so that few have to be moved.
        let mut line = Vec::with_capacity(1024);
        let written = serde_json::to_writer(&mut line, body).map_err(|e| e.to_string());
        let body = written.and_then(|()| String::from_utf8(line).map_err(|e| e.to_string()));
        // Neither happens: names are text, and so is JSON. What is not in the chain must not be in the tables.
        let body = body.map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        let seq = self.head.0 + 1;
        let hash = chain::hash(&self.head.1, seq, kind, &body);
        self.links.push(OwedLink { seq, kind, body, hash });
        self.head = (seq, hash);
        Ok(())
    }
}

/// Why a commit was not made.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error("{0} (the redo log beside the database)")]
    Log(#[from] std::io::Error),
}

fn answer(write: Write, result: Result<(), RecordError>) {
    match write {
        // A waiter that has gone away needs no answer.
        Write::Intent(_, _, a)
        | Write::OpenSession(_, a)
        | Write::EndSession(_, _, _, a)
        | Write::Approval(_, a)
        | Write::Flush(a) => drop(a.send(result)),
        Write::Outcome(..) | Write::Event(..) | Write::Principal(..) => {
            if let Err(e) = result {
                tracing::error!("{e}");
            }
        }
    }
}

/// Microseconds since 1970.
pub(super) fn micros(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}
