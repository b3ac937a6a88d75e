//! Whether each rule can work: its actions, its paths, its patterns.
//!
//! Owns the errors. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use toml::Spanned;

use super::{BUILT_IN, File, Masks, Profile, Rule, RuleError, RuleText, Some1, When, targets};
use crate::aws::model::{self, Detail, Input, Kind, ShapeId};
use crate::mask::path::{Path, Pick, Step};
use crate::mask::pattern::Set;
use crate::mask::select::What;
use crate::mask::stream::Format;
use crate::policy::ActionCatalog;
use crate::policy::catalog::{glob, nearest_of};

pub(super) fn masks(file: &str, text: &str, when: When, except: Vec<String>) -> Result<Masks, Vec<RuleError>> {
    let parsed: File = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(0, |span| line_of(text, span.start));
        vec![RuleError { file: file.to_owned(), line, message: e.message().to_owned() }]
    })?;
    let mut check = Check { file, text, catalog: model::catalog(), patterns: Set::built_in(), errors: Vec::new() };
    for pattern in &parsed.patterns {
        if let Err(why) = check.patterns.add(pattern.name.get_ref(), pattern.regex.get_ref()) {
            check.wrong(&pattern.regex, format!("pattern `{}`: {why}", pattern.name.get_ref()));
        }
    }
    let mut profiles: BTreeMap<String, Profile> =
        [(BUILT_IN.to_owned(), Profile { sensitive: true, names: true, patterns: 0 })].into();
    for (name, profile) in &parsed.profiles {
        let patterns = profile.patterns.as_ref().map_or(0, |names| check.bits(names));
        profiles.insert(name.clone(), Profile { sensitive: profile.sensitive, names: profile.names, patterns });
    }
    let rules = parsed.rules.iter().filter_map(|rule| check.rule(rule, &profiles)).collect();
    for action in &except {
        if let Err(why) = check.action(action) {
            let message = format!("`[mask] except`: {why}");
            check.errors.push(RuleError { file: "the configuration".into(), line: 0, message });
        }
    }
    if !check.errors.is_empty() {
        return Err(check.errors);
    }
    Ok(Masks { rules, profiles, patterns: Arc::new(check.patterns), when, except })
}

struct Check<'a> {
    file: &'a str,
    text: &'a str,
    catalog: Arc<dyn ActionCatalog>,
    patterns: Set,
    errors: Vec<RuleError>,
}

