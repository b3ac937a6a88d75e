//! One AWS request and its response.
//!
//! [`Exchange::run`] is the way of a request, stage by stage; each stage is a call into one room.
//! Owns the order of the stages and what is told and recorded when one of them says no.
//! Runs on the connection's task (HTTP/2: on a task per stream).

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};

mod answer;
mod facts;
mod form;
mod handout;
mod hold;
mod masking;
mod observe;
mod refusal;
mod signing;
mod telling;
mod unsigned;
mod web_identity;

use form::strip_hop_by_hop;
pub use observe::observed;
use refusal::Refusal;
use telling::{LONGEST, MOST};

use super::body::{BodyError, Completion, Fault, Passage, RequestBody, ResponseBody};
use super::connection::Connection;
use super::intake::{IntakeError, Limits, Share, gather};
use super::upstream::UpstreamBody;
use crate::aws::error::ErrorKind;
use crate::aws::operation::{self, BodyNeed, Operation, Protocol, Route};
use crate::aws::sigv4::{self, Chain, Claim, Payload};
use crate::credential::{Client, Derived, Held, Placeholder};
use crate::identity::Principal;
use crate::journal::Kind;
use crate::policy::{Decision, Effect, ProcessFacts, Question, SessionFacts};
use crate::record::ExchangeId;

/// Serves one request of a connection; whatever happens, the agent gets an answer in AWS's shape.
pub async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    connection.life.begin(!body.is_end_stream());
    let mut exchange = Exchange::new(connection, parts);
    match exchange.run(body).await {
        Ok(response) => response,
        Err(refusal) => exchange.refuse(refusal).await,
    }
}

/// Whether the form of a request to this host can be read in one way only; the sentence why not.
pub fn check_form(parts: &mut Parts, host: &str) -> Result<(), String> {
    form::check(parts, host).map_err(|refusal| refusal.message)
}

/// Reason of a denial that comes before the policies are asked.
const EXPIRED: &str =
    "the session's identity token has expired; renew it (its file is read again as soon as it changes)";

/// Whether a denial's reason is none of the policies'.
pub fn is_before_policy(reason: &str) -> bool {
    reason == EXPIRED || handout::is_forbidden(reason)
}

struct Exchange<'a> {
    connection: &'a Connection,
    parts: Parts,
    started: SystemTime,
    principal: Arc<Principal>,
    /// Whether the request announced a body.
    carries_body: bool,
    /// Made when somebody asks for it: most answers carry AWS's own.
    request_id: OnceLock<String>,
    /// Known from the stage that found them on, for the answer and the record of a refusal.
    protocol: Option<Protocol>,
    operation: Option<Arc<Operation>>,
    /// The body of a request that was not understood.
    unread: Bytes,
    /// SHA-256 of a body that was not read as members, where it was signed or read.
    content: Option<String>,
    /// Who approved it, in words.
    approved: OnceLock<String>,
    /// Account of the held credentials, where it is known.
    account: Option<String>,
    signer: Signer,
    /// Why a no of the policies does not bind; empty if it does.
    observing: OnceLock<&'static str>,
    recorded: Option<ExchangeId>,
    passage: Arc<Passage>,
    /// For the body and what was read in it, both of which live as long as this.
    share: Share,
}

impl<'a> Exchange<'a> {
    fn new(connection: &'a Connection, parts: Parts) -> Self {
        let carries_body = parts.headers.contains_key(header::TRANSFER_ENCODING)
            || parts.headers.get(header::CONTENT_LENGTH).is_some_and(|l| l != "0");
        Self {
            connection,
            parts,
            started: SystemTime::now(),
            principal: connection.session.principal(),
            carries_body,
            request_id: OnceLock::new(),
            protocol: None,
            operation: None,
            unread: Bytes::new(),
            content: None,
            approved: OnceLock::new(),
            account: None,
            signer: Signer::Nobody,
            observing: OnceLock::new(),
            recorded: None,
            passage: Arc::new(Passage { life: connection.life.clone(), ..Passage::default() }),
            share: Share::default(),
        }
    }

    async fn run(&mut self, body: Incoming) -> Result<Response<ResponseBody>, Refusal> {
        form::check(&mut self.parts, &self.connection.endpoint.host)?;
        let Some(claim) = self.claim()? else {
            // Boxed: rare, and every exchange would keep room for it.
            return Box::pin(self.run_unsigned(body)).await;
        };
        let route = self.identify(Some(&claim))?;
        let body = self.read(body, &claim.payload, &route).await?;
        let (payload, chain) = self.authenticate(&claim, &body)?;
        self.content = content(&route, &body, &payload);
        let held = self.held(&claim).await;
        self.account = held.as_ref().ok().and_then(|h| h.account.clone());
        let operation = self.understand(route, &body)?;
        let decision = self.decide(&operation)?;
        let held = worth_asking(decision.effect, held)?;
        let observed = self.enforce(&operation, &decision).await?;
        let held = held?;
        self.room_for_credentials(&operation)?;
        let id = self.record_intent(&operation, &decision, observed).await?;
        // An agent that goes away while it waits leaves an outcome, too.
        let waiting = Completion::new(self.connection.core.store.clone(), id, 0, None, self.passage.clone());
        let response = match self.sign(&operation, &held, &claim, payload, chain, body) {
            Ok(request) => self.send(request).await,
            Err(refusal) => Err(refusal),
        };
        waiting.give_up();
        self.answer(response?, &operation, &decision, Some(&held), id).await
    }

