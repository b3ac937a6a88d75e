//! What is said of a request: to the record and back, to the journal, and to who looks for a text in it.
//!
//! Owns the form of a step in the record. Reads it on a blocking thread; the rest is pure.

use std::sync::Arc;

use super::{Approval, Ask, Filter, State, Status, clock};
use crate::journal::{Event, Kind};
use crate::record::{ApprovalRow, ApprovalStep, Reader, RecordError};

pub(super) fn mentions(id: &str, ask: &Ask, status: &Status, text: &str) -> bool {
    let has = |t: &str| t.len() >= text.len() && t.to_lowercase().contains(text);
    has(id)
        || [&ask.subject, &ask.session_name, &ask.action, &ask.operation, &ask.parameters].into_iter().any(|t| has(t))
        || has(ask.session.as_str())
        || ask.resources.iter().chain(&ask.terms.groups).any(|t| has(t))
        || status.note.as_deref().is_some_and(has)
}

/// What the record keeps of a step. What was asked stands in the first one alone.
pub(super) fn row(approval: &Approval) -> ApprovalRow {
    let status = &approval.status;
    let mut body = serde_json::json!({ "status": **status });
    if status.version == 1 {
        body["ask"] = serde_json::to_value(&*approval.ask).unwrap_or_default();
    }
    ApprovalRow {
        approval: approval.id.clone(),
        version: status.version,
        session: approval.ask.session.to_string(),
        state: status.state.as_str(),
        at: status.changed,
        who: status.who.clone(),
        why: status.why.clone(),
        body: body.to_string(),
        ..ApprovalRow::default()
    }
}

pub(super) fn restored(first: &ApprovalStep, last: &ApprovalStep) -> Option<Approval> {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let ask: Ask = serde_json::from_value(parse(&first.body)?["ask"].take()).ok()?;
    let status: Status = serde_json::from_value(parse(&last.body)?["status"].take()).ok()?;
    Some(Approval { id: first.approval.clone(), ask: Arc::new(ask), status: Arc::new(status) })
}

/// A request, over or not, and its steps, from the record.
pub fn read(reader: &Reader, id: &str) -> Result<Option<(Approval, Vec<ApprovalStep>)>, RecordError> {
    let steps = reader.approval(id)?;
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(None) };
    Ok(restored(first, last).map(|approval| (approval, steps)))
}

impl Filter {
    /// Those of a state in the record, also such that are over.
    pub fn read(&self, reader: &Reader, limit: u32) -> Result<Vec<Approval>, RecordError> {
        let states = match self.state {
            Some(state) => state.as_str().to_owned(),
            None => State::ALL.map(State::as_str).join(" "),
        };
        let text = self.text.as_ref().map(|t| t.to_lowercase());
        let all = reader.approvals(&states, limit)?;
        let all = all.iter().filter_map(|(first, last)| restored(first, last));
        let all = all.filter(|a| self.session.as_ref().is_none_or(|s| a.ask.session.as_str() == s));
        Ok(all.filter(|a| text.as_ref().is_none_or(|t| mentions(&a.id, &a.ask, &a.status, t))).collect())
    }
}

/// What the journal has of a step; nothing of one that an exchange's own event tells.
pub(super) fn event(after: &Approval, before: Option<&Status>) -> Option<Event> {
    let (ask, status, id) = (&after.ask, &after.status, &after.id);
    let why = if status.why.is_empty() { String::new() } else { format!(": {}", status.why) };
    let by = if status.who.is_empty() { String::new() } else { format!(" by {}", status.who) };
    let (kind, reason) = match (before, status.state) {
        (None, _) => {
            let note = status.note.as_ref().map(|n| format!("; the agent says: {n}")).unwrap_or_default();
            let until = clock(status.deadline);
            (Kind::Held, format!("request {id} waits for a person of {} until {until}{note}", ask.terms.whom()))
        }
        (_, State::Approved) if status.emergency => {
            (Kind::BreakGlass, format!("request {id} was approved in an emergency{by}, alone{why}"))
        }
        (_, State::Approved) => {
            let window = status.window.as_ref().map(|w| format!(" until {}", clock(w.ends)));
            (Kind::Approved, format!("request {id} was approved{}{by}{why}", window.unwrap_or_default()))
        }
        (_, State::Consumed) => return None,
        (Some(before), State::Pending) if before.votes.len() < status.votes.len() => {
            (Kind::Approval, format!("request {id} has {} of the people it needs{by}{why}", status.votes.len()))
        }
        (_, State::Pending) => {
            (Kind::Approval, format!("request {id}: the agent says: {}", status.note.as_deref().unwrap_or_default()))
        }
        (_, state) => (Kind::Approval, format!("request {id} is {}{by}{why}", state.as_str())),
    };
    Some(Event {
        kind,
        session: Some(ask.session.to_string()),
        subject: Some(ask.subject.clone()),
        issuer: ask.issuer.clone(),
        policy: (!ask.policies.is_empty()).then(|| ask.policies.join(" ")),
        reason: Some(reason),
        action: Some(ask.action.clone()),
        resource: ask.resources.first().cloned(),
        region: Some(ask.region.clone()),
        account: ask.account.clone(),
        exe: Some(ask.exe.clone()),
        pid: Some(ask.pid),
        approval: Some(id.clone()),
        ..Event::default()
    })
}
