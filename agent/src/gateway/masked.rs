//! A response body that is masked while it passes.
//!
//! Owns the way from the endpoint's pieces to the agent's: nothing goes on that was not read. Runs on the connection's task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::body::{BodyError, Completion, at_end, chain};
use super::upstream::UpstreamBody;
use crate::daemon::Core;
use crate::journal::Event;
use crate::mask::{MaskError, Stream};

/// What comes, what hides it, and who is told of its end.
#[derive(Debug)]
pub struct Masked {
    inner: UpstreamBody,
    /// `None`: it has ended, well or not.
    stream: Option<Stream>,
    /// Masked already, still to go.
    ready: Bytes,
    completion: Completion,
    /// Told if what follows cannot be read: the answer is on its way by then.
    late: Option<(Arc<Core>, Event)>,
}

impl Masked {
    pub fn new(
        inner: UpstreamBody,
        stream: Stream,
        ready: Bytes,
        completion: Completion,
        late: (Arc<Core>, Event),
    ) -> Self {
        Self { inner, stream: Some(stream), ready, completion, late: Some(late) }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none() && self.ready.is_empty()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.ready.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ready)))));
            }
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            let Poll::Ready(polled) = Pin::new(&mut self.inner).poll_frame(cx) else { return Poll::Pending };
            let mut out = Vec::new();
            let masked = match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.completion.count(data.len());
                        stream.push(&data, &mut out).and_then(|()| match at_end(&self.inner) {
                            true => stream.finish(&mut out).map(|()| true),
                            false => Ok(false),
                        })
                    }
                    // Trailers say checksums of what came.
                    Err(_) => Ok(false),
                },
                Some(Err(e)) => {
                    self.completion.fail(format!("the answer broke off: {}", chain(&e)));
                    self.stream = None;
                    return Poll::Ready(Some(Err(e.into())));
                }
                None => stream.finish(&mut out).map(|()| true),
            };
            match masked {
                Ok(over) => {
                    if over {
                        self.stream = None;
                        self.completion.set_complete();
                    }
                    self.ready = out.into();
                }
                Err(e) => return Poll::Ready(Some(Err(self.unreadable(e)))),
            }
        }
    }

    fn unreadable(&mut self, e: MaskError) -> BodyError {
        self.stream = None;
        let error = BodyError::Masked(e);
        self.completion.fail(error.to_string());
        if let Some((core, mut event)) = self.late.take() {
            event.reason = Some(error.to_string());
            core.journal.emit(event);
        }
        error
    }
}
