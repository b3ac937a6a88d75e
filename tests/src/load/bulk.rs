//! One large body, down or up.
//!
//! Owns the clock of a transfer: from sending the head to having the whole answer, on a connection that is open already.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::bail;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::Serialize;

use super::transport::{self, Target};
use super::{BULK_HOST, SEEN_KEY, request};

const CHUNK: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    Get,
    Put,
}

/// How an upload is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Payload {
    /// `UNSIGNED-PAYLOAD`
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`, today's default of the SDKs: aws-chunked, with a checksum behind it.
    Trailer,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub bytes: u64,
    pub seconds: f64,
    pub mb_per_second: f64,
    pub seen_key: String,
}

pub async fn run(target: &Target, direction: Direction, payload: Payload, bytes: u64) -> anyhow::Result<Report> {
    let credentials = target.credentials.load().await?;
    let tls = transport::tls(&target.ca)?;
    let mut connection = transport::open(target.address, tls, BULK_HOST).await?;
    connection.ready().await?;
    let request = match (direction, payload) {
        (Direction::Get, _) => request::get_object(&credentials, bytes)?.request(),
        (Direction::Put, Payload::Unsigned) => {
            let body = Upload::plain(bytes);
            request::put_object(&credentials, body.left(), None)?.with_body(body.boxed_unsync())
        }
        (Direction::Put, Payload::Trailer) => {
            let body = Upload::chunked(bytes);
            request::put_object(&credentials, body.left(), Some(bytes))?.with_body(body.boxed_unsync())
        }
    };
    let started = Instant::now();
    let (parts, mut body) = connection.send_request(request).await?.into_parts();
    if !parts.status.is_success() {
        let text = body.collect().await?.to_bytes();
        bail!("answer {}: {}", parts.status, String::from_utf8_lossy(&text));
    }
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame?.data_ref().map_or(0, |d| d.len() as u64);
    }
    let seconds = started.elapsed().as_secs_f64();
    let arrived = match direction {
        Direction::Get => Some(read),
        Direction::Put => parts.headers.get("x-bench-bytes").and_then(|v| v.to_str().ok()?.parse().ok()),
    };
    if arrived != Some(bytes) {
        bail!("{arrived:?} bytes arrived of {bytes}");
    }
    let seen_key = parts.headers.get(SEEN_KEY).and_then(|v| v.to_str().ok()).unwrap_or("none").to_owned();
    Ok(Report { bytes, seconds, mb_per_second: bytes as f64 / 1e6 / seconds, seen_key })
}

/// The bytes of an upload: the same piece again and again, with a header around each where it is aws-chunked.
struct Upload {
    pieces: u64,
    last: usize,
    left: u64,
    whole: Bytes,
    part: Bytes,
    tail: Option<Bytes>,
}

impl Upload {
    fn plain(bytes: u64) -> Self {
        Self::of(bytes, |data| data, None)
    }

    fn chunked(bytes: u64) -> Self {
        let framed = |data: Bytes| {
            let mut piece = format!("{:x}\r\n", data.len()).into_bytes();
            piece.extend_from_slice(&data);
            piece.extend_from_slice(b"\r\n");
            Bytes::from(piece)
        };
        // The checksum is not computed: the upstream does not check it, and its cost is the client's alone.
        Self::of(bytes, framed, Some(Bytes::from_static(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n")))
    }

    fn of(bytes: u64, frame: impl Fn(Bytes) -> Bytes, tail: Option<Bytes>) -> Self {
        let (pieces, last) = (bytes / CHUNK as u64, (bytes % CHUNK as u64) as usize);
        let data = Bytes::from((0..CHUNK).map(|n| ((n * 131) >> 3) as u8).collect::<Vec<_>>());
        let part = if last == 0 { Bytes::new() } else { frame(data.slice(..last)) };
        let whole = frame(data);
        let left = pieces * whole.len() as u64 + part.len() as u64 + tail.as_ref().map_or(0, |t| t.len() as u64);
        Self { pieces, last, left, whole, part, tail }
    }

    fn left(&self) -> u64 {
        self.left
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = if self.pieces > 0 {
            self.pieces -= 1;
            Some(self.whole.clone())
        } else if std::mem::take(&mut self.last) > 0 {
            Some(self.part.clone())
        } else {
            self.tail.take()
        };
        self.left -= piece.as_ref().map_or(0, |p| p.len() as u64);
        Poll::Ready(piece.map(|p| Ok(Frame::data(p))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_is_as_long_as_it_says() {
        for bytes in [0, 1, CHUNK as u64, 3 * CHUNK as u64 + 7] {
            for body in [Upload::plain(bytes), Upload::chunked(bytes)] {
                let said = body.left();
                assert_eq!(body.collect().await.unwrap().to_bytes().len() as u64, said);
            }
        }
    }
}
