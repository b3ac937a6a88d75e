//! One HTTP/1.1 connection over TLS, as an SDK's connection pool would hold it.
//!
//! Owns the TLS client configuration. Never retries: a refused connection ends the run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::credentials::Source;
use super::request::Body;

/// Where a run goes, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub ca: PathBuf,
    pub credentials: Source,
}

/// TLS that trusts the roots of a PEM file and offers HTTP/1.1, as the SDKs' clients for these services do.
pub fn tls(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for cert in
        CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read roots from `{}`", ca.display()))?
    {
        roots.add(cert?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connects, shakes hands, and leaves the connection to a task of its own.
pub async fn open(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    host: &'static str,
) -> anyhow::Result<SendRequest<Body>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host)?;
    let stream = TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .with_context(|| format!("no TLS with {address} for `{host}`"))?;
    let (send, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(send)
}
