//! Masking of an answer: what is short whole, what is long as it comes.
//!
//! Owns what becomes of the head, and the refusal in the place of an answer that could not be read. Never passes on what it
//! could not read. Runs on the exchange's task.

use std::pin::Pin;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, response};
use http_body::Body;

use super::Exchange;
use super::answer::forget_checksums;
use super::refusal::Refusal;
use crate::aws::error::ErrorKind;
use crate::aws::operation::Operation;
use crate::gateway::body::{Completion, ResponseBody, at_end};
use crate::gateway::masked::Masked;
use crate::gateway::upstream::UpstreamBody;
use crate::journal::Kind;
use crate::mask::{Answer, Keyed, Stream, View};
use crate::policy::Decision;

/// How much of an answer is masked before the first byte of it goes on. What is shorter and cannot be read is refused with
/// a sentence; the connection of what is longer breaks off.
const HELD: usize = 256 << 10;

impl Exchange<'_> {
    /// What is to be hidden from the agent in the answers of an operation.
    pub(super) fn view(&self, operation: &Operation, decision: &Decision) -> Option<View> {
        self.connection.core.masks.load().agent(operation, decision.obligations.mask.as_deref())
    }

    /// The answer with its secrets hidden, or a refusal in its place. The refusal's own outcome is then the only one: the
    /// agent never had this answer.
    pub(super) async fn masked(
        &self,
        mut parts: response::Parts,
        body: UpstreamBody,
        (operation, view): (&Operation, &View),
        completion: Completion,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let core = &self.connection.core;
        let key = core.mask_keys.kept(self.connection.session.id.as_str());
        mask_head(&mut parts.headers, view, &key);
        if at_end(&body) || self.parts.method == Method::HEAD {
            let mut completion = completion;
            completion.set_complete();
            return Ok(Response::from_parts(parts, ResponseBody::Stream(body, Box::new(completion))));
        }
        let stream = match stream(&parts, view, key) {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(Response::from_parts(parts, ResponseBody::Stream(body, Box::new(completion)))),
            Err(e) => return Err(unreadable(&parts, &e, completion)),
        };
        let raw = operation.service.starts_with("s3");
        let exchange = self.recorded.map(|id| id.0);
        veiled(parts, body, stream, raw, completion, |body, stream, ready, completion| {
            let mut event = self.event(Kind::Refused, operation, &[]);
            event.exchange = exchange;
            ResponseBody::Masked(Box::new(Masked::new(body, stream, ready, completion, (core.clone(), event))))
        })
        .await
    }
}

fn stream(parts: &response::Parts, view: &View, key: Keyed) -> Result<Option<Stream>, String> {
    let text = |name: HeaderName| match parts.headers.get(&name) {
        None => Ok(None),
        Some(value) => HeaderValue::to_str(value).map(Some).map_err(|_| format!("its header `{name}` is no text")),
    };
    let answer = Answer {
        content_type: text(CONTENT_TYPE)?,
        content_encoding: text(CONTENT_ENCODING)?,
        partial: parts.status == StatusCode::PARTIAL_CONTENT,
    };
    view.stream(&answer, key).map_err(|e| e.to_string())
}

/// Members in the head.
fn mask_head(headers: &mut HeaderMap, view: &View, key: &Keyed) {
    for (name, hidden) in view.headers(headers, key) {
        match hidden {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}

/// The first of an answer, and all of a short one; `on` goes on with a longer one.
async fn veiled<B>(
    mut parts: response::Parts,
    mut body: B,
    mut stream: Stream,
    raw: bool,
    mut completion: Completion,
    on: impl FnOnce(B, Stream, Bytes, Completion) -> ResponseBody,
) -> Result<Response<ResponseBody>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut came, mut out) = (0, Vec::new());
    loop {
        let ended = at_end(&body);
        let next = if ended { None } else { std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await };
        let step = match next {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    came += data.len();
                    completion.count(data.len());
                    stream.push(&data, &mut out).map(|()| false)
                }
                Err(_) => Ok(false),
            },
            Some(Err(e)) => return Err(unreadable(&parts, &e.into().to_string(), completion)),
            None => stream.finish(&mut out).map(|()| true),
        };
        match step {
            Err(e) => return Err(unreadable(&parts, &e.to_string(), completion)),
            Ok(true) => break,
            // Events are for whoever waits for them now.
            Ok(false) if out.len() > HELD || came > 4 * HELD || (stream.is_live() && !out.is_empty()) => {
                changed(&mut parts.headers, raw);
                return Ok(Response::from_parts(parts, on(body, stream, out.into(), completion)));
            }
            Ok(false) => {}
        }
    }
    // What nothing was hidden in is as it was, checksums and all.
    if stream.changed() {
        let checked = parts.headers.contains_key("x-amz-crc32");
        changed(&mut parts.headers, raw);
        if checked {
            parts.headers.insert("x-amz-crc32", crc32fast::hash(&out).into());
        }
    }
    completion.set_complete();
    Ok(Response::from_parts(parts, ResponseBody::Whole(out.into())))
}

/// Takes out of the head what is not true of the masked body.
fn changed(headers: &mut HeaderMap, raw: bool) {
    forget_checksums(headers);
    headers.remove(CONTENT_ENCODING);
    headers.remove(header::ACCEPT_RANGES);
    if raw {
        // A digest of the object, for some.
        headers.remove(header::ETAG);
    }
}

fn unreadable(parts: &response::Parts, why: &str, completion: Completion) -> Refusal {
    let request = completion.give_up().map_or_else(String::new, |id| format!(", request {id}"));
    Refusal::new(
        ErrorKind::AccessDenied,
        format!("the answer must be masked and could not be read, so it is not passed on: {why}"),
    )
    .with_detail(format!(
        "the answer must be masked and is not passed on: {why} (the endpoint answered {}{request})",
        parts.status.as_u16()
    ))
}

#[cfg(test)]
mod tests;
