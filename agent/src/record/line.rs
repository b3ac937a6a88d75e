//! What a link says, as one line of JSON.
//!
//! Owns the members' names, which `super::chain` reads and which never change once written. Serialised straight from what
//! is recorded: a tree of values in between would cost more than the line.

use serde::Serialize;

use super::writer::micros;
use super::{ExchangeId, Intent, Outcome, SessionRow};
use crate::journal::Event;
use crate::session::SessionId;

#[derive(Serialize)]
pub(super) struct IntentLine<'a> {
    id: i64,
    session: &'a str,
    issuer: Option<&'a str>,
    subject: &'a str,
    started: i64,
    pid: u32,
    exe: &'a str,
    host: &'a str,
    method: &'a str,
    target: &'a str,
    action: &'a str,
    operation: &'a str,
    resources: &'a str,
    region: &'a str,
    account: Option<&'a str>,
    parameters: &'a str,
    decision: &'a str,
    policies: &'a str,
    reason: &'a str,
    observed: bool,
}

impl<'a> IntentLine<'a> {
    /// Resources and policies joined by line feeds, as in the table.
    pub(super) fn new(id: ExchangeId, i: &'a Intent, resources: &'a str, policies: &'a str) -> Self {
        Self {
            id: id.0,
            session: i.session.as_str(),
            issuer: i.issuer.as_deref(),
            subject: &i.subject,
            started: micros(i.started),
            pid: i.pid,
            exe: &i.exe,
            host: &i.host,
            method: &i.method,
            target: &i.target,
            action: &i.action,
            operation: &i.operation,
            resources,
            region: &i.region,
            account: i.account.as_deref(),
            parameters: &i.parameters,
            decision: i.decision,
            policies,
            reason: &i.reason,
            observed: i.observed,
        }
    }
}

#[derive(Serialize)]
pub(super) struct OutcomeLine<'a> {
    id: i64,
    status: u16,
    request_id: Option<&'a str>,
    bytes_sent: i64,
    bytes_received: i64,
    ended: i64,
    error: Option<&'a str>,
}

impl<'a> OutcomeLine<'a> {
    pub(super) fn new(id: ExchangeId, o: &'a Outcome, sent: i64, received: i64) -> Self {
        Self {
            id: id.0,
            status: o.status,
            request_id: o.request_id.as_deref(),
            bytes_sent: sent,
            bytes_received: received,
            ended: micros(o.ended),
            error: o.error.as_deref(),
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

#[derive(Serialize)]
pub(super) struct EventLine<'a> {
    id: i64,
    at: i64,
    kind: &'a str,
    fields: &'a str,
}

impl<'a> EventLine<'a> {
    pub(super) fn new(id: i64, at: i64, event: &Event, fields: &'a str) -> Self {
        Self { id, at, kind: event.kind.name(), fields }
    }
}
