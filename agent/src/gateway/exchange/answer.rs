//! The endpoint's answer on its way to the agent: masked if so decided, else as it streams.
//!
//! Owns what is taken out of the head of an answer. Runs on the exchange's task.

use http::header::HeaderName;
use http::{Response, Version, header};
use http_body_util::{BodyExt, Limited};

use super::Exchange;
use super::form::strip_hop_by_hop;
use super::refusal::Refusal;
use crate::aws::error::ErrorKind;
use crate::aws::operation::Operation;
use crate::gateway::body::{Completion, ResponseBody, at_end};
use crate::gateway::upstream::UpstreamBody;
use crate::mask;
use crate::policy::Decision;
use crate::record::ExchangeId;

impl Exchange<'_> {
    /// The endpoint's answer: masked if so decided, else as it streams.
    pub(super) async fn answer(
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

    pub(super) async fn mask(
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
}
