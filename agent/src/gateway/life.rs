//! The life of an HTTP/1.1 connection: exchanges by hyper, and what hyper needs for them only while there are some.
//!
//! hyper holds two buffers and more for as long as its connection lives, and most of that an agent's connection is idle.
//! So after a pause hyper's half is let go, and the stream alone is waited on until it has something to read again.
//! Owns when that may be: only where hyper, too, says that it is between two exchanges. Runs on the connection's task.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use super::body::ResponseBody;
use super::stream::Rewound;

/// How long there is no exchange before hyper's half is let go: longer than a client that is at work pauses, and short, so
/// that those who come one after another use the same memory.
const PAUSE: Duration = Duration::from_millis(40);
/// The longest time between two looks at a connection that has one long exchange, or none.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is known of a connection's exchanges. Each of them holds it, and so do its bodies.
#[derive(Debug, Default)]
pub struct Life {
    /// Exchanges so far.
    begun: AtomicU32,
    /// A request's body has not been read to its end. hyper may read the rest, or end the connection.
    unread: AtomicBool,
    /// Something was written and has not left yet.
    unflushed: AtomicBool,
    /// hyper is ending the connection.
    ending: AtomicBool,
}

impl Life {
    /// An exchange begins, and its request has a body or not.
    pub fn begin(&self, body: bool) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.unread.store(body, Ordering::Relaxed);
    }

    /// The request's body has been read to its end.
    pub fn read_to_end(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// Whether nothing is under way. For HTTP/1.1, and from the connection's own task after hyper has been polled.
    fn is_quiet(self: &Arc<Self>) -> bool {
        let any = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        Arc::strong_count(self) == HOLDERS && !any(&self.unread) && !any(&self.unflushed) && !any(&self.ending)
    }

    /// Returns after a pause since the last of at least one exchange more than `before`.
    async fn pause(self: &Arc<Self>, before: u32) {
        let (mut seen, mut pause) = (before, PAUSE);
        loop {
            tokio::time::sleep(pause).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun != before && begun == seen && self.is_quiet() {
                return;
            }
            pause = if begun == seen { LONGEST_PAUSE.min(pause * 2) } else { PAUSE };
            seen = begun;
        }
    }
}

/// Those that hold a [`Life`] without an exchange: what all exchanges share, and [`Watched`].
const HOLDERS: usize = 2;

/// A stream that can be waited on without a buffer to read into.
pub trait Waiting: AsyncRead + AsyncWrite + Unpin {
    /// Ready when there is something to read, or the end.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Waiting for Box<Rewound> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Rewound::poll_readable(self, cx)
    }
}

impl Waiting for Box<TlsStream<Rewound>> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is not consumed is read again.
        tokio::io::AsyncBufRead::poll_fill_buf(Pin::new(&mut **self), cx).map_ok(drop)
    }
}

/// Serves a connection to its end; a client that says nothing for `idle` is let go.
pub async fn serve<S, V>(
    life: &Arc<Life>,
    stream: S,
    service: V,
    idle: Duration,
    stop: &mut watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Waiting,
    V: Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible> + Clone + Unpin,
    V::Future: Unpin,
{
    let mut io = Watched { inner: stream, rest: Bytes::new(), life: life.clone() };
    loop {
        let before = life.begun.load(Ordering::Relaxed);
        // Boxed: an idle connection should not keep room for it.
        let mut serving = Box::new(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(idle)
                .serve_connection(TokioIo::new(io), service.clone()),
        );
        tokio::select! {
            biased;
            result = &mut *serving => return result,
            () = super::stopped(stop) => {
                Pin::new(&mut *serving).graceful_shutdown();
                return serving.await;
            }
            () = life.pause(before) => {}
        }
        // hyper's own word on it: it is done at once if it is between two exchanges. If it is not, it ends the connection
        // after the one that it is in.
        Pin::new(&mut *serving).graceful_shutdown();
        match poll_fn(|cx| Poll::Ready(serving.poll_without_shutdown(cx))).await {
            Poll::Ready(done) => done?,
            Poll::Pending => return serving.await,
        }
        let http1::Parts { io: stream, read_buf, .. } = serving.into_parts();
        io = stream.into_inner();
        // Of a request whose head has not come whole. Its time begins anew, once: there is no pause before it is served.
        io.rest = read_buf;
        if io.rest.is_empty() && !readable(&mut io.inner, idle, stop).await {
            let _ = io.inner.shutdown().await;
            return Ok(());
        }
    }
}

/// Waits until there is something to read, or the client has ended; `false`: it need not be waited for any more.
async fn readable(stream: &mut impl Waiting, idle: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        readable = tokio::time::timeout(idle, poll_fn(|cx| stream.poll_readable(cx))) => matches!(readable, Ok(Ok(()))),
        () = super::stopped(stop) => false,
    }
}

