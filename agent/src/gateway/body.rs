//! Bodies on their way through: counted, checked, never gathered.
//!
//! Owns the adaptors between hyper's bodies on both sides; they run on the connection's task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use super::life::Life;
use super::masked::Masked;
use super::upstream::UpstreamBody;
use crate::aws::sigv4::{PieceError, Pieces};
use crate::daemon::Core;
use crate::journal::Event;
use crate::mask::MaskError;
use crate::record::{ExchangeId, Outcome, Store};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the connection broke: {0}")]
    Hyper(#[from] hyper::Error),
    #[error("the body is not the one that was signed: its SHA-256 differs from x-amz-content-sha256")]
    Altered,
    #[error(transparent)]
    Pieces(#[from] PieceError),
    #[error("the session was closed")]
    Closed,
    #[error("the answer must be masked, and what follows could not be read: {0}")]
    Masked(#[from] MaskError),
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
    check: Check,
    passage: Arc<Passage>,
    /// Told if the body turns out to be bad when its answer is on its way already.
    late: Option<Box<(Arc<Core>, Event)>>,
}

/// What is looked at while a body passes.
#[derive(Debug)]
pub enum Check {
    /// The agent's signature does not cover it.
    None,
    /// The running hash and the lower-case hex it must end in.
    Hash(Box<Sha256>, String),
    /// Each piece is verified and signed anew; `true`: all have been.
    Pieces(Box<Pieces>, bool),
}

/// What is known of a request body while, and after, it passes.
#[derive(Debug, Default)]
pub struct Passage {
    /// Bytes that have passed.
    pub sent: AtomicU64,
    /// It was not the body that had been signed. (hyper does not give a body's error back over HTTP/2.)
    pub fault: OnceLock<Fault>,
    /// The head of the answer has come.
    pub answered: AtomicBool,
    /// The connection's, which so knows that there is an exchange.
    pub life: Arc<Life>,
}

/// Why a body was not passed on to its end.
#[derive(Debug, Clone)]
pub enum Fault {
    Altered,
    Pieces(PieceError),
}

impl From<&Fault> for BodyError {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Altered => Self::Altered,
            Fault::Pieces(e) => Self::Pieces(e.clone()),
        }
    }
}

impl RequestBody {
    /// `late` is told of a fault that the agent cannot be answered with any more.
    pub fn stream(inner: Incoming, check: Check, passage: Arc<Passage>, late: Option<(Arc<Core>, Event)>) -> Self {
        Self::Stream(Streamed { inner, check, passage, late: late.map(Box::new) })
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
            Self::Stream(s) => match &s.check {
                Check::None => s.inner.is_end_stream(),
                Check::Hash(..) => false,
                Check::Pieces(pieces, ended) => *ended && pieces.held() == 0,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(s) => match (&s.check, s.inner.size_hint()) {
                // What is held back comes, too, and is as long as it was.
                (Check::Pieces(pieces, _), hint) => match hint.exact() {
                    Some(left) => SizeHint::with_exact(left.saturating_add(pieces.held())),
                    None => SizeHint::new(),
                },
                (_, hint) => hint,
            },
        }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Streamed<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Check::Pieces(pieces, ended) = &mut self.check {
                if let Some(bytes) = pieces.pop() {
                    self.passage.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                if *ended {
                    return Poll::Ready(None);
                }
            }
            let Poll::Ready(polled) = Pin::new(&mut self.inner).poll_frame(cx) else { return Poll::Pending };
            if matches!(polled, Some(Ok(_)) if self.inner.is_end_stream()) || polled.is_none() {
                self.passage.life.read_to_end();
            }
            let data = match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    // Trailers are not signed by the agent, so they do not go on under our signature.
                    Err(_) => continue,
                },
                Some(Err(e)) => return Poll::Ready(Some(Err(e.into()))),
                None => match self.finish() {
                    // What was held back for the end comes now.
                    Ok(()) if matches!(self.check, Check::Pieces(..)) => continue,
                    Ok(()) => return Poll::Ready(None),
                    Err(fault) => return Poll::Ready(Some(Err(self.fail(fault)))),
                },
            };
            let taken = match &mut self.check {
                Check::None => Ok(()),
                Check::Hash(hash, _) => {
                    hash.update(&data);
                    Ok(())
                }
                Check::Pieces(pieces, _) => pieces.push(data.clone(), SystemTime::now()).map_err(Fault::Pieces),
            };
            // With a length, hyper does not poll past the last byte: the check must not wait for the end.
            let checked = taken.and_then(|()| if at_end(&self.inner) { self.finish() } else { Ok(()) });
            if let Err(fault) = checked {
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
            if !matches!(self.check, Check::Pieces(..)) {
                self.passage.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    /// The body is whole.
    fn finish(&mut self) -> Result<(), Fault> {
        match &mut self.check {
            Check::None => Ok(()),
            Check::Hash(hash, declared) => {
                let same = hex::encode(hash.finalize_reset()) == *declared;
                self.check = Check::None;
                if same { Ok(()) } else { Err(Fault::Altered) }
            }
            Check::Pieces(_, true) => Ok(()),
            Check::Pieces(pieces, ended) => {
                *ended = true;
                pieces.end().map_err(Fault::Pieces)
            }
        }
    }

    fn fail(&mut self, fault: Fault) -> BodyError {
        let error = BodyError::from(&fault);
        // Whoever waits for the answer is told by its absence; nobody does once it has begun.
        if let Some(late) = self.late.take()
            && self.passage.answered.load(Ordering::Relaxed)
        {
            let (core, mut event) = *late;
            event.reason = Some(error.to_string());
            core.journal.emit(event);
        }
        let _ = self.passage.fault.set(fault);
        error
    }
}

/// A response body towards the agent.
#[derive(Debug)]
pub enum ResponseBody {
    Whole(Bytes),
    Stream(UpstreamBody, Box<Completion>),
    Masked(Box<Masked>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Masked(masked) => masked.poll(cx),
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
            Self::Masked(masked) => masked.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(inner, _) => inner.size_hint(),
            Self::Masked(_) => SizeHint::new(),
        }
    }
}

/// An error with its causes: hyper's own text seldom says what happened.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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

    /// More of the answer has come.
    pub(super) fn count(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// The answer has broken off.
    pub(super) fn fail(&mut self, why: String) {
        self.error = Some(why);
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
        let fault = self.passage.fault.get().map(|f| BodyError::from(f).to_string());
        let unfinished = (!self.complete).then(|| "the agent went away before the answer ended".to_owned());
        self.store.outcome(
            self.exchange,
            Outcome {
                status: self.status,
                request_id: self.request_id.take(),
                bytes_sent: self.passage.sent.load(Ordering::Relaxed),
                bytes_received: self.received,
                ended: SystemTime::now(),
                error: fault.or(self.error.take()).or(unfinished),
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
        let check = Check::Hash(Box::default(), hex::encode(Sha256::digest("ab")));
        let mut streamed = Streamed { inner, check, passage: Arc::default(), late: None };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(Some(Ok(frame))) = streamed.poll(&mut cx) else { panic!("no data") };
        assert_eq!(frame.into_data().ok(), Some(Bytes::from("ab")));
        assert!(matches!(streamed.poll(&mut cx), Poll::Ready(None)));
        assert!(matches!(streamed.check, Check::None), "the hash was not looked at");
    }
}
