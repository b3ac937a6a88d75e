//! A name server for the namespace: every AWS name is at [`AWS_V4`], every other at [`WEB_V4`], none has an IPv6
//! address. Speaks just enough DNS over UDP for `getaddrinfo`.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::net::UdpSocket;

use super::{AWS_V4, WEB_V4};

const A: u16 = 1;

pub async fn serve() -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).await.context("binding the name server")?;
    tokio::spawn(async move {
        let mut buffer = [0u8; 1500];
        while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = answer(&buffer[..size]) {
                // A lost answer is asked for again.
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    });
    Ok(())
}

/// The answer to a query with one question; `None` for anything else.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let header = query.get(..12)?;
    if header[2] & 0x80 != 0 || u16::from_be_bytes([header[4], header[5]]) != 1 {
        return None;
    }
    let (name, end) = name(query)?;
    let question = query.get(12..end + 4)?;
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let address = (kind == A).then(|| if is_aws(&name) { AWS_V4 } else { WEB_V4 });

    let mut out = Vec::with_capacity(question.len() + 28);
    out.extend_from_slice(&header[..2]);
    // Response, recursion desired and available, no error; one question, and an answer if there is one.
    out.extend_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    out.extend_from_slice(question);
    if let Some(address) = address {
        // A pointer to the question's name; type A, class IN, 60 seconds, four bytes.
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend_from_slice(&address.octets());
    }
    Some(out)
}

/// The question's name, lower case, and the offset behind it.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}

fn is_aws(name: &str) -> bool {
    [".amazonaws.com", ".api.aws", ".on.aws", ".amazonaws.com.cn"].iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut q = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            q.push(label.len() as u8);
            q.extend_from_slice(label.as_bytes());
        }
        q.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
        q
    }

    #[test]
    fn aws_names_and_others_have_different_addresses() {
        let aws = answer(&query("STS.us-east-1.amazonaws.com", A)).unwrap();
        assert_eq!(aws[..2], [0xab, 0xcd]);
        assert_eq!(aws[7], 1);
        assert_eq!(aws[aws.len() - 4..], AWS_V4.octets());
        let web = answer(&query("www.example.org", A)).unwrap();
        assert_eq!(web[web.len() - 4..], WEB_V4.octets());
    }

    #[test]
    fn other_types_have_no_answer_but_no_error() {
        let none = answer(&query("sts.amazonaws.com", 28)).unwrap();
        assert_eq!(none[3] & 0x0f, 0);
        assert_eq!(none[7], 0);
    }

    #[test]
    fn broken_queries_are_ignored() {
        for bad in [&b""[..], &[0; 5], &[0; 12]] {
            assert_eq!(answer(bad), None);
        }
        let mut cut = query("a.b", A);
        cut.truncate(15);
        assert_eq!(answer(&cut), None);
    }
}
