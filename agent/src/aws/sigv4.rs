//! SigV4, SigV4A and SigV2: reading, verifying and making signatures, of requests and of the pieces of their bodies.
//!
//! Owns what a signature covers and how it is computed: in headers and in queries, over whole bodies, signed chunks
//! and signed events. Every other way to authenticate is recognised and named, so that nothing is forwarded by
//! accident. Pure: the caller passes the time in, and bodies come as hashes or piece by piece. Never logs a key, a
//! token or a canonical request. Runs on the exchange's task.

mod canonical;
mod chain;
mod chunks;
mod claim;
mod ecdsa;
mod events;
mod hoist;
mod keys;
mod sign;
mod stamp;
mod v2;
mod verify;

use std::time::Duration;

use sha2::{Digest, Sha256};

pub use chain::{Chain, LARGEST_PIECE, PieceError, Pieces};
pub use chunks::ChunkTerms;
pub use claim::{Claim, claim};
pub use hoist::hoist;
pub use keys::SigningKeys;
pub use sign::{Order, Signed, sign};
pub use stamp::Stamp;
pub use verify::{Given, verify};

/// How far a client's clock may be off, either way.
///
/// AWS allows five to fifteen minutes, but the agent's stamp is replaced by ours, so a clock that is an hour off
/// need not stop it. A signature cannot outlive its placeholder in any case; this is as long as one lives at most.
pub const MAX_SKEW: Duration = Duration::from_secs(12 * 3600);

const TERMINATOR: &str = "aws4_request";

/// HTTP/2's name of the host.
const AUTHORITY: &str = ":authority";
const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
const X_AMZ_DATE: &str = "x-amz-date";
const X_AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";
const X_AMZ_S3SESSION_TOKEN: &str = "x-amz-s3session-token";
const X_AMZ_REGION_SET: &str = "x-amz-region-set";

/// What a signature is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with a key of one day, region and service.
    V4,
    /// ECDSA on P-256 with a key of the access key's own, for a set of regions.
    V4a,
    /// HMAC-SHA1 in a query of S3's: verified, and answered with a signature of version 4.
    V2,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "AWS4-HMAC-SHA256",
            Self::V4a => "AWS4-ECDSA-P256-SHA256",
            Self::V2 => "AWS",
        }
    }
}

/// Which header, or member of a query, a session token goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenKind {
    #[default]
    Security,
    /// Of a session with a directory bucket (S3 Express).
    S3Session,
}

impl TokenKind {
    fn header(self) -> &'static str {
        match self {
            Self::Security => X_AMZ_SECURITY_TOKEN,
            Self::S3Session => X_AMZ_S3SESSION_TOKEN,
        }
    }
}

/// What a signature says of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// SHA-256 of the body, in lower-case hex.
    Hashed(String),
    /// `UNSIGNED-PAYLOAD`: the body is not covered.
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: aws-chunked with a checksum behind it, not covered.
    StreamingUnsignedTrailer,
    /// aws-chunked, each chunk with a signature of its own.
    SignedChunks(ChunkTerms),
    /// An event stream, each event with a signature of its own.
    Events,
    /// No `x-amz-content-sha256`: covered by a hash that the verifier has to compute.
    Absent,
}

impl Payload {
    /// The value of `x-amz-content-sha256`; `None` for [`Payload::Absent`].
    pub fn header(&self, algorithm: Algorithm) -> Option<&str> {
        let v4a = algorithm == Algorithm::V4a;
        Some(match self {
            Self::Hashed(hex) => hex,
            Self::Unsigned => "UNSIGNED-PAYLOAD",
            Self::StreamingUnsignedTrailer => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            Self::SignedChunks(terms) => match (v4a, terms.trailer.is_some()) {
                (false, false) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
                (false, true) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
                (true, false) => "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
                (true, true) => "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
            },
            Self::Events => "STREAMING-AWS4-HMAC-SHA256-EVENTS",
            Self::Absent => return None,
        })
    }

    /// Whether the body is checked as it passes, piece by piece.
    pub fn is_in_pieces(&self) -> bool {
        matches!(self, Self::SignedChunks(_) | Self::Events)
    }
}

/// Ways to authenticate that are recognised and not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    SigV2,
    SigV4aEvents,
    PostPolicy,
    Bearer,
    Basic,
    Unknown,
}

impl Mode {
    fn sentence(self) -> &'static str {
        match self {
            Self::SigV2 => {
                "signature version 2 in a header is not let through; set `signature_version` to `v4` (for S3, `s3v4`)"
            }
            Self::SigV4aEvents => {
                "event streams signed by SigV4A are not known to AWS; set the SDK's auth scheme preference to `sigv4`"
            }
            Self::PostPolicy => {
                "browser form uploads (POST policies) cannot be re-signed: the policy that S3 checks is signed itself; use \
                 PutObject or a presigned URL"
            }
            Self::Bearer => {
                "bearer tokens are not let through; use the credentials that the metadata service offers \
                 (remove AWS_BEARER_TOKEN_BEDROCK and the like)"
            }
            Self::Basic => {
                "basic authentication is not let through; use the credentials that the metadata service offers"
            }
            Self::Unknown => "the Authorization scheme is not one of AWS's; sign with AWS4-HMAC-SHA256",
        }
    }
}

/// Why a signature was not taken, or not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    #[error("{}", .mode.sentence())]
    Unsupported { mode: Mode },
    #[error("the signature cannot be read: {0}")]
    Malformed(String),
    #[error("the request was signed {seconds} seconds {direction} this host's time; set the clock of the client")]
    Skewed { seconds: u64, direction: &'static str },
    #[error("the presigned URL has expired; make a new one, with a longer life if need be")]
    Expired,
    #[error("the session token is missing; send the token that came with the access key in {}", .0.header())]
    TokenMissing(TokenKind),
    #[error("the session token does not belong to the access key; ask the metadata service for both again")]
    TokenMismatch,
    #[error(
        "the signature does not match the request; check the secret key, and that nothing alters the request after signing"
    )]
    Mismatch,
    #[error("the body's hash is not known; hash the body before verifying or signing")]
    BodyNotHashed,
    #[error("the request cannot be signed: {0}")]
    Unsignable(String),
}

impl SigError {
    fn malformed(text: impl Into<String>) -> Self {
        Self::Malformed(text.into())
    }
}

/// Lower-case hex of the SHA-256 of a body.
pub fn sha256_hex(body: &[u8]) -> String {
    // Most requests have no body.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    if body.is_empty() { EMPTY.to_owned() } else { lower_hex(&Sha256::digest(body).into()) }
}

/// As `hex::encode`, which goes character by character.
fn lower_hex(bytes: &[u8; 32]) -> String {
    let mut text = vec![0; 64];
    // 32 bytes always fit 64 digits, and digits are text.
    let _ = hex::encode_to_slice(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Whether a signing name is of S3's family, which encodes paths once and does not normalise them.
fn is_s3(signing_name: &str) -> bool {
    matches!(signing_name, "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
}

#[cfg(test)]
mod tests;
