//! Events: to journald by its native protocol, or structured on stderr; and to the record.
//!
//! Never blocks the data path.

/// One event, with the fields that journald shows.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// `TOLLGATE_EVENT`
    pub kind: Kind,
    pub session: Option<String>,
    pub subject: Option<String>,
    pub issuer: Option<String>,
    pub policy: Option<String>,
    pub reason: Option<String>,
    pub action: Option<String>,
    pub resource: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
    pub exe: Option<String>,
    pub pid: Option<u32>,
    /// Where the connection was going, for flows.
    pub destination: Option<String>,
    /// Exchange number, where there is one.
    pub exchange: Option<i64>,
}

/// What happened. Each has a fixed `MESSAGE_ID` and priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An exchange was let through.
    Allowed,
    /// An exchange was denied by policy.
    #[default]
    Blocked,
    /// An exchange waits for a person.
    Held,
    /// A person approved.
    Approved,
    /// A connection was refused before it could be read as a request.
    Refused,
    /// A connection that is not for AWS was passed on.
    Spliced,
    /// Something tried to get round the control point.
    Bypass,
    SessionOpened,
    SessionEnded,
    /// A token was refused, expired or renewed.
    Identity,
    /// The daemon itself: started, reloaded, stopping, trouble.
    Daemon,
}
