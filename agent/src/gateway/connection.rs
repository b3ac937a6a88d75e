//! One redirected connection: flow → session → sniff → metadata, AWS or splice.
//!
//! Owns the connection's task. Refuses whatever it cannot attribute.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::body::ResponseBody;
use super::exchange;
use super::farewell;
use super::life::{self, Life, Waiting};
use super::sniff::{SniffError, Sniffed, sniff};
use super::splice;
use super::stream::Rewound;
use crate::aws::{self, Endpoint, HostClass};
use crate::capture::Flow;
use crate::daemon::Core;
use crate::journal::{Event, Kind};
use crate::metadata;
use crate::session::{Place, Session};

/// What every exchange of a connection shares.
#[derive(Debug)]
pub struct Connection {
    pub core: Arc<Core>,
    pub session: Arc<Session>,
    pub flow: Flow,
    /// Executable behind the connection, or the kernel's name of it.
    pub exe: Box<str>,
    /// Server name of the TLS handshake, or the first request's host.
    pub endpoint: Endpoint,
    /// Set when an answer was given before all of the request had come; see [`Rewound`].
    pub lingers: Arc<AtomicBool>,
    /// Whether there is an exchange.
    pub life: Arc<Life>,
}

impl Connection {
    /// An event with everything the connection knows.
    pub fn event(&self, kind: Kind) -> Event {
        event(kind, &self.session, &self.flow, &self.exe)
    }
}

fn event(kind: Kind, session: &Session, flow: &Flow, exe: &str) -> Event {
    let principal = session.principal();
    Event {
        kind,
        session: Some(session.id.to_string()),
        subject: Some(principal.subject.clone()),
        issuer: principal.issuer.clone(),
        exe: Some(exe.to_owned()),
        pid: Some(flow.pid),
        destination: Some(flow.original.to_string()),
        ..Event::default()
    }
}

/// Serves one accepted connection to its end; `alive` is held until then.
///
/// What opening takes is in a box of its own, which goes before the connection's life begins: most of that is idle, and
/// whatever this future has room for is held by every idle connection.
pub fn serve(
    core: Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(begin(core, stream, peer, stop.clone()));
    async move {
        let begun = opening.await;
        if let Some((place, opened)) = begun {
            tokio::select! {
                () = live(opened, &mut stop) => {}
                _ = place.session().closed() => {}
            }
        }
        drop(alive);
    }
}

/// Attributes a connection and opens it; `None`: it is over already.
async fn begin(
    core: Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> Option<(Place, Opened)> {
    let (flow, session) = attribute(&core, &stream, peer)?;
    let Some(place) = session.place(core.config.load().gateway.max_connections) else {
        let mut told = event(Kind::Refused, &session, &flow, &flow.comm);
        told.reason = Some("the session has `gateway.max_connections` connections open already".into());
        core.journal.emit(told);
        return None;
    };
    let exe = match core.capture.process(flow.pid) {
        Ok(Some(process)) => process.exe.display().to_string(),
        // It has gone, or its number means nothing here.
        _ => flow.comm.clone(),
    };
    let _ = stream.set_nodelay(true);
    let closing = session.clone();
    let opened = tokio::select! {
        opened = async {
            if is_metadata(flow.original.ip()) {
                serve_metadata(core, stream, flow, session, &exe, &mut stop).await;
                return None;
            }
            open(core, stream, flow, session, exe).await
        } => opened?,
        _ = closing.closed() => return None,
    };
    Some((place, opened))
}

/// Whose connection it is; without an answer it is closed, and that is counted and told.
fn attribute(core: &Core, stream: &TcpStream, peer: SocketAddr) -> Option<(Flow, Arc<Session>)> {
    let refuse = |reason: String, pid: Option<u32>, destination: Option<SocketAddr>| {
        core.journal.emit(Event {
            kind: Kind::Bypass,
            reason: Some(reason),
            pid,
            destination: destination.map(|d| d.to_string()),
            ..Event::default()
        });
        None
    };
    let local = stream.local_addr().ok()?;
    let flow = match core.capture.take(peer, local) {
        Ok(Some(flow)) => flow,
        Ok(None) => {
            return refuse(
                format!("a connection from {peer} reached the proxy's port without being redirected"),
                None,
                None,
            );
        }
        Err(e) => return refuse(format!("the flow of a connection from {peer} cannot be read: {e}"), None, None),
    };
    match core.sessions.by_tag(flow.tag) {
        Some(session) => Some((flow, session)),
        None => refuse("the connection's tag has no open session".into(), Some(flow.pid), Some(flow.original)),
    }
}

/// What a connection turned out to be, once it has been sniffed and shaken hands with.
enum Opened {
    Plain(Arc<Connection>, Box<Rewound>),
    Tls(Arc<Connection>, Box<TlsStream<Rewound>>),
}

async fn live(opened: Opened, stop: &mut watch::Receiver<bool>) {
    match opened {
        Opened::Plain(connection, stream) => serve_http(connection, stream, false, stop).await,
        Opened::Tls(connection, stream) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve_http(connection, stream, h2, stop).await;
        }
    }
}

