//! Connecting to an endpoint: its address by name or override, TCP, TLS.
//!
//! Owns the connector and the stream it opens. Runs on the task of the exchange that needs a connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamError;
use crate::config::HostPattern;

/// Where some hosts' requests go instead of where their name points.
pub(super) struct Override {
    host: HostPattern,
    address: SocketAddr,
    /// `None`: plain HTTP.
    tls: Option<TlsConnector>,
}

impl Override {
    pub(super) fn new(host: HostPattern, address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { host, address, tls: tls.map(TlsConnector::from) }
    }
}

pub(super) struct Connector {
    overrides: Vec<Override>,
    tls: TlsConnector,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// A fresh connection, by what was agreed on it.
pub(super) enum Opened {
    Http1(TokioIo<Transport>),
    Http2(TokioIo<Transport>),
}

impl Connector {
    pub(super) fn new(overrides: Vec<Override>, tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        Self { overrides, tls: TlsConnector::from(tls), timeout }
    }

    pub(super) async fn open(&self, host: &str, port: u16) -> Result<Opened, UpstreamError> {
        let transport = tokio::time::timeout(self.timeout, self.connect(host, port))
            .await
            .map_err(|_| UpstreamError::Timeout { host: host.into(), after: self.timeout })??;
        Ok(match &transport {
            Transport::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Opened::Http2(TokioIo::new(transport))
            }
            _ => Opened::Http1(TokioIo::new(transport)),
        })
    }

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
