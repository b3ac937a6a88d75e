//! Getting a provider's documents: one GET, one JSON value.
//!
//! Owns the way to the provider: verified TLS, or plain HTTP to a loopback address. Never follows a redirect, never
//! reads more than its limit, never waits longer than its time. Runs on the task that verifies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::config::Issuer;

/// Largest document, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// A client for one provider.
#[derive(Clone)]
pub(super) struct Fetcher {
    /// `None`: the provider is a loopback address without TLS, and stays one.
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Fetcher {
    /// A client that trusts the platform's roots and the issuer's extra one.
    pub fn new(issuer: &Issuer, timeout: Duration) -> Result<Self, String> {
        if issuer.url.scheme() == "http" && issuer.extra_root.is_none() {
            return Ok(Self { tls: None, timeout });
        }
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = &issuer.extra_root {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|e| format!("cannot read `extra_root` `{}`: {e}; give a PEM file", path.display()))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(format!("`extra_root` `{}` holds no usable certificate; give a PEM file", path.display()));
            }
        }
        if roots.is_empty() {
            return Err("this host has no root certificates; install `ca-certificates` or set `extra_root`".into());
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("cannot set up TLS: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some(Arc::new(tls)), timeout })
    }

    /// The JSON document at `url`; the error says what went wrong, and where.
    pub async fn json(&self, url: &Url) -> Result<Value, String> {
        tokio::time::timeout(self.timeout, self.request(url))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", self.timeout.as_secs())))
            .map_err(|e| format!("GET `{url}`: {e}"))
    }

    async fn request(&self, url: &Url) -> Result<Value, String> {
        let stream = connect(url).await?;
        match url.scheme() {
            "http" => exchange(stream, url).await,
            _ => {
                let tls = self.tls.clone().ok_or("the issuer is plain HTTP, and this is not; list it as https")?;
                let name = server_name(url)?;
                let stream = tokio_rustls::TlsConnector::from(tls)
                    .connect(name, stream)
                    .await
                    .map_err(|e| format!("TLS: {e}; check the certificate, or set `extra_root`"))?;
                exchange(stream, url).await
            }
        }
    }
}

/// Whether documents may be fetched from there: `https`, or `http` to this host itself.
pub(super) fn acceptable(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => loopback(url),
        _ => false,
    }
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

async fn connect(url: &Url) -> Result<TcpStream, String> {
    if !acceptable(url) {
        return Err("only https, or http on a loopback address, is asked".into());
    }
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    let addresses: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![(IpAddr::V4(ip), port).into()],
        Some(Host::Ipv6(ip)) => vec![(IpAddr::V6(ip), port).into()],
        // Not resolved: a resolver may say otherwise, and plain HTTP must stay on this host.
        Some(Host::Domain("localhost")) => {
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(|ip| (ip, port).into()).to_vec()
        }
        Some(Host::Domain(name)) => {
            tokio::net::lookup_host((name, port)).await.map_err(|e| format!("cannot resolve `{name}`: {e}"))?.collect()
        }
        None => return Err("the address has no host".into()),
    };
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = format!("cannot connect to {address}: {e}"),
        }
    }
    Err(last)
}

fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is not a name that TLS can verify"))
}

async fn exchange<S>(stream: S, url: &Url) -> Result<Value, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let request = http::Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        if status.is_redirection() {
            return Err(format!(
                "answered {status}, and redirects are not followed; configure the address it leads to"
            ));
        }
        if status != http::StatusCode::OK {
            return Err(format!("answered {status}"));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await.map_err(|e| e.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| format!("the answer is not JSON: {e}"))
    }
    .await;
    connection.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_host_only() {
        for (url, expected) in [
            ("https://idp.example/x", true),
            ("http://127.0.0.1:9/x", true),
            ("http://[::1]:9/x", true),
            ("http://localhost/x", true),
            ("http://idp.example/x", false),
            ("http://localhost.example/x", false),
            ("http://10.0.0.1/x", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(acceptable(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
