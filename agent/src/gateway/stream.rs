//! A stream that first gives back what was read from it to sniff, and that can linger at its end.
//!
//! Owns nothing but bytes; runs on the connection's task.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A TCP connection with the bytes that were already read put back in front.
#[derive(Debug)]
pub struct Rewound {
    seen: Bytes,
    inner: TcpStream,
    lingers: Arc<AtomicBool>,
    /// There once the sending side has been shut down, if the stream lingers.
    until: Option<Pin<Box<Sleep>>>,
}

/// How long a client may go on sending a request that has been answered already. If the connection were closed at once,
/// what the client has still under way would reset it, and the client would lose the answer.
const LINGER: Duration = Duration::from_secs(5);

impl Rewound {
    /// `lingers`: whether to wait for the client at the end; it may be set any time before.
    pub fn new(seen: Bytes, inner: TcpStream, lingers: Arc<AtomicBool>) -> Self {
        Self { seen, inner, lingers, until: None }
    }

    /// Ready when there is something to read, or the end.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.seen.is_empty() { self.inner.poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Reads and forgets until the client has ended too, or its time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 8192];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.seen.len().min(buf.remaining());
        buf.put_slice(&self.seen[..n]);
        self.seen.advance(n);
        if self.seen.is_empty() {
            // Let go of the sniff buffer: an idle connection should not hold it.
            self.seen = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        if self.lingers.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
