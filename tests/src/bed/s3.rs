//! s3s-fs: an independent S3 over a directory that verifies signatures, chunk signatures and checksums.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use http_body::{Body, Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::host::MultiDomain;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::BUCKET;
use super::ca::{AWS_NAMES, Ca};
use super::moto::Key;

const DOMAINS: [&str; 3] = ["s3.us-east-1.amazonaws.com", "s3.eu-central-1.amazonaws.com", "s3.amazonaws.com"];

/// Serves `root`, with [`BUCKET`] in it, to whoever signs with `key`.
pub async fn serve(ca: &Ca, root: &Path, key: &Key) -> anyhow::Result<SocketAddr> {
    std::fs::create_dir_all(root.join(BUCKET))?;
    let files = s3s_fs::FileSystem::new(root).map_err(|e| anyhow::anyhow!("opening the S3 directory: {e:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(key.access_key_id.as_str(), key.secret_access_key.as_str()));
    builder.set_host(MultiDomain::new(DOMAINS).context("naming the S3 domains")?);
    let service = builder.build();

    let acceptor = TlsAcceptor::from(ca.server(&AWS_NAMES, &[b"h2", b"http/1.1"])?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding S3")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let head = request.method() == hyper::Method::HEAD;
                    let answer = hyper::service::Service::call(&service, request);
                    async move { answer.await.map(|response| response.map(|body| Fit { body, head })) }
                });
                // A client that goes away in the middle is no fault of the server.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

/// s3s sends an empty piece now and then, which HTTP/2 makes an empty DATA frame of, and h2 ends a connection that has
/// carried a hundred of those. And it answers a HEAD with an error's text, which hyper lets through over HTTP/2: a client
/// resets such a stream, and Go's tries again a thousand times. S3 sends neither.
struct Fit<B> {
    body: B,
    head: bool,
}

impl<B: Body + Unpin> Body for Fit<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        use bytes::Buf as _;
        if self.head {
            return Poll::Ready(None);
        }
        loop {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            let empty = |frame: &Frame<B::Data>| frame.data_ref().is_some_and(|data| !data.has_remaining());
            match &polled {
                Poll::Ready(Some(Ok(frame))) if empty(frame) => {}
                _ => return polled,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.head || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.head { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}