    // ---- stages ---------------------------------------------------------------------------

    /// The signature that the request carries; `None`: none. A presigned URL's is taken out of it.
    fn claim(&mut self) -> Result<Option<Claim>, Refusal> {
        let claim = match sigv4::claim(&self.parts) {
            // SSO's token in a header of its own: its operations need no signature, all others do.
            Err(sigv4::SigError::Unsupported { mode: sigv4::Mode::Bearer })
                if !self.parts.headers.contains_key(header::AUTHORIZATION) =>
            {
                None
            }
            claim => claim.map_err(|e| refusal::of_signature(&e))?,
        };
        if let Some(claim) = &claim {
            sigv4::hoist(&mut self.parts, claim).map_err(|e| refusal::of_signature(&e))?;
        }
        Ok(claim)
    }

    /// Host, scope, method, path, query, headers → candidates for the operation.
    fn identify(&mut self, claim: Option<&Claim>) -> Result<Route, Refusal> {
        let endpoint = &self.connection.endpoint;
        let scope = claim.map(|claim| operation::Scope {
            region: claim.region_at(endpoint.region.as_deref()),
            service: &claim.service,
        });
        let route =
            operation::route(endpoint, scope, &self.parts).map_err(|e| Refusal::not_understood(e.to_string()))?;
        self.protocol = Some(route.protocol());
        Ok(route)
    }

    /// Reads the body where it must be read to be judged or hashed; leaves it a stream otherwise.
    async fn read(&mut self, body: Incoming, payload: &Payload, route: &Route) -> Result<Read, Refusal> {
        if body.is_end_stream() {
            return Ok(Read::Whole(Bytes::new()));
        }
        if *payload != Payload::Absent && route.body_needed() == BodyNeed::No {
            return Ok(Read::Stream(body));
        }
        let core = &self.connection.core;
        let gateway = core.config.load().gateway.clone();
        let parsed = route.is_parsed();
        let (bytes, key) = match gateway.max_buffered_body {
            bytes if parsed && gateway.max_parsed_body < bytes => (gateway.max_parsed_body, "max_parsed_body"),
            bytes => (bytes, "max_buffered_body"),
        };
        let limits = Limits { bytes, parsed, time: gateway.body_timeout };
        match gather(body, limits, &core.memory, &self.connection.session.id).await {
            Ok((bytes, share)) => {
                self.passage.sent.store(bytes.len() as u64, Ordering::Relaxed);
                self.passage.life.read_to_end();
                self.share = share;
                Ok(Read::Whole(bytes))
            }
            Err(IntakeError::TooLarge) => Err(Refusal::new(
                ErrorKind::RequestTooLarge,
                format!(
                    "the body must be read whole to be judged, and is larger than {bytes} bytes (`gateway.{key}`); send \
                     it in several smaller requests"
                ),
            )),
            Err(e @ IntakeError::Full) => Err(Refusal::new(ErrorKind::ServiceUnavailable, e.to_string())),
            Err(e) => Err(Refusal::malformed(e.to_string())),
        }
    }

    /// The agent's signature against its placeholder, which says whose credentials take its place; gives the payload to
    /// sign in its stead, and what the signatures of its pieces go on from.
    fn authenticate(&mut self, claim: &Claim, body: &Read) -> Result<(Payload, Option<Chain>), Refusal> {
        let (session, placeholder) = self.placeholder(claim)?;
        if session != self.connection.session.id {
            return Err(Refusal::new(
                ErrorKind::InvalidClientTokenId,
                "the access key belongs to another session; use the credentials that the metadata service offers here",
            )
            .with_detail(format!("access key {} belongs to session {session}", claim.access_key_id)));
        }
        if placeholder.expires <= self.started {
            return Err(handout::expired(&placeholder));
        }
        let digest = match body {
            Read::Whole(bytes) if matches!(claim.payload, Payload::Hashed(_) | Payload::Absent) => {
                Some(sigv4::sha256_hex(bytes))
            }
            _ => None,
        };
        if let (Payload::Hashed(declared), Some(digest)) = (&claim.payload, &digest)
            && declared != digest
        {
            return Err(Refusal::new(
                ErrorKind::SignatureDoesNotMatch,
                "the body is not the one that was signed: its SHA-256 differs from x-amz-content-sha256",
            ));
        }
        let given = sigv4::Given {
            body_sha256: digest.as_deref(),
            bucket: self.connection.endpoint.bucket.as_deref(),
            secret: &placeholder.secret_access_key,
            token: Some(&placeholder.session_token),
            now: self.started,
        };
        let chain = sigv4::verify(claim, &self.parts, &given, &self.connection.core.signing_keys)
            .map_err(|e| refusal::of_signature(&e))?;
        let payload = match (&claim.payload, digest) {
            (Payload::Absent, Some(digest)) => Payload::Hashed(digest),
            (payload, _) => payload.clone(),
        };
        self.signer = Signer::Held(placeholder.behind.clone());
        Ok((payload, chain))
    }

