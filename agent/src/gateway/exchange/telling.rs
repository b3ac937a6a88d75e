//! What is told of an exchange: the answer to a no, events, and the record's row.
//!
//! Owns the texts and the fields. Decides nothing. Runs on the exchange's task.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, Version, header};

use super::Exchange;
use super::refusal::Refusal;
use crate::aws::error::{self, ErrorKind};
use crate::aws::operation::{Operation, UNKNOWN};
use crate::aws::sigv4;
use crate::gateway::body::ResponseBody;
use crate::journal::{Event, Kind};
use crate::mask;
use crate::record::{Intent, Outcome};

impl Exchange<'_> {
    pub(super) fn denial(&self, operation: &Operation, policies: &[String], reason: &str, event: Kind) -> Refusal {
        let policy = if policies.is_empty() { String::new() } else { format!("policy {}, ", policies.join(", ")) };
        let message = format!(
            "Tollgate denied {} on {}: {reason} ({policy}session {}, request {})",
            operation.actions().join(", "),
            abridged(&operation.resources()),
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
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Response<ResponseBody> {
        let reason = refusal.detail.clone().unwrap_or_else(|| refusal.message.clone());
        let response = match self.protocol {
            Some(protocol) => {
                let endpoint = &self.connection.endpoint;
                let signing = endpoint.signing.as_deref().unwrap_or_default();
                let service = self.operation.as_ref().map_or(signing, |o| o.service.as_str());
                let service = error::speaker(endpoint, &self.parts, service);
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
        let intent = match self.recorded {
            // The intent is there: what comes now is its outcome.
            Some(id) => Ok(id),
            None => Err(self.intent(self.operation.as_deref(), refusal.decision, &refusal.policies, &reason, false)),
        };
        let outcome = Outcome {
            status: response.status().as_u16(),
            request_id: Some(self.request_id().to_owned()),
            bytes_sent: 0,
            bytes_received: 0,
            ended: SystemTime::now(),
            error: (refusal.decision == "refuse").then(|| reason.clone()),
        };
        let mut event = match &self.operation {
            Some(operation) => self.event(refusal.event, operation, &refusal.policies),
            None => self.connection.event(refusal.event),
        };
        if self.operation.is_none() && refusal.event == Kind::Blocked {
            event.action = Some(UNKNOWN.into());
            event.region = self.connection.endpoint.region.clone();
        }
        event.reason = Some(reason);
        // On a task of its own: an agent that hangs up at once must not keep its refusal from being told.
        let core = self.connection.core.clone();
        let told = tokio::spawn(async move {
            let id = match intent {
                Ok(id) => Some(id),
                Err(intent) => core
                    .store
                    .intent(intent)
                    .await
                    .inspect_err(|e| tracing::error!("a refused exchange could not be recorded: {e}"))
                    .ok(),
            };
            if let Some(id) = id {
                core.store.outcome(id, outcome);
            }
            event.exchange = id.map(|i| i.0);
            core.journal.emit(event);
        });
        // It does not panic, and nobody aborts it.
        let _ = told.await;
        // An unread body would have to be drained before the next request; the agent is told to come anew.
        let mut response = response.map(ResponseBody::Whole);
        if self.parts.version != Version::HTTP_2 && response.status() != StatusCode::OK && self.carries_body {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            self.connection.lingers.store(true, Ordering::Relaxed);
        }
        response
    }

    /// A request id of our own.
    pub(super) fn request_id(&self) -> &str {
        self.request_id.get_or_init(request_id)
    }

    pub(super) fn event(&self, kind: Kind, operation: &Operation, policies: &[String]) -> Event {
        about(self.connection.event(kind), operation, policies, self.account.as_deref())
    }

    pub(super) fn intent(
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
            exe: c.exe.to_string(),
            host: c.endpoint.host.clone(),
            method: self.parts.method.to_string(),
            target: cut(mask::redact_target(
                self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
                operation.and_then(|o| o.input),
            )),
            action: operation.map_or_else(|| UNKNOWN.into(), |o| o.actions().join(" ")),
            operation: operation.map_or_else(|| "unknown".into(), |o| format!("{}:{}", o.service, o.name)),
            resources: operation.map(|o| first(&o.resources())).unwrap_or_default(),
            region: operation.map(|o| o.region.clone()).or_else(|| c.endpoint.region.clone()).unwrap_or_default(),
            account: self.account.clone(),
            parameters: match (operation, self.unread.is_empty()) {
                (_, false) => unread(&self.unread),
                (Some(operation), true) => self.parameters(operation),
                (None, true) => String::new(),
            },
            decision,
            policies: policies.to_vec(),
            reason: reason.to_owned(),
            observed,
            facts: operation.and_then(|o| self.facts(o)),
        }
    }

    /// The request's members as JSON, sensitive ones taken out.
    pub(super) fn parameters(&self, operation: &Operation) -> String {
        let (core, session) = (&self.connection.core, self.connection.session.id.as_str());
        let json = mask::redact_parameters(&operation.parameters, operation.input, &core.mask_keys.of(session));
        bounded(core.masks.load().parameters(operation, json, || core.mask_keys.kept(session)))
    }
}

/// Longest text of one kind in a row of the record: an agent must not fill the disk with a few requests.
pub(super) const LONGEST: usize = 64 << 10;
/// Most resources in a row.
pub(super) const MOST: usize = 100;

/// Parameters as they are, or what stands for them where they are too long: their length and digest.
fn bounded(json: String) -> String {
    if json.len() <= LONGEST {
        return json;
    }
    let digest = sigv4::sha256_hex(json.as_bytes());
    format!(r#"{{"tollgate:left-out":{{"bytes":{},"sha256":"{digest}"}}}}"#, json.len())
}

/// Most of a body that was not understood in a row.
const UNREAD: usize = 16 << 10;

/// What stands for the parameters of a request that was not understood: its body's bytes, as far as they go.
fn unread(body: &[u8]) -> String {
    let base64 = STANDARD.encode(&body[..body.len().min(UNREAD)]);
    format!(r#"{{"tollgate:body":{{"bytes":{},"base64":"{base64}"}}}}"#, body.len())
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn first(resources: &[&str]) -> Vec<String> {
    let mut some: Vec<String> = resources.iter().take(MOST).map(|r| cut((*r).to_owned())).collect();
    if let Some(more) = resources.len().checked_sub(MOST).filter(|n| *n > 0) {
        some.push(format!("… and {more} more"));
    }
    some
}

/// An event with what is known of its operation.
fn about(event: Event, operation: &Operation, policies: &[String], account: Option<&str>) -> Event {
    Event {
        policy: (!policies.is_empty()).then(|| policies.join(" ")),
        action: Some(operation.actions().join(" ")),
        resource: Some(abridged(&operation.resources())),
        region: Some(operation.region.clone()),
        account: account.map(str::to_owned),
        ..event
    }
}

/// The first resource, and how many more there are.
fn abridged(resources: &[&str]) -> String {
    match resources {
        [] => "*".into(),
        [one] => (*one).to_owned(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// A request id of our own, in the form of AWS's (a random UUID).
fn request_id() -> String {
    let n: u128 = rand::random();
    let h = format!("{:032x}", (n & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62));
    format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::AccessLevel;
    use crate::aws::operation::{Need, Protocol};

    #[test]
    fn an_event_names_the_account_that_is_held() {
        let operation = Operation {
            service: "s3".into(),
            name: "GetObject".into(),
            signing_name: "s3".into(),
            region: "us-east-1".into(),
            partition: "aws",
            protocol: Protocol::RestXml,
            needs: vec![Need::new("s3:GetObject", vec!["a".into(), "b".into()])],
            access: AccessLevel::Read,
            input: None,
            parameters: serde_json::Map::new(),
            credentials_in_output: false,
        };
        let event = |account| about(Event::default(), &operation, &["p".into()], account).fields();
        let with = event(Some("111122223333"));
        assert!(with.contains(&("AWS_ACCOUNT", "111122223333".into())), "{with:?}");
        assert!(with.contains(&("AWS_RESOURCE", "a and 1 more".into())), "{with:?}");
        assert!(event(None).iter().all(|(name, _)| *name != "AWS_ACCOUNT"));
    }

    #[test]
    fn what_is_too_long_for_a_row_is_cut_or_stood_for() {
        assert_eq!(bounded("{}".into()), "{}");
        let long = bounded(format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST)));
        assert!(long.starts_with(r#"{"tollgate:left-out":{"bytes":65544,"sha256":""#), "{long}");
        assert!(serde_json::from_str::<serde_json::Value>(&long).is_ok());
        assert_eq!(cut("é".repeat(LONGEST)).len(), LONGEST + '…'.len_utf8());
        let long = unread(&[0; UNREAD + 3]);
        let row: serde_json::Value = serde_json::from_str(&long).expect("JSON");
        assert_eq!((&row["tollgate:body"]["bytes"], long.len() < 2 * UNREAD), (&(UNREAD + 3).into(), true));
        let many = vec!["a"; MOST + 2];
        assert_eq!(first(&many).last().map(String::as_str), Some("… and 2 more"));
        assert_eq!(first(&many[..MOST]).len(), MOST);
    }
}
