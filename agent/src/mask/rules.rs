//! The rule file, `masks.toml`: what is hidden besides what AWS's model says.
//!
//! Owns its form, and which rules are about an operation. Reading the file ([`Masks::load`]) is the only I/O. A rule that
//! cannot work is an error with its line and the nearest right name ([`check`]).

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::path::Path;
use super::pattern::Set;
use super::plan::View;
use super::select::{Sources, Target, What};
use super::stream::Format;
use super::token::Keyed;
use crate::aws::operation::Operation;
use crate::policy::catalog::glob;

/// The profile that is there without being written down.
pub(super) const BUILT_IN: &str = "secrets";
/// Largest rule file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// In which answers members are hidden that AWS's model calls sensitive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Where a policy's `@mask` asks for it.
    #[default]
    Asked,
    /// In all.
    Always,
    /// In none; names and rules count all the same.
    Never,
}

/// What is wrong with a rule, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RuleError {
    pub file: String,
    /// From 1; 0 if it is about the file as a whole.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// All rules, checked. Immutable: a reload makes another.
#[derive(Debug, Clone)]
pub struct Masks {
    rules: Vec<Rule>,
    profiles: BTreeMap<String, Profile>,
    patterns: Arc<Set>,
    when: When,
    /// Actions that `when = "always"` is not about.
    except: Vec<String>,
}

/// What `@mask("NAME")` asks for.
#[derive(Debug, Clone, Copy)]
struct Profile {
    sensitive: bool,
    names: bool,
    patterns: u64,
}

