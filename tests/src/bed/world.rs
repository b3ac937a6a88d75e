//! The outside world: whatever listens at the addresses that names resolve to.
//!
//! A tagged process that gets here unjudged has found a bypass, so everything that arrives is written down, and
//! answers carry certificates of a root of their own. Untagged processes and spliced connections belong here.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::LazyConfigAcceptor;

use super::ca::{AWS_NAMES, Ca};
use super::{AWS_V4, AWS_V6, WEB_V4};

/// What the world answers over TLS and HTTP; tests look for it.
pub const GREETING: &str = "the outside world";

type Log = Arc<Mutex<File>>;

pub async fn serve(ca: &Ca, log: &Path) -> anyhow::Result<()> {
    let log: Log = Arc::new(Mutex::new(File::create(log)?));
    let mut names = AWS_NAMES.to_vec();
    names.extend(["*.example.org", "example.org", "sts.amazonaws.com"]);
    let tls = ca.server(&names, &[b"http/1.1"])?;
    for address in [IpAddr::from(AWS_V4), IpAddr::from(WEB_V4), IpAddr::from(AWS_V6)] {
        for port in [443, 80, 8443] {
            let listener =
                TcpListener::bind((address, port)).await.with_context(|| format!("binding {address}:{port}"))?;
            let (tls, log) = (tls.clone(), log.clone());
            tokio::spawn(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    tokio::spawn(connection(stream, peer, SocketAddr::new(address, port), tls.clone(), log.clone()));
                }
            });
        }
        for port in [443, 53] {
            let socket =
                UdpSocket::bind((address, port)).await.with_context(|| format!("binding UDP {address}:{port}"))?;
            let log = log.clone();
            tokio::spawn(async move {
                let mut buffer = [0u8; 2048];
                while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
                    note(&log, json!({"proto": "udp", "at": format!("{address}:{port}"), "from": peer, "data": text}));
                    let _ = socket.send_to(GREETING.as_bytes(), peer).await;
                }
            });
        }
    }
    Ok(())
}

/// One connection: TLS or not, its first bytes go into the log, and it gets the greeting.
async fn connection(stream: TcpStream, peer: SocketAddr, at: SocketAddr, tls: Arc<rustls::ServerConfig>, log: Log) {
    let mut first = [0u8; 1];
    if stream.peek(&mut first).await.is_err() {
        return;
    }
    if first[0] != 0x16 {
        note(&log, json!({"proto": "tcp", "at": at, "from": peer, "tls": false}));
        return greet(stream).await;
    }
    let Ok(start) = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await else { return };
    let name = start.client_hello().server_name().map(str::to_owned);
    note(&log, json!({"proto": "tcp", "at": at, "from": peer, "tls": true, "name": name}));
    if let Ok(stream) = start.into_stream(tls).await {
        greet(stream).await;
    }
}

async fn greet(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let mut buffer = [0u8; 4096];
    let _ = stream.read(&mut buffer).await;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{GREETING}",
        GREETING.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn note(log: &Log, entry: Value) {
    if let Ok(mut file) = log.lock() {
        // One write a line, so that a reader never sees half of one.
        let _ = file.write_all(format!("{entry}\n").as_bytes());
    }
}
