//! Patterns that principals match or not: whom a binding is for, whom policies only observe.
//!
//! Owns the matching. Pure.

use super::Principal;

/// What a principal must be; what is not named may be anything.
#[derive(Debug, Clone, Copy)]
pub struct Selector<'a> {
    pub issuer: Option<&'a url::Url>,
    /// Glob.
    pub subject: Option<&'a str>,
    pub group: Option<&'a str>,
}

impl Selector<'_> {
    pub fn matches(&self, principal: &Principal) -> bool {
        // A URL type writes a root path where the token has none.
        let same = |ours: &str, theirs: &str| ours == theirs || ours.strip_suffix('/') == Some(theirs);
        self.issuer.is_none_or(|ours| principal.issuer.as_ref().is_some_and(|theirs| same(ours.as_str(), theirs)))
            && self.subject.is_none_or(|pattern| glob(pattern, &principal.subject))
            && self.group.is_none_or(|group| principal.groups.iter().any(|g| g == group))
    }
}

/// `*` stands for any text, slashes included; everything else for itself.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("a*", "a", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a**b", "ab", true),
            ("", "", true),
            ("", "a", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