/// Sniffs, and shakes hands where it is for AWS; splices or refuses to the end where it is not.
async fn open(
    core: Arc<Core>,
    mut stream: TcpStream,
    flow: Flow,
    session: Arc<Session>,
    exe: String,
) -> Option<Opened> {
    let config = core.config.load_full();
    let refuse = |reason: String, kind: Kind| {
        let mut told = event(kind, &session, &flow, &exe);
        told.reason = Some(reason);
        core.journal.emit(told);
        None
    };
    let (sniffed, seen) = match tokio::time::timeout(config.gateway.handshake_timeout, sniff(&mut stream)).await {
        Ok(Ok(found)) => found,
        // Clients open connections and think better of it; that is no event.
        Ok(Err(SniffError::Eof)) => return None,
        Ok(Err(e)) => {
            refuse(e.to_string(), Kind::Refused);
            if matches!(e, SniffError::Tls(_)) {
                farewell::malformed_tls(stream).await;
            }
            return None;
        }
        Err(_) => {
            return refuse(
                "no complete ClientHello or request head within `gateway.handshake_timeout`".into(),
                Kind::Refused,
            );
        }
    };
    let name = match &sniffed {
        Sniffed::Tls { name } => Some(name),
        Sniffed::Http { host } => Some(host),
        _ => None,
    };
    let endpoint = name.and_then(|n| aws::endpoint::resolve(n)).filter(|e| e.class != HostClass::Customer);
    let Some(endpoint) = endpoint else {
        if let Err(reason) = splice::judge(&config.egress, &sniffed) {
            refuse(reason.clone(), Kind::Refused);
            farewell::refuse(stream, &sniffed, &reason).await;
            return None;
        }
        let result =
            splice::splice(stream, seen, flow.original, config.gateway.connect_timeout, config.egress.idle_timeout)
                .await;
        let mut told = event(Kind::Spliced, &session, &flow, &exe);
        let name = name.map_or_else(|| flow.original.to_string(), Clone::clone);
        told.reason = Some(match result {
            Ok((sent, received)) => format!("{name}: {sent} bytes sent, {received} received"),
            Err(e) => format!("{name}: {e}"),
        });
        core.journal.emit(told);
        return None;
    };
    let secure = matches!(sniffed, Sniffed::Tls { .. });
    let life = Arc::<Life>::default();
    let lingers = Arc::<AtomicBool>::default();
    let stream = Rewound::new(seen, stream, lingers.clone());
    if !secure {
        let connection = Arc::new(Connection { core, session, flow, exe: exe.into(), endpoint, lingers, life });
        return Some(Opened::Plain(connection, Box::new(stream)));
    }
    let tls = match core.leaves.server_config(&endpoint.host) {
        Ok(tls) => TlsAcceptor::from(tls),
        Err(e) => return refuse(format!("cannot make a certificate for `{}`: {e}", endpoint.host), Kind::Refused),
    };
    let stream = match tokio::time::timeout(config.gateway.handshake_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(e)) => {
            return refuse(
                format!(
                    "the TLS handshake for `{}` failed: {e}; if the client does not trust Tollgate's root, see docs/trust.md",
                    endpoint.host
                ),
                Kind::Refused,
            );
        }
        Err(_) => {
            return refuse("the TLS handshake did not end within `gateway.handshake_timeout`".into(), Kind::Refused);
        }
    };
    Some(Opened::Tls(Arc::new(Connection { core, session, flow, exe: exe.into(), endpoint, lingers, life }), stream))
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<ResponseBody>, Infallible>> + Send>>;

async fn serve_http<S>(connection: Arc<Connection>, stream: S, h2: bool, stop: &mut watch::Receiver<bool>)
where
    S: Waiting + Send + 'static,
{
    let idle_timeout = connection.core.config.load().gateway.idle_timeout;
    let service = {
        let connection = connection.clone();
        service_fn(move |request: http::Request<Incoming>| {
            let connection = connection.clone();
            // Boxed: hyper keeps room for it in every connection, idle ones too.
            Box::pin(async move { Ok(exchange::serve(&connection, request).await) }) as Answering
        })
    };
    let result = if h2 {
        // Boxed: HTTP/1.1 has no use for the room.
        Box::pin(serve_h2(stream, service, idle_timeout, stop)).await
    } else {
        life::serve(&connection.life, stream, service, idle_timeout, stop).await
    };
    // hyper has answered 400, or GOAWAY; the journal should know too.
    if let Some(why) = result.err().and_then(|e| misspoken(&e)) {
        let mut told = connection.event(Kind::Refused);
        told.reason = Some(why);
        connection.core.journal.emit(told);
    }
}

