//! The way to AWS: pooled connections to the address that the *name* resolves to.
//!
//! Owns overrides, TLS towards the endpoint, the pool, and the choice between HTTP/1.1 and HTTP/2. Knows nothing of AWS.
//! Runs on the connection tasks; the pool is shared by all of them.

mod connect;
mod link;
mod pool;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt, Limited};

pub use link::UpstreamBody;

use self::connect::{Connector, Opened, Override};
use self::link::{Link, Unsent};
use self::pool::{Pool, Taken};
use super::body::RequestBody;
use crate::credential::{Asking, Sts};
use crate::{config, tls};

/// Pooled connections that are tried before a fresh one is made.
const TRIES: usize = 8;

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

impl UpstreamError {
    /// The whole chain of an error in one line.
    fn exchange(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(e) = source {
            text = format!("{text}: {e}");
            source = e.source();
        }
        Self::Exchange(text)
    }
}

/// The way to all endpoints.
#[derive(Debug, Clone)]
pub struct Upstreams {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
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
                Ok(Override::new(u.host.clone(), u.address, tls))
            })
            .collect::<Result<Vec<_>, tls::TlsError>>()?;
        let connector = Connector::new(overrides, load(None)?, gateway.connect_timeout);
        // Servers close idle connections after some 20 seconds at the earliest; to be there first saves a failed try.
        let idle = gateway.idle_timeout.min(Duration::from_secs(20));
        Ok(Self { connector: Arc::new(connector), pool: Arc::new(Pool::new(idle)) })
    }

    /// Sends one request to a host, by TLS unless an override says otherwise.
    ///
    /// A pooled connection that turns out to be closed before anything was written to it is replaced by another;
    /// nothing is ever sent twice. `whose` is the session: no two share an HTTP/2 connection.
    pub async fn send(
        &self,
        host: &str,
        port: u16,
        whose: &str,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let mut request = origin(request);
        for _ in 0..TRIES {
            let unsent = match self.pool.take(host, port, whose).await {
                Some(Taken::Http1(link)) => link.send(request, &self.pool).await,
                Some(Taken::Http2(sender)) => {
                    link::send_http2(sender, absolute(request, host, port)?).await.map_err(|e| e.map(origin))
                }
                None => break,
            };
            request = match unsent {
                Ok(response) => return Ok(response),
                Err(Unsent::No(e)) => return Err(e),
                Err(Unsent::Yes(request, _)) => *request,
            };
        }
        // Boxed: connecting is rare, and every exchange would keep room for it.
        Box::pin(self.send_afresh(host, port, whose, request)).await
    }

    /// Sends over a connection of its own making.
    async fn send_afresh(
        &self,
        host: &str,
        port: u16,
        whose: &str,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let sent = match self.connector.open(host, port).await? {
            Opened::Http1(io) => Link::open(io, host, port).await?.send(request, &self.pool).await,
            Opened::Http2(io) => {
                let sender = link::open_http2(io).await?;
                self.pool.share(host, port, whose, sender.clone());
                link::send_http2(sender, absolute(request, host, port)?).await
            }
        };
        sent.map_err(|unsent| match unsent {
            Unsent::No(e) | Unsent::Yes(_, e) => e,
        })
    }
}

/// Longest answer of STS's that is read.
const LONGEST_STS: usize = 1 << 20;

impl Sts for Upstreams {
    fn ask(&self, host: String, request: Request<Bytes>) -> Asking<'_> {
        Box::pin(async move {
            let answer = self.send(&host, 443, "tollgate", request.map(RequestBody::Whole)).await;
            let (parts, body) = answer.map_err(|e| e.to_string())?.into_parts();
            let body = Limited::new(body, LONGEST_STS).collect().await.map_err(|e| e.to_string())?;
            Ok((parts.status, body.to_bytes()))
        })
    }
}

/// HTTP/2 wants scheme and authority in the URI.
fn absolute(request: Request<RequestBody>, host: &str, port: u16) -> Result<Request<RequestBody>, UpstreamError> {
    let authority = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    let authority = Authority::try_from(authority).map_err(|_| UpstreamError::Name(host.into()))?;
    let (mut parts, body) = request.into_parts();
    let mut uri = parts.uri.into_parts();
    uri.scheme = Some(Scheme::HTTPS);
    uri.authority = Some(authority);
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(uri).map_err(|e| UpstreamError::Exchange(e.to_string()))?;
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, body))
}

/// HTTP/1.1 wants path and query alone. The request may have come by HTTP/2, or be back from [`absolute`].
fn origin(mut request: Request<RequestBody>) -> Request<RequestBody> {
    if request.uri().authority().is_some() || request.uri().path_and_query().is_none() {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    request
}
