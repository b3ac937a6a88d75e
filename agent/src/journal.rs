//! Events: to journald by its native protocol, or structured on stderr; and to the record.
//!
//! Owns the fields that operators search by (`docs/journal.md`) and the daemon's log output. Never blocks the data path:
//! a datagram that the journal has no room for is counted, and the record has the event all the same.

mod journald;

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::JournalTo;
use crate::record::Store;
use journald::Socket;

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
    /// Id of the approval that it is about.
    pub approval: Option<String>,
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
    /// A request that waits, or waited, for people moved on in another way than by being approved.
    Approval,
    /// One person approved alone, in an emergency.
    BreakGlass,
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
    /// What a policy says does not bind: an exchange that it denies was let through, or would be decided otherwise by
    /// policies on trial.
    Observed,
    /// The daemon itself: started, reloaded, stopping, trouble.
    Daemon,
}

impl Kind {
    /// `TOLLGATE_EVENT`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Name, `MESSAGE_ID` and `PRIORITY` (syslog's; 4 is a warning, 5 a notice, 6 information).
    fn row(self) -> (&'static str, &'static str, u8) {
        match self {
            Self::Allowed => ("allowed", "5f1d0b8a63c94f0c9c7be2a1f4c10001", 6),
            Self::Blocked => ("blocked", "5f1d0b8a63c94f0c9c7be2a1f4c10002", 4),
            Self::Held => ("held", "5f1d0b8a63c94f0c9c7be2a1f4c10003", 5),
            Self::Approved => ("approved", "5f1d0b8a63c94f0c9c7be2a1f4c10004", 5),
            Self::Approval => ("approval", "5f1d0b8a63c94f0c9c7be2a1f4c1000d", 5),
            Self::BreakGlass => ("break-glass", "5f1d0b8a63c94f0c9c7be2a1f4c1000e", 3),
            Self::Refused => ("refused", "5f1d0b8a63c94f0c9c7be2a1f4c10005", 4),
            Self::Spliced => ("spliced", "5f1d0b8a63c94f0c9c7be2a1f4c10006", 6),
            Self::Bypass => ("bypass", "5f1d0b8a63c94f0c9c7be2a1f4c10007", 4),
            Self::SessionOpened => ("session-opened", "5f1d0b8a63c94f0c9c7be2a1f4c10008", 6),
            Self::SessionEnded => ("session-ended", "5f1d0b8a63c94f0c9c7be2a1f4c10009", 6),
            Self::Identity => ("identity", "5f1d0b8a63c94f0c9c7be2a1f4c1000a", 5),
            Self::Observed => ("observed", "5f1d0b8a63c94f0c9c7be2a1f4c1000b", 4),
            Self::Daemon => ("daemon", "5f1d0b8a63c94f0c9c7be2a1f4c1000c", 5),
        }
    }
}

impl Event {
    /// The fields as journald has them, without those that are not known.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let (name, id, priority) = self.kind.row();
        let mut fields = vec![
            ("MESSAGE", self.message()),
            ("MESSAGE_ID", id.to_owned()),
            ("PRIORITY", priority.to_string()),
            ("SYSLOG_IDENTIFIER", "tollgate".to_owned()),
            ("TOLLGATE_EVENT", name.to_owned()),
        ];
        let pid = self.pid.map(|p| p.to_string());
        let exchange = self.exchange.map(|e| e.to_string());
        for (name, value) in [
            ("TOLLGATE_SESSION", &self.session),
            ("TOLLGATE_SUBJECT", &self.subject),
            ("TOLLGATE_ISSUER", &self.issuer),
            ("TOLLGATE_POLICY", &self.policy),
            ("TOLLGATE_REASON", &self.reason),
            ("AWS_ACTION", &self.action),
            ("AWS_RESOURCE", &self.resource),
            ("AWS_REGION", &self.region),
            ("AWS_ACCOUNT", &self.account),
            ("TOLLGATE_EXE", &self.exe),
            ("TOLLGATE_PID", &pid),
            ("TOLLGATE_DESTINATION", &self.destination),
            ("TOLLGATE_EXCHANGE", &exchange),
            ("TOLLGATE_APPROVAL", &self.approval),
        ] {
            if let Some(value) = value {
                fields.push((name, value.clone()));
            }
        }
        fields
    }

    /// One line for people.
    fn message(&self) -> String {
        let mut text = self.kind.name().to_owned();
        if let Some(action) = &self.action {
            text += &format!(" {action}");
        }
        if let Some(resource) = &self.resource {
            text += &format!(" on {resource}");
        } else if let Some(destination) = &self.destination {
            text += &format!(" to {destination}");
        }
        if let Some(subject) = &self.subject {
            text += &format!(" by {subject}");
        }
        if let Some(policy) = &self.policy {
            text += &format!(" (policy {policy})");
        }
        if let Some(reason) = &self.reason {
            text += &format!(": {reason}");
        }
        // One event is one line, whatever an agent put into a name.
        text.replace(|c: char| c.is_control(), " ")
    }
}

