//! The durable, chained account of every session.
//!
//! Owns the database. One thread writes: it takes what has queued up, commits once, and answers all who wait. Readers
//! have connections of their own. Never loses a decided exchange: [`Store::intent`] returns when it is durable, and what
//! cannot be written is an error that stops the exchange.

mod chain;
mod read;
mod schema;
mod writer;

use std::path::PathBuf;
use std::time::SystemTime;

pub use chain::{Broken, verify};
pub use read::{EventFilter, EventRow, ExchangeRow, Reader, SessionSummary};
pub use writer::Store;

use crate::session::SessionId;

/// A session as it is recorded when it opens.
#[derive(Debug, Clone)]
pub struct SessionRow {
    pub id: SessionId,
    pub name: String,
    pub issuer: Option<String>,
    pub subject: String,
    pub uid: u32,
    pub cgroup: String,
    /// Command line, secrets already taken out.
    pub command: Vec<String>,
    pub started: SystemTime,
}

/// What is written before an exchange leaves, or instead of its leaving.
#[derive(Debug, Clone)]
pub struct Intent {
    pub session: SessionId,
    pub issuer: Option<String>,
    pub subject: String,
    pub started: SystemTime,
    pub pid: u32,
    pub exe: String,
    pub host: String,
    pub method: String,
    /// Path and query, signature parameters taken out.
    pub target: String,
    /// `s3:GetObject`; `unknown:unknown` if not recognised.
    pub action: String,
    pub operation: String,
    pub resources: Vec<String>,
    pub region: String,
    pub account: Option<String>,
    /// Request members, sensitive ones taken out, as JSON.
    pub parameters: String,
    /// `allow`, `deny`, `hold`, or `refuse` (not judged: malformed, bad signature, foreign key).
    pub decision: &'static str,
    pub policies: Vec<String>,
    pub reason: String,
    /// Decided in observe mode: a deny was let through.
    pub observed: bool,
}

/// Number of an exchange in the record, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub i64);

/// What became of an exchange.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// HTTP status that the agent got.
    pub status: u16,
    /// AWS's request id, or ours for a denial.
    pub request_id: Option<String>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub ended: SystemTime,
    /// Why it did not complete, if it did not.
    pub error: Option<String>,
}

/// Why something was not recorded, or not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    #[error("cannot open the record `{path}`: {message}; check the directory's permissions and free space")]
    Open { path: PathBuf, message: String },
    #[error("the record `{path}` has schema {found}, and this version knows {known}; use the version that wrote it, or a newer one")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot write the record: {0}; check free space where it stands")]
    Write(String),
    #[error("cannot read the record: {0}")]
    Read(String),
    #[error("the record's writer has stopped; see the journal for why")]
    Stopped,
}
