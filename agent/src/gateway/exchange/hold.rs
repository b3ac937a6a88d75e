//! Exchanges that people have to approve.
//!
//! Owns what people are asked of an exchange, and what the agent is told while nobody has answered: the service's own
//! error that its SDK tries again on, and on the SDK's last try one that it does not. Runs on the exchange's task.

use http::HeaderMap;

use super::Exchange;
use super::handout;
use super::refusal::Refusal;
use crate::approval::{Ask, Held, Holding, Request};
use crate::aws::error::ErrorKind;
use crate::aws::operation::Operation;
use crate::journal::Kind;
use crate::policy::Decision;

/// What the agent says the request is for; never sent on.
pub(super) const NOTE: &str = "x-tollgate-note";

impl Exchange<'_> {
    /// Waits for people. Gives, in words, who let it through.
    pub(super) async fn hold(&self, operation: &Operation, decision: &Decision) -> Result<String, Refusal> {
        let core = &self.connection.core;
        let ask = self.ask(operation, decision);
        let holding = Holding { note: self.note(), is_open: &|session| core.sessions.by_id(session).is_some() };
        match core.approvals.hold(ask, holding).await {
            Held::Passed { how, .. } => Ok(how),
            Held::No(why) => Err(self.denial(operation, &decision.policies, &why, Kind::Blocked)),
            Held::Later { why, .. } if is_last_try(&self.parts.headers) => {
                Err(self.denial(operation, &decision.policies, &why, Kind::Blocked))
            }
            Held::Later { why, .. } => {
                let told = format!("Tollgate holds {}: {why}", operation.actions().join(", "));
                let mut later = Refusal::new(ErrorKind::ServiceUnavailable, told).with_detail(why);
                (later.event, later.decision) = (Kind::Approval, "wait");
                later.policies.clone_from(&decision.policies);
                Err(later)
            }
            Held::Failed(e) => Err(Refusal::new(
                ErrorKind::ServiceUnavailable,
                "nobody can be asked to approve the request, so it is not sent; try again later",
            )
            .with_detail(e)),
        }
    }

    fn ask(&self, operation: &Operation, decision: &Decision) -> Ask {
        let c = self.connection;
        let credential = handout::facts(&self.signer, self.account.as_deref());
        let terms = &decision.obligations.terms;
        let method = self.parts.method.as_str();
        let target = self.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let request = Request {
            operation,
            principal: &self.principal,
            uid: c.session.uid,
            account: self.account.as_deref(),
            credential: credential.arn,
            host: &c.endpoint.host,
            // Where the model knows no members, the head says what there is.
            head: operation.input.is_none().then_some((method, target)),
            body: self.content.as_deref(),
            terms,
        };
        Ask {
            digest: request.digest(c.core.approvals.key()),
            session: c.session.id.clone(),
            session_name: c.session.name.clone(),
            issuer: self.principal.issuer.clone(),
            subject: self.principal.subject.clone(),
            uid: c.session.uid,
            exe: c.exe.to_string(),
            pid: c.flow.pid,
            operation: format!("{}:{}", operation.service, operation.name),
            action: operation.actions().join(" "),
            resources: operation.resources().into_iter().map(str::to_owned).collect(),
            region: operation.region.clone(),
            account: self.account.clone(),
            credential: credential.arn.to_owned(),
            parameters: self.parameters(operation),
            policies: decision.policies.clone(),
            reason: decision.reason.clone(),
            terms: terms.clone(),
        }
    }

    fn note(&self) -> Option<String> {
        let note = self.parts.headers.get(NOTE)?;
        Some(String::from_utf8_lossy(note.as_bytes()).into_owned())
    }
}

/// Whether the SDK says that it will not try again.
fn is_last_try(headers: &HeaderMap) -> bool {
    let said = headers.get("amz-sdk-request").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let number = |name: &str| {
        let mut parts = said.split(';').filter_map(|part| part.trim().split_once('='));
        parts.find(|(n, _)| *n == name).and_then(|(_, v)| v.parse::<u32>().ok())
    };
    matches!((number("attempt"), number("max")), (Some(attempt), Some(max)) if attempt >= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdks_say_which_try_is_their_last() {
        for (said, expected) in [
            ("attempt=1", false),
            ("attempt=1; max=3", false),
            ("ttl=20260101T000000Z; attempt=3; max=3", true),
            ("attempt=5;max=5", true),
            ("max=3", false),
            ("attempt=x; max=1", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("amz-sdk-request", said.parse().expect("a value"));
            assert_eq!(is_last_try(&headers), expected, "{said}");
        }
        assert!(!is_last_try(&HeaderMap::new()));
    }
}
