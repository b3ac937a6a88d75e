//! Paths into an answer: a subset of JSONPath.
//!
//! Owns what can be written: names, `*`, positions in lists, and `..` for any depth. Pure.

/// A path, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub steps: Box<[Step]>,
    /// As it was written.
    pub text: String,
}

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// At any depth from here.
    pub deep: bool,
    pub pick: Pick,
}

/// What a step goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    Name(String),
    /// Every member, or every item.
    Any,
    /// One item, from 0.
    Item(u32),
}

/// Steps of one path beyond which it is refused.
const MOST: usize = 32;

impl Path {
    /// `$.Items[*].card.S`; the error is a sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(mut rest) = text.strip_prefix('$') else {
            return Err(format!(
                "the path `{text}` does not begin with `$`, the whole answer; write `$.{}`",
                text.trim()
            ));
        };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let deep = rest.starts_with("..");
            let (pick, after) = if deep || rest.starts_with('.') {
                let after = rest.trim_start_matches('.');
                if rest.len() - after.len() > 2 {
                    return Err(format!("the path `{text}` has more than two dots in a row"));
                }
                if after.starts_with('[') { bracket(after, text)? } else { plain(after, text)? }
            } else if rest.starts_with('[') {
                bracket(rest, text)?
            } else {
                return Err(format!(
                    "the path `{text}` cannot be read from `{rest}` on; write `.Name`, `[*]` or `..Name`"
                ));
            };
            steps.push(Step { deep, pick });
            rest = after;
        }
        if steps.len() > MOST {
            return Err(format!("the path `{text}` has more than {MOST} steps"));
        }
        Ok(Self { steps: steps.into(), text: text.to_owned() })
    }
}

/// After a dot.
fn plain<'a>(rest: &'a str, text: &str) -> Result<(Pick, &'a str), String> {
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    match name {
        "" => Err(format!("the path `{text}` has a dot without a name")),
        "*" => Ok((Pick::Any, after)),
        _ if name.contains(['*', '?', '(', ')', '\'', '"', ']', ' ', '$', ',']) => {
            Err(format!("the path `{text}`: the name `{name}` must be written as ['{}']", name.replace('\'', "")))
        }
        _ => Ok((Pick::Name(name.to_owned()), after)),
    }
}

/// `[*]`, `[3]`, `['name']`.
fn bracket<'a>(rest: &'a str, text: &str) -> Result<(Pick, &'a str), String> {
    let inner = rest.strip_prefix('[').unwrap_or(rest);
    for quote in ['\'', '"'] {
        if let Some(name) = inner.strip_prefix(quote) {
            let end =
                name.find(quote).ok_or_else(|| format!("the path `{text}` has a name without a closing {quote}"))?;
            let after = name[end + 1..].strip_prefix(']');
            let after =
                after.ok_or_else(|| format!("the path `{text}`: `]` must follow {quote}{}{quote}", &name[..end]))?;
            return Ok((Pick::Name(name[..end].to_owned()), after));
        }
    }
    let Some((inside, after)) = inner.split_once(']') else {
        return Err(format!("the path `{text}` has a `[` without its `]`"));
    };
    match inside {
        "*" => Ok((Pick::Any, after)),
        number if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            let n = number.parse().map_err(|_| format!("the path `{text}`: `{number}` is too large for a position"))?;
            Ok((Pick::Item(n), after))
        }
        other => Err(format!(
            "the path `{text}`: `[{other}]` is not supported; a position, `[*]` and `['name']` are (no filters, no slices, no unions)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written() {
        let name = |name: &str| Pick::Name(name.into());
        for (text, expected) in [
            ("$", vec![]),
            ("$.a.b", vec![(false, name("a")), (false, name("b"))]),
            ("$['a b'][\"c\"]", vec![(false, name("a b")), (false, name("c"))]),
            (
                "$.Items[*].x[3]",
                vec![(false, name("Items")), (false, Pick::Any), (false, name("x")), (false, Pick::Item(3))],
            ),
            ("$..ssn", vec![(true, name("ssn"))]),
            ("$.a..['b']", vec![(false, name("a")), (true, name("b"))]),
            ("$.*", vec![(false, Pick::Any)]),
            ("$.content-type", vec![(false, name("content-type"))]),
        ] {
            let path = Path::parse(text).unwrap_or_else(|e| panic!("{e}"));
            let found: Vec<_> = path.steps.iter().map(|s| (s.deep, s.pick.clone())).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_says_what_can() {
        for (text, expected) in [
            ("Items", "write `$.Items`"),
            ("$Items", "cannot be read from `Items` on"),
            ("$.", "a dot without a name"),
            ("$...a", "more than two dots"),
            ("$.a[?(@.b)]", "no filters"),
            ("$.a[1:2]", "no slices"),
            ("$.a[-1]", "is not supported"),
            ("$.a['b]", "without a closing '"),
            ("$.a[*", "without its `]`"),
            ("$.a*", "must be written as ['a*']"),
            ("$.a[99999999999]", "too large"),
        ] {
            let error = Path::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
