//! One policy of the set, read and checked.
//!
//! Owns parsing of policy files and every check that is made before a policy is used: its annotations, the actions
//! and entities it names, its types. Each error says file, line, column and what to do. Pure: gets text, not files.

use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;

use super::PolicyError;
use super::catalog::{ActionCatalog, glob, nearest_of};
use super::entity::{self, LEVELS};
use super::schema::{self, SchemaAction};
use super::shape::Shape;
use super::terms::{self, Terms};
use super::typed::{Problem, typed};
use super::usage::Usage;
use crate::aws::model::Input;

/// What an operation that was not recognised is asked as. Only policies that name it permit it.
pub(super) use crate::aws::operation::UNKNOWN;

/// Type of actions.
const ACTION: &str = "AWS::Action";

const ANNOTATIONS: [&str; 13] = {
    let [people, groups, deadline, window, why, emergency] = terms::NAMES;
    [
        "id",
        "reason",
        "approval",
        "mask",
        "record",
        "description",
        "observe",
        people,
        groups,
        deadline,
        window,
        why,
        emergency,
    ]
};

/// A policy that has passed all checks.
#[derive(Debug)]
pub(super) struct Rule {
    /// `@id`, or `file.cedar#N`.
    pub name: String,
    pub file: Arc<str>,
    pub line: usize,
    pub policy: Policy,
    pub scope: ActionScope,
    pub usage: Usage,
    pub reason: Option<String>,
    pub approval: Option<String>,
    /// Together with `approval`.
    pub terms: Option<Terms>,
    pub mask: Option<String>,
    pub record_full: bool,
    /// `@observe`, or of the trial directory: judged and told, and does not bind.
    pub observed: bool,
}

/// Which actions a policy is about.
#[derive(Debug)]
pub(super) enum ActionScope {
    Any,
    /// Actions and groups.
    Named(Vec<String>),
}

impl Rule {
    pub fn forbids(&self) -> bool {
        self.policy.effect() == Effect::Forbid
    }

    /// Whether it has to be asked about an action that belongs to the group `level`.
    pub fn applies(&self, action: &str, level: &str) -> bool {
        // An operation that was not recognised may be anything: only a policy that names this very case permits it.
        let unrecognised = action.split(':').any(|part| part == "unknown");
        self.scope.covers(action, level) && (self.forbids() || !unrecognised || self.scope.names(action))
    }
}

impl ActionScope {
    fn of(policy: &Policy) -> Self {
        let ids = |uids: Vec<EntityUid>| uids.iter().map(|u| u.id().unescaped().to_owned()).collect();
        match policy.action_constraint() {
            ActionConstraint::Any => Self::Any,
            ActionConstraint::In(uids) => Self::Named(ids(uids)),
            ActionConstraint::Eq(uid) => Self::Named(ids(vec![uid])),
        }
    }

    /// Groups that it names.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::Any => &[],
            Self::Named(names) => names.as_slice(),
        };
        names.iter().map(String::as_str).filter(|n| is_group(n))
    }

    /// Whether an action that belongs to the group `level` is within it.
    pub fn covers(&self, action: &str, level: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(names) => names.iter().any(|n| n == action || in_group(action, level, n)),
        }
    }

    /// Whether it names the action itself.
    pub fn names(&self, action: &str) -> bool {
        matches!(self, Self::Named(names) if names.iter().any(|n| n == action))
    }
}

/// Whether an id stands for several actions: `s3:*`, `s3:Get*`, `level:Read`.
fn is_group(id: &str) -> bool {
    id.contains('*') || id.starts_with("level:")
}

/// Whether an action that is of the level `level` belongs to a group. An action of unknown level may write, so that
/// what is said of writing is said of it too.
pub(super) fn in_group(action: &str, level: &str, group: &str) -> bool {
    if group.contains('*') {
        return glob(group, action) && action != UNKNOWN;
    }
    group == level || (group == "level:Write" && level == "level:Unknown")
}

