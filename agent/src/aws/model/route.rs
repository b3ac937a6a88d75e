//! Path → operations of one service.
//!
//! A tree over path segments: a literal is tried before a label, a label before a greedy one. Segments are told apart
//! before anything is decoded, so that `%2F` stays within its label. Pure.

use percent_encoding::percent_decode_str;

/// The tree; node 0 is the root.
#[derive(Debug, Default)]
pub(super) struct Routes {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by text.
    literals: Vec<(&'static str, u32)>,
    label: Option<u32>,
    /// What follows a greedy label (seldom anything), and the operations there.
    greedy: Vec<(Vec<&'static str>, Vec<u32>)>,
    operations: Vec<u32>,
}

/// What a path can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Operations whose template fits. Their method and query have not been looked at.
    Found(&'a [u32]),
    /// A segment is a literal only once it is decoded: readers differ in whether it is one.
    Disguised,
}

impl Routes {
    pub fn of(templates: impl Iterator<Item = (&'static str, u32)>) -> Self {
        let mut routes = Self { nodes: vec![Node::default()] };
        for (template, operation) in templates {
            routes.insert(template, operation);
        }
        routes
    }

    fn insert(&mut self, template: &'static str, operation: u32) {
        let template = template.trim_start_matches('/');
        let template = template.strip_suffix('/').unwrap_or(template);
        let mut at = 0;
        let segments: Vec<&'static str> = template.split('/').filter(|s| !s.is_empty()).collect();
        for (n, segment) in segments.iter().enumerate() {
            if segment.ends_with("+}") {
                let after = segments[n + 1..].to_vec();
                let greedy = &mut self.nodes[at].greedy;
                match greedy.iter_mut().find(|(a, _)| *a == after) {
                    Some((_, operations)) => operations.push(operation),
                    None => {
                        greedy.push((after, vec![operation]));
                        // More literals behind it say more.
                        greedy.sort_by_key(|(after, _)| std::cmp::Reverse(after.len()));
                    }
                }
                return;
            }
            at = self.child(at, segment);
        }
        self.nodes[at].operations.push(operation);
    }

    fn child(&mut self, at: usize, segment: &'static str) -> usize {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let node = &mut self.nodes[at];
        let child = if segment.starts_with('{') {
            *node.label.get_or_insert(next)
        } else {
            match node.literals.binary_search_by_key(&segment, |(text, _)| text) {
                Ok(n) => node.literals[n].1,
                Err(n) => {
                    node.literals.insert(n, (segment, next));
                    next
                }
            }
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child as usize
    }

    /// Offers every set of operations whose templates fit, the most specific first, until `take` takes one.
    pub fn walk<T>(&self, path: &str, take: &mut impl FnMut(Step<'_>) -> Option<T>) -> Option<T> {
        let path = path.strip_prefix('/').unwrap_or(path);
        self.step(0, (!path.is_empty()).then_some(path), take)
    }

    fn step<T>(&self, at: usize, rest: Option<&str>, take: &mut impl FnMut(Step<'_>) -> Option<T>) -> Option<T> {
        let node = self.nodes.get(at)?;
        // One slash at the end changes nothing, but for a greedy label, which never comes to its end here.
        let Some(rest) = rest.filter(|r| !r.is_empty()) else {
            return if node.operations.is_empty() { None } else { take(Step::Found(&node.operations)) };
        };
        let (segment, after) = match rest.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        if let Ok(n) = node.literals.binary_search_by_key(&segment, |(text, _)| text) {
            if let Some(found) = self.step(node.literals[n].1 as usize, after, take) {
                return Some(found);
            }
        } else if segment.contains('%')
            && let Ok(decoded) = percent_decode_str(segment).decode_utf8()
            && let Ok(n) = node.literals.binary_search_by_key(&decoded.as_ref(), |(text, _)| text)
        {
            // Clients encode what is not a plain character (`@connections`); whoever encodes a letter is hiding it.
            let plain = node.literals[n].0.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
            return if plain { take(Step::Disguised) } else { self.step(node.literals[n].1 as usize, after, take) };
        }
        if let Some(label) = node.label
            && !segment.is_empty()
            && let Some(found) = self.step(label as usize, after, take)
        {
            return Some(found);
        }
        let fits = |after: &[&str]| {
            let mut left = rest;
            after.iter().rev().all(|literal| {
                left.strip_suffix(literal).and_then(|l| l.strip_suffix('/')).inspect(|l| left = l).is_some()
            }) && !left.is_empty()
        };
        node.greedy.iter().filter(|(after, _)| fits(after)).find_map(|(_, ops)| take(Step::Found(ops)))
    }
}

/// The labels of a path by a template that fits it, not decoded.
pub fn labels<'p>(template: &'static str, path: &'p str) -> Vec<(&'static str, &'p str)> {
    let mut found = Vec::new();
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    let mut segments = template.trim_start_matches('/').split('/').filter(|s| !s.is_empty());
    while let Some(segment) = segments.next() {
        if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix("+}")) {
            for literal in segments.collect::<Vec<_>>().into_iter().rev() {
                rest = rest.strip_suffix(literal).and_then(|r| r.strip_suffix('/')).unwrap_or(rest);
            }
            found.push((name, rest));
            break;
        }
        let (value, after) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(name) = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
            found.push((name, value));
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(routes: &Routes, path: &str) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        routes.walk(path, &mut |step| {
            all.push(if let Step::Found(ops) = step { ops.to_vec() } else { vec![999] });
            None::<()>
        });
        all
    }

    #[test]
    fn the_most_specific_comes_first() {
        let templates = ["/", "/a", "/{x}", "/{x}/b", "/{x}/{y+}", "/a/b/", "/g/{z+}/end", "/@c/{id}"];
        let routes = Routes::of(templates.into_iter().zip(0..));
        for (path, expected) in [
            ("/", vec![vec![0]]),
            ("", vec![vec![0]]),
            ("/a", vec![vec![1], vec![2]]),
            ("/z", vec![vec![2]]),
            ("/z/", vec![vec![2]]),
            ("/a/b", vec![vec![5], vec![3], vec![4]]),
            ("/z/k/k/", vec![vec![4]]),
            ("/g/1/2/end", vec![vec![6], vec![4]]),
            ("/g/end", vec![vec![4]]),
            ("/%61", vec![vec![999]]),
            ("/%40c/1", vec![vec![7]]),
            ("/a%2Fb", vec![vec![2]]),
        ] {
            assert_eq!(found(&routes, path), expected, "{path}");
        }
    }

    #[test]
    fn labels_are_cut_out_of_the_path() {
        assert_eq!(labels("/{Bucket}/{Key+}", "/b/a//c/"), [("Bucket", "b"), ("Key", "a//c/")]);
        assert_eq!(labels("/p/{a+}/end", "/p/1/2/end"), [("a", "1/2")]);
        assert_eq!(labels("/f/{n}/invocations", "/f/x%2Fy/invocations"), [("n", "x%2Fy")]);
    }
}
