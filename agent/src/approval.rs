//! Requests that wait for people.
//!
//! Owns what is asked, who has answered, and the states that a request goes through: `pending`, `approved`, `denied`,
//! `expired`, `cancelled`, `consumed`, `revoked`. Each step is in the record, chained and durable, before it has an
//! effect, and of two who take one at once one does. Nothing is approved by silence, and nobody approves for themselves;
//! that a tagged process never gets here is the control socket's to see to. Never knows HTTP, neither the agent's nor the
//! approver's: [`Approvals`] is what every way to ask and to answer goes through. Runs on its callers' tasks; steps on
//! tasks of their own, so that nobody who goes away leaves one half done.

mod account;
mod digest;
mod hold;
mod key;
mod person;
mod room;
mod state;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use account::read;
pub use digest::Request;
pub use hold::{Held, Holding};
pub use key::key;
pub use person::{Approver, Person};
pub use room::{Approvals, Filter};
pub use state::{Answer, Refused};

use crate::policy::Terms;
use crate::record::RecordError;
use crate::session::SessionId;

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    /// Enough people have said yes, and it has not been used up, or may be used until its window ends.
    Approved,
    Denied,
    /// Its deadline, or its window's end, came.
    Expired,
    /// Its client went away, or its session was revoked.
    Cancelled,
    /// One request went through with it, and no other will.
    Consumed,
    /// Taken back before it was used up.
    Revoked,
}

impl State {
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Cancelled, Self::Consumed, Self::Revoked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
            Self::Revoked => "revoked",
        }
    }

    /// Whether nothing can become of it any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::Approved)
    }
}

/// What people are asked. Never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub session: SessionId,
    pub session_name: String,
    pub issuer: Option<String>,
    pub subject: String,
    /// Unix user of the session.
    pub uid: u32,
    pub exe: String,
    pub pid: u32,
    /// `s3:PutObject`, as AWS calls the operation.
    pub operation: String,
    /// Its IAM actions.
    pub action: String,
    pub resources: Vec<String>,
    pub region: String,
    pub account: Option<String>,
    /// Whose credentials it would be signed with, where that is known.
    pub credential: String,
    /// Members of the request as JSON, sensitive ones taken out.
    pub parameters: String,
    pub policies: Vec<String>,
    /// The policy's sentence.
    pub reason: String,
    pub terms: Terms,
    /// What makes it the same request when it is sent again; see [`Request`].
    pub digest: String,
}

/// How far it has come. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Counts the steps, from 1.
    pub version: u32,
    pub state: State,
    pub asked: i64,
    /// Absolute: it is approved and used before, or not at all.
    pub deadline: i64,
    /// When the last step was taken.
    pub changed: i64,
    /// Who took the last step, and why; empty: nobody, time did.
    pub who: String,
    pub why: String,
    /// What the agent says it is for.
    pub note: Option<String>,
    /// One a person, in the order they came.
    pub votes: Vec<Vote>,
    /// More than the one request, until then.
    pub window: Option<Window>,
    /// Approved by one person alone, in an emergency.
    pub emergency: bool,
}

/// One person's yes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// Tells people apart.
    pub person: String,
    /// For people to read.
    pub name: String,
    /// Those of the groups that are asked which the person is in.
    pub groups: Vec<String>,
    pub at: i64,
    pub note: Option<String>,
    /// As far as this person would go.
    pub window: Option<Window>,
}

/// Until when, and on what, the same operation goes through in the same session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub ends: i64,
    /// ARN in which `*` stands for any text; `None`: the resources that were asked for.
    pub resource: Option<String>,
}

/// A request that waits, or waited. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Approval {
    pub id: String,
    pub ask: Arc<Ask>,
    pub status: Arc<Status>,
}

/// The same for listings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    pub id: String,
    #[serde(flatten)]
    pub ask: Ask,
    #[serde(flatten)]
    pub status: Status,
}

impl Serialize for Approval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Borrowed<'a> {
            id: &'a str,
            #[serde(flatten)]
            ask: &'a Ask,
            #[serde(flatten)]
            status: &'a Status,
        }
        Borrowed { id: &self.id, ask: &self.ask, status: &self.status }.serialize(serializer)
    }
}

/// Why a request did not move on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApprovalError {
    #[error("there is no request `{0}` that could be answered; it is over, or never was")]
    Unknown(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the answer could not be recorded, so it does not count: {0}")]
    Record(#[from] RecordError),
}

/// A moment as approvals and the record have it.
pub fn micros(at: std::time::SystemTime) -> i64 {
    at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// Now.
fn now() -> i64 {
    micros(std::time::SystemTime::now())
}

/// `14:05:09 UTC`
pub fn clock(at: i64) -> String {
    let second = at.div_euclid(1_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}
