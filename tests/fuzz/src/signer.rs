//! Bodies in signed pieces, made by AWS's description of them and none of Tollgate's code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::STAMP;

const SCOPE: &str = "20260102/us-east-1/s3/aws4_request";
const TRAILER: &str = "x-amz-checksum-crc32:AAAAAA==";

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Signs pieces one after the other.
pub struct Signer {
    key: Vec<u8>,
    last: String,
}

impl Signer {
    /// `seed`: the signature of the request.
    pub fn new(secret: &str, seed: String) -> Self {
        let mut parts = SCOPE.split('/');
        let first = format!("AWS4{secret}").into_bytes();
        let key = parts.by_ref().fold(first, |key, part| mac(&key, part.as_bytes()));
        Self { key, last: seed }
    }

    fn sign(&mut self, kind: &str, digests: &[String]) -> &str {
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{STAMP}\n{SCOPE}\n{}\n{}", self.last, digests.join("\n"));
        self.last = hex::encode(mac(&self.key, text.as_bytes()));
        &self.last
    }

    /// aws-chunked.
    pub fn chunks(&mut self, pieces: &[&[u8]], trailer: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces.iter().copied().filter(|p| !p.is_empty()).chain([&b""[..]]) {
            let signature = self.sign("PAYLOAD", &[sha(b""), sha(piece)]);
            out.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", piece.len()).as_bytes());
            out.extend_from_slice(piece);
            if !piece.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
        }
        if trailer {
            let signature = self.sign("TRAILER", &[sha(format!("{TRAILER}\n").as_bytes())]);
            out.extend_from_slice(format!("{TRAILER}\r\nx-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// An event stream.
    pub fn events(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut date = b"\x05:date\x08".to_vec();
        date.extend_from_slice(&1_767_323_045_000_u64.to_be_bytes());
        let mut out = Vec::new();
        for piece in pieces.iter().copied().filter(|p| !p.is_empty()).chain([&b""[..]]) {
            let signature = hex::decode(self.sign("PAYLOAD", &[sha(&date), sha(piece)])).expect("hex");
            let headers = [&date[..], b"\x10:chunk-signature\x06\x00\x20", &signature].concat();
            let mut event = Vec::new();
            event.extend_from_slice(&((headers.len() + piece.len() + 16) as u32).to_be_bytes());
            event.extend_from_slice(&(headers.len() as u32).to_be_bytes());
            event.extend_from_slice(&[0; 4]);
            event.extend_from_slice(&headers);
            event.extend_from_slice(piece);
            event.extend_from_slice(&[0; 4]);
            checksums(&mut event);
            out.append(&mut event);
        }
        out
    }
}

/// Makes the two checksums of an event right, as far as it has the bytes for them.
pub fn checksums(event: &mut [u8]) {
    if event.len() < 16 {
        return;
    }
    let prelude = crc32fast::hash(&event[..8]);
    event[8..12].copy_from_slice(&prelude.to_be_bytes());
    let end = event.len() - 4;
    let all = crc32fast::hash(&event[..end]);
    event[end..].copy_from_slice(&all.to_be_bytes());
}

/// The data in aws-chunked.
pub fn data_of(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = body.windows(2).position(|w| w == b"\r\n")?;
        let line = std::str::from_utf8(&body[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(body.get(..size)?);
        body = body.get(size + 2..)?;
    }
}