impl Check<'_> {
    fn wrong<T>(&mut self, at: &Spanned<T>, message: String) {
        let line = line_of(self.text, at.span().start);
        self.errors.push(RuleError { file: self.file.to_owned(), line, message });
    }

    fn rule(&mut self, spanned: &Spanned<RuleText>, profiles: &BTreeMap<String, Profile>) -> Option<Rule> {
        let before = self.errors.len();
        let rule = spanned.get_ref();
        let actions = rule.action.get_ref().0.clone();
        if actions.is_empty() {
            self.wrong(&rule.action, "a rule needs an action; write `action = \"service:Operation\"`".into());
        }
        for action in &actions {
            if let Err(why) = self.action(action) {
                self.wrong(&rule.action, why);
            }
        }
        let known = self.errors.len() == before;
        let (paths, request) = match (&rule.path, &rule.request) {
            (Some(path), None) => (path, false),
            (None, Some(path)) => (path, true),
            _ => {
                self.wrong(
                    spanned,
                    "a rule has either `path`, into the answer, or `request`, into the parameters; write one of them"
                        .into(),
                );
                return None;
            }
        };
        let mut read = Vec::new();
        for text in &paths.get_ref().0 {
            match Path::parse(text) {
                Ok(path) => {
                    if known && let Err(why) = self.fits(&actions, &path, request) {
                        self.wrong(paths, why);
                    }
                    read.push(path);
                }
                Err(why) => self.wrong(paths, why),
            }
        }
        let resources = rule.resource.as_ref().map(|r| r.get_ref().0.clone()).unwrap_or_default();
        if let (Some(spanned), Some(bad)) =
            (&rule.resource, resources.iter().find(|r| !r.starts_with("arn:") && *r != "*"))
        {
            self.wrong(spanned, format!("`{bad}` is no ARN; write `arn:aws:s3:::bucket/*`, say"));
        }
        let bits = rule.patterns.as_ref().map(|names| self.bits(names));
        let format = rule.format.as_ref().and_then(|f| self.format(f));
        if let Some(name) = &rule.profile
            && !profiles.contains_key(name.get_ref())
        {
            let all: Vec<&str> = profiles.keys().map(String::as_str).collect();
            let near = nearest_of(name.get_ref(), &all);
            self.wrong(name, unknown("profile", name.get_ref(), near, "a table `[profile.NAME]` makes one"));
        }
        let record_only = match &rule.only {
            None => false,
            Some(only) if only.get_ref() == "record" => true,
            Some(only) => {
                self.wrong(only, format!("`only = \"{}\"` is not known; `record` is: what the agent is not to see is never recorded either", only.get_ref()));
                false
            }
        };
        (self.errors.len() == before).then(|| Rule {
            actions,
            resources,
            profile: rule.profile.as_ref().map(|p| p.get_ref().clone()),
            targets: targets(&read, bits.map_or(What::Whole, What::Patterns)),
            format,
            record_only,
            request,
        })
    }

    fn format(&mut self, text: &Spanned<String>) -> Option<Format> {
        match text.get_ref().as_str() {
            "json" => Some(Format::Json),
            "xml" => Some(Format::Xml),
            "cbor" => Some(Format::Cbor),
            "text" => Some(Format::Text),
            other => {
                let near = nearest_of(other, &["json", "xml", "cbor", "text"]);
                self.wrong(text, unknown("form", other, near, "`as` is `json`, `xml`, `cbor` or `text`"));
                None
            }
        }
    }

    fn bits(&mut self, names: &Spanned<Some1>) -> u64 {
        let mut bits = 0;
        for name in &names.get_ref().0 {
            match self.patterns.bit(name) {
                Some(bit) => bits |= bit,
                None => {
                    let near = nearest_of(name, &self.patterns.names()).map(str::to_owned);
                    let hint =
                        format!("there are {}; a table `[[pattern]]` adds one", self.patterns.names().join(", "));
                    self.wrong(names, unknown("pattern", name, near.as_deref(), &hint));
                }
            }
        }
        bits
    }

    fn action(&self, action: &str) -> Result<(), String> {
        let known = if action.contains('*') {
            self.catalog.any_match(action)
        } else {
            self.catalog.level(action).is_some() || !operations(action).is_empty()
        };
        if known {
            return Ok(());
        }
        let near = self.catalog.nearest(action);
        Err(unknown("action", action, near.as_deref(), "actions are IAM's, as in policies"))
    }

    /// A path is right if the answer of any operation of the actions has it.
    fn fits(&self, actions: &[String], path: &Path, request: bool) -> Result<(), String> {
        let mut inputs = Vec::new();
        for action in actions {
            inputs.extend(self.inputs(action));
        }
        // Nothing is known of what the actions answer.
        if inputs.is_empty() {
            return Ok(());
        }
        let mut best: Option<Miss> = None;
        for input in &inputs {
            let shape = if request { input.op.input } else { input.op.output };
            let raw = if request { "" } else { input.op.answer };
            match walk(&Walk { detail: input.detail, raw }, shape, &path.steps, 0) {
                Ok(()) => return Ok(()),
                // Of those that lead as far, one that knows what may have been meant.
                Err(miss) if best.as_ref().is_none_or(|b| miss.helps() > b.helps()) => best = Some(miss),
                Err(_) => {}
            }
        }
        let miss = best.unwrap_or_default();
        let what = if request { "the parameters" } else { "the answer" };
        let of = if inputs.len() == 1 { inputs[0].op.name } else { &actions.join(", ") };
        Err(format!("the path `{}` leads nowhere in {what} of {of}: {}", path.text, miss.why))
    }

    fn inputs(&self, action: &str) -> Vec<Input> {
        if !action.contains('*') {
            let mut found = self.catalog.inputs(action).unwrap_or_default();
            for input in operations(action) {
                if !found.contains(&input) {
                    found.push(input);
                }
            }
            return found;
        }
        let Some((service, name)) = action.split_once(':') else { return Vec::new() };
        let services = self.catalog.services().filter(|s| glob(service, s)).map(str::to_owned).collect::<Vec<_>>();
        let all = services.iter().flat_map(|s| {
            let names: Vec<String> =
                self.catalog.actions(s).filter(|a| glob(name, a)).map(|a| format!("{s}:{a}")).collect();
            names.into_iter().flat_map(|action| self.catalog.inputs(&action).unwrap_or_default())
        });
        all.collect()
    }
}

/// Operations by their own name.
fn operations(action: &str) -> Vec<Input> {
    let Some((service, name)) = action.split_once(':') else { return Vec::new() };
    let services = model::index().map_or(&[][..], |index| &index.services);
    let details = services.iter().filter(|s| s.iam == service).filter_map(|s| s.detail());
    details.filter_map(|detail| Some(Input { detail, op: detail.operation(name)? })).collect()
}