    fn placeholder(&self, claim: &Claim) -> Result<(crate::session::SessionId, Arc<Placeholder>), Refusal> {
        self.connection.core.placeholders.lookup(&claim.access_key_id).ok_or_else(|| {
            Refusal::new(
                ErrorKind::InvalidClientTokenId,
                format!(
                    "the access key {} was not issued by Tollgate, and foreign keys are not let through; remove it (AWS_ACCESS_KEY_ID, \
                     ~/.aws/credentials) so that the metadata service's credentials are used",
                    claim.access_key_id
                ),
            )
        })
    }

    /// The held credentials: those behind the placeholder that the request is signed with, or of the principal's binding.
    async fn held(&self, claim: &Claim) -> Result<Arc<Held>, Refusal> {
        let behind = match &self.signer {
            Signer::Held(behind) => behind.as_deref(),
            Signer::Nobody => return Err(Refusal::new(ErrorKind::AccessDenied, "the request was not authenticated")),
        };
        match handout::fitting(behind, claim)? {
            Some(held) => Ok(held),
            None => self.held_of_binding().await,
        }
    }

    async fn held_of_binding(&self) -> Result<Arc<Held>, Refusal> {
        let brokers = self.connection.core.brokers.load_full();
        let session = &self.connection.session;
        let client = Client { session: &session.id, session_name: &session.name, principal: self.principal.clone() };
        brokers.held(&client).await.map_err(|e| {
            Refusal::new(
                ErrorKind::AccessDenied,
                "there are no credentials for this session's principal; ask whoever runs Tollgate here",
            )
            .with_detail(e)
        })
    }

    /// The whole operation: action, resources, parameters.
    fn understand(&mut self, route: Route, body: &Read) -> Result<Arc<Operation>, Refusal> {
        let bytes = match body {
            Read::Whole(bytes) => Some(bytes.as_ref()),
            Read::Stream(_) => None,
        };
        let found = route.finish(self.parts.uri.query().unwrap_or_default(), bytes, self.account.as_deref());
        if found.as_ref().map_or(true, |o| o.name == "unknown")
            && let Read::Whole(bytes) = body
        {
            // What could not be read as parameters is recorded as it came.
            self.unread = bytes.clone();
        }
        let operation = found.map_err(|e| Refusal::not_understood(e.to_string()))?;
        let operation = Arc::new(operation);
        self.operation = Some(operation.clone());
        Ok(operation)
    }

    fn decide(&self, operation: &Operation) -> Result<Decision, Refusal> {
        if self.principal.is_expired(self.started) {
            return Err(self.denial(operation, &[], EXPIRED, Kind::Blocked));
        }
        if let Some(reason) = handout::forbidden(operation) {
            return Err(self.denial(operation, &[], &reason, Kind::Blocked));
        }
        let c = self.connection;
        let question = Question {
            principal: &self.principal,
            operation,
            session: SessionFacts { id: c.session.id.as_str(), name: &c.session.name },
            process: ProcessFacts { exe: &c.exe, pid: c.flow.pid, uid: c.flow.uid },
            credential: handout::facts(&self.signer, self.account.as_deref()),
            endpoint: &c.endpoint.host,
        };
        let policies = c.core.policy.load();
        Ok(self.judged(operation, policies.decide(&question), policies.try_out(&question)))
    }

    /// Makes the decision bind. `true`: it was a no, and observe mode let it through.
    async fn enforce(&self, operation: &Operation, decision: &Decision) -> Result<bool, Refusal> {
        let observing = self.observing.get().is_some();
        match decision.effect {
            Effect::Allow => Ok(false),
            Effect::Deny | Effect::Hold if observing => Ok(true),
            Effect::Deny => Err(self.denial(operation, &decision.policies, &decision.reason, Kind::Blocked)),
            Effect::Hold => {
                // Boxed: rare, and every exchange would keep room for it.
                let how = Box::pin(self.hold(operation, decision)).await?;
                let _ = self.approved.set(how);
                Ok(false)
            }
        }
    }

