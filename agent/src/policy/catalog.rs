//! Which IAM actions there are.
//!
//! Owns the question, not the answer: the model answers it ([`ActionCatalog`]). Pure: no I/O, no clock.

use std::collections::BTreeMap;
use std::fmt;

use crate::aws::AccessLevel;
use crate::aws::model::Input;

/// Knows the IAM actions that exist.
pub trait ActionCatalog: fmt::Debug + Send + Sync {
    /// Access level of an action such as `s3:GetObject`, in the spelling IAM uses; `None`: there is no such action.
    fn level(&self, action: &str) -> Option<AccessLevel>;

    /// Prefixes of all services (`s3`).
    fn services(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// Names of one service's actions, without the prefix (`GetObject`); none if there is no such service.
    fn actions(&self, service: &str) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The inputs of the operations that need an action. `None`: that cannot be told, as where any operation may.
    fn inputs(&self, action: &str) -> Option<Vec<Input>> {
        let _ = action;
        None
    }

    /// Whether any action matches a pattern such as `s3:Get*`.
    fn any_match(&self, pattern: &str) -> bool {
        let Some((service, name)) = pattern.split_once(':') else { return false };
        self.services().filter(|s| glob(service, s)).any(|s| self.actions(s).any(|a| glob(name, a)))
    }

    /// The existing action that somebody who wrote `action` most likely meant.
    fn nearest(&self, action: &str) -> Option<String> {
        let (service, name) = action.split_once(':')?;
        let by = |wanted: &str, found: &str| {
            let distance = distance(&wanted.to_ascii_lowercase(), &found.to_ascii_lowercase());
            (distance <= 1 + wanted.len() / 4).then_some(distance)
        };
        let exists = self.actions(service).next().is_some();
        let services = self.services().filter(|s| !exists || *s == service);
        let near = services.filter_map(|s| Some((by(service, s)?, s)));
        let found = near.flat_map(|(far, s)| self.actions(s).filter_map(move |a| Some((far + by(name, a)?, s, a))));
        let (_, service, name) = found.min()?;
        Some(format!("{service}:{name}"))
    }
}

/// A catalog that takes any well-formed action for an existing one, for tools that have no model at hand.
#[derive(Debug, Clone, Copy)]
pub struct AnyAction;

impl ActionCatalog for AnyAction {
    fn level(&self, action: &str) -> Option<AccessLevel> {
        let (service, name) = action.split_once(':')?;
        let service_ok = !service.is_empty() && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let name_ok = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        (service_ok && name_ok).then_some(AccessLevel::Unknown)
    }
    fn services(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
    fn actions(&self, _: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
    fn any_match(&self, pattern: &str) -> bool {
        self.level(&pattern.replace('*', "x")).is_some()
    }
}

/// A catalog of listed actions.
#[derive(Debug, Clone, Default)]
pub struct Listed(BTreeMap<String, BTreeMap<String, AccessLevel>>);

impl<S: AsRef<str>> FromIterator<(S, AccessLevel)> for Listed {
    /// From pairs of an action (`s3:GetObject`) and its level; what has no colon is left out.
    fn from_iter<I: IntoIterator<Item = (S, AccessLevel)>>(actions: I) -> Self {
        let mut catalog = Self::default();
        for (action, level) in actions {
            if let Some((service, name)) = action.as_ref().split_once(':') {
                catalog.0.entry(service.into()).or_default().insert(name.into(), level);
            }
        }
        catalog
    }
}

impl ActionCatalog for Listed {
    fn level(&self, action: &str) -> Option<AccessLevel> {
        let (service, name) = action.split_once(':')?;
        self.0.get(service)?.get(name).copied()
    }
    fn services(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.keys().map(String::as_str))
    }
    fn actions(&self, service: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.0.get(service).into_iter().flat_map(|a| a.keys().map(String::as_str)))
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any characters, also none.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// The member of `names` that somebody who wrote `wanted` most likely meant.
pub(crate) fn nearest_of<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let limit = 1 + wanted.len() / 4;
    names.iter().map(|n| (distance(wanted, n), *n)).filter(|(d, _)| *d <= limit).min().map(|(_, n)| n)
}

/// How many characters have to be put in, taken out, changed or swapped to get from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<usize>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [older, above, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(older[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        [
            ("s3:GetObject", AccessLevel::Read),
            ("s3:PutObject", AccessLevel::Write),
            ("sts:GetCallerIdentity", AccessLevel::Read),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn finds_what_was_meant() {
        for (written, meant) in [
            ("s3:GetObjekt", Some("s3:GetObject")),
            ("s3:getobject", Some("s3:GetObject")),
            ("s3:GteObject", Some("s3:GetObject")),
            ("st:GetCallerIdentity", Some("sts:GetCallerIdentity")),
            ("s3:DeleteEverything", None),
            ("GetObject", None),
        ] {
            assert_eq!(listed().nearest(written).as_deref(), meant, "{written}");
        }
    }

    #[test]
    fn matches_patterns() {
        for (pattern, text, matches) in [
            ("s3:*", "s3:GetObject", true),
            ("s3:Get*", "s3:PutObject", false),
            ("*:Get*Identity", "sts:GetCallerIdentity", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
        assert!(listed().any_match("s3:Get*"));
        assert!(!listed().any_match("s3:List*"));
        assert!(!listed().any_match("ec2:*"));
    }

    #[test]
    fn an_open_catalog_takes_what_is_well_formed() {
        assert_eq!(AnyAction.level("s3:Whatever"), Some(AccessLevel::Unknown));
        for bad in ["s3", "s3:", ":Get", "s3:Get Object", "s3:a:b"] {
            assert_eq!(AnyAction.level(bad), None, "{bad}");
        }
        assert!(AnyAction.any_match("s3:Get*"));
        assert!(!AnyAction.any_match("nothing"));
    }
}
