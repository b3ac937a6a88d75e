//! Connections that are not for AWS: passed on untouched to where they were going, or refused.
//!
//! Owns the egress rule and the copying. Reads nothing of what passes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
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

/// Connects to the original destination and copies both ways. Gives the bytes sent and received.
pub async fn splice(mut agent: TcpStream, seen: Bytes, to: SocketAddr, timeout: Duration) -> io::Result<(u64, u64)> {
    let mut upstream = tokio::time::timeout(timeout, TcpStream::connect(to))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the destination did not answer"))??;
    let _ = upstream.set_nodelay(true);
    let _ = agent.set_nodelay(true);
    upstream.write_all(&seen).await?;
    let (sent, received) = tokio::io::copy_bidirectional_with_sizes(&mut agent, &mut upstream, BUFFER, BUFFER).await?;
    Ok((sent + seen.len() as u64, received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_egress_rule() {
        let strict: Egress =
            toml::from_str("default = 'refuse'\nallow = ['*.example.com']\ndeny = ['bad.example.com']").expect("valid");
        let open = Egress::default();
        let tls = |n: &str| Sniffed::Tls { name: n.into() };
        assert!(judge(&open, &tls("pypi.org")).is_ok());
        assert!(judge(&strict, &tls("a.example.com")).is_ok());
        assert!(judge(&strict, &tls("bad.example.com")).unwrap_err().contains("egress.deny"));
        assert!(judge(&strict, &tls("pypi.org")).unwrap_err().contains("egress.allow"));
        assert!(judge(&open, &Sniffed::Other).unwrap_err().contains("neither TLS nor HTTP"));
        assert!(judge(&open, &Sniffed::TlsUnnamed { why: "x" }).is_err());
    }
}
