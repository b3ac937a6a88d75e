//! Bodies on their way through: counted, checked, never gathered.
//!
//! Owns the adaptors between hyper's bodies on both sides; they run on the connection's task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::life::Life;
use super::upstream::UpstreamBody;
use crate::record::{ExchangeId, Outcome, Store};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the connection broke: {0}")]
    Hyper(#[from] hyper::Error),
    #[error("the body is not the one that was signed: its SHA-256 differs from x-amz-content-sha256")]
    Altered,
    #[error("the session was closed")]
    Closed,
}

/// A request body towards AWS.
#[derive(Debug)]
pub enum RequestBody {
    /// Read already, or none.
    Whole(Bytes),
    /// Passed on as it comes.
    Stream(Streamed),
}

/// A request body that is passed on as it comes.
#[derive(Debug)]
pub struct Streamed<B = Incoming> {
    inner: B,
    /// The running hash and the lower-case hex it must end in.
    check: Option<(Sha256, String)>,
    passage: Arc<Passage>,
}

/// What is known of a request body while, and after, it passes.
#[derive(Debug, Default)]
pub struct Passage {
    /// Bytes that have passed.
    pub sent: AtomicU64,
    /// It was not the body that had been signed. (hyper does not give a body's error back over HTTP/2.)
    pub altered: AtomicBool,
    /// The connection's, which so knows that there is an exchange.
    pub life: Arc<Life>,
}

impl RequestBody {
    /// `declared` is the payload hash that the client signed, if it signed one.
    pub fn stream(inner: Incoming, declared: Option<String>, passage: Arc<Passage>) -> Self {
        Self::Stream(Streamed { inner, check: declared.map(|hex| (Sha256::new(), hex)), passage })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            // A body to be checked ends when the check has been made.
            Self::Stream(s) => s.check.is_none() && s.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(s) => s.inner.size_hint(),
        }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Streamed<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = loop {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                // Trailers are not signed by the agent, so they do not go on under our signature.
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => {}
                Poll::Ready(polled) => break polled,
                Poll::Pending => return Poll::Pending,
            }
        };
        if matches!(polled, Some(Ok(_)) if self.inner.is_end_stream()) || polled.is_none() {
            self.passage.life.read_to_end();
        }
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.passage.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                    if let Some((hash, _)) = &mut self.check {
                        hash.update(data);
                    }
                }
                // With a length, hyper does not poll past the last byte: the check must not wait for the end.
                if at_end(&self.inner) {
                    self.finish().err().map_or(Some(Ok(frame)), |e| Some(Err(e)))
                } else {
                    Some(Ok(frame))
                }
            }
            Some(Err(e)) => Some(Err(e.into())),
            None => self.finish().err().map(Err),
        })
    }

    fn finish(&mut self) -> Result<(), BodyError> {
        let Some((hash, declared)) = self.check.take() else { return Ok(()) };
        if hex::encode(hash.finalize()) == declared {
            return Ok(());
        }
        self.passage.altered.store(true, Ordering::Relaxed);
        Err(BodyError::Altered)
    }
}

/// A response body towards the agent.
#[derive(Debug)]
pub enum ResponseBody {
    Whole(Bytes),
    Stream(UpstreamBody, Box<Completion>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(inner, completion) => {
                let Poll::Ready(polled) = Pin::new(&mut *inner).poll_frame(cx) else { return Poll::Pending };
                match &polled {
                    Some(Ok(frame)) => {
                        completion.received += frame.data_ref().map_or(0, |d| d.len() as u64);
                        if at_end(inner) {
                            completion.complete = true;
                        }
                    }
                    Some(Err(e)) => completion.error = Some(format!("the answer broke off: {}", chain(e))),
                    None => completion.complete = true,
                }
                Poll::Ready(polled.map(|r| r.map_err(BodyError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(inner, _) => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(inner, _) => inner.size_hint(),
        }
    }
}

/// An error with its causes: hyper's own text seldom says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

/// Whether the last byte has come. In HTTP/2 the end of the stream may follow in a frame of its own, which nobody waits
/// for once the announced length is there.
pub fn at_end(body: &impl Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// Writes the outcome of an exchange when its answer has ended, however it ended.
#[derive(Debug)]
pub struct Completion {
    store: Store,
    exchange: ExchangeId,
    status: u16,
    request_id: Option<String>,
    passage: Arc<Passage>,
    received: u64,
    complete: bool,
    given_up: bool,
    error: Option<String>,
}

impl Completion {
    pub fn new(
        store: Store,
        exchange: ExchangeId,
        status: u16,
        request_id: Option<String>,
        passage: Arc<Passage>,
    ) -> Self {
        Self {
            store,
            exchange,
            status,
            request_id,
            passage,
            received: 0,
            complete: false,
            given_up: false,
            error: None,
        }
    }

    /// The whole answer is known already: `bytes` long.
    pub fn finish(mut self, bytes: u64) {
        self.received = bytes;
        self.complete = true;
    }

    /// Writes nothing: the agent does not get this answer, and what it gets instead has an outcome of its own. Gives
    /// AWS's request id.
    pub fn give_up(mut self) -> Option<String> {
        self.given_up = true;
        self.request_id.take()
    }

    /// There is nothing more to come.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.given_up {
            return;
        }
        let unfinished = (!self.complete).then(|| "the agent went away before the answer ended".to_owned());
        self.store.outcome(
            self.exchange,
            Outcome {
                status: self.status,
                request_id: self.request_id.take(),
                bytes_sent: self.passage.sent.load(Ordering::Relaxed),
                bytes_received: self.received,
                ended: SystemTime::now(),
                error: self.error.take().or(unfinished),
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::StreamBody;

    use super::*;

    #[test]
    fn trailers_of_a_request_are_not_passed_on() {
        let trailers = HeaderMap::from_iter([(http::header::EXPIRES, http::HeaderValue::from_static("0"))]);
        let sent = [Frame::data(Bytes::from("ab")), Frame::trailers(trailers)];
        let inner = StreamBody::new(stream::iter(sent.map(Ok::<_, hyper::Error>)));
        let check = Some((Sha256::new(), hex::encode(Sha256::digest("ab"))));
        let mut streamed = Streamed { inner, check, passage: Arc::default() };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = streamed.poll(&mut cx) else { panic!("no data") };
        assert_eq!(frame.into_data().ok(), Some(Bytes::from("ab")));
        assert!(matches!(streamed.poll(&mut cx), Poll::Ready(None)));
        assert!(streamed.check.is_none(), "the hash was not looked at");
    }
}