#[derive(Debug, Clone)]
struct Rule {
    actions: Vec<String>,
    resources: Vec<String>,
    profile: Option<String>,
    targets: Vec<Target>,
    format: Option<Format>,
    /// The agent sees it, the record does not.
    record_only: bool,
    /// It is about what was asked, not about the answer.
    request: bool,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    #[serde(rename = "rule")]
    rules: Vec<Spanned<RuleText>>,
    #[serde(rename = "pattern")]
    patterns: Vec<PatternText>,
    #[serde(rename = "profile")]
    profiles: BTreeMap<String, ProfileText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    action: Spanned<Some1>,
    /// Into the answer.
    path: Option<Spanned<Some1>>,
    /// Into the parameters of the request, for the record.
    request: Option<Spanned<Some1>>,
    resource: Option<Spanned<Some1>>,
    patterns: Option<Spanned<Some1>>,
    #[serde(rename = "as")]
    format: Option<Spanned<String>>,
    profile: Option<Spanned<String>>,
    only: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternText {
    name: Spanned<String>,
    regex: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProfileText {
    sensitive: bool,
    names: bool,
    patterns: Option<Spanned<Some1>>,
}

impl Default for ProfileText {
    fn default() -> Self {
        Self { sensitive: true, names: true, patterns: None }
    }
}

/// One text, or a list of them.
#[derive(Debug, Clone)]
struct Some1(Vec<String>);

impl<'de> Deserialize<'de> for Some1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Some1;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }
            fn visit_str<E>(self, text: &str) -> Result<Some1, E> {
                Ok(Some1(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Some1, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = seq.next_element()? {
                    all.push(text);
                }
                Ok(Some1(all))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl Masks {
    /// No rules: what policies ask for by the built-in profile.
    pub fn none(when: When, except: Vec<String>) -> Self {
        let profiles = [(BUILT_IN.to_owned(), Profile { sensitive: true, names: true, patterns: 0 })].into();
        Self { rules: Vec::new(), profiles, patterns: Arc::new(Set::built_in()), when, except }
    }

    /// Reads a rule file; one that is not there has no rules, unless it `must` be.
    pub fn load(path: &FilePath, must: bool, when: When, except: Vec<String>) -> Result<Self, Vec<RuleError>> {
        let file = path.display().to_string();
        let whole = |message: String| vec![RuleError { file: file.clone(), line: 0, message }];
        let text = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => return Ok(Self::none(when, except)),
            Ok(meta) if meta.len() > MAX_FILE => return Err(whole("the file is larger than 1 MiB".into())),
            _ => std::fs::read_to_string(path)
                .map_err(|e| whole(format!("cannot read the rule file: {e}; check `[mask] file`")))?,
        };
        Self::parse(&file, &text, when, except)
    }

    /// Checks the text of a file; `file` is for messages only.
    pub fn parse(file: &str, text: &str, when: When, except: Vec<String>) -> Result<Self, Vec<RuleError>> {
        check::masks(file, text, when, except)
    }

    /// The profile that somebody who wrote `name` meant; `Ok`: there is one of that name.
    pub fn profile(&self, name: &str) -> Result<(), Option<&str>> {
        if self.profiles.contains_key(name) {
            return Ok(());
        }
        let all: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
        Err(crate::policy::catalog::nearest_of(name, &all))
    }

    /// What is hidden from the agent. `asked`: the profiles of the policies, joined by commas. `None`: nothing is.
    pub fn agent(&self, operation: &Operation, asked: Option<&str>) -> Option<View> {
        if self.rules.is_empty() && asked.is_none() && self.when != When::Always {
            return None;
        }
        let (sources, format) = self.sources(operation, asked, false);
        (!sources.is_empty()).then(|| View::new(sources, operation.protocol, operation.input, format))
    }

    /// What is hidden in what the record keeps of an answer: all that is hidden from the agent, all that the model calls
    /// sensitive or a name says to be secret, and what rules say of the record alone.
    pub fn record(&self, operation: &Operation, asked: Option<&str>) -> View {
        let (mut sources, format) = self.sources(operation, asked, true);
        (sources.sensitive, sources.names) = (true, true);
        View::new(sources, operation.protocol, operation.input, format)
    }

    /// Parameters of a request (JSON, secret members hidden already) as the record keeps them.
    pub fn parameters(&self, operation: &Operation, json: String, keyed: impl FnOnce() -> Keyed) -> String {
        let mut targets = Vec::new();
        for rule in self.rules.iter().filter(|r| r.request && r.is_about(operation, None)) {
            targets.extend(rule.targets.iter().cloned());
        }
        if targets.is_empty() {
            return json;
        }
        let shape = operation.input.map(|i| (i.detail, i.op.input));
        let sources = Sources { targets, shape, patterns: self.patterns.clone(), ..Sources::default() };
        let view = View::new(sources, operation.protocol, operation.input, None);
        view.json(&json, keyed()).unwrap_or_else(|| "{}".into())
    }

    fn sources(&self, operation: &Operation, asked: Option<&str>, record: bool) -> (Sources, Option<Format>) {
        let mut sources = Sources {
            shape: operation.input.map(|i| (i.detail, i.op.output)),
            patterns: self.patterns.clone(),
            dynamodb: matches!(operation.service.as_str(), "dynamodb" | "dax"),
            ..Sources::default()
        };
        for name in asked.into_iter().flat_map(|all| all.split(',')) {
            // What is not known hides what the built-in one does.
            let profile =
                self.profiles.get(name).copied().unwrap_or(Profile { sensitive: true, names: true, patterns: 0 });
            sources.sensitive |= profile.sensitive && self.when != When::Never;
            sources.names |= profile.names;
            sources.anywhere |= profile.patterns;
        }
        if self.when == When::Always && !self.except.iter().any(|action| names(action, operation)) {
            sources.sensitive = true;
        }
        let mut format = None;
        let about = |r: &&Rule| !r.request && (record || !r.record_only) && r.is_about(operation, asked);
        for rule in self.rules.iter().filter(about) {
            format = format.or(rule.format);
            sources.targets.extend(rule.targets.iter().cloned());
        }
        (sources, format)
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    fn is_about(&self, operation: &Operation, asked: Option<&str>) -> bool {
        let touches =
            |pattern: &String| operation.needs.iter().flat_map(|n| &n.resources).any(|r| r == "*" || glob(pattern, r));
        self.actions.iter().any(|action| names(action, operation))
            && (self.resources.is_empty() || self.resources.iter().any(touches))
            && self.profile.as_ref().is_none_or(|p| asked.is_some_and(|all| all.split(',').any(|name| name == p)))
    }
}

/// Whether an operation is what an action names: by its IAM actions, or by its own name (`s3:GetObject` reads a version of
/// an object too, for which IAM has another action).
fn names(pattern: &str, operation: &Operation) -> bool {
    operation.needs.iter().any(|need| glob(pattern, &need.action))
        || glob(pattern, &format!("{}:{}", operation.service, operation.name))
}

fn targets(paths: &[Path], what: What) -> Vec<Target> {
    paths.iter().map(|path| Target { path: Arc::new(path.clone()), what }).collect()
}
