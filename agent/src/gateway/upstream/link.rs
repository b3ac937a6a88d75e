//! Connections to endpoints, and the answers that come over them.
//!
//! An HTTP/1.1 connection is driven by the exchange that uses it, on that exchange's own task: its futures are polled
//! where the answer is awaited and where its body is read. A task of its own would cost two switches for each request,
//! and one for each piece of a body. An HTTP/2 connection is shared, and has a task of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::UpstreamError;
use super::connect::Transport;
use super::pool::Pool;
use crate::gateway::body::RequestBody;

/// A request that got no answer, and whether anything of it was sent.
pub(super) enum Unsent {
    /// Nothing was: it may be tried on another connection.
    Yes(Box<Request<RequestBody>>, UpstreamError),
    No(UpstreamError),
}

impl Unsent {
    pub(super) fn map(self, back: impl FnOnce(Request<RequestBody>) -> Request<RequestBody>) -> Self {
        match self {
            Self::Yes(request, e) => Self::Yes(Box::new(back(*request)), e),
            no => no,
        }
    }
}

impl From<TrySendError<Request<RequestBody>>> for Unsent {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Yes(Box::new(request), UpstreamError::exchange(error.error())),
            None => Self::No(UpstreamError::exchange(error.error())),
        }
    }
}

/// One HTTP/1.1 connection.
pub(super) struct Link {
    sender: http1::SendRequest<RequestBody>,
    connection: http1::Connection<TokioIo<Transport>, RequestBody>,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    /// When it came into the pool.
    pub(super) since: Instant,
}

impl Link {
    pub(super) async fn open(io: TokioIo<Transport>, host: &str, port: u16) -> Result<Box<Self>, UpstreamError> {
        let (sender, connection) =
            http1::Builder::new().handshake(io).await.map_err(|e| UpstreamError::exchange(&e))?;
        Ok(Box::new(Self { sender, connection, host: host.into(), port, since: Instant::now() }))
    }

    /// Moves bytes. `true`: the connection is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        // What went wrong, whoever waits for the answer or its body is told by hyper.
        Pin::new(&mut self.connection).poll(cx).is_ready()
    }

    /// Whether it is open and another request may go over it.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        !self.drive(cx) && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        pool: &Arc<Pool>,
    ) -> Result<Response<UpstreamBody>, Unsent> {
        let mut over = false;
        let answer = self.sender.try_send_request(request);
        let mut answer = std::pin::pin!(answer);
        let connection = &mut self.connection;
        let response = std::future::poll_fn(|cx| {
            over = over || Pin::new(&mut *connection).poll(cx).is_ready();
            answer.as_mut().poll(cx)
        })
        .await?;
        let link = (!over).then_some(self);
        Ok(response.map(|incoming| UpstreamBody::Driven(Driven { incoming, link, pool: pool.clone() })))
    }
}

/// Shakes hands for HTTP/2, and leaves the connection to a task that ends with its last sender.
pub(super) async fn open_http2(io: TokioIo<Transport>) -> Result<http2::SendRequest<RequestBody>, UpstreamError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .handshake(io)
        .await
        .map_err(|e| UpstreamError::exchange(&e))?;
    tokio::spawn(async move {
        // The streams on it have been told already.
        let _ = connection.await;
    });
    Ok(sender)
}

pub(super) async fn send_http2(
    mut sender: http2::SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Unsent> {
    let response = sender.try_send_request(request).await?;
    Ok(response.map(UpstreamBody::Shared))
}

/// The body of an answer.
#[derive(Debug)]
pub enum UpstreamBody {
    /// By HTTP/1.1.
    Driven(Driven),
    /// By HTTP/2.
    Shared(Incoming),
}

/// A body together with the connection that it comes over, which goes back to the pool when the body has ended.
pub struct Driven {
    incoming: Incoming,
    /// `None`: given back, or over.
    link: Option<Box<Link>>,
    pool: Arc<Pool>,
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

impl Driven {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return ready;
        }
        // Nothing was there; asking for it is what makes the connection read on.
        if let Some(link) = &mut self.link
            && link.drive(cx)
        {
            self.link = None;
        }
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    /// Gives the connection back, unless something is still to come over it, either way.
    fn release(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        // The connection has to notice for itself that the exchange is over.
        if link.is_usable(&mut Context::from_waker(Waker::noop())) {
            Pool::put(&self.pool, link);
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // Bodies without bytes are never polled.
        if self.incoming.is_end_stream() {
            self.release();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Shared(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::Driven(driven) => {
                let polled = driven.poll(cx);
                if matches!(polled, Poll::Ready(None)) {
                    driven.release();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Shared(incoming) | Self::Driven(Driven { incoming, .. }) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Shared(incoming) | Self::Driven(Driven { incoming, .. }) => incoming.size_hint(),
        }
    }
}
