//! The last words to a connection that is refused before it is one: a TLS alert, or a short HTTP answer.
//!
//! Without them a client reports a broken network, and its user looks in the wrong place.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sniff::Sniffed;

/// How long and how much the client may go on sending before the connection is cut. Closing at once would reset the
/// connection, and the client would lose what it has been told.
const PATIENCE: Duration = Duration::from_secs(1);
const MUCH: u64 = 1 << 20;

/// Alert descriptions of RFC 8446 §6.
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

/// Tells why a connection that has been sniffed goes no further. What is neither TLS nor HTTP is told nothing.
pub async fn refuse(stream: TcpStream, sniffed: &Sniffed, reason: &str) {
    match sniffed {
        Sniffed::Tls { .. } => say(stream, &alert(ACCESS_DENIED)).await,
        Sniffed::TlsUnnamed { .. } => say(stream, &alert(UNRECOGNIZED_NAME)).await,
        Sniffed::Http { .. } => say(stream, &http("403 Forbidden", reason)).await,
        Sniffed::HttpUnnamed { .. } => say(stream, &http("400 Bad Request", reason)).await,
        Sniffed::Other => {}
    }
}

/// Answers a ClientHello that is none.
pub async fn malformed_tls(stream: TcpStream) {
    say(stream, &alert(DECODE_ERROR)).await;
}

/// A fatal alert in a plain record.
fn alert(description: u8) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, description]
}

fn http(status: &str, reason: &str) -> Vec<u8> {
    let body = format!("Tollgate refused this request: {reason}\n");
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn say(mut stream: TcpStream, words: &[u8]) {
    // Whoever does not listen has not lost anything.
    let _ = tokio::time::timeout(PATIENCE, async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MUCH), &mut tokio::io::sink()).await
    })
    .await;
}
