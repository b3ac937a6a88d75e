//! Requests without a signature: the few operations that need none, judged as any other and sent as they came.
//!
//! Owns which of them there are, and that nothing else goes up unsigned. What such a request does happens in nobody's
//! account that we know of: the held credentials have no part in it. Runs on the exchange's task.

use bytes::Bytes;
use http::{HeaderName, Request, Response, header};
use hyper::body::Incoming;

use super::refusal::Refusal;
use super::{Exchange, Read};
use crate::aws::error::ErrorKind;
use crate::aws::handout::{self, Treatment};
use crate::aws::operation::Route;
use crate::aws::sigv4::Payload;
use crate::gateway::body::{Check, Completion, RequestBody, ResponseBody};

impl Exchange<'_> {
    pub(super) async fn run_unsigned(&mut self, body: Incoming) -> Result<Response<ResponseBody>, Refusal> {
        let route = self.identify(None)?;
        if !may_be_unsigned(&route) {
            return Err(unsigned());
        }
        let body = self.read(body, &Payload::Absent, &route).await?;
        let understood = self.understand(route, &body);
        // Such bodies carry tokens that count by themselves: what was not understood of one is not recorded as it came.
        self.unread = Bytes::new();
        let operation = understood?;
        let handout = handout::of(&operation).filter(|h| h.unsigned).ok_or_else(unsigned)?;
        if handout.treatment == Treatment::Here {
            return self.web_identity(operation).await;
        }
        let decision = self.decide(&operation)?;
        let observed = self.enforce(&operation, &decision).await?;
        self.room_for_credentials(&operation)?;
        let id = self.record_intent(&operation, &decision, observed).await?;
        let waiting = Completion::new(self.connection.core.store.clone(), id, 0, None, self.passage.clone());
        let mut parts = self.outgoing();
        for name in SIGNATURE {
            parts.headers.remove(name);
        }
        let body = match body {
            Read::Whole(bytes) => RequestBody::Whole(bytes),
            Read::Stream(incoming) => RequestBody::stream(incoming, Check::None, self.passage.clone(), None),
        };
        let response = self.send(Request::from_parts(parts, body)).await;
        waiting.give_up();
        self.answer(response?, &operation, &decision, None, id).await
    }
}

/// What belongs to a signature; without one it means nothing, or to others something else.
const SIGNATURE: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-amz-s3session-token"),
];

/// Whether the head leaves open that it is one of those operations. A body is read for nothing else.
fn may_be_unsigned(route: &Route) -> bool {
    match route.named() {
        Some((service, operation)) => handout::unsigned(service, operation),
        None => route.form_services().any(handout::any_unsigned),
    }
}

fn unsigned() -> Refusal {
    Refusal::new(
        ErrorKind::AccessDenied,
        "the request is not signed, so it cannot be attributed; use the credentials that the metadata service offers",
    )
}
