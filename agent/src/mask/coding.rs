//! Content encodings: taken off while an answer passes.
//!
//! Owns the decoders' limits: what they may unpack for what came in, and the memory that they may ask for. Pure.

use std::io::{self, Write};

use super::MaskError;

/// Unpacked bytes that any answer may have.
const FREE: u64 = 4 << 20;
/// How often as many bytes may come out as went in, beyond that.
const RATIO: u64 = 200;
/// What is fed to a decoder at a time, so that a limit is seen soon.
const PIECE: usize = 4 << 10;
/// zstd's window, as RFC 9659 has it for the web: 8 MiB.
const ZSTD_WINDOW: u32 = 23;

/// Unpacked bytes, and how many there may be.
#[derive(Debug, Default)]
struct Sink {
    bytes: Vec<u8>,
    taken: u64,
    given: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.given += bytes.len() as u64;
        if self.given > FREE + RATIO * self.taken {
            return Err(io::Error::other("bomb"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Gzip(flate2::write::MultiGzDecoder<Sink>),
    Zlib(flate2::write::ZlibDecoder<Sink>),
    Deflate(flate2::write::DeflateDecoder<Sink>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
    /// `deflate` is zlib by the standard, and raw by some servers: the first byte tells.
    Either,
}

/// One encoding that is taken off.
pub(super) struct Coding {
    decoder: Decoder,
    any: bool,
}

impl Coding {
    /// By the value of `Content-Encoding`; `None`: there is none.
    pub fn of(names: &str) -> Result<Option<Self>, MaskError> {
        let mut found = None;
        for name in names.split(',').map(|n| n.trim().to_ascii_lowercase()) {
            let decoder = match name.as_str() {
                // How an object was sent to S3; what comes back is not in chunks.
                "" | "identity" | "aws-chunked" => continue,
                "gzip" | "x-gzip" => Decoder::Gzip(flate2::write::MultiGzDecoder::new(Sink::default())),
                "deflate" => Decoder::Either,
                "br" => Decoder::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Sink::default(), PIECE))),
                "zstd" => {
                    let mut decoder = zstd::stream::write::Decoder::new(Sink::default())
                        .map_err(|_| MaskError::Limit("there is no memory to unpack it"))?;
                    decoder.window_log_max(ZSTD_WINDOW).map_err(|_| MaskError::Coding(name.clone()))?;
                    Decoder::Zstd(Box::new(decoder))
                }
                _ => return Err(MaskError::Coding(names.to_owned())),
            };
            if found.is_some() {
                return Err(MaskError::Coding(names.to_owned()));
            }
            found = Some(Self { decoder, any: false });
        }
        Ok(found)
    }

    /// Unpacks, and gives what came out to `each` in turn.
    pub fn push(
        &mut self,
        input: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), MaskError>,
    ) -> Result<(), MaskError> {
        if let (Decoder::Either, Some(first)) = (&self.decoder, input.first()) {
            // Zlib's first byte: method 8, a window of at most 32 KiB.
            self.decoder = if first & 0x0f == 8 && first >> 4 <= 7 {
                Decoder::Zlib(flate2::write::ZlibDecoder::new(Sink::default()))
            } else {
                Decoder::Deflate(flate2::write::DeflateDecoder::new(Sink::default()))
            };
        }
        for piece in input.chunks(PIECE) {
            self.any = true;
            self.sink(|sink| sink.taken += piece.len() as u64);
            let written = match &mut self.decoder {
                Decoder::Gzip(d) => d.write_all(piece).and_then(|()| d.flush()),
                Decoder::Zlib(d) => d.write_all(piece).and_then(|()| d.flush()),
                Decoder::Deflate(d) => d.write_all(piece).and_then(|()| d.flush()),
                Decoder::Brotli(d) => d.write_all(piece),
                Decoder::Zstd(d) => d.write_all(piece).and_then(|()| d.flush()),
                Decoder::Either => Ok(()),
            };
            written.map_err(|e| self.failed(&e))?;
            self.hand_over(&mut each)?;
        }
        Ok(())
    }

    /// The last byte has come: what was packed must be whole.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), MaskError>) -> Result<(), MaskError> {
        if !self.any {
            return Ok(());
        }
        let ended = match &mut self.decoder {
            Decoder::Gzip(d) => d.try_finish(),
            Decoder::Zlib(d) => d.try_finish(),
            Decoder::Deflate(d) => d.try_finish(),
            Decoder::Brotli(d) => d.close(),
            Decoder::Zstd(d) => d.do_finish(),
            Decoder::Either => Ok(()),
        };
        ended.map_err(|e| self.failed(&e))?;
        self.hand_over(&mut each)
    }

    fn failed(&mut self, e: &io::Error) -> MaskError {
        match e.to_string().as_str() {
            "bomb" => MaskError::Limit("it unpacks to far more than came"),
            _ => MaskError::Unreadable("packed answer"),
        }
    }

    fn hand_over(&mut self, each: &mut impl FnMut(&[u8]) -> Result<(), MaskError>) -> Result<(), MaskError> {
        let mut bytes = Vec::new();
        self.sink(|sink| std::mem::swap(&mut bytes, &mut sink.bytes));
        each(&bytes)?;
        // The room is used again.
        bytes.clear();
        if bytes.capacity() <= 1 << 20 {
            self.sink(|sink| sink.bytes = bytes);
        }
        Ok(())
    }

    fn sink<T>(&mut self, look: impl FnOnce(&mut Sink) -> T) -> Option<T> {
        Some(look(match &mut self.decoder {
            Decoder::Gzip(d) => d.get_mut(),
            Decoder::Zlib(d) => d.get_mut(),
            Decoder::Deflate(d) => d.get_mut(),
            Decoder::Brotli(d) => d.get_mut(),
            Decoder::Zstd(d) => d.get_mut(),
            Decoder::Either => return None,
        }))
    }
}
