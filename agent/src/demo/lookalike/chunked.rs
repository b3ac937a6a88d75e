//! Takes S3's `aws-chunked` envelope off a body that is held whole.

use bytes::{Bytes, BytesMut};

/// Why an envelope could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("a chunk's size is not a hexadecimal number")]
    Size,
    #[error("the body ends in the middle of a chunk")]
    Short,
    #[error("a chunk is not followed by an empty line")]
    Separator,
}

/// The content of the envelope; trailers after the last chunk are left out.
pub(super) fn decode(mut body: &[u8]) -> Result<Bytes, ChunkError> {
    let mut out = BytesMut::with_capacity(body.len());
    loop {
        let (line, rest) = line(body)?;
        let size = std::str::from_utf8(line)
            .ok()
            .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok())
            .ok_or(ChunkError::Size)?;
        if size == 0 {
            return Ok(out.freeze());
        }
        let (content, rest) = rest.split_at_checked(size).ok_or(ChunkError::Short)?;
        out.extend_from_slice(content);
        body = rest.strip_prefix(b"\r\n").ok_or(ChunkError::Separator)?;
    }
}

fn line(body: &[u8]) -> Result<(&[u8], &[u8]), ChunkError> {
    let end = body.windows(2).position(|two| two == b"\r\n").ok_or(ChunkError::Short)?;
    Ok((&body[..end], &body[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_the_envelope_is_gone() {
        for (envelope, content) in [
            (&b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"[..], &b"hello"[..]),
            (b"3;chunk-signature=ab\r\nhel\r\nA\r\nlo\r\n there\r\n0\r\n\r\n", b"hello\r\n there"),
            (b"0\r\n\r\n", b""),
        ] {
            assert_eq!(decode(envelope).unwrap(), content);
        }
    }

    #[test]
    fn broken_envelopes_are_refused() {
        assert_eq!(decode(b""), Err(ChunkError::Short));
        assert_eq!(decode(b"zz\r\n"), Err(ChunkError::Size));
        assert_eq!(decode(b"5\r\nhel"), Err(ChunkError::Short));
        assert_eq!(decode(b"2\r\nhello"), Err(ChunkError::Separator));
    }
}
