//! s3s-fs: an independent S3 over a directory that verifies signatures, chunk signatures and checksums.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;
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
                // A client that goes away in the middle is no fault of the server.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}
