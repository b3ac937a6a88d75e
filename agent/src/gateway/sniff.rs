//! What a fresh connection speaks, from its first bytes.
//!
//! Owns the reading of ClientHello and request head, up to a bound; writes nothing.
//! Runs on the connection's task, under the handshake timeout.

use std::io;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Most bytes read before giving up: a ClientHello with post-quantum shares and long tickets is below 4 KiB,
/// and the head limit of common servers is 8 to 16 KiB.
const LIMIT: usize = 32 << 10;

/// What the first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// A ClientHello with a server name.
    Tls { name: String },
    /// A ClientHello that names nobody, or hides whom it names.
    TlsUnnamed { why: &'static str },
    /// An HTTP/1 request head; the value of its only `Host`, lower case, port removed.
    Http { host: String },
    /// An HTTP/1 request head without a usable host.
    HttpUnnamed { why: &'static str },
    /// Neither.
    Other,
}

/// Why sniffing failed.
#[derive(Debug, thiserror::Error)]
pub enum SniffError {
    #[error("the connection ended before it said what it wants")]
    Eof,
    #[error("reading from the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("malformed ClientHello: {0}")]
    Tls(rustls::Error),
    #[error("the first {LIMIT} bytes hold no complete ClientHello or request head")]
    TooLong,
}

/// Reads until the connection has shown what it is; gives back what was read.
pub async fn sniff(stream: &mut TcpStream) -> Result<(Sniffed, Bytes), SniffError> {
    let mut seen = BytesMut::with_capacity(2048);
    let mut acceptor = Acceptor::default();
    loop {
        let before = seen.len();
        if stream.read_buf(&mut seen).await? == 0 {
            return Err(SniffError::Eof);
        }
        let found = match seen[0] {
            0x16 => tls(&mut acceptor, &seen[before..], &seen)?,
            b'A'..=b'Z' => http(&seen),
            _ => Some(Sniffed::Other),
        };
        if let Some(found) = found {
            return Ok((found, seen.freeze()));
        }
        if seen.len() >= LIMIT {
            return Err(SniffError::TooLong);
        }
    }
}

fn tls(acceptor: &mut Acceptor, mut new: &[u8], all: &[u8]) -> Result<Option<Sniffed>, SniffError> {
    while !new.is_empty() {
        acceptor.read_tls(&mut new)?;
    }
    let Some(accepted) = acceptor.accept().map_err(|(e, _)| SniffError::Tls(e))? else { return Ok(None) };
    let hello = accepted.client_hello();
    Ok(Some(match hello.server_name() {
        _ if has_encrypted_hello(all) => Sniffed::TlsUnnamed { why: "it carries an encrypted ClientHello" },
        Some(name) => Sniffed::Tls { name: name.trim_end_matches('.').to_ascii_lowercase() },
        None => Sniffed::TlsUnnamed { why: "it carries no server name" },
    }))
}

/// Whether the ClientHello has the `encrypted_client_hello` extension (0xfe0d), real or greased:
/// from outside they cannot be told apart. rustls has already checked the structure; what does not
/// parse here counts as hidden.
fn has_encrypted_hello(records: &[u8]) -> bool {
    scan_extensions(records, 0xfe0d).unwrap_or(true)
}

fn scan_extensions(mut records: &[u8], wanted: u16) -> Option<bool> {
    // Handshake messages may be cut into several records: join them first.
    let mut hello = Vec::with_capacity(records.len());
    while records.len() >= 5 && records[0] == 0x16 {
        let len = usize::from(u16::from_be_bytes([records[3], records[4]]));
        hello.extend_from_slice(records.get(5..5 + len)?);
        records = &records[5 + len..];
    }
    let mut rest = Reader(&hello);
    rest.take(4)?; // message type and length
    rest.take(2 + 32)?; // version, random
    let n = rest.u8()?;
    rest.take(usize::from(n))?; // session id
    let n = rest.u16()?;
    rest.take(usize::from(n))?; // cipher suites
    let n = rest.u8()?;
    rest.take(usize::from(n))?; // compression methods
    if rest.0.is_empty() {
        return Some(false);
    }
    let n = rest.u16()?;
    let mut extensions = Reader(rest.take(usize::from(n))?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let n = extensions.u16()?;
        extensions.take(usize::from(n))?;
        if kind == wanted {
            return Some(true);
        }
    }
    Some(false)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
}

fn http(seen: &[u8]) -> Option<Sniffed> {
    let end = seen.windows(4).position(|w| w == b"\r\n\r\n")?;
    let mut lines = seen[..end].split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let request = lines.next().unwrap_or_default();
    if !request.ends_with(b" HTTP/1.1") && !request.ends_with(b" HTTP/1.0") {
        return Some(Sniffed::Other);
    }
    if request.starts_with(b"CONNECT ") {
        return Some(Sniffed::HttpUnnamed { why: "it asks this address to be a proxy" });
    }
    let mut hosts = lines.filter_map(|l| {
        let colon = l.iter().position(|b| *b == b':')?;
        l[..colon].eq_ignore_ascii_case(b"host").then(|| l[colon + 1..].trim_ascii())
    });
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some(Sniffed::HttpUnnamed { why: "it carries more than one Host header" });
    }
    // An absolute-form target would overrule the header: what is judged must be what is sent.
    let target = request.split(|b| *b == b' ').nth(1).unwrap_or_default();
    if !target.starts_with(b"/") && target != b"*" {
        return Some(Sniffed::HttpUnnamed { why: "its target is in absolute form" });
    }
    let host = host.and_then(|h| std::str::from_utf8(h).ok()).map(without_port).filter(|h| !h.is_empty());
    Some(match host {
        // As in TLS, where an address is no server name: it says where, but not to whom.
        Some(host) if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            Sniffed::HttpUnnamed { why: "its Host is an address, not a name" }
        }
        Some(host) => Sniffed::Http { host: host.trim_end_matches('.').to_ascii_lowercase() },
        None => Sniffed::HttpUnnamed { why: "it carries no Host header" },
    })
}