/// How far a path went, and why no further.
#[derive(Debug, Default)]
struct Miss {
    depth: usize,
    why: String,
}

impl Miss {
    /// How much it says to whoever wrote the path.
    fn helps(&self) -> (usize, bool) {
        (self.depth, self.why.contains("did you mean"))
    }
}

struct Walk {
    detail: &'static Detail,
    /// Member that is the body: what is in it is not known.
    raw: &'static str,
}

fn walk(in_: &Walk, shape: ShapeId, steps: &[Step], depth: usize) -> Result<(), Miss> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    if !step.deep {
        return pick(in_, shape, &step.pick, rest, depth);
    }
    let (mut seen, mut todo) = (HashSet::new(), vec![shape]);
    let mut names = BTreeSet::new();
    while let Some(shape) = todo.pop() {
        if !seen.insert(shape) {
            continue;
        }
        if pick(in_, shape, &step.pick, rest, depth).is_ok() {
            return Ok(());
        }
        match in_.detail.kind(shape) {
            Kind::Structure(members) => {
                names.extend(members.all.iter().map(|m| m.name));
                // A body may have anything in it.
                if members.all.iter().any(|m| m.name == in_.raw && is_open(in_, m.shape)) {
                    return Ok(());
                }
                todo.extend(members.all.iter().map(|m| m.shape));
            }
            Kind::List(item, _) => todo.push(item),
            Kind::Map { value, .. } => todo.push(value),
            Kind::Document => return Ok(()),
            _ => {}
        }
    }
    let wanted = match &step.pick {
        Pick::Name(name) => name.as_str(),
        _ => "",
    };
    Err(Miss { depth, why: missing(wanted, &names.into_iter().collect::<Vec<_>>()) })
}

/// Whether the model does not know what is in a body.
fn is_open(in_: &Walk, shape: ShapeId) -> bool {
    matches!(in_.detail.kind(shape), Kind::Blob | Kind::Text | Kind::Document)
}

fn pick(in_: &Walk, shape: ShapeId, pick: &Pick, rest: &[Step], depth: usize) -> Result<(), Miss> {
    let on = |shape| walk(in_, shape, rest, depth + 1);
    match (in_.detail.kind(shape), pick) {
        (Kind::Structure(members), Pick::Name(name)) => {
            let member = members.all.iter().find(|m| m.name == name || m.wire == name);
            match member {
                Some(m) if m.name == in_.raw && depth == 0 && is_open(in_, m.shape) => Ok(()),
                Some(m) => on(m.shape),
                None if members.all.is_empty() => Err(Miss { depth, why: "it has no members".into() }),
                None => {
                    Err(Miss { depth, why: missing(name, &members.all.iter().map(|m| m.name).collect::<Vec<_>>()) })
                }
            }
        }
        (Kind::Structure(members), Pick::Any) => {
            let mut worst = Miss { depth, why: "no member has what follows `*`".into() };
            for member in &members.all {
                match on(member.shape) {
                    Ok(()) => return Ok(()),
                    Err(miss) if miss.depth > worst.depth => worst = miss,
                    Err(_) => {}
                }
            }
            Err(worst)
        }
        (Kind::Structure(_), Pick::Item(n)) => {
            Err(Miss { depth, why: format!("`[{n}]` is for lists, and this is a structure; name a member") })
        }
        (Kind::List(item, _), Pick::Any | Pick::Item(_)) => on(item),
        (Kind::List(..), Pick::Name(name)) => {
            Err(Miss { depth, why: format!("`{name}` is asked of a list; write `[*].{name}`") })
        }
        (Kind::Map { value, .. }, Pick::Name(_) | Pick::Any) => on(value),
        (Kind::Map { .. }, Pick::Item(n)) => {
            Err(Miss { depth, why: format!("`[{n}]` is for lists, and this is a map") })
        }
        (Kind::Document, _) => Ok(()),
        _ => Err(Miss { depth, why: "there is nothing below a plain value; end the path there".into() }),
    }
}

fn missing(name: &str, names: &[&str]) -> String {
    match nearest_of(name, names) {
        Some(near) => format!("there is no `{name}`; did you mean `{near}`?"),
        None => {
            let some = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            format!("there is no `{name}`; there are {some}{}", if names.len() > 8 { ", …" } else { "" })
        }
    }
}

fn unknown(what: &str, name: &str, near: Option<&str>, hint: &str) -> String {
    match near {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`; {hint}"),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}