/// Reads one file's policies. `text` is all of the file, `file` its name for messages and ids.
pub(super) fn parse(
    file: &str,
    text: &str,
    catalog: &dyn ActionCatalog,
    warnings: &mut Vec<PolicyError>,
) -> Result<Vec<Rule>, Vec<PolicyError>> {
    let place = Place { file: file.into(), text };
    let set = PolicySet::from_str(text).map_err(|errors| {
        errors.iter().map(|e| place.diagnostic(e, 0, "check the Cedar syntax there")).collect::<Vec<_>>()
    })?;
    if let Some(template) = set.templates().next() {
        let fix = "write `principal` or `resource` without a slot";
        let at = text.find("?principal").or_else(|| text.find("?resource")).unwrap_or(0);
        return Err(vec![place.error(
            at,
            format!("policy `{}` is a template, and nothing links it", template.id()),
            fix,
        )]);
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(|p| offset(p));
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for (n, policy) in policies.into_iter().enumerate() {
        let mut check = Check { place: &place, policy, errors: Vec::new() };
        let rule = check.rule(n + 1, catalog, warnings);
        errors.append(&mut check.errors);
        rules.extend(rule);
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

fn offset(policy: &Policy) -> usize {
    policy.as_ref().loc().map_or(0, |loc| loc.start())
}

/// A file, for messages.
struct Place<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, offset: usize, message: String, fix: &str) -> PolicyError {
        let before = self.text.get(..offset).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        PolicyError { file: self.file.to_string(), line, column, message, fix: fix.into() }
    }

    /// What Cedar found, at its own place if it names one.
    fn diagnostic(&self, error: &dyn Diagnostic, offset: usize, fix: &str) -> PolicyError {
        let label = error.labels().and_then(|mut l| l.next());
        let mut message = error.to_string();
        if let Some(label) = label.as_ref().and_then(|l| l.label()) {
            message = format!("{message}: {label}");
        }
        let help = error.help().map(|h| h.to_string());
        self.error(label.map_or(offset, |l| l.offset()), message, help.as_deref().unwrap_or(fix))
    }
}

/// The checks of one policy.
struct Check<'a> {
    place: &'a Place<'a>,
    policy: &'a Policy,
    errors: Vec<PolicyError>,
}

