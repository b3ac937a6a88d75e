//! Decisions that do not bind: observe mode, observed sessions, policies on trial.
//!
//! Owns when that is so, and how it is told. Only what policies say is ever let off: whoever gets here has shown this
//! session's own placeholder, a token that still counts, and asks for nothing whose answer would carry credentials away;
//! those rules stand before the policies, and are no part of this. Runs on the exchange's task.

use super::Exchange;
use crate::aws::operation::Operation;
use crate::config::Mode;
use crate::daemon::Core;
use crate::identity::{Principal, Selector, glob};
use crate::journal::Kind;
use crate::policy::{Decision, Effect};

/// Why decisions about a session do not bind; `None`: they do.
pub fn observed(core: &Core, session: &str, principal: &Principal) -> Option<&'static str> {
    let config = core.config.load();
    if config.policy.mode == Mode::Observe {
        return Some("observe mode");
    }
    let matches = |o: &crate::config::Observed| {
        let (subject, group) = (o.subject.as_deref(), o.group.as_deref());
        o.session.as_ref().is_none_or(|pattern| glob(pattern, session))
            && Selector { issuer: o.issuer.as_ref(), subject, group }.matches(principal)
    };
    config.policy.observe.iter().any(matches).then_some("an observed session")
}

impl Exchange<'_> {
    /// The decision as it is to be recorded and made to bind, or not: [`Exchange::observing`] says which.
    pub(super) fn judged(&self, operation: &Operation, decision: Decision, trial: Option<Decision>) -> Decision {
        let c = self.connection;
        if decision.effect != Effect::Allow
            && let Some(why) = observed(&c.core, &c.session.name, &self.principal)
        {
            return self.let_through(decision, why);
        }
        let Some(trial) = trial.filter(|t| t.effect != decision.effect) else { return decision };
        if decision.effect == Effect::Allow {
            // What the policies that bind want masked or recorded still is.
            return self.let_through(Decision { obligations: decision.obligations, ..trial }, "on trial");
        }
        let mut event = self.event(Kind::Observed, operation, &trial.policies);
        event.reason = Some(format!("on trial: it would be {} ({})", past(trial.effect), trial.reason));
        c.core.journal.emit(event);
        decision
    }

    fn let_through(&self, decision: Decision, why: &'static str) -> Decision {
        let _ = self.observing.set(why);
        Decision { reason: format!("NOT ENFORCED ({why}): {}", decision.reason), ..decision }
    }
}

fn past(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "permitted",
        Effect::Deny => "denied",
        Effect::Hold => "held for a person",
    }
}
