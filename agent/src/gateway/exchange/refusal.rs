//! Why an exchange does not happen.
//!
//! Owns the reasons and their two texts: what the agent reads, and what the operator does. Decides nothing.

use crate::aws::error::ErrorKind;
use crate::aws::sigv4;
use crate::journal::Kind;

/// Why an exchange does not happen, for the agent, the journal and the record.
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    /// What the agent reads. It names nothing that the agent does not know already.
    pub(super) message: String,
    /// What the operator reads, where that is more.
    pub(super) detail: Option<String>,
    pub(super) event: Kind,
    pub(super) decision: &'static str,
    pub(super) policies: Vec<String>,
}

impl Refusal {
    /// Not judged: malformed, forged, or not possible.
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            event: Kind::Refused,
            decision: "refuse",
            policies: Vec::new(),
        }
    }

    pub(super) fn with_detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Nobody can say what the request is: blocked, as whatever it may be.
    pub(super) fn not_understood(message: impl Into<String>) -> Self {
        Self { event: Kind::Blocked, ..Self::malformed(message) }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::MalformedRequest, message)
    }
}

/// A signature that was not taken.
pub(super) fn of_signature(e: &sigv4::SigError) -> Refusal {
    let kind = match e {
        sigv4::SigError::Unsupported { .. } => ErrorKind::NotImplemented,
        // As S3 calls it; there is nothing to be had by asking for new credentials.
        sigv4::SigError::Expired => ErrorKind::AccessDenied,
        sigv4::SigError::Skewed { .. } => ErrorKind::RequestTimeTooSkewed,
        sigv4::SigError::Malformed(_) => ErrorKind::MalformedRequest,
        _ => ErrorKind::SignatureDoesNotMatch,
    };
    Refusal::new(kind, e.to_string())
}

/// A body whose pieces were not taken.
pub(super) fn of_pieces(e: &sigv4::PieceError) -> Refusal {
    let kind = match e {
        sigv4::PieceError::Mismatch(_) => ErrorKind::SignatureDoesNotMatch,
        sigv4::PieceError::TooLarge { .. } => ErrorKind::RequestTooLarge,
        sigv4::PieceError::Unsignable(_) => ErrorKind::Internal,
        _ => ErrorKind::MalformedRequest,
    };
    Refusal::new(kind, e.to_string())
}
