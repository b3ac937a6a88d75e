//! The steps that a request can take.
//!
//! Each is a function from one status to the next, or to why not. Owns who may say yes, when that is enough, and that what
//! is over stays over. Pure: no clock, no I/O; [`super::room`] takes the steps.

use super::{Approver, Ask, State, Status, Vote, Window, clock};
use crate::policy::catalog::glob;

/// What a person says.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// This request, once; or for a time.
    Approve {
        /// Seconds from when it was asked.
        window: Option<u64>,
        /// What else than its own resources the window is for.
        resource: Option<String>,
        /// Alone, in an emergency.
        emergency: bool,
    },
    #[default]
    Deny,
}

/// Why an answer does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the request is {} already{by}; see `tollgate approvals show`", state.as_str())]
    Over { state: State, by: String },
    #[error("the request's time was over at {0}; have it sent again")]
    Late(String),
    #[error("the request is one of your own user's, which somebody else has to answer")]
    Own,
    #[error("you are in none of the groups that are asked: {0}; a member has to answer")]
    Stranger(String),
    #[error("you have said yes already; it takes somebody else, too")]
    Twice,
    #[error("the policy wants a reason from whoever answers; give one with --note")]
    NoReason,
    #[error("{0}")]
    Window(String),
    #[error("{0}")]
    Emergency(String),
}

/// Longest note, in bytes; who asks for more means a document.
pub(super) const LONGEST_NOTE: usize = 1000;

impl Status {
    /// A new request.
    pub(super) fn asked(now: i64, deadline: i64, note: Option<String>) -> Self {
        Self {
            version: 1,
            state: State::Pending,
            asked: now,
            deadline,
            changed: now,
            who: String::new(),
            why: String::new(),
            note,
            votes: Vec::new(),
            window: None,
            emergency: false,
        }
    }

    fn step(&self, state: State, now: i64, who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { version: self.version + 1, state, changed: now, who: who.into(), why: why.into(), ..self.clone() }
    }

    /// When what it is now ends by itself.
    pub fn ends(&self) -> i64 {
        match &self.window {
            Some(window) if self.state == State::Approved => window.ends,
            _ => self.deadline,
        }
    }

    fn still(&self, state: State, now: i64) -> Result<(), Refused> {
        if self.state != state {
            let by = if self.who.is_empty() { String::new() } else { format!(", by {}", self.who) };
            return Err(Refused::Over { state: self.state, by });
        }
        if now >= self.ends() { Err(Refused::Late(clock(self.ends()))) } else { Ok(()) }
    }

    /// A person's answer. `longest`: a window's, in seconds, where the policy does not say.
    pub(super) fn answer(
        &self,
        ask: &Ask,
        approver: &Approver,
        answer: &Answer,
        note: Option<&str>,
        now: i64,
        longest: u64,
    ) -> Result<Self, Refused> {
        self.still(State::Pending, now)?;
        if approver.asks(ask) {
            return Err(Refused::Own);
        }
        let terms = &ask.terms;
        let groups: Vec<String> = terms.groups.iter().filter(|g| approver.is_in(g)).cloned().collect();
        let helper = !terms.break_glass.is_empty() && terms.break_glass.iter().all(|g| approver.is_in(g));
        let note = note.map(plain).filter(|n| !n.is_empty());
        let why = note.clone().unwrap_or_default();
        let emergency = matches!(answer, Answer::Approve { emergency: true, .. });
        if groups.is_empty() && !(helper && emergency) {
            let also = if helper { "; in an emergency you may approve with --break-glass" } else { "" };
            return Err(Refused::Stranger(format!("{}{also}", terms.whom())));
        }
        if terms.approver_says_why && note.is_none() {
            return Err(Refused::NoReason);
        }
        let Answer::Approve { window, resource, .. } = answer else {
            return Ok(self.step(State::Denied, now, approver.name(), why));
        };
        if emergency && terms.break_glass.is_empty() {
            return Err(Refused::Emergency(
                "the policy knows no emergency for this request; leave --break-glass out".into(),
            ));
        }
        if emergency && !helper {
            let groups = terms.break_glass.join("` and `");
            return Err(Refused::Emergency(format!("only a member of `{groups}` may approve in an emergency")));
        }
        if emergency && note.is_none() {
            return Err(Refused::Emergency("an emergency needs a reason; give one with --note".into()));
        }
        if self.votes.iter().any(|v| v.person == approver.key()) && !emergency {
            return Err(Refused::Twice);
        }
        let window = self.window_of(ask, *window, resource.as_deref(), now, longest)?;
        let mut next = self.step(State::Pending, now, approver.name(), why);
        next.votes.push(Vote { person: approver.key(), name: approver.name(), groups, at: now, note, window });
        if emergency || enough(ask, &next.votes) {
            next.state = State::Approved;
            next.emergency = emergency;
            next.window =
                if emergency { next.votes.last().and_then(|v| v.window.clone()) } else { common(&next.votes) };
        }
        Ok(next)
    }

