//! One AWS request and its response.
//!
//! [`Exchange::run`] is the way of a request, stage by stage; each stage is a call into one room.
//! Owns the order of the stages and what is told and recorded when one of them says no.
//! Runs on the connection's task (HTTP/2: on a task per stream).

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use super::body::{BodyError, Completion, Passage, RequestBody, ResponseBody, at_end};
use super::connection::Connection;
use super::sniff::without_port;
use super::upstream::UpstreamBody;
use crate::approval;
use crate::aws::error::{self, ErrorKind};
use crate::aws::operation::{self, BodyNeed, Operation, Protocol, Route};
use crate::aws::sigv4::{self, Claim, Payload};
use crate::config::Mode;
use crate::credential::{Held, Placeholder};
use crate::identity::Principal;
use crate::journal::{Event, Kind};
use crate::mask;
use crate::policy::{Decision, Effect, ProcessFacts, Question, SessionFacts};
use crate::record::{ExchangeId, Intent, Outcome};

/// Serves one request of a connection; whatever happens, the agent gets an answer in AWS's shape.
pub async fn serve(connection: &Connection, request: Request<Incoming>) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let mut exchange = Exchange::new(connection, parts);
    match exchange.run(body).await {
        Ok(response) => response,
        Err(refusal) => exchange.refuse(refusal).await,
    }
}

/// Why an exchange does not happen, for the agent, the journal and the record.
struct Refusal {
    kind: ErrorKind,
    /// What the agent reads. It names nothing that the agent does not know already.
    message: String,
    /// What the operator reads, where that is more.
    detail: Option<String>,
    event: Kind,
    decision: &'static str,
    policies: Vec<String>,
}

