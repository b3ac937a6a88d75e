//! The upstream behind every contender: DynamoDB-like answers and S3-like objects over TLS.
//!
//! Owns its certificates and listeners. Does not verify signatures, which would cost every contender the same and hide
//! the ratios; it names the access key it saw, so that a run can tell whether the request was signed anew.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{BULK_HOST, SEEN_KEY, SMALL_HOST};

const CHUNK: usize = 256 << 10;
const ITEM: &str = r#"{"Item":{"pk":{"S":"customer-000001"},"sk":{"S":"profile"},"name":{"S":"A customer of the benchmark"},"visits":{"N":"42"},"tags":{"SS":["alpha","beta","gamma"]}}}"#;

/// Writes `ca.pem`, `server.pem`, `server.key` and, for those that want both in one file, `server-both.pem`.
pub fn write_certificates(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "Tollgate benchmark root");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_cert = ca.self_signed(&ca_key)?;
    let leaf_key = KeyPair::generate()?;
    let names = [SMALL_HOST, BULK_HOST, "localhost", "127.0.0.1"].map(String::from);
    let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &Issuer::from_params(&ca, &ca_key))?;
    for (name, text) in [
        ("ca.pem", ca_cert.pem()),
        ("server.pem", leaf.pem()),
        ("server.key", leaf_key.serialize_pem()),
        ("server-both.pem", leaf_key.serialize_pem() + &leaf.pem()),
    ] {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

/// Serves until killed; `accept` is a plain listener that only accepts and closes.
pub async fn serve(listen: SocketAddr, accept: SocketAddr, certs: &Path) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_file_iter(certs.join("server.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certs.join("server.key"))?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    // The real endpoints of both services speak HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let plain = TcpListener::bind(accept).await.with_context(|| format!("cannot listen on {accept}"))?;
    tokio::spawn(async move { while plain.accept().await.is_ok() {} });
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let answers = Arc::new(Answers::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, answers) = (acceptor.clone(), answers.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| {
                let answers = answers.clone();
                async move { Ok::<_, Infallible>(answers.answer(request).await) }
            });
            // A client that goes away ends its connection; there is nothing to tell anybody.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = UnsyncBoxBody<Bytes, Infallible>;

struct Answers {
    piece: Bytes,
}

impl Answers {
    fn new() -> Self {
        Self { piece: Bytes::from((0..CHUNK).map(|n| ((n * 37) >> 2) as u8).collect::<Vec<_>>()) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let key = access_key(request.headers());
        let mut response = match *request.method() {
            Method::POST => {
                let read = request.into_body().collect().await;
                let mut response = Response::new(Full::from(ITEM).boxed_unsync());
                if read.is_err() {
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                }
                let headers = response.headers_mut();
                headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.0"));
                headers.insert(
                    "x-amzn-requestid",
                    HeaderValue::from_static("BENCH0000000000000000000000000000000000000000000000"),
                );
                headers.insert("x-amz-crc32", HeaderValue::from_static("1234567890"));
                response
            }
            Method::GET => {
                let size = request.uri().path().rsplit('/').next().and_then(|s| s.parse().ok()).unwrap_or(0);
                let mut response = Response::new(Object { piece: self.piece.clone(), left: size }.boxed_unsync());
                let headers = response.headers_mut();
                headers.insert("content-type", HeaderValue::from_static("application/octet-stream"));
                headers.insert("etag", HeaderValue::from_static("\"00000000000000000000000000000000\""));
                response
            }
            Method::PUT => self.sink(request).await,
            _ => {
                let mut response = Response::new(Full::default().boxed_unsync());
                *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                response
            }
        };
        response.headers_mut().insert(SEEN_KEY, key);
        response
    }

    /// Reads an upload and says how long it was, without the chunks' envelope.
    async fn sink(&self, request: Request<Incoming>) -> Response<Answer> {
        let number =
            |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()?.parse::<u64>().ok());
        let (decoded, length) = (number("x-amz-decoded-content-length"), number("content-length"));
        let mut body = request.into_body();
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |d| d.len() as u64);
        }
        let complete = length.is_none_or(|l| l == read);
        let mut response = Response::new(Full::default().boxed_unsync());
        if !complete {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response.headers_mut().insert("x-bench-bytes", HeaderValue::from(decoded.unwrap_or(read)));
        response.headers_mut().insert("etag", HeaderValue::from_static("\"00000000000000000000000000000000\""));
        response
    }
}

/// The access key in the `Authorization` header.
fn access_key(headers: &HeaderMap) -> HeaderValue {
    let found = headers.get("authorization").and_then(|v| {
        let text = v.to_str().ok()?;
        let (_, rest) = text.split_once("Credential=")?;
        HeaderValue::from_str(rest.split_once('/')?.0).ok()
    });
    found.unwrap_or(HeaderValue::from_static("none"))
}

/// An object of a given size that is never in memory.
struct Object {
    piece: Bytes,
    left: u64,
}

impl Body for Object {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.piece.slice(..self.left.min(CHUNK as u64) as usize);
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