    /// Durable before anything leaves.
    async fn record_intent(
        &mut self,
        operation: &Operation,
        decision: &Decision,
        observed: bool,
    ) -> Result<ExchangeId, Refusal> {
        let verdict = match decision.effect {
            Effect::Allow => "allow",
            Effect::Hold => "hold",
            Effect::Deny => "deny",
        };
        let reason = match self.approved.get() {
            Some(how) => Cow::from(format!("{how}; {}", decision.reason)),
            None => Cow::from(&decision.reason),
        };
        let intent = self.intent(Some(operation), verdict, &decision.policies, &reason, observed);
        let id = self.connection.core.store.intent(intent).await.map_err(|e| {
            Refusal::new(
                ErrorKind::ServiceUnavailable,
                "the request cannot be recorded, so it is not sent; try again later",
            )
            .with_detail(e)
        })?;
        self.recorded = Some(id);
        if observed || self.connection.core.config.load().journal.allowed {
            let mut event =
                self.event(if observed { Kind::Observed } else { Kind::Allowed }, operation, &decision.policies);
            event.reason = Some(decision.reason.clone());
            event.exchange = Some(id.0);
            self.connection.core.journal.emit(event);
        }
        Ok(id)
    }

    /// The head as it goes up, still to be signed.
    fn outgoing(&mut self) -> Parts {
        // The headers move; what is said of the request later needs method and target alone.
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.parts.method.clone();
        parts.uri = self.parts.uri.clone();
        parts.version = Version::HTTP_11;
        parts.headers = std::mem::take(&mut self.parts.headers);
        prepare(&mut parts.headers);
        parts
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<UpstreamBody>, Refusal> {
        // Plain HTTP goes on as TLS: the held signature never travels in the clear.
        let port = match self.connection.flow.original.port() {
            80 => 443,
            port => port,
        };
        let upstreams = self.connection.core.upstreams.load_full();
        upstreams
            .send(&self.connection.endpoint.host, port, self.connection.session.id.as_str(), request)
            .await
            .map_err(|e| {
                match self.passage.fault.get() {
                    Some(Fault::Altered) => {
                        return Refusal::new(ErrorKind::SignatureDoesNotMatch, BodyError::Altered.to_string());
                    }
                    Some(Fault::Pieces(e)) => return refusal::of_pieces(e),
                    None => {}
                }
                Refusal::new(
                    ErrorKind::ServiceUnavailable,
                    "the endpoint could not be reached through Tollgate; see its journal on this host",
                )
                .with_detail(e)
            })
    }
}

/// Takes out of a request's headers what is for this hop alone.
pub fn prepare(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    headers.remove(hold::NOTE);
    headers.remove(header::TRANSFER_ENCODING);
    // Answers have to be readable: some are masked, and none may carry what was signed with.
    headers.remove(header::ACCEPT_ENCODING);
}

/// A person is asked only for what can then be done; without held credentials the refusal comes at once. A no of the
/// policy's comes first all the same: it is what the agent should read.
fn worth_asking<T>(effect: Effect, held: Result<T, Refusal>) -> Result<Result<T, Refusal>, Refusal> {
    match effect {
        Effect::Hold => held.map(Ok),
        Effect::Allow | Effect::Deny => Ok(held),
    }
}

/// What tells two bodies apart that were not read as members.
fn content(route: &Route, body: &Read, payload: &Payload) -> Option<String> {
    match (body, payload) {
        (Read::Whole(bytes), _) if bytes.is_empty() || route.is_parsed() => None,
        (_, Payload::Hashed(hex)) => Some(hex.clone()),
        (Read::Whole(bytes), _) => Some(sigv4::sha256_hex(bytes)),
        (Read::Stream(_), _) => None,
    }
}

/// Whose credentials a request is signed with.
enum Signer {
    /// It goes unsigned.
    Nobody,
    /// The binding's, or those behind the placeholder that it came with.
    Held(Option<Arc<Derived>>),
}

/// A request body after the reading stage.
enum Read {
    Whole(Bytes),
    Stream(Incoming),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_to_approve_what_has_no_credentials() {
        let none = || Err::<(), _>(Refusal::new(ErrorKind::AccessDenied, "no binding"));
        assert!(worth_asking(Effect::Hold, none()).is_err());
        assert!(matches!(worth_asking(Effect::Hold, Ok(())), Ok(Ok(()))));
        // A deny is answered as a deny, and an allow as what it lacks, by what comes after.
        for effect in [Effect::Allow, Effect::Deny] {
            assert!(matches!(worth_asking(effect, none()), Ok(Err(_))), "{effect:?}");
        }
    }
}