impl Refusal {
    /// Not judged: malformed, forged, or not possible.
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            event: Kind::Refused,
            decision: "refuse",
            policies: Vec::new(),
        }
    }

    fn with_detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::MalformedRequest, message)
    }
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
    recorded: Option<ExchangeId>,
    passage: Arc<Passage>,
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
            recorded: None,
            passage: Arc::default(),
        }
    }

    async fn run(&mut self, body: Incoming) -> Result<Response<ResponseBody>, Refusal> {
        self.check_form()?;
        let claim = self.claim()?;
        let route = self.identify(&claim)?;
        let body = self.read(body, &claim, &route).await?;
        let payload = self.authenticate(&claim, &body)?;
        let held = self.held().await;
        let operation = self.understand(route, &body, held.as_deref().ok())?;
        let decision = self.decide(&operation)?;
        let observed = self.enforce(&operation, &decision).await?;
        let held = held?;
        let id = self.record_intent(&operation, &decision, observed).await?;
        let request = self.sign(&operation, &held, payload, body)?;
        let response = self.send(request).await?;
        self.answer(response, &operation, &decision, id).await
    }

    // ---- stages ---------------------------------------------------------------------------

    /// One host, and the one that the connection was made for: what is judged must be what is sent.
    fn check_form(&mut self) -> Result<(), Refusal> {
        let mut hosts = self.parts.headers.get_all(header::HOST).iter();
        let header_host = hosts.next();
        if hosts.next().is_some() {
            return Err(Refusal::malformed("the request carries more than one Host header; send one"));
        }
        let authority = self.parts.uri.authority().map(Authority::as_str);
        let host = match (self.parts.version, authority, header_host) {
            (Version::HTTP_2, Some(a), None) => a.to_owned(),
            (Version::HTTP_2, Some(a), Some(h)) if h.as_bytes() == a.as_bytes() => a.to_owned(),
            (Version::HTTP_2, _, _) => {
                return Err(Refusal::malformed(
                    "`:authority` and `host` are missing or differ; send the same name in both",
                ));
            }
            (_, Some(_), _) => {
                return Err(Refusal::malformed("the request target is in absolute form; send only path and query"));
            }
            (_, None, Some(h)) => h
                .to_str()
                .map_err(|_| Refusal::malformed("the Host header is not text; send the endpoint's name"))?
                .to_owned(),
            (_, None, None) => {
                return Err(Refusal::malformed("the request carries no Host header; send the endpoint's name"));
            }
        };
        let name = without_port(&host).trim_end_matches('.');
        if !name.eq_ignore_ascii_case(&self.connection.endpoint.host) {
            return Err(Refusal::malformed(format!(
                "the request is for `{name}`, but the connection was made to `{}`; open a connection of its own for it",
                self.connection.endpoint.host
            )));
        }
        // hyper has resolved this for HTTP/1 by RFC 9112 §6.3 (the length is dropped), and what is sent on is framed anew.
        if self.parts.headers.contains_key(header::CONTENT_LENGTH)
            && self.parts.headers.contains_key(header::TRANSFER_ENCODING)
        {
            return Err(Refusal::malformed("the request carries both Content-Length and Transfer-Encoding; send one"));
        }
        // A header that `Connection` names would be judged here and gone upstream.
        let hop = |v: &HeaderValue| {
            v.to_str().is_ok_and(|v| {
                v.split(',')
                    .all(|t| ["", "close", "keep-alive", "te"].contains(&t.trim().to_ascii_lowercase().as_str()))
            })
        };
        if !self.parts.headers.get_all(header::CONNECTION).iter().all(hop) {
            return Err(Refusal::malformed(
                "the Connection header names other headers; send only `close` or `keep-alive`",
            ));
        }
        if self.parts.headers.contains_key(header::UPGRADE) || self.parts.method == http::Method::CONNECT {
            return Err(Refusal::new(
                ErrorKind::NotImplemented,
                "protocol upgrades (WebSocket) cannot be governed yet, so they are refused",
            ));
        }
        // HTTP/2 carries the host in `:authority`; signatures know it as `host`.
        if header_host.is_none() {
            let value =
                HeaderValue::from_str(&host).map_err(|_| Refusal::malformed("`:authority` is not a host name"))?;
            self.parts.headers.insert(header::HOST, value);
        }
        Ok(())
    }

    /// The signature that the request carries.
    fn claim(&self) -> Result<Claim, Refusal> {
        match sigv4::claim(&self.parts) {
            Ok(Some(claim)) => Ok(claim),
            Ok(None) => Err(Refusal::new(
                ErrorKind::AccessDenied,
                "the request is not signed, so it cannot be attributed; use the credentials that the metadata service offers",
            )),
            Err(e) => Err(signature_refusal(&e)),
        }
    }

    /// Host, scope, method, path, query, headers → candidates for the operation.
    fn identify(&mut self, claim: &Claim) -> Result<Route, Refusal> {
        let scope = operation::Scope { region: &claim.region, service: &claim.service };
        let route = operation::route(&self.connection.endpoint, Some(scope), &self.parts)
            .map_err(|e| Refusal::malformed(e.to_string()))?;
        self.protocol = Some(route.protocol());
        Ok(route)
    }

    /// Reads the body where it must be read to be judged or hashed; leaves it a stream otherwise.
    async fn read(&self, body: Incoming, claim: &Claim, route: &Route) -> Result<Read, Refusal> {
        if body.is_end_stream() {
            return Ok(Read::Whole(Bytes::new()));
        }
        if claim.payload != Payload::Absent && route.body_needed() == BodyNeed::No {
            return Ok(Read::Stream(body));
        }
        let limit = self.connection.core.config.load().gateway.max_buffered_body;
        let too_large = || {
            Refusal::new(
                ErrorKind::RequestTooLarge,
                format!(
                    "the body must be read whole to be judged, and is larger than {limit} bytes (`gateway.max_buffered_body`)"
                ),
            )
        };
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        match Limited::new(body, limit).collect().await {
            Ok(whole) => {
                let bytes = whole.to_bytes();
                self.passage.sent.store(bytes.len() as u64, Ordering::Relaxed);
                Ok(Read::Whole(bytes))
            }
            Err(e) if e.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
            Err(e) => Err(Refusal::malformed(format!("the body broke off: {e}"))),
        }
    }

    /// The agent's signature against its placeholder; gives the payload to sign in its stead.
    fn authenticate(&self, claim: &Claim, body: &Read) -> Result<Payload, Refusal> {
        let (session, placeholder) = self.placeholder(claim)?;
        if session != self.connection.session.id {
            return Err(Refusal::new(
                ErrorKind::InvalidClientTokenId,
                "the access key belongs to another session; use the credentials that the metadata service offers here",
            )
            .with_detail(format!("access key {} belongs to session {session}", claim.access_key_id)));
        }
        if placeholder.expires <= self.started {
            return Err(Refusal::new(
                ErrorKind::ExpiredToken,
                "the placeholder credentials have expired; ask the metadata service again",
            ));
        }
        let digest = match body {
            Read::Whole(bytes) if !matches!(claim.payload, Payload::Unsigned | Payload::StreamingUnsignedTrailer) => {
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
        sigv4::verify(
            claim,
            &self.parts,
            digest.as_deref(),
            &placeholder.secret_access_key,
            Some(&placeholder.session_token),
            self.started,
            &self.connection.core.signing_keys,
        )
        .map_err(|e| signature_refusal(&e))?;
        Ok(match (&claim.payload, digest) {
            (Payload::Absent, Some(digest)) => Payload::Hashed(digest),
            (payload, _) => payload.clone(),
        })
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

    /// The held credentials of the principal's binding.
    async fn held(&self) -> Result<Arc<Held>, Refusal> {
        let brokers = self.connection.core.brokers.load_full();
        brokers.held(&self.principal).await.map_err(|e| {
            Refusal::new(
                ErrorKind::AccessDenied,
                "there are no credentials for this session's principal; ask whoever runs Tollgate here",
            )
            .with_detail(e)
        })
    }

    /// The whole operation: action, resources, parameters.
    fn understand(&mut self, route: Route, body: &Read, held: Option<&Held>) -> Result<Arc<Operation>, Refusal> {
        let bytes = match body {
            Read::Whole(bytes) => Some(bytes.as_ref()),
            Read::Stream(_) => None,
        };
        let account = held.and_then(|h| h.account.as_deref());
        let operation = route
            .finish(self.parts.uri.query().unwrap_or_default(), bytes, account)
            .map_err(|e| Refusal::malformed(e.to_string()))?;
        let operation = Arc::new(operation);
        self.operation = Some(operation.clone());
        Ok(operation)
    }

    fn decide(&self, operation: &Operation) -> Result<Decision, Refusal> {
        if self.principal.is_expired(self.started) {
            return Err(self.denial(
                operation,
                &[],
                "the session's identity token has expired; renew it (its file is read again as soon as it changes)",
                Kind::Blocked,
            ));
        }
        if operation.credentials_in_output {
            return Err(self.denial(
                operation,
                &[],
                "its answer carries credentials, which Tollgate does not hand to agents; use the session's own credentials",
                Kind::Blocked,
            ));
        }
        let c = self.connection;
        Ok(c.core.policy.load().decide(&Question {
            principal: &self.principal,
            operation,
            session: SessionFacts { id: c.session.id.as_str(), name: &c.session.name },
            process: ProcessFacts { exe: &c.exe, pid: c.flow.pid, uid: c.flow.uid },
            endpoint: &c.endpoint.host,
        }))
    }

    /// Makes the decision bind. `true`: it was a no, and observe mode let it through.
    async fn enforce(&self, operation: &Operation, decision: &Decision) -> Result<bool, Refusal> {
        let observing = self.connection.core.config.load().policy.mode == Mode::Observe;
        match decision.effect {
            Effect::Allow => Ok(false),
            Effect::Deny | Effect::Hold if observing => Ok(true),
            Effect::Deny => Err(self.denial(operation, &decision.policies, &decision.reason, Kind::Blocked)),
            Effect::Hold => {
                let group = decision.obligations.approval.as_deref().unwrap_or_default();
                let mut held = self.event(Kind::Held, operation, &decision.policies);
                held.reason = Some(format!("waits for a person of `{group}`"));
                self.connection.core.journal.emit(held);
                let asked = approval::Request {
                    session: self.connection.session.id.clone(),
                    subject: self.principal.subject.clone(),
                    action: operation.actions.join(" "),
                    resource: operation.resources.join(" "),
                    parameters: self.parameters(operation),
                    group: group.to_owned(),
                };
                match self.connection.core.approvals.request(asked).await {
                    approval::Answer::Approved => Ok(false),
                    approval::Answer::Refused(why) => {
                        Err(self.denial(operation, &decision.policies, &why, Kind::Blocked))
                    }
                }
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
        let intent = self.intent(Some(operation), verdict, &decision.policies, &decision.reason, observed);
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

    /// The agent's request with the agent's signature gone and the held one in its place.
    fn sign(
        &mut self,
        operation: &Operation,
        held: &Held,
        payload: Payload,
        body: Read,
    ) -> Result<Request<RequestBody>, Refusal> {
        // The headers move; what is said of the request later needs method and target alone.
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.parts.method.clone();
        parts.uri = self.parts.uri.clone();
        parts.headers = std::mem::take(&mut self.parts.headers);
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.remove(header::EXPECT);
        parts.headers.remove(header::TRANSFER_ENCODING);
        sigv4::sign(
            &mut parts,
            &payload,
            held,
            &operation.region,
            &operation.signing_name,
            self.started,
            &self.connection.core.signing_keys,
        )
        .map_err(|e| {
            Refusal::new(ErrorKind::Internal, "the request could not be signed, so it was not sent").with_detail(e)
        })?;
        parts.version = Version::HTTP_11;
        let declared = match payload {
            Payload::Hashed(hex) => Some(hex),
            _ => None,
        };
        let body = match body {
            Read::Whole(bytes) => RequestBody::Whole(bytes),
            Read::Stream(incoming) => RequestBody::stream(incoming, declared, self.passage.clone()),
        };
        Ok(Request::from_parts(parts, body))
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<UpstreamBody>, Refusal> {
        // Plain HTTP goes on as TLS: the held signature never travels in the clear.
        let port = match self.connection.flow.original.port() {
            80 => 443,
            port => port,
        };
        let upstreams = self.connection.core.upstreams.load_full();
        upstreams.send(&self.connection.endpoint.host, port, request).await.map_err(|e| {
            if self.passage.altered.load(Ordering::Relaxed) {
                return Refusal::new(ErrorKind::SignatureDoesNotMatch, BodyError::Altered.to_string());
            }
            Refusal::new(
                ErrorKind::ServiceUnavailable,
                "the endpoint could not be reached through Tollgate; see its journal on this host",
            )
            .with_detail(e)
        })
    }

    /// The endpoint's answer: masked if so decided, else as it streams.
    async fn answer(
        &self,
        response: Response<UpstreamBody>,
        operation: &Operation,
        decision: &Decision,
        id: ExchangeId,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.remove(header::TRANSFER_ENCODING);
        // An invitation to QUIC, which is refused in a tag, would only cost the agent time.
        parts.headers.remove(header::ALT_SVC);
        parts.version = Version::HTTP_11;
        let aws_id = ["x-amzn-requestid", "x-amz-request-id"]
            .iter()
            .find_map(|h| parts.headers.get(*h)?.to_str().ok())
            .map(str::to_owned);
        let mut completion = Completion::new(
            self.connection.core.store.clone(),
            id,
            parts.status.as_u16(),
            aws_id,
            self.passage.clone(),
        );
        if decision.obligations.mask.is_some() && parts.status.is_success() {
            return self.mask(parts, body, operation, completion).await;
        }
        if at_end(&body) || self.parts.method == http::Method::HEAD {
            completion.set_complete();
        }
        Ok(Response::from_parts(parts, ResponseBody::Stream(body, Box::new(completion))))
    }

    async fn mask(
        &self,
        mut parts: http::response::Parts,
        body: UpstreamBody,
        operation: &Operation,
        completion: Completion,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let limit = self.connection.core.config.load().gateway.max_buffered_body;
        let unreadable = |e: String| {
            Refusal::new(
                ErrorKind::AccessDenied,
                "the answer must be masked and could not be read, so it is not passed on",
            )
            .with_detail(e)
        };
        let whole = Limited::new(body, limit).collect().await.map_err(|e| unreadable(e.to_string()));
        let masked = whole.and_then(|w| {
            if parts.headers.contains_key(header::CONTENT_ENCODING) {
                return Err(unreadable("it is compressed".into()));
            }
            mask::apply(operation.protocol, &w.to_bytes()).map_err(|e| unreadable(e.to_string()))
        });
        match masked {
            Ok(bytes) => {
                // They speak of the bytes that were there before.
                for stale in ["content-length", "content-md5", "x-amz-crc32", "etag"] {
                    parts.headers.remove(stale);
                }
                let checksums: Vec<HeaderName> =
                    parts.headers.keys().filter(|k| k.as_str().starts_with("x-amz-checksum-")).cloned().collect();
                for name in checksums {
                    parts.headers.remove(name);
                }
                completion.finish(bytes.len() as u64, None);
                Ok(Response::from_parts(parts, ResponseBody::Whole(bytes)))
            }
            Err(refusal) => {
                completion.finish(0, refusal.detail.clone());
                Err(refusal)
            }
        }
    }

    // ---- telling --------------------------------------------------------------------------

    fn denial(&self, operation: &Operation, policies: &[String], reason: &str, event: Kind) -> Refusal {
        let policy = if policies.is_empty() { String::new() } else { format!("policy {}, ", policies.join(", ")) };
        let message = format!(
            "Tollgate denied {} on {}: {reason} ({policy}session {}, request {})",
            operation.actions.join(", "),
            abridged(&operation.resources),
            self.connection.session.id,
            self.request_id(),
        );
        Refusal {
            kind: ErrorKind::AccessDenied,
            message,
            detail: Some(reason.to_owned()),
            event,
            decision: "deny",
            policies: policies.to_vec(),
        }
    }

    /// Answers, records and tells a refusal. A recording that fails changes nothing: it is a no already.
    async fn refuse(&mut self, refusal: Refusal) -> Response<ResponseBody> {
        let reason = refusal.detail.clone().unwrap_or_else(|| refusal.message.clone());
        let response = match self.protocol {
            Some(protocol) => {
                let endpoint = self.connection.endpoint.signing.as_deref().unwrap_or_default();
                let service = self.operation.as_ref().map_or(endpoint, |o| o.service.as_str());
                error::respond(protocol, service, refusal.kind, &refusal.message, self.request_id())
            }
            None => error::respond_unknown(
                &self.connection.endpoint,
                &self.parts,
                refusal.kind,
                &refusal.message,
                self.request_id(),
            ),
        };
        let store = &self.connection.core.store;
        let id = match self.recorded {
            // The intent is there: what comes now is its outcome.
            Some(id) => Some(id),
            None => {
                let intent =
                    self.intent(self.operation.as_deref(), refusal.decision, &refusal.policies, &reason, false);
                store
                    .intent(intent)
                    .await
                    .inspect_err(|e| tracing::error!("a refused exchange could not be recorded: {e}"))
                    .ok()
            }
        };
        if let Some(id) = id {
            store.outcome(
                id,
                Outcome {
                    status: response.status().as_u16(),
                    request_id: Some(self.request_id().to_owned()),
                    bytes_sent: 0,
                    bytes_received: 0,
                    ended: SystemTime::now(),
                    error: (refusal.decision == "refuse").then(|| reason.clone()),
                },
            );
        }
        let mut event = match &self.operation {
            Some(operation) => self.event(refusal.event, operation, &refusal.policies),
            None => self.connection.event(refusal.event),
        };
        event.reason = Some(reason);
        event.exchange = id.map(|i| i.0);
        self.connection.core.journal.emit(event);
        // An unread body would have to be drained before the next request; the agent is told to come anew.
        let mut response = response.map(ResponseBody::Whole);
        if self.parts.version != Version::HTTP_2 && response.status() != StatusCode::OK && self.carries_body {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            self.connection.lingers.store(true, Ordering::Relaxed);
        }
        response
    }

    /// A request id of our own.
    fn request_id(&self) -> &str {
        self.request_id.get_or_init(request_id)
    }

    fn event(&self, kind: Kind, operation: &Operation, policies: &[String]) -> Event {
        Event {
            policy: (!policies.is_empty()).then(|| policies.join(" ")),
            action: Some(operation.actions.join(" ")),
            resource: Some(abridged(&operation.resources)),
            region: Some(operation.region.clone()),
            ..self.connection.event(kind)
        }
    }

    fn intent(
        &self,
        operation: Option<&Operation>,
        decision: &'static str,
        policies: &[String],
        reason: &str,
        observed: bool,
    ) -> Intent {
        let c = self.connection;
        Intent {
            session: c.session.id.clone(),
            issuer: self.principal.issuer.clone(),
            subject: self.principal.subject.clone(),
            started: self.started,
            pid: c.flow.pid,
            exe: c.exe.clone(),
            host: c.endpoint.host.clone(),
            method: self.parts.method.to_string(),
            target: mask::redact_target(self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)),
            action: operation.map_or_else(|| "unknown:unknown".into(), |o| o.actions.join(" ")),
            operation: operation.map_or_else(|| "unknown".into(), |o| format!("{}:{}", o.service, o.name)),
            resources: operation.map(|o| o.resources.clone()).unwrap_or_default(),
            region: operation.map(|o| o.region.clone()).or_else(|| c.endpoint.region.clone()).unwrap_or_default(),
            account: None,
            parameters: operation.map(|o| self.parameters(o)).unwrap_or_default(),
            decision,
            policies: policies.to_vec(),
            reason: reason.to_owned(),
            observed,
        }
    }

    /// The request's members as JSON, sensitive ones taken out.
    fn parameters(&self, operation: &Operation) -> String {
        mask::redact_parameters(&operation.parameters)
    }
}

/// A request body after the reading stage.
enum Read {
    Whole(Bytes),
    Stream(Incoming),
}

fn signature_refusal(e: &sigv4::SigError) -> Refusal {
    let kind = match e {
        sigv4::SigError::Unsupported { .. } => ErrorKind::NotImplemented,
        sigv4::SigError::Skewed { .. } => ErrorKind::RequestTimeTooSkewed,
        sigv4::SigError::Malformed(_) => ErrorKind::MalformedRequest,
        _ => ErrorKind::SignatureDoesNotMatch,
    };
    Refusal::new(kind, e.to_string())
}

/// Headers that speak of one connection only (RFC 9110 §7.6.1), those that an answer's `Connection` names
/// included; a request's names none, see [`Exchange::check_form`].
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .filter_map(|n| n.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// The first resource, and how many more there are.
fn abridged(resources: &[String]) -> String {
    match resources {
        [] => "*".into(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// A request id of our own, in the form of AWS's (a random UUID).
fn request_id() -> String {
    let n: u128 = rand::random();
    let h = format!("{:032x}", (n & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62));
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}