/// A stream that knows what hyper does with it.
struct Watched<S> {
    inner: S,
    /// What hyper had read already.
    rest: Bytes,
    life: Arc<Life>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.life.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.life.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.life.unflushed.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.life.ending.store(true, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, Weak};

    use hyper::body::Body as _;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, BufReader, DuplexStream};

    use super::*;

    impl Waiting for BufReader<DuplexStream> {
        fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            tokio::io::AsyncBufRead::poll_fill_buf(Pin::new(self), cx).map_ok(drop)
        }
    }

    const IDLE: Duration = Duration::from_secs(60);
    /// Every look at a connection comes sooner.
    const WHILE: Duration = Duration::from_secs(5);
    const ASK: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    struct Served {
        client: DuplexStream,
        life: Weak<Life>,
        /// Paths that were asked for. hyper, while it is there, holds it, too.
        asked: Arc<Mutex<Vec<String>>>,
        _stop: watch::Sender<bool>,
        over: tokio::task::JoinHandle<bool>,
    }

    impl Served {
        fn start() -> Self {
            let (client, server) = tokio::io::duplex(1 << 16);
            let (life, asked) = (Arc::<Life>::default(), Arc::<Mutex<Vec<String>>>::default());
            let (stop, mut stopping) = watch::channel(false);
            let (known, seen) = (Arc::downgrade(&life), asked.clone());
            let service = service_fn({
                let life = known.clone();
                move |request: Request<Incoming>| {
                    life.upgrade().expect("alive").begin(!request.body().is_end_stream());
                    seen.lock().expect("whole").push(request.uri().to_string());
                    std::future::ready(Ok(Response::new(ResponseBody::Whole(Bytes::from("ok")))))
                }
            });
            let over = tokio::spawn(async move {
                serve(&life, BufReader::new(server), service, IDLE, &mut stopping).await.is_ok()
            });
            Self { client, life: known, asked, _stop: stop, over }
        }

        async fn say(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.expect("open");
        }

        async fn hear(&mut self) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"ok") {
                assert_ne!(self.client.read_buf(&mut answer).await.expect("open"), 0, "it ended");
            }
        }

        fn asked(&self) -> String {
            self.asked.lock().expect("whole").join(" ")
        }

        /// Whether hyper is there, after a while.
        async fn is_held(&self) -> bool {
            tokio::time::sleep(WHILE).await;
            // The test's, the task's, and hyper's.
            Arc::strong_count(&self.asked) == 3
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_let_go_of_and_goes_on() {
        let mut served = Served::start();
        assert!(served.is_held().await, "the first request is waited for by hyper, and its clock");
        for n in 1..4 {
            served.say(ASK).await;
            served.hear().await;
            assert!(!served.is_held().await);
            assert_eq!(served.asked().matches("/a").count(), n);
        }
        // Nothing for too long: it ends, and not before.
        tokio::time::sleep(IDLE - WHILE * 2).await;
        assert!(!served.over.is_finished());
        tokio::time::sleep(WHILE * 2).await;
        assert!(served.over.await.expect("no panic"));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_kept_and_has_its_time() {
        let mut served = Served::start();
        let (first, second) = ASK.split_at(9);
        served.say(&[ASK, first].concat()).await;
        served.hear().await;
        assert!(served.is_held().await, "half a head is hyper's");
        served.say(second).await;
        served.hear().await;
        assert_eq!(served.asked(), "/a /a");
        served.say(&[ASK, first].concat()).await;
        served.hear().await;
        tokio::time::sleep(IDLE + WHILE).await;
        assert!(served.over.is_finished(), "the rest never came");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_body_is_no_request() {
        let mut served = Served::start();
        served.say(b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n12345").await;
        served.hear().await;
        tokio::time::sleep(WHILE).await;
        let _ = served.client.write_all(ASK).await;
        assert!(served.over.await.expect("no panic"));
        assert_eq!(*served.asked.lock().expect("whole"), ["/b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_an_exchange_is_under_way_nothing_is_let_go() {
        let mut served = Served::start();
        let exchange = served.life.upgrade();
        served.say(ASK).await;
        served.hear().await;
        assert!(served.is_held().await);
        drop(exchange);
        tokio::time::sleep(WHILE).await;
        assert!(!served.is_held().await);
    }
}