async fn serve_h2<S, V>(
    stream: S,
    service: V,
    idle_timeout: Duration,
    stop: &mut watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<
            http::Request<Incoming>,
            Response = http::Response<ResponseBody>,
            Error = Infallible,
            Future = Answering,
        >,
{
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        // A client that has gone, or does not answer, holds nothing for longer.
        .keep_alive_interval(idle_timeout)
        .keep_alive_timeout(idle_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        biased;
        result = serving.as_mut() => result,
        () = super::stopped(stop) => { serving.as_mut().graceful_shutdown(); serving.await }
    }
}

/// What the other side said that is not HTTP. `None`: it went away, or was told to.
pub fn misspoken(error: &hyper::Error) -> Option<String> {
    if error.is_parse() || error.is_parse_too_large() {
        return Some(format!("malformed HTTP: {error}"));
    }
    // hyper does not say of an error that it is HTTP/2's, but everything else it says with a method or an `io::Error`.
    // That the client reports an error of ours, or of its own, is nothing malformed.
    let source = std::error::Error::source(error)?;
    let other = error.is_user() || error.is_canceled() || error.is_closed() || error.is_timeout();
    if other || source.is::<std::io::Error>() || !error.to_string().starts_with("http2 error") {
        return None;
    }
    let what = source.to_string();
    (!what.contains("received")).then(|| format!("malformed HTTP/2: {what}"))
}

async fn serve_metadata(
    core: Arc<Core>,
    stream: TcpStream,
    flow: Flow,
    session: Arc<Session>,
    exe: &str,
    stop: &mut watch::Receiver<bool>,
) {
    let mut told = event(Kind::Refused, &session, &flow, exe);
    let journal = core.clone();
    let timeout = core.config.load().gateway.handshake_timeout;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (core, session) = (core.clone(), session.clone());
        async move {
            if metadata::is_ours(request.uri().path()) {
                let answer = metadata::answer(&core.approvals, &core.store, &session, request).await;
                return Ok::<_, Infallible>(answer.map(Full::<Bytes>::new));
            }
            let region = core.config.load().defaults.region.clone();
            let request = http::Request::from_parts(request.into_parts().0, ());
            let placeholder = core.placeholders.current(&session.id);
            let address = flow.original.ip();
            let facts = metadata::Facts { session: &session.id, placeholder, region: &region, address };
            let response = metadata::respond(&request, &facts, &core.metadata_tokens, std::time::SystemTime::now());
            Ok(response.map(Full::<Bytes>::new))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // A client that misspeaks has had hyper's 400, and nothing has been given to it.
        result = serving.as_mut() => if let Some(why) = result.err().and_then(|e| misspoken(&e)) {
            told.reason = Some(format!("a request to the metadata service was refused: {why}"));
            journal.journal.emit(told);
        },
        () = super::stopped(stop) => {}
    }
}

/// Whether an address is one of the clouds' metadata services.
fn is_metadata(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => matches!(ip.octets(), [169, 254, 169, 254] | [169, 254, 170, 2 | 23]),
        IpAddr::V6(ip) => {
            ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// What is told of a client that says this, and then listens to the end.
    async fn told(h2: bool, said: &[u8]) -> Option<String> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let service = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::default())) });
        let serving = tokio::spawn(async move {
            let io = TokioIo::new(server);
            if h2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
            }
        });
        client.write_all(said).await.expect("room");
        client.shutdown().await.expect("open");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("an end");
        serving.await.expect("no panic").err().and_then(|e| misspoken(&e))
    }

    #[tokio::test]
    async fn what_is_not_http_is_told_and_a_client_that_leaves_is_not() {
        for (h2, said, expected) in [
            (false, &b"\x00\x01\r\n\r\n"[..], Some("malformed HTTP: ")),
            (false, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", Some("malformed HTTP: ")),
            (true, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some("malformed HTTP/2: ")),
            // A DATA frame on stream 0.
            (
                true,
                &[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat(),
                Some("malformed HTTP/2: "),
            ),
            (false, b"", None),
            (false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            (true, PREFACE, None),
            // A GOAWAY of the client's, with an error that it found.
            (
                true,
                &[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat(),
                None,
            ),
        ] {
            let told = told(h2, said).await;
            let as_expected = match (expected, &told) {
                (Some(start), Some(told)) => told.starts_with(start),
                (None, None) => true,
                _ => false,
            };
            assert!(as_expected, "{:?} is told as {told:?}", String::from_utf8_lossy(said));
        }
    }

    fn size<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_holds_little() {
        let (task, connection) = (size(serve), size_of::<Connection>());
        // With an Arc's counts the latter is in the allocator's bin of 384 bytes.
        assert!(
            task <= 1000 && connection <= 368,
            "the task's future has {task} bytes, what exchanges share {connection}"
        );
    }
}