/// A host without its port; brackets of an IPv6 literal stay.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_heads_are_named_only_by_one_host() {
        let host = |h: &str| Some(Sniffed::Http { host: h.into() });
        let cases: &[(&str, Option<Sniffed>)] = &[
            ("GET / HTTP/1.1\r\nHost: s3.amazonaws.com\r\n\r\n", host("s3.amazonaws.com")),
            ("GET / HTTP/1.1\r\nhost:S3.amazonaws.com.:80\r\n\r\n", host("s3.amazonaws.com")),
            ("GET / HTTP/1.1\r\nHost: a\r\n", None),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                Some(Sniffed::HttpUnnamed { why: "it carries more than one Host header" }),
            ),
            ("GET / HTTP/1.1\r\n\r\n", Some(Sniffed::HttpUnnamed { why: "it carries no Host header" })),
            (
                "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                Some(Sniffed::HttpUnnamed { why: "its target is in absolute form" }),
            ),
            (
                "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
                Some(Sniffed::HttpUnnamed { why: "it asks this address to be a proxy" }),
            ),
            (
                "GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n",
                Some(Sniffed::HttpUnnamed { why: "its Host is an address, not a name" }),
            ),
            (
                "GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n",
                Some(Sniffed::HttpUnnamed { why: "its Host is an address, not a name" }),
            ),
            ("PRI * HTTP/2.0\r\n\r\n", Some(Sniffed::Other)),
        ];
        for (text, expected) in cases {
            assert_eq!(http(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn an_encrypted_client_hello_is_found_across_records() {
        let hello = |ext: u16| {
            let mut body = vec![3, 3];
            body.extend([0; 32]);
            body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, 4]);
            body.extend(ext.to_be_bytes());
            body.extend([0, 0]);
            let mut message = vec![1, 0, 0, u8::try_from(body.len()).expect("small")];
            message.extend(body);
            message
        };
        let records = |message: &[u8], cut: usize| {
            let mut out = Vec::new();
            for part in [&message[..cut], &message[cut..]] {
                out.extend([0x16, 3, 1]);
                out.extend(u16::try_from(part.len()).expect("small").to_be_bytes());
                out.extend(part);
            }
            out
        };
        for cut in 0..=hello(0).len() {
            assert!(has_encrypted_hello(&records(&hello(0xfe0d), cut)));
            assert!(!has_encrypted_hello(&records(&hello(0x0010), cut)));
        }
        assert!(has_encrypted_hello(&[0x16, 3, 1, 0, 9, 1]), "what does not parse counts as hidden");
    }

    #[test]
    fn ports_are_removed_and_addresses_kept() {
        for (from, to) in [("a:80", "a"), ("a", "a"), ("[::1]:8080", "[::1]"), ("::1", "::1"), ("a:", "a")] {
            assert_eq!(without_port(from), to);
        }
    }
}