impl Check<'_> {
    fn rule(&mut self, n: usize, catalog: &dyn ActionCatalog, warnings: &mut Vec<PolicyError>) -> Option<Rule> {
        self.annotations();
        for uid in self.policy.entity_literals() {
            self.entity(&uid, catalog);
        }
        if let ActionConstraint::Eq(uid) = self.policy.action_constraint()
            && is_group(uid.id().unescaped())
        {
            let id = uid.id().unescaped();
            self.wrong(id, format!("`action == AWS::Action::\"{id}\"` compares with a group"), "write `action in`");
        }
        let mut usage = match self.policy.to_json().map_err(|e| e.to_string()).and_then(|json| Usage::of(&json)) {
            Ok(usage) => usage,
            Err(problem) => {
                self.wrong("context.parameters", problem, "use it in one way only");
                return None;
            }
        };
        let scope = ActionScope::of(self.policy);
        if let (true, Some((inputs, whose))) = (self.errors.is_empty(), inputs(&scope, catalog)) {
            match typed(&usage.parameters, &inputs, &whose) {
                Ok(shape) => usage.parameters = shape,
                Err(problems) => problems.into_iter().for_each(|p| self.parameter(p)),
            }
        }
        // Cedar's own findings about a name that we have already complained of would only repeat it.
        if self.errors.is_empty() {
            self.types(&usage.parameters, &scope, catalog, warnings);
        }
        let text = |name: &str| self.policy.annotation(name).map(str::to_owned);
        self.errors.is_empty().then(|| Rule {
            name: text("id").unwrap_or_else(|| format!("{}#{n}", self.place.file)),
            file: self.place.file.clone(),
            line: self.at("").line,
            policy: self.policy.clone(),
            scope,
            usage,
            reason: text("reason"),
            approval: text("approval"),
            terms: Terms::of(self.policy),
            mask: text("mask"),
            record_full: text("record").as_deref() == Some("full"),
            observed: text("observe").is_some(),
        })
    }

    fn annotations(&mut self) {
        let forbids = self.policy.effect() == Effect::Forbid;
        let all: Vec<(String, String)> =
            self.policy.annotations().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in all {
            let at = format!("@{name}");
            if !ANNOTATIONS.contains(&name.as_str()) {
                let fix = match nearest_of(&name, &ANNOTATIONS) {
                    Some(meant) => format!("write `@{meant}`"),
                    None => format!("use one of @{}", ANNOTATIONS.join(", @")),
                };
                self.wrong(&at, format!("there is no annotation `@{name}`"), &fix);
                continue;
            }
            let simple = terms::is_name(&value);
            let beside = terms::NAMES.contains(&name.as_str());
            match name.as_str() {
                name if forbids && (beside || matches!(name, "approval" | "mask" | "record")) => {
                    self.wrong(
                        &at,
                        format!("`@{name}` is on a forbid, which lets nothing through"),
                        "put it on a permit",
                    );
                }
                name if beside && self.policy.annotation("approval").is_none() => self.wrong(
                    &at,
                    format!("`@{name}` is about an approval, and nobody's is asked for"),
                    "add `@approval(\"group\")` to this permit, or leave it out",
                ),
                name if beside => {
                    if let Err((message, fix)) = terms::check(name, &value) {
                        self.wrong(&at, message, &fix);
                    }
                }
                "id" | "approval" | "mask" if !simple => self.wrong(
                    &at,
                    format!("`@{name}(\"{value}\")` is not a name"),
                    "use letters, digits and -_.:/@# only, at most 128",
                ),
                "record" if value != "full" && value != "metadata" => {
                    self.wrong(
                        &at,
                        format!("`@record(\"{value}\")` is neither `full` nor `metadata`"),
                        "use one of them",
                    );
                }
                "observe" if !value.is_empty() => self.wrong(
                    &at,
                    format!("`@observe(\"{value}\")` says more than it can mean"),
                    "write `@observe` alone, or take it away so that the policy binds",
                ),
                "reason" if value.trim().is_empty() || value.chars().any(char::is_control) => self.wrong(
                    &at,
                    "`@reason` is empty or has control characters".into(),
                    "write one sentence that tells the agent's user what to do",
                ),
                _ => {}
            }
        }
    }

    fn entity(&mut self, uid: &EntityUid, catalog: &dyn ActionCatalog) {
        let id = uid.id().unescaped();
        let kind = uid.type_name().to_string();
        if kind == ACTION {
            self.action(id, catalog);
        } else if kind == "Tollgate::Principal" && id != "unidentified" && !id.contains('#') {
            self.wrong(
                id,
                format!("`Tollgate::Principal::\"{id}\"` can be nobody"),
                "write \"<issuer>#<subject>\", or compare `principal.subject`",
            );
        } else if kind == "AWS::Resource" && id.len() > 1 && (id.contains('*') || !id.starts_with("arn:")) {
            self.wrong(
                id,
                format!("`AWS::Resource::\"{id}\"` can be no resource: it must be one whole ARN, without wildcards"),
                "for a pattern, write `when { resource.arn like \"…\" }`",
            );
        }
    }

    fn action(&mut self, id: &str, catalog: &dyn ActionCatalog) {
        if id == UNKNOWN || LEVELS.contains(&id) || catalog.level(id).is_some() {
            return;
        }
        if id.starts_with("level:") {
            let fix = match nearest_of(id, &LEVELS) {
                Some(meant) => format!("write \"{meant}\""),
                None => format!("use one of {}", LEVELS.join(", ")),
            };
            self.wrong(id, format!("there is no access level `{id}`"), &fix);
        } else if id == "*" || id == "*:*" {
            self.wrong(
                id,
                format!("`AWS::Action::\"{id}\"` would be every action"),
                "write `action` alone in the scope",
            );
        } else if !id.contains('*') {
            let fix = match catalog.nearest(id) {
                Some(meant) => format!("write \"{meant}\""),
                None => "check the service's prefix and the action's name as IAM writes them".into(),
            };
            self.wrong(id, format!("there is no action `{id}`"), &fix);
        } else if !catalog.any_match(id) {
            self.wrong(id, format!("no action matches `{id}`"), "check the service's prefix and the pattern");
        }
    }

    fn types(
        &mut self,
        parameters: &Shape,
        scope: &ActionScope,
        catalog: &dyn ActionCatalog,
        warnings: &mut Vec<PolicyError>,
    ) {
        let schema = match schema::build(&actions(self.policy, scope, catalog), parameters) {
            Ok(schema) => schema,
            Err(problem) => return self.wrong("", problem, "check the names in this policy"),
        };
        let mut set = PolicySet::new();
        if let Err(e) = set.add(self.policy.clone()) {
            return self.wrong("", e.to_string(), "check this policy");
        }
        let found = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let at = offset(self.policy);
        let fix = "compare with a value of the right type";
        for error in found.validation_errors() {
            self.errors.push(self.place.diagnostic(error, at, fix));
        }
        let fix = "check that it means what you want";
        warnings.extend(found.validation_warnings().map(|w| self.place.diagnostic(w, at, fix)));
    }

    fn wrong(&mut self, near: &str, message: String, fix: &str) {
        let place = self.at(near);
        self.errors.push(PolicyError { message, fix: fix.into(), ..place });
    }

    /// A parameter's problem, at the place where its last name is read.
    fn parameter(&mut self, problem: Problem) {
        let loc = self.policy.as_ref().loc();
        let (start, end) = loc.map_or((0, self.place.text.len()), |loc| (loc.start(), loc.end()));
        let text = self.place.text.get(start..end).unwrap_or_default();
        // Members' names stand in scope and annotations, too.
        let from = text.find("context").unwrap_or(0);
        let dotted = format!("parameters.{}", problem.path.join("."));
        let last = problem.path.last().map_or("", String::as_str);
        let at = word(text, &dotted, from).map(|at| at + dotted.len() - last.len()).or_else(|| word(text, last, from));
        let place = self.place.error(start + at.unwrap_or(0), String::new(), "");
        self.errors.push(PolicyError { message: problem.message, fix: problem.fix, ..place });
    }

    /// The place of the first `near` within this policy, or its beginning.
    fn at(&self, near: &str) -> PolicyError {
        let start = offset(self.policy);
        let end = self.policy.as_ref().loc().map_or(self.place.text.len(), |loc| loc.end());
        let found = self.place.text.get(start..end).and_then(|t| t.find(near)).unwrap_or(0);
        self.place.error(start + found, String::new(), "")
    }
}

