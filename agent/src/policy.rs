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

pub mod case;
pub mod catalog;
mod engine;
mod entity;
pub mod explain;
mod expr;
mod lint;
mod rule;
mod schema;
mod shape;
pub mod suggest;
mod terms;
#[cfg(test)]
mod tests;
mod typed;
mod usage;

pub use catalog::{ActionCatalog, AnyAction};
pub use terms::{Terms, duration};

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
    /// What else is asked of those who approve; nothing without one.
    pub terms: Terms,
    /// `@mask("profile")`: profiles of `masks.toml`
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
    /// It is judged and told, and does not bind.
    pub observed: bool,
}

/// Validated policies, ready to decide. Immutable: a reload makes another.
#[derive(Debug)]
pub struct PolicySet {
    /// What binds.
    engine: engine::Engine,
    /// All policies, those too that are on trial; `None`: none is.
    trial: Option<engine::Engine>,
    mode: Mode,
    warnings: Vec<PolicyError>,
}

/// Files that could not be read, and those that could.
#[derive(Debug)]
pub struct Unread {
    sources: Vec<(String, String)>,
    pub errors: Vec<PolicyError>,
}

fn borrowed(sources: &[(String, String)]) -> Vec<(&str, &str)> {
    sources.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

/// About a file, or a directory, as a whole.
fn whole(path: &Path, message: String, fix: &str) -> PolicyError {
    PolicyError { file: path.display().to_string(), line: 0, column: 0, message, fix: fix.into() }
}

/// Largest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;

impl PolicySet {
    /// Reads and validates every `*.cedar` file of a directory, in the order of their names; names that begin with a
    /// dot are left out. A directory that is not there is an error, one without policies a warning: all is denied.
    pub fn load(dir: &Path, mode: Mode, catalog: Arc<dyn ActionCatalog>) -> Result<Self, Vec<PolicyError>> {
        Self::load_both(dir, None, mode, catalog)
    }

    /// The same, and a directory whose policies are on trial.
    pub fn load_both(
        dir: &Path,
        trial: Option<&Path>,
        mode: Mode,
        catalog: Arc<dyn ActionCatalog>,
    ) -> Result<Self, Vec<PolicyError>> {
        let mut errors = Vec::new();
        let mut read = |dir: &Path| match Self::sources(dir) {
            Ok(sources) => sources,
            // Those that could be read are checked all the same: all that is wrong is told at once.
            Err(unread) => {
                errors.extend(unread.errors);
                unread.sources
            }
        };
        let sources = read(dir);
        let on_trial = trial.map(&mut read).unwrap_or_default();
        let within = |name: &str| match trial.and_then(Path::file_name) {
            Some(dir) => format!("{}/{name}", dir.to_string_lossy()),
            None => name.to_owned(),
        };
        let on_trial: Vec<(String, String)> = on_trial.into_iter().map(|(n, t)| (within(&n), t)).collect();
        match Self::from_both(&borrowed(&sources), &borrowed(&on_trial), mode, catalog) {
            Ok(mut set) if errors.is_empty() => {
                if set.engine.rules.is_empty() {
                    let fix = "put *.cedar files there; examples come with Tollgate";
                    set.warnings.push(whole(dir, "no policies, so everything is denied".into(), fix));
                }
                Ok(set)
            }
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The names and texts of a directory's policy files.
    pub fn sources(dir: &Path) -> Result<Vec<(String, String)>, Unread> {
        let fix = "check `[policy] dir`, and that the daemon may read it";
        let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|e| Unread {
            sources: Vec::new(),
            errors: vec![whole(dir, format!("cannot read the policy directory: {e}"), fix)],
        })?;
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
        if errors.is_empty() { Ok(sources) } else { Err(Unread { sources, errors }) }
    }

    /// Validates policies given as pairs of a file name and its text.
    pub fn from_sources(
        sources: &[(&str, &str)],
        mode: Mode,
        catalog: Arc<dyn ActionCatalog>,
    ) -> Result<Self, Vec<PolicyError>> {
        Self::from_both(sources, &[], mode, catalog)
    }

    fn from_both(
        sources: &[(&str, &str)],
        on_trial: &[(&str, &str)],
        mode: Mode,
        catalog: Arc<dyn ActionCatalog>,
    ) -> Result<Self, Vec<PolicyError>> {
        let (mut rules, mut errors, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let all = sources.iter().map(|s| (s, false)).chain(on_trial.iter().map(|s| (s, true)));
        for ((file, text), observed) in all {
            match rule::parse(file, text, &*catalog, &mut warnings) {
                Ok(more) => rules.extend(more.into_iter().map(|mut rule| {
                    rule.observed |= observed;
                    rule
                })),
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
        let all: Vec<Arc<rule::Rule>> = rules.into_iter().map(Arc::new).collect();
        let binding: Vec<_> = all.iter().filter(|r| !r.observed).cloned().collect();
        let trial = (binding.len() < all.len()).then(|| engine::Engine::new(all, catalog.clone()));
        Ok(Self { engine: engine::Engine::new(binding, catalog), trial, mode, warnings })
    }

    /// What the policies say of a request.
    ///
    /// Whether the principal's token still counts is not asked here: see [`Principal::is_expired`].
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        self.engine.decide(question)
    }

    /// What the policies would say if those on trial (`@observe`) counted too; `None`: none is.
    pub fn try_out(&self, question: &Question<'_>) -> Option<Decision> {
        self.trial.as_ref().map(|engine| engine.decide(question))
    }

    /// What is recorded where decisions bind: a no of policies on trial in the place of the yes that it is let through with.
    pub fn as_recorded(&self, question: &Question<'_>) -> Decision {
        let decision = self.decide(question);
        let no = |trial: &Decision| decision.effect == Effect::Allow && trial.effect != Effect::Allow;
        self.try_out(question).filter(no).unwrap_or(decision)
    }

    /// How many policies are on trial.
    pub fn on_trial(&self) -> usize {
        self.all().rules.iter().filter(|r| r.observed).count()
    }

    /// Why the policies say what they say. Those on trial are told among the others, and do not count for the decision.
    pub fn explain(&self, question: &Question<'_>) -> explain::Explanation {
        self.engine.explain(question, self.all())
    }

    fn all(&self) -> &engine::Engine {
        self.trial.as_ref().unwrap_or(&self.engine)
    }

    /// Whether decisions bind.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What was odd, but no reason to refuse the set.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }

    /// What `tollgate policy check` says besides the warnings: rules that can never match, permits without limits.
    pub fn findings(&self) -> Vec<PolicyError> {
        let all = self.all();
        lint::lint(&all.rules, &*all.catalog, &self.warnings)
    }

    pub fn len(&self) -> usize {
        self.all().rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all().rules.is_empty()
    }

    /// Masks that policies ask for, each with its policy's file and line.
    pub fn masks(&self) -> impl Iterator<Item = (&str, &str, usize)> {
        self.engine.rules.iter().filter_map(|rule| Some((rule.mask.as_deref()?, &*rule.file, rule.line)))
    }

    /// The policies, in the order in which they were read.
    pub fn summaries(&self) -> impl Iterator<Item = PolicySummary<'_>> {
        self.all().rules.iter().map(|rule| PolicySummary {
            id: &rule.name,
            file: &rule.file,
            line: rule.line,
            forbids: rule.forbids(),
            description: rule.policy.annotation("description"),
            observed: rule.observed,
        })
    }
}