/// Where events go.
#[derive(Debug)]
pub struct Journal {
    socket: Option<Socket>,
    store: Store,
    dropped: AtomicU64,
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach journald at `{path}`: {source}; check that it runs, or set `journal.to = \"stderr\"`")]
pub struct JournalError {
    path: &'static str,
    source: std::io::Error,
}

impl Journal {
    pub fn open(to: JournalTo, store: Store) -> Result<Self, JournalError> {
        Ok(Self { socket: socket(to)?, store, dropped: AtomicU64::new(0) })
    }

    /// Tells an event. Does not wait.
    pub fn emit(&self, event: Event) {
        let fields = event.fields();
        match &self.socket {
            Some(socket) => {
                if let Err(e) = socket.send(&fields)
                    && self.dropped.fetch_add(1, Ordering::Relaxed).is_power_of_two()
                {
                    tracing::warn!("an event did not reach journald: {e}; the record has it");
                }
            }
            // Where the tests of other rooms would be lost among them.
            None if cfg!(test) => {}
            None => {
                let line = serde_json::to_string(&fields.into_iter().collect::<std::collections::BTreeMap<_, _>>())
                    .unwrap_or_default();
                // A closed stderr is no reason to stop.
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
        }
        self.store.event(SystemTime::now(), event);
    }
}

fn socket(to: JournalTo) -> Result<Option<Socket>, JournalError> {
    match (to, Socket::open()) {
        (JournalTo::Stderr, _) => Ok(None),
        (_, Ok(socket)) => Ok(Some(socket)),
        (JournalTo::Auto, Err(_)) => Ok(None),
        (JournalTo::Journald, Err(source)) => Err(JournalError { path: journald::PATH, source }),
    }
}

/// The daemon's own log: to journald or stderr like events; level from `TOLLGATE_LOG` (default `info`).
pub fn init_tracing(to: JournalTo) -> Result<(), JournalError> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| "info".into());
    let journald = match to {
        JournalTo::Stderr => None,
        JournalTo::Auto => tracing_journald::layer().ok(),
        JournalTo::Journald => {
            Some(tracing_journald::layer().map_err(|source| JournalError { path: journald::PATH, source })?)
        }
    };
    let journald = journald.map(|l| l.with_syslog_identifier("tollgate".into()));
    let stderr =
        journald.is_none().then(|| tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false));
    // A second call, in tests, keeps the first one's.
    let _ = tracing_subscriber::registry().with(filter).with(journald).with(stderr).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_ids_are_distinct() {
        let event = Event {
            kind: Kind::Blocked,
            action: Some("s3:Get\nPRIORITY=0".into()),
            reason: Some("no".into()),
            ..Event::default()
        };
        let fields = event.fields();
        assert_eq!(fields[0].1, "blocked s3:Get PRIORITY=0: no");
        let kinds = [
            Kind::Allowed,
            Kind::Blocked,
            Kind::Held,
            Kind::Approved,
            Kind::Approval,
            Kind::BreakGlass,
            Kind::Refused,
            Kind::Spliced,
            Kind::Bypass,
            Kind::SessionOpened,
            Kind::SessionEnded,
            Kind::Identity,
            Kind::Observed,
            Kind::Daemon,
        ];
        let ids: std::collections::BTreeSet<_> = kinds.iter().map(|k| k.row().1).collect();
        assert_eq!(ids.len(), kinds.len());
        assert!(ids.iter().all(|id| id.len() == 32));
    }
}
