//! One redirected connection: flow → session → sniff → metadata, AWS or splice.
//!
//! Owns the connection's task. Refuses whatever it cannot attribute.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::body::ResponseBody;
use super::exchange;
use super::farewell;
use super::sniff::{SniffError, Sniffed, sniff};
use super::splice;
use super::stream::Rewound;
use crate::aws::{self, Endpoint, HostClass};
use crate::capture::Flow;
use crate::daemon::Core;
use crate::journal::{Event, Kind};
use crate::metadata;
use crate::session::Session;

/// What every exchange of a connection shares.
#[derive(Debug)]
pub struct Connection {
    pub core: Arc<Core>,
    pub session: Arc<Session>,
    pub flow: Flow,
    /// Executable behind the connection, or the kernel's name of it.
    pub exe: String,
    /// Server name of the TLS handshake, or the first request's host.
    pub endpoint: Endpoint,
    /// Set when an answer was given before all of the request had come; see [`Rewound`].
    pub lingers: Arc<AtomicBool>,
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

/// Serves one accepted connection to its end.
pub async fn serve(core: Arc<Core>, stream: TcpStream, peer: SocketAddr, mut stop: watch::Receiver<bool>) {
    let Some((flow, session)) = attribute(&core, &stream, peer) else { return };
    let exe = match core.capture.process(flow.pid) {
        Ok(Some(process)) => process.exe.display().to_string(),
        // It has gone, or its number means nothing here.
        _ => flow.comm.clone(),
    };
    let _ = stream.set_nodelay(true);
    let closing = session.clone();
    tokio::select! {
        () = dispatch(core, stream, flow, session, exe, &mut stop) => {}
        _ = closing.closed() => {}
    }
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
    Plain(Arc<Connection>, Rewound),
    Tls(Arc<Connection>, Box<TlsStream<Rewound>>),
}

async fn dispatch(
    core: Arc<Core>,
    stream: TcpStream,
    flow: Flow,
    session: Arc<Session>,
    exe: String,
    stop: &mut watch::Receiver<bool>,
) {
    if is_metadata(flow.original.ip()) {
        return Box::pin(serve_metadata(core, stream, flow, session, stop)).await;
    }
    // Boxed, so that what opening a connection takes is let go of before its life begins: most of that is idle.
    match Box::pin(open(core, stream, flow, session, exe)).await {
        Some(Opened::Plain(connection, stream)) => Box::pin(serve_http(connection, stream, false, stop)).await,
        Some(Opened::Tls(connection, stream)) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Box::pin(serve_http(connection, stream, h2, stop)).await;
        }
        None => {}
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
        let result = splice::splice(stream, seen, flow.original, config.gateway.connect_timeout).await;
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
    let lingers = Arc::<AtomicBool>::default();
    let stream = Rewound::new(seen, stream, lingers.clone());
    if !secure {
        let connection = Arc::new(Connection { core, session, flow, exe, endpoint, lingers });
        return Some(Opened::Plain(connection, stream));
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
    Some(Opened::Tls(Arc::new(Connection { core, session, flow, exe, endpoint, lingers }), stream))
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<ResponseBody>, Infallible>> + Send>>;

async fn serve_http<S>(connection: Arc<Connection>, stream: S, h2: bool, stop: &mut watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
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
    let io = TokioIo::new(stream);
    let result = if h2 {
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(128)
            .serve_connection(io, service);
        let mut serving = Box::pin(serving);
        tokio::select! {
            biased;
            result = serving.as_mut() => result,
            () = super::stopped(stop) => { serving.as_mut().graceful_shutdown(); serving.await }
        }
    } else {
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle_timeout)
            .serve_connection(io, service);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            biased;
            result = serving.as_mut() => result,
            () = super::stopped(stop) => { serving.as_mut().graceful_shutdown(); serving.await }
        }
    };
    if let Err(e) = result
        && (e.is_parse() || e.is_parse_too_large())
    {
        // hyper has answered 400; the journal should know too.
        let mut told = connection.event(Kind::Refused);
        told.reason = Some(format!("malformed HTTP: {e}"));
        connection.core.journal.emit(told);
    }
}

async fn serve_metadata(
    core: Arc<Core>,
    stream: TcpStream,
    flow: Flow,
    session: Arc<Session>,
    stop: &mut watch::Receiver<bool>,
) {
    let timeout = core.config.load().gateway.handshake_timeout;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let region = core.config.load().defaults.region.clone();
        let request = http::Request::from_parts(request.into_parts().0, ());
        let placeholder = core.placeholders.current(&session.id);
        let facts = metadata::Facts { session: &session.id, placeholder, region: &region, address: flow.original.ip() };
        let response = metadata::respond(&request, &facts, &core.metadata_tokens, std::time::SystemTime::now());
        async move { Ok::<_, Infallible>(response.map(Full::<Bytes>::new)) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // A metadata client that misspeaks gets hyper's 400; nothing has been given to it.
        _ = serving.as_mut() => {}
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
