//! `sts:AssumeRoleWithWebIdentity`, answered here: the token says who the session acts for.
//!
//! Owns the order: the token is verified, the session found to be nobody's or the same identity's, then the policies are
//! asked under that identity, and only then the session is bound to it. Nothing is sent. What the agent gets is its
//! session's own placeholder: requests are signed with what the identity's binding holds, for the role that the request
//! names if the binding says which that is. Runs on the exchange's task.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, header};

use super::refusal::Refusal;
use super::{Exchange, Signer};
use crate::aws::error::ErrorKind;
use crate::aws::handout::web_identity::Asked;
use crate::aws::operation::Operation;
use crate::gateway::body::{Completion, ResponseBody};
use crate::identity::Principal;
use crate::journal::Kind;

impl Exchange<'_> {
    pub(super) async fn web_identity(&mut self, operation: Arc<Operation>) -> Result<Response<ResponseBody>, Refusal> {
        let asked = Asked::read(&operation.parameters).map_err(Refusal::malformed)?;
        let principal = Arc::new(self.verified(&asked).await?);
        self.principal = principal.clone();
        self.fits_binding(&asked).await?;
        let decision = self.decide(&operation)?;
        let observed = self.enforce(&operation, &decision).await?;
        let id = self.record_intent(&operation, &decision, observed).await?;
        let core = &self.connection.core;
        let session = &self.connection.session;
        let before = session.principal();
        session.identify(Principal::clone(&principal)).map_err(|other| another(&other))?;
        let placeholder = core.placeholders.current(&session.id).ok_or_else(|| {
            Refusal::new(ErrorKind::AccessDenied, "the session has ended, so there are no credentials for it any more")
        })?;
        if *before != *principal {
            let said = if before.is_identified() { "renewed" } else { "bound" };
            let mut event = self.connection.event(Kind::Identity);
            event.reason = Some(format!("{said} by AssumeRoleWithWebIdentity from inside the session"));
            core.journal.emit(event);
            core.record_principal(&session.id, &principal, self.started);
        }
        let ends = principal.expires.map_or(placeholder.expires, |end| end.min(placeholder.expires));
        let audience = match principal.claims.get("aud") {
            Some(serde_json::Value::Array(all)) => all.first().and_then(|a| a.as_str()),
            Some(aud) => aud.as_str(),
            None => None,
        };
        let issuer = principal.issuer.as_deref().unwrap_or_default();
        let body = asked.answer(
            &placeholder,
            ends,
            issuer,
            &principal.subject,
            audience.unwrap_or_default(),
            self.request_id(),
        );
        let request_id = self.request_id().to_owned();
        let completion = Completion::new(core.store.clone(), id, 200, Some(request_id), self.passage.clone());
        completion.finish(body.len() as u64);
        let mut response = Response::new(ResponseBody::Whole(Bytes::from(body)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        if let Ok(id) = HeaderValue::from_str(self.request_id()) {
            response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
        }
        Ok(response)
    }

    /// Who the token says it is, as long as that may be who the session acts for.
    async fn verified(&self, asked: &Asked) -> Result<Principal, Refusal> {
        let session = &self.connection.session;
        let verifier = self.connection.core.verifier.load_full();
        let mut principal = verifier
            .verify(asked.token.expose())
            .await
            .map_err(|e| Refusal::new(ErrorKind::AccessDenied, format!("the web identity token was not taken: {e}")))?;
        let before = session.principal();
        if before.is_identified() && !before.is_same(&principal) {
            return Err(another(&before));
        }
        if before.is_identified() && !session.is_identified_inside() {
            // Whoever started the session chose how long a token counts.
            principal.expires = principal.expires.max(before.expires);
        } else {
            // As with STS: the token counts now, and what it is exchanged for as long as was asked.
            principal.expires = Some(SystemTime::now() + asked.duration);
        }
        Ok(principal)
    }

    /// A role of another account than the binding's must not seem to have been assumed.
    async fn fits_binding(&mut self, asked: &Asked) -> Result<(), Refusal> {
        let brokers = self.connection.core.brokers.load_full();
        if let Some(role) = brokers.role(&self.principal).filter(|role| *role != asked.role.text) {
            return Err(Refusal::new(
                ErrorKind::AccessDenied,
                format!("Tollgate signs requests of this identity as {role}, and as no other role; name that one"),
            ));
        }
        let held = self.held_of_binding().await?;
        self.account.clone_from(&held.account);
        self.signer = Signer::Held(None);
        match &held.account {
            Some(account) if *account != asked.role.account => Err(Refusal::new(
                ErrorKind::AccessDenied,
                format!(
                    "the role is of account {}, but the credentials that Tollgate holds for this identity are of another; \
                     name a role of that account",
                    asked.role.account
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn another(bound: &Principal) -> Refusal {
    Refusal::new(
        ErrorKind::AccessDenied,
        format!(
            "the session acts for `{}` already and keeps its identity; start another session for another one",
            bound.subject
        ),
    )
}
