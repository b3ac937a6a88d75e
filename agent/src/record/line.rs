//! What a link says, as one line of JSON.
//!
//! Owns the members' names, which `super::chain` reads and which never change once written. Serialised straight from what
//! is recorded: a tree of values in between would cost more than the line. Read again only where a daemon ended before
//! its tables were laid out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::writer::micros;
use super::{ExchangeId, Intent, Outcome, PrincipalRow, SessionRow};
use crate::journal::Event;
use crate::session::SessionId;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IntentLine<'a> {
    pub id: i64,
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    #[serde(borrow)]
    pub issuer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    pub started: i64,
    pub pid: u32,
    #[serde(borrow)]
    pub exe: Cow<'a, str>,
    #[serde(borrow)]
    pub host: Cow<'a, str>,
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    #[serde(borrow)]
    pub target: Cow<'a, str>,
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    #[serde(borrow)]
    pub resources: Cow<'a, str>,
    #[serde(borrow)]
    pub region: Cow<'a, str>,
    #[serde(borrow)]
    pub account: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub parameters: Cow<'a, str>,
    #[serde(borrow)]
    pub decision: Cow<'a, str>,
    #[serde(borrow)]
    pub policies: Cow<'a, str>,
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    pub observed: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Cow<'a, str>>,
}

impl<'a> IntentLine<'a> {
    pub(super) fn new(id: ExchangeId, i: &'a Intent) -> Self {
        Self {
            id: id.0,
            session: i.session.as_str().into(),
            issuer: i.issuer.as_deref().map(Cow::from),
            subject: i.subject.as_str().into(),
            started: micros(i.started),
            pid: i.pid,
            exe: i.exe.as_str().into(),
            host: i.host.as_str().into(),
            method: i.method.as_str().into(),
            target: i.target.as_str().into(),
            action: i.action.as_str().into(),
            operation: i.operation.as_str().into(),
            resources: lines(&i.resources),
            region: i.region.as_str().into(),
            account: i.account.as_deref().map(Cow::from),
            parameters: i.parameters.as_str().into(),
            decision: i.decision.into(),
            policies: lines(&i.policies),
            reason: i.reason.as_str().into(),
            observed: i.observed,
            facts: i.facts.as_deref().map(Cow::from),
        }
    }
}

/// Joined by line feeds, as in the table.
fn lines(list: &[String]) -> Cow<'_, str> {
    match list {
        [one] => one.as_str().into(),
        all => all.join("\n").into(),
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OutcomeLine<'a> {
    pub id: i64,
    pub status: u16,
    #[serde(borrow)]
    pub request_id: Option<Cow<'a, str>>,
    pub bytes_sent: i64,
    pub bytes_received: i64,
    pub ended: i64,
    #[serde(borrow)]
    pub error: Option<Cow<'a, str>>,
}

impl<'a> OutcomeLine<'a> {
    pub(super) fn new(id: ExchangeId, o: &'a Outcome) -> Self {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            id: id.0,
            status: o.status,
            request_id: o.request_id.as_deref().map(Cow::from),
            bytes_sent: whole(o.bytes_sent),
            bytes_received: whole(o.bytes_received),
            ended: micros(o.ended),
            error: o.error.as_deref().map(Cow::from),
        }
    }
}

#[derive(Serialize)]
pub(super) struct SessionLine<'a> {
    id: &'a str,
    name: &'a str,
    issuer: Option<&'a str>,
    subject: &'a str,
    uid: u32,
    cgroup: &'a str,
    command: &'a str,
    started: i64,
}

impl<'a> SessionLine<'a> {
    pub(super) fn new(s: &'a SessionRow, command: &'a str) -> Self {
        Self {
            id: s.id.as_str(),
            name: &s.name,
            issuer: s.issuer.as_deref(),
            subject: &s.subject,
            uid: s.uid,
            cgroup: &s.cgroup,
            command,
            started: micros(s.started),
        }
    }
}

#[derive(Serialize)]
pub(super) struct PrincipalLine<'a> {
    id: &'a str,
    session: &'a str,
    at: i64,
    issuer: Option<&'a str>,
    subject: &'a str,
    groups: &'a str,
    claims: &'a str,
}

impl<'a> PrincipalLine<'a> {
    pub(super) fn new(id: &'a str, p: &'a PrincipalRow) -> Self {
        Self {
            id,
            session: p.session.as_str(),
            at: micros(p.at),
            issuer: p.issuer.as_deref(),
            subject: &p.subject,
            groups: &p.groups,
            claims: &p.claims,
        }
    }
}

#[derive(Serialize)]
pub(super) struct EndLine<'a> {
    id: &'a str,
    state: &'a str,
    at: i64,
}

impl<'a> EndLine<'a> {
    pub(super) fn new(id: &'a SessionId, state: &'a str, at: i64) -> Self {
        Self { id: id.as_str(), state, at }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EventLine<'a> {
    pub id: i64,
    pub at: i64,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// An object of those that journald shows, as JSON.
    #[serde(borrow)]
    pub fields: Cow<'a, str>,
}

impl EventLine<'static> {
    pub(super) fn new(id: i64, at: i64, event: &Event) -> Self {
        let fields: BTreeMap<_, _> = event.fields().into_iter().collect();
        let fields = serde_json::to_string(&fields).unwrap_or_default();
        Self { id, at, kind: event.kind.name().into(), fields: fields.into() }
    }
}
