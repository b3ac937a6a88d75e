//! The way to AWS: pooled connections to the address that the *name* resolves to.
//!
//! Owns name resolution, overrides, TLS towards the endpoint, and the pool. Knows nothing of AWS.
//! Runs on the connection tasks; the pool is shared by all of them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::RequestBody;
use crate::config::{self, HostPattern};
use crate::tls;

/// Why nothing came back from the endpoint.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("`{host}` does not resolve: {source}; check the daemon's resolver")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to `{host}` at {address}: {source}; check the network of the daemon's host")]
    Connect { host: String, address: String, source: io::Error },
    #[error("`{host}` did not answer within {after:?}; check the network of the daemon's host")]
    Timeout { host: String, after: Duration },
    #[error(
        "TLS with `{host}` failed: {source}; check the roots of the daemon's host, or `extra_root` of its [[upstream]]"
    )]
    Tls { host: String, source: io::Error },
    #[error("`{0}` is not a name that can be connected to")]
    Name(String),
    #[error("the exchange with the endpoint failed: {0}")]
    Exchange(String),
}

/// The pool.
#[derive(Clone)]
pub struct Upstreams {
    client: Client<Connector, RequestBody>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstreams")
    }
}

impl Upstreams {
    /// Loads the platform's roots and those of the overrides.
    pub fn new(gateway: &config::Gateway, overrides: &[config::Upstream]) -> Result<Self, tls::TlsError> {
        // Without an override nothing may need the platform's roots; a test host may have none.
        let load = |root: Option<&Path>| tls::client_config(root, &[b"h2", b"http/1.1"]);
        let overrides = overrides
            .iter()
            .map(|u| {
                let tls = u.tls.then(|| load(u.extra_root.as_deref())).transpose()?;
                Ok(Override { host: u.host.clone(), address: u.address, tls: tls.map(TlsConnector::from) })
            })
            .collect::<Result<Vec<_>, tls::TlsError>>()?;
        let connector = Connector {
            shared: Arc::new(Shared {
                overrides,
                tls: TlsConnector::from(load(None)?),
                timeout: gateway.connect_timeout,
            }),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(gateway.idle_timeout.min(Duration::from_secs(20)))
            .http2_adaptive_window(true)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends one request; its URI is absolute.
    pub async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, UpstreamError> {
        self.client.request(request).await.map_err(explain)
    }
}

/// The connector's own error if it is in the chain, else the chain in one line.
fn explain(error: ClientError) -> UpstreamError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    UpstreamError::Exchange(text)
}

struct Override {
    host: HostPattern,
    address: SocketAddr,
    /// `None`: plain HTTP.
    tls: Option<TlsConnector>,
}

struct Shared {
    overrides: Vec<Override>,
    tls: TlsConnector,
    timeout: Duration,
}

#[derive(Clone)]
struct Connector {
    shared: Arc<Shared>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Transport>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().to_owned();
            let port = uri.port_u16().unwrap_or(443);
            match tokio::time::timeout(shared.timeout, shared.connect(&host, port)).await {
                Ok(result) => result.map(TokioIo::new),
                Err(_) => Err(UpstreamError::Timeout { host, after: shared.timeout }),
            }
        })
    }
}

impl Shared {
    async fn connect(&self, host: &str, port: u16) -> Result<Transport, UpstreamError> {
        let chosen = self.overrides.iter().find(|o| o.host.matches(host));
        let tcp = match chosen {
            Some(o) => TcpStream::connect(o.address).await.map_err(|source| UpstreamError::Connect {
                host: host.into(),
                address: o.address.to_string(),
                source,
            })?,
            None => connect_by_name(host, port).await?,
        };
        // A small request is one segment; waiting for more only adds latency.
        let _ = tcp.set_nodelay(true);
        let tls = match chosen {
            Some(Override { tls: None, .. }) => return Ok(Transport::Plain(tcp)),
            Some(Override { tls: Some(tls), .. }) => tls,
            None => &self.tls,
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| UpstreamError::Name(host.into()))?;
        let stream = tls.connect(name, tcp).await.map_err(|source| UpstreamError::Tls { host: host.into(), source })?;
        Ok(Transport::Tls(Box::new(stream)))
    }
}

async fn connect_by_name(host: &str, port: u16) -> Result<TcpStream, UpstreamError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|source| UpstreamError::Resolve { host: host.into(), source })?
        .collect();
    let mut last = None;
    for address in &addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                last = Some(UpstreamError::Connect { host: host.into(), address: address.to_string(), source })
            }
        }
    }
    Err(last.unwrap_or_else(|| UpstreamError::Resolve {
        host: host.into(),
        source: io::Error::new(io::ErrorKind::NotFound, "no address"),
    }))
}

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
