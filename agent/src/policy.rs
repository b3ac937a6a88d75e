//! Cedar policies over principal, action, resource and parameters. Default deny.
//!
//! Owns the policy files, their validation, and the decision. Reading the files ([`PolicySet::load`]) is the only
//! I/O; a decision does none, has no clock and does not wait, and any thread may ask for one. Never acts on a
//! decision: what `observe` mode lets through is the caller's to let through ([`PolicySet::mode`]).

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::aws::Operation;
use crate::config::Mode;
use crate::identity::Principal;

pub mod catalog;
mod engine;
mod entity;
mod rule;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod typed;
mod usage;

pub use catalog::{ActionCatalog, AnyAction};

/// What a policy is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub principal: &'a Principal,
    pub operation: &'a Operation,
    pub session: SessionFacts<'a>,
    pub process: ProcessFacts<'a>,
    pub credential: CredentialFacts<'a>,
    /// Host the request goes to.
    pub endpoint: &'a str,
}

/// What policies may know of the credentials that the request would be signed with.
#[derive(Debug, Clone, Copy, Default)]
pub struct CredentialFacts<'a> {
    /// `binding`; `derived`: from an answer, a role's that was assumed, say; `none`: it goes unsigned.
    pub kind: &'a str,
    /// Empty if it is not known.
    pub account: &'a str,
    /// Who they act as; empty if it is not known.
    pub arn: &'a str,
    /// Operation that gave derived ones (`sts:AssumeRole`); else empty.
    pub operation: &'a str,
}

/// What policies may know of the session.
#[derive(Debug, Clone, Copy)]
pub struct SessionFacts<'a> {
    pub id: &'a str,
    pub name: &'a str,
}

/// What policies may know of the process behind the connection.
#[derive(Debug, Clone, Copy)]
pub struct ProcessFacts<'a> {
    /// Path of the executable, or the kernel's `comm` where it is gone.
    pub exe: &'a str,
    pub pid: u32,
    pub uid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
    /// A person must approve first.
    Hold,
}

/// A decision, with the policies that determined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub effect: Effect,
    /// Ids (`@id`, or `file.cedar#N`) of the determining policies; empty for the default deny.
    pub policies: Vec<String>,
    /// One sentence for the agent: the policy's `@reason`, or what is missing.
    pub reason: String,
    pub obligations: Obligations,
}

/// What the matching permits ask for besides letting it through.
///
/// A request that needs several permits (several actions or resources) may name several approvers or masks; they are
/// then joined by commas, which no single name contains, and all of them count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// `@approval("group")`
    pub approval: Option<String>,
    /// `@mask("profile")`
    pub mask: Option<String>,
    /// `@record("full")`; otherwise metadata only.
    pub record_full: bool,
}

/// What is wrong with a policy, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyError {
    /// The file, or the directory if it could not be read.
    pub file: String,
    /// From 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub fix: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.message, self.fix)
    }
}

/// One policy, for listings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySummary<'a> {
    pub id: &'a str,
    pub file: &'a str,
    /// From 1.
    pub line: usize,
    pub forbids: bool,
    pub description: Option<&'a str>,
}

/// Validated policies, ready to decide. Immutable: a reload makes another.
#[derive(Debug)]
pub struct PolicySet {
    engine: engine::Engine,
    mode: Mode,
    warnings: Vec<PolicyError>,
}

/// Largest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

impl PolicySet {
    /// Reads and validates every `*.cedar` file of a directory, in the order of their names; names that begin with a
    /// dot are left out. A directory that is not there is an error, one without policies a warning: all is denied.
    pub fn load(dir: &Path, mode: Mode, catalog: Arc<dyn ActionCatalog>) -> Result<Self, Vec<PolicyError>> {
        let fix = "check `[policy] dir`, and that the daemon may read it";
        let whole = |path: &Path, message: String, fix: &str| PolicyError {
            file: path.display().to_string(),
            line: 0,
            column: 0,
            message,
            fix: fix.into(),
        };
        let entries = std::fs::read_dir(dir)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| vec![whole(dir, format!("cannot read the policy directory: {e}"), fix)])?;
        let mut files: Vec<_> = entries
            .into_iter()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "cedar"))
            .filter(|p| !p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")))
            .collect();
        files.sort();
        let (mut sources, mut errors) = (Vec::new(), Vec::new());
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match std::fs::metadata(&path) {
                Ok(meta) if meta.len() > MAX_FILE => {
                    errors.push(whole(&path, format!("the file has {} bytes", meta.len()), "split it below 1 MiB"));
                    continue;
                }
                _ => {}
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => sources.push((name, text)),
                Err(e) => errors.push(whole(&path, format!("cannot read the policy file: {e}"), fix)),
            }
        }
        let sources: Vec<(&str, &str)> = sources.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        match Self::from_sources(&sources, mode, catalog) {
            Ok(mut set) if errors.is_empty() => {
                if set.is_empty() {
                    let fix = "put *.cedar files there; examples come with Tollgate";
                    set.warnings.push(whole(dir, "no policies, so everything is denied".into(), fix));
                }
                Ok(set)
            }
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// Validates policies given as pairs of a file name and its text.
    pub fn from_sources(
        sources: &[(&str, &str)],
        mode: Mode,
        catalog: Arc<dyn ActionCatalog>,
    ) -> Result<Self, Vec<PolicyError>> {
        let (mut rules, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for (file, text) in sources {
            match rule::parse(file, text, &*catalog, &mut warnings) {
                Ok(more) => rules.extend(more),
                Err(more) => errors.extend(more),
            }
        }
        let mut seen: HashMap<&str, &rule::Rule> = HashMap::new();
        for rule in &rules {
            if let Some(other) = seen.insert(&rule.name, rule) {
                errors.push(PolicyError {
                    file: rule.file.to_string(),
                    line: rule.line,
                    column: 1,
                    message: format!(
                        "the id `{}` is also that of the policy at {}:{}",
                        rule.name, other.file, other.line
                    ),
                    fix: "give each policy an `@id` of its own".into(),
                });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { engine: engine::Engine::new(rules, catalog), mode, warnings })
    }

    /// What the policies say of a request.
    ///
    /// Whether the principal's token still counts is not asked here: see [`Principal::is_expired`].
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        self.engine.decide(question)
    }

    /// Whether decisions bind.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What was odd, but no reason to refuse the set.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }

    pub fn len(&self) -> usize {
        self.engine.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.engine.rules.is_empty()
    }

    /// Masks that policies ask for, each with its policy's file and line.
    pub fn masks(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.engine.rules.iter().filter_map(|rule| Some((rule.mask.as_deref()?, &*rule.file, rule.line)))
    }

    /// The policies, in the order in which they were read.
    pub fn summaries(&self) -> impl Iterator<Item = PolicySummary<'_>> {
        self.engine.rules.iter().map(|rule| PolicySummary {
            id: &rule.name,
            file: &rule.file,
            line: rule.line,
            forbids: rule.forbids(),
            description: rule.policy.annotation("description"),
        })
    }
}
