//! Why a request was decided as it was, and what would have let it through.
//!
//! Owns the form of an explanation; the engine makes it ([`super::PolicySet::explain`]) by the evaluation that decides.
//! Pure.

use serde::{Deserialize, Serialize};

/// Why a request is decided as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `allow`, `deny` or `hold`, by the policies as they are now.
    pub decision: String,
    pub policies: Vec<String>,
    pub reason: String,
    /// Each action on each of its resources, in the order in which they are asked.
    pub asked: Vec<Asked>,
    /// The smallest change that lets it through; `None`: it is let through already, or nothing that a policy says would.
    pub remedy: Option<Remedy>,
}

/// One action on one resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub action: String,
    pub resource: String,
    pub decision: String,
    /// Policies that match, forbids first.
    pub matched: Vec<Policy>,
    /// Policies that nearly match, the nearest first: permits where nothing permits, forbids where nothing forbids.
    pub near: Vec<Near>,
}

/// A policy, and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub id: String,
    pub file: String,
    pub line: usize,
    /// `permit` or `forbid`.
    pub effect: String,
    /// `@observe`: it is judged, and does not bind.
    pub observed: bool,
}

/// A policy that does not match, and why not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Near {
    pub policy: Policy,
    pub missing: Vec<Missing>,
}

/// A part of a policy that does not hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// `principal`, `action`, `resource`, `when` or `unless`.
    pub part: String,
    /// As it is written.
    pub text: String,
    /// What was looked at, and what it is.
    pub actual: Vec<(String, String)>,
    /// Why it could not be evaluated.
    pub error: Option<String>,
}

/// What would let a request through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    /// Permits to add, as Cedar text; empty if only exceptions are needed.
    pub permits: String,
    /// What would have to be added to forbids: their ids, and the clause.
    pub exceptions: Vec<(String, String)>,
}