/// Where a name stands in a text, and not as a part of another.
fn word(text: &str, name: &str, from: usize) -> Option<usize> {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let found = text.get(from..)?.match_indices(name).map(|(at, _)| from + at);
    found
        .into_iter()
        .find(|at| !joins(text[..*at].chars().next_back()) && !joins(text[at + name.len()..].chars().next()))
}

/// The inputs of all operations that a policy's scope is about, and its actions in words. `None`: it is about any, or
/// about those of any service, so that nothing is known of their parameters.
fn inputs(scope: &ActionScope, catalog: &dyn ActionCatalog) -> Option<(Vec<Input>, String)> {
    let ActionScope::Named(names) = scope else { return None };
    let mut found: Vec<Input> = Vec::new();
    for name in names {
        let (service, action) = name.split_once(':')?;
        if name.starts_with("level:") || service.contains('*') {
            return None;
        }
        let mut more = Vec::new();
        if action.contains('*') {
            for action in catalog.actions(service).filter(|a| glob(action, a)) {
                // Actions that no operation is known for have no parameters to read.
                more.extend(catalog.inputs(&format!("{service}:{action}")).unwrap_or_default());
            }
            if more.is_empty() {
                return None;
            }
        } else {
            more = catalog.inputs(name)?;
        }
        for input in more {
            if !found.contains(&input) {
                found.push(input);
            }
        }
    }
    let whose = match names.as_slice() {
        [one] => one.clone(),
        [first, second] => format!("{first} or {second}"),
        [first, rest @ ..] => format!("{first} or the {} others", rest.len()),
        [] => return None,
    };
    Some((found, whose))
}

/// The actions that the policy's types are checked for: those it names, and one stand-in for each group.
fn actions(policy: &Policy, scope: &ActionScope, catalog: &dyn ActionCatalog) -> Vec<SchemaAction> {
    let named: Vec<String> = policy
        .entity_literals()
        .iter()
        .filter(|u| u.type_name().to_string() == ACTION)
        .map(|u| u.id().unescaped().to_owned())
        .collect();
    let (groups, mut single): (Vec<String>, Vec<String>) = named.into_iter().partition(|n| is_group(n));
    if matches!(scope, ActionScope::Any) || single.is_empty() {
        single.push(UNKNOWN.into());
    }
    single.dedup();
    let mut actions: Vec<SchemaAction> = single
        .into_iter()
        .map(|id| {
            let level = entity::level_group(catalog.level(&id).unwrap_or(crate::aws::AccessLevel::Unknown));
            let groups = groups.iter().filter(|g| in_group(&id, level, g)).cloned().collect();
            SchemaAction { id, groups }
        })
        .collect();
    actions.extend(groups.iter().map(|g| SchemaAction { id: format!("any of {g}"), groups: vec![g.clone()] }));
    actions
}