    fn window_of(
        &self,
        ask: &Ask,
        seconds: Option<u64>,
        resource: Option<&str>,
        now: i64,
        longest: u64,
    ) -> Result<Option<Window>, Refused> {
        let wrong = |text: String| Err(Refused::Window(text));
        let Some(seconds) = seconds else {
            return match resource {
                Some(_) => wrong("a resource pattern is for a window; give its length with --for".into()),
                None => Ok(None),
            };
        };
        let longest = ask.terms.window.unwrap_or(longest);
        if longest == 0 {
            return wrong("the policy lets this request be approved once only; leave --for out".into());
        }
        if seconds > longest {
            return wrong(format!("the longest window for this request is {longest} seconds; give a shorter one"));
        }
        if let Some(pattern) = resource
            && !ask.resources.iter().all(|arn| glob(pattern, arn))
        {
            return wrong(format!(
                "`{pattern}` does not match what the request is about; see `tollgate approvals show`"
            ));
        }
        // From when it was asked, and not from whenever somebody gets round to it.
        let ends = self.asked.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
        if ends <= now {
            return wrong(format!(
                "a window counts from when the request was made, so that this one was over at {}; give a longer one, or none",
                clock(ends)
            ));
        }
        Ok(Some(Window { ends, resource: resource.map(str::to_owned) }))
    }

    /// One request goes through with it; `by` says which.
    pub(super) fn consume(&self, now: i64, by: &str) -> Result<Self, Refused> {
        self.still(State::Approved, now)?;
        Ok(self.step(State::Consumed, now, by, ""))
    }

    /// Time is up.
    pub(super) fn expire(&self, now: i64, why: &str) -> Option<Self> {
        (!self.state.is_over() && now >= self.ends()).then(|| self.step(State::Expired, now, "", why))
    }

    /// Whoever asked does not want it any more.
    pub(super) fn cancel(&self, now: i64, who: &str, why: &str) -> Result<Self, Refused> {
        self.still(State::Pending, i64::MIN)?;
        Ok(self.step(State::Cancelled, now, who, why))
    }

    /// What has been approved, and not used up, is taken back.
    pub(super) fn revoke(&self, now: i64, who: &str, why: &str) -> Result<Self, Refused> {
        self.still(State::Approved, i64::MIN)?;
        Ok(self.step(State::Revoked, now, who, plain(why)))
    }

    /// The agent says what it is for, if it has not yet.
    pub(super) fn explain(&self, now: i64, note: &str) -> Result<Self, Refused> {
        self.still(State::Pending, now)?;
        let mut next = self.step(State::Pending, now, "the agent", "");
        next.note = Some(plain(note));
        Ok(next)
    }
}

/// Whether those who said yes are enough people, and each group that is asked has one of its own among them.
fn enough(ask: &Ask, votes: &[Vote]) -> bool {
    let terms = &ask.terms;
    if votes.len() < usize::try_from(terms.people.max(1)).unwrap_or(usize::MAX) {
        return false;
    }
    // Who speaks for which group: a person speaks for one, however many they are in.
    let mut speaks: Vec<Option<usize>> = vec![None; votes.len()];
    (0..terms.groups.len()).all(|group| place(group, &terms.groups, votes, &mut speaks, &mut vec![false; votes.len()]))
}

/// Finds the group a speaker, by having others speak for another of their groups if need be.
fn place(
    group: usize,
    groups: &[String],
    votes: &[Vote],
    speaks: &mut Vec<Option<usize>>,
    seen: &mut Vec<bool>,
) -> bool {
    for (n, vote) in votes.iter().enumerate() {
        if seen[n] || !vote.groups.contains(&groups[group]) {
            continue;
        }
        seen[n] = true;
        if speaks[n].is_none_or(|other| place(other, groups, votes, speaks, seen)) {
            speaks[n] = Some(group);
            return true;
        }
    }
    false
}

/// As far as all of them would go: once, if one of them said once.
fn common(votes: &[Vote]) -> Option<Window> {
    let mut windows = votes.iter().map(|v| v.window.as_ref());
    let mut common = windows.next()??.clone();
    for window in windows {
        let window = window?;
        common.ends = common.ends.min(window.ends);
        if common.resource != window.resource {
            common.resource = None;
        }
    }
    Some(common)
}

impl Window {
    /// Whether it is for a request on these resources; `asked` are those of the request that it was granted for.
    pub(super) fn covers(&self, asked: &[String], resources: &[String]) -> bool {
        resources.iter().all(|arn| match &self.resource {
            Some(pattern) => glob(pattern, arn),
            None => asked.contains(arn),
        })
    }
}

/// A note on one line, and not longer than anybody reads.
pub(super) fn plain(text: &str) -> String {
    let mut line = text.replace(|c: char| c.is_control(), " ").trim().to_owned();
    if line.len() > LONGEST_NOTE {
        let end = (0..=LONGEST_NOTE).rev().find(|n| line.is_char_boundary(*n)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
