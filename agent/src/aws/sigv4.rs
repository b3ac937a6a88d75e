//! SigV4: reading, verifying and making signatures.
//!
//! Owns what a signature covers and how it is computed, for requests signed in their headers. Every other
//! mode is recognised and named, so that nothing is forwarded by accident. Pure: the caller passes the time
//! in, and bodies come as hashes. Never logs a key, a token or a canonical request. Runs on the exchange's task.

mod canonical;
mod claim;
mod keys;
mod sign;
mod stamp;
mod verify;

use std::time::Duration;

use sha2::{Digest, Sha256};

pub use claim::{Claim, claim};
pub use keys::SigningKeys;
pub use sign::sign;
pub use stamp::Stamp;
pub use verify::verify;

/// How far a client's clock may be off, either way.
///
/// AWS allows five to fifteen minutes, but the agent's stamp is replaced by ours, so a clock that is an hour off
/// need not stop it. A signature cannot outlive its placeholder in any case; this is as long as one lives at most.
pub const MAX_SKEW: Duration = Duration::from_secs(12 * 3600);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";

const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
const X_AMZ_DATE: &str = "x-amz-date";
const X_AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";

/// What a signature says of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// SHA-256 of the body, in lower-case hex.
    Hashed(String),
    /// `UNSIGNED-PAYLOAD`: the body is not covered.
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: aws-chunked with a checksum behind it, not covered.
    StreamingUnsignedTrailer,
    /// No `x-amz-content-sha256`: covered by a hash that the verifier has to compute.
    Absent,
}

impl Payload {
    /// The value of `x-amz-content-sha256`; `None` for [`Payload::Absent`].
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Hashed(hex) => Some(hex),
            Self::Unsigned => Some("UNSIGNED-PAYLOAD"),
            Self::StreamingUnsignedTrailer => Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            Self::Absent => None,
        }
    }
}

/// Ways to authenticate that are recognised and not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Presigned,
    SigV4a,
    SigV2,
    SignedChunks,
    EventStream,
    S3Express,
    PostPolicy,
    Bearer,
    Basic,
    Unknown,
}

impl Mode {
    fn sentence(self) -> &'static str {
        match self {
            Self::Presigned => {
                "presigned URLs cannot be re-signed yet; send the request with the SDK's or CLI's own call instead"
            }
            Self::SigV4a => {
                "SigV4A (multi-region) signatures cannot be re-signed yet; use an endpoint of one region, \
                 or set the SDK's auth scheme preference to `sigv4`"
            }
            Self::SigV2 => {
                "signature version 2 cannot be re-signed yet; set `signature_version` to `v4` (for S3, `s3v4`)"
            }
            Self::SignedChunks => {
                "signed aws-chunked bodies cannot be re-signed yet; use https and let the SDK send an unsigned \
                 or a hashed payload"
            }
            Self::EventStream => {
                "requests that are signed event streams cannot be re-signed yet; use an operation without a streaming input"
            }
            Self::S3Express => "S3 Express session credentials cannot be re-signed yet; use a general purpose bucket",
            Self::PostPolicy => "browser form uploads (POST policies) cannot be re-signed yet; use PutObject",
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
    #[error("the session token is missing; send the token that came with the access key in x-amz-security-token")]
    TokenMissing,
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
    if body.is_empty() { EMPTY.to_owned() } else { hex::encode(Sha256::digest(body)) }
}

/// Whether a signing name is of S3's family, which encodes paths once and does not normalise them.
fn is_s3(signing_name: &str) -> bool {
    matches!(signing_name, "s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
}

#[cfg(test)]
mod tests;
