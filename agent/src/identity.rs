//! Who a session acts for: OIDC tokens in, principals out.

use std::collections::BTreeMap;
use std::time::SystemTime;

/// Who a session acts for.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `iss` of the verified token; `None`: unidentified.
    pub issuer: Option<String>,
    /// `sub` of the verified token, or `unidentified`.
    pub subject: String,
    /// Groups from the configured claim.
    pub groups: Vec<String>,
    /// All verified claims.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// When the token stops counting (`exp`).
    pub expires: Option<SystemTime>,
}

impl Principal {
    /// The principal of a session without a verified token.
    pub fn unidentified() -> Self {
        Self { issuer: None, subject: "unidentified".into(), groups: Vec::new(), claims: BTreeMap::new(), expires: None }
    }
    /// Whether a verified token stands behind it.
    pub fn is_identified(&self) -> bool {
        self.issuer.is_some()
    }
}
