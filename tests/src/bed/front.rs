//! A TLS front before a plain server: it ends TLS and copies bytes, nothing else.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::ca::{AWS_NAMES, Ca};

/// Starts a front for the server at `behind` and returns where it listens.
pub async fn splice(ca: &Ca, behind: SocketAddr) -> anyhow::Result<SocketAddr> {
    let acceptor = TlsAcceptor::from(ca.server(&AWS_NAMES, &[b"http/1.1"])?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding a TLS front")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(behind).await else { return };
                // Either side closing early is the other's to notice.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    Ok(address)
}
