//! What a permit asks of the people who approve, besides the group's name: how many, who else, until when, why.
//!
//! Owns the annotations beside `@approval`, their values, and what several permits ask together. Pure.

use cedar_policy::Policy;
use serde::{Deserialize, Serialize};

/// On what terms a held request may be approved. Lengths of time are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Each must have a person of its own among those who approve: `@approval`, `@required_groups`.
    pub groups: Vec<String>,
    /// How many people must approve, at least.
    pub people: u32,
    /// How long the request may wait; `None`: as long as the configuration says.
    pub deadline: Option<u64>,
    /// The longest window that may be granted; 0: none, `None`: as long as the configuration says.
    pub window: Option<u64>,
    /// The agent must say why it asks.
    pub agent_says_why: bool,
    /// Who approves must say why.
    pub approver_says_why: bool,
    /// Whoever is in all of these may approve alone, in an emergency; empty: nobody.
    pub break_glass: Vec<String>,
}

/// The annotations that mean something beside `@approval` alone.
pub(super) const NAMES: [&str; 6] =
    ["min_approvals", "required_groups", "approval_deadline", "approval_window", "justification", "break_glass"];

/// More people than any policy will want.
const MOST_PEOPLE: u32 = 20;
/// A day: nobody remembers then what was asked.
const LONGEST: u64 = 86_400;

impl Terms {
    /// The terms of a policy whose annotations have been checked; `None`: it needs no approval.
    pub(super) fn of(policy: &Policy) -> Option<Self> {
        let text = |name: &str| policy.annotation(name).unwrap_or_default();
        let mut terms = Self { groups: vec![policy.annotation("approval")?.to_owned()], ..Self::default() };
        terms.want(names(text("required_groups")));
        terms.people = text("min_approvals").parse().unwrap_or(1);
        terms.deadline = duration(text("approval_deadline"));
        terms.window = if text("approval_window") == "none" { Some(0) } else { duration(text("approval_window")) };
        (terms.agent_says_why, terms.approver_says_why) = match text("justification") {
            "agent" => (true, false),
            "approver" => (false, true),
            "both" => (true, true),
            _ => (false, false),
        };
        terms.break_glass = names(text("break_glass")).map(str::to_owned).collect();
        Some(terms)
    }

    fn want<S: Into<String>>(&mut self, groups: impl Iterator<Item = S>) {
        for group in groups.map(Into::into) {
            if !self.groups.contains(&group) {
                self.groups.push(group);
            }
        }
    }

    /// Asks for what the other asks for, too: a request may need several permits.
    pub(super) fn join(&mut self, other: &Self) {
        let first = self.groups.is_empty();
        self.want(other.groups.iter());
        self.people = self.people.max(other.people);
        self.deadline = shorter(self.deadline, other.deadline);
        self.window = shorter(self.window, other.window);
        self.agent_says_why |= other.agent_says_why;
        self.approver_says_why |= other.approver_says_why;
        // In an emergency for one of them, the other still asks for its people.
        if first {
            self.break_glass.clone_from(&other.break_glass);
        } else if self.break_glass.is_empty() || other.break_glass.is_empty() {
            self.break_glass.clear();
        } else {
            for group in &other.break_glass {
                if !self.break_glass.contains(group) {
                    self.break_glass.push(group.clone());
                }
            }
        }
    }

    /// Whom to ask, in words.
    pub fn whom(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(|g| format!("`{g}`")).collect();
        let many = usize::try_from(self.people).unwrap_or(usize::MAX) > groups.len();
        if many { format!("{} people of {}", self.people, groups.join(" and ")) } else { groups.join(" and ") }
    }
}

fn shorter(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What is wrong with the value of one of [`NAMES`], and what to write.
pub(super) fn check(name: &str, value: &str) -> Result<(), (String, String)> {
    let wrong = |problem: &str, fix: &str| Err((format!("`@{name}(\"{value}\")` {problem}"), fix.to_owned()));
    match name {
        "min_approvals" => match value.parse::<u32>() {
            Ok(1..=MOST_PEOPLE) => Ok(()),
            _ => wrong("is not a number of people", "write a whole number from 1 to 20"),
        },
        "required_groups" | "break_glass" => {
            let good = names(value).count() > 0 && names(value).all(is_name);
            if good {
                Ok(())
            } else {
                wrong(
                    "does not name groups",
                    "write their names with spaces between them; letters, digits and -_.:/@# only",
                )
            }
        }
        "approval_window" if value == "none" => Ok(()),
        "approval_deadline" | "approval_window" => match duration(value) {
            Some(1..=LONGEST) => Ok(()),
            Some(_) => wrong("is longer than a day, or nothing", "write at most `24h`"),
            None => wrong("is not a length of time", "write a number and s, m or h: `90s`, `15m`, `2h`"),
        },
        "justification" if matches!(value, "agent" | "approver" | "both") => Ok(()),
        _ => wrong("names nobody who could say why", "write `agent`, `approver` or `both`"),
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> + Clone {
    list.split_ascii_whitespace()
}

/// Whether a text can be the name of a group.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.chars().all(|c| c.is_alphanumeric() || "-_.:/@#".contains(c))
}

/// `90s`, `15m`, `2h`, in seconds.
pub fn duration(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    // `+5` would be a number to Rust.
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok()?.checked_mul(unit))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("2h", Some(7200)),
            ("0s", Some(0)),
            ("", None),
            ("m", None),
            ("5", None),
            ("+5m", None),
            ("5 m", None),
            ("5d", None),
            ("99999999999999999999h", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn together_they_ask_for_the_stricter_of_everything() {
        let one = Terms {
            groups: vec!["a".into(), "b".into()],
            people: 1,
            deadline: Some(60),
            window: None,
            break_glass: vec!["x".into()],
            ..Terms::default()
        };
        let other = Terms {
            groups: vec!["b".into(), "c".into()],
            people: 2,
            deadline: None,
            window: Some(0),
            approver_says_why: true,
            break_glass: vec!["y".into()],
            ..Terms::default()
        };
        let mut all = Terms::default();
        all.join(&one);
        assert_eq!(all, one);
        all.join(&other);
        assert_eq!(all.groups, ["a", "b", "c"]);
        assert_eq!((all.people, all.deadline, all.window), (2, Some(60), Some(0)));
        assert!(all.approver_says_why && !all.agent_says_why);
        assert_eq!(all.break_glass, ["x", "y"]);
        assert_eq!((all.whom().as_str(), other.whom().as_str()), ("`a` and `b` and `c`", "`b` and `c`"));
        all.join(&Terms { groups: vec!["d".into()], ..Terms::default() });
        assert!(all.break_glass.is_empty());
        assert_eq!(Terms { people: 2, groups: vec!["a".into()], ..Terms::default() }.whom(), "2 people of `a`");
    }
}
