//! Connections that are not for AWS: passed on untouched to where they were going, or refused.
//!
//! Owns the egress rule and the copying. Reads nothing of what passes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::sniff::Sniffed;
use crate::config::{Egress, Verdict};

/// Buffer of each direction: a TLS record, so that one read is one write.
const BUFFER: usize = 16 << 10;

/// What the egress rule says of a connection, and why.
pub fn judge(egress: &Egress, sniffed: &Sniffed) -> Result<(), String> {
    let (name, unnamed) = match sniffed {
        Sniffed::Tls { name } => (Some(name.as_str()), None),
        Sniffed::Http { host } => (Some(host.as_str()), None),
        Sniffed::TlsUnnamed { why } | Sniffed::HttpUnnamed { why } => (None, Some(*why)),
        Sniffed::Other => (None, Some("it is neither TLS nor HTTP")),
    };
    let Some(name) = name else {
        let why = unnamed.unwrap_or("it names nobody");
        return match egress.unnamed {
            Verdict::Splice => Ok(()),
            Verdict::Refuse => {
                Err(format!("cannot tell where the connection goes: {why}; `egress.unnamed` refuses those"))
            }
        };
    };
    if egress.deny.iter().any(|p| p.matches(name)) {
        return Err(format!("`egress.deny` lists `{name}`"));
    }
    match egress.default {
        Verdict::Splice => Ok(()),
        Verdict::Refuse if egress.allow.iter().any(|p| p.matches(name)) => Ok(()),
        Verdict::Refuse => Err(format!("`{name}` is not in `egress.allow`, and `egress.default` refuses the rest")),
    }
}

/// Connects to the original destination and copies both ways until both have ended, or nothing has passed for as long as
/// an idle connection may live. Gives the bytes sent and received.
pub async fn splice(
    agent: TcpStream,
    seen: Bytes,
    to: SocketAddr,
    connect: Duration,
    idle: Duration,
) -> io::Result<(u64, u64)> {
    let mut upstream = tokio::time::timeout(connect, TcpStream::connect(to))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the destination did not answer"))??;
    let _ = upstream.set_nodelay(true);
    let _ = agent.set_nodelay(true);
    upstream.write_all(&seen).await?;
    let passed = Arc::<AtomicU64>::default();
    let mut agent = Counted { inner: agent, passed: passed.clone() };
    let mut copying =
        std::pin::pin!(tokio::io::copy_bidirectional_with_sizes(&mut agent, &mut upstream, BUFFER, BUFFER));
    let (sent, received) = loop {
        let before = passed.load(Ordering::Relaxed);
        match tokio::time::timeout(idle, copying.as_mut()).await {
            Ok(done) => break done?,
            Err(_) if passed.load(Ordering::Relaxed) == before => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing passed within `egress.idle_timeout`"));
            }
            Err(_) => {}
        }
    };
    Ok((sent + seen.len() as u64, received))
}

/// A connection that counts what passes, either way.
struct Counted {
    inner: TcpStream,
    passed: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.passed.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = &polled {
            self.passed.fetch_add(*n as u64, Ordering::Relaxed);
        }
        polled
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_splice_that_nothing_passes_ends_and_a_busy_one_does_not() {
        let pair = |listener: tokio::net::TcpListener| async move {
            let address = listener.local_addr().expect("an address");
            let (a, b) = tokio::join!(TcpStream::connect(address), listener.accept());
            (a.expect("connects"), b.expect("accepts").0)
        };
        let listen = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens") };
        let world = listen().await;
        let to = world.local_addr().expect("an address");
        let (mut client, agent) = pair(listen().await).await;
        let (connect, idle) = (Duration::from_secs(5), Duration::from_millis(400));
        let splicing = tokio::spawn(async move { splice(agent, Bytes::from_static(b"seen"), to, connect, idle).await });
        let (_held, _) = world.accept().await.expect("accepts");
        for _ in 0..6 {
            client.write_all(b"x").await.expect("writes");
            tokio::time::sleep(Duration::from_millis(40)).await;
            assert!(!splicing.is_finished());
        }
        let error = splicing.await.expect("no panic").expect_err("it is idle");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_egress_rule() {
        let strict: Egress =
            toml::from_str("default = 'refuse'\nallow = ['*.example.com']\ndeny = ['bad.example.com']").expect("valid");
        let open = Egress::default();
        let tls = |n: &str| Sniffed::Tls { name: n.into() };
        assert!(judge(&open, &tls("downloads.example.org")).is_ok());
        assert!(judge(&strict, &tls("a.example.com")).is_ok());
        assert!(judge(&strict, &tls("bad.example.com")).unwrap_err().contains("egress.deny"));
        assert!(judge(&strict, &tls("downloads.example.org")).unwrap_err().contains("egress.allow"));
        assert!(judge(&open, &Sniffed::Other).unwrap_err().contains("neither TLS nor HTTP"));
        assert!(judge(&open, &Sniffed::TlsUnnamed { why: "x" }).is_err());
    }
}
