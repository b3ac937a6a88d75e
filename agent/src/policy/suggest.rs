//! Least privilege from what was seen: policies that permit some requests, and little besides.
//!
//! Owns the grouping and the widening. Resources are named one by one, until there are several of a kind that share a
//! part of their path; then that part stands for them. Never wider than one bucket, never a whole account, never another
//! principal or action. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy_core::ast::{Pattern, PatternElem};
use serde_json::{Value, json};

use super::entity;
use super::expr::quoted;
use crate::aws::Operation;
use crate::aws::operation::UNKNOWN;
use crate::identity::Principal;

/// So many resources are named one by one.
const FEW: usize = 3;
/// More parts of one bucket than this are the bucket.
const MANY: usize = 12;

/// What would permit some requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Cedar policies.
    pub cedar: String,
    /// The same as an IAM policy document, without the principals.
    pub iam: Value,
    /// Requests that nothing was suggested for, and why.
    pub left_out: Vec<String>,
}

/// A resource, or all whose ARNs begin alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Exactly(String),
    Below(String),
}

/// What to permit, so that these requests are.
pub fn suggest<'a>(requests: impl IntoIterator<Item = (&'a Principal, &'a Operation)>) -> Suggestion {
    let mut seen: BTreeMap<(String, String), BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let mut left_out = Vec::new();
    for (principal, operation) in requests {
        if operation.needs.iter().any(|n| n.action == UNKNOWN) {
            left_out.push(format!(
                "{}:{}: no IAM action is known for it; only a permit for {UNKNOWN} would cover it, and everything else that is not \
                 recognised",
                operation.service, operation.name
            ));
            continue;
        }
        let who = entity::principal(principal).uid().to_string();
        for need in &operation.needs {
            let service = need.action.split(':').next().unwrap_or_default().to_owned();
            let actions = seen.entry((who.clone(), service)).or_default();
            let resources = actions.entry(need.action.clone()).or_default();
            match need.resources.as_slice() {
                [] => drop(resources.insert("*".into())),
                all => resources.extend(all.iter().cloned()),
            }
        }
    }
    left_out.sort();
    left_out.dedup();
    let (mut cedar, mut statements) = (String::new(), Vec::new());
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for ((who, service), actions) in seen {
        let mut groups: BTreeMap<Vec<Target>, Vec<String>> = BTreeMap::new();
        for (action, resources) in actions {
            groups.entry(widen(&resources)).or_default().push(action);
        }
        for (targets, actions) in groups {
            let n = count.entry(service.clone()).or_default();
            *n += 1;
            cedar += &permit(&format!("suggested-{service}-{n}"), &who, &actions, &targets);
            statements.push(statement(&format!("{service}{n}"), &actions, &targets));
        }
    }
    let iam = json!({"Version": "2012-10-17", "Statement": statements});
    Suggestion { cedar, iam, left_out }
}

fn permit(id: &str, who: &str, actions: &[String], targets: &[Target]) -> String {
    let each: Vec<String> = actions.iter().map(|a| format!("AWS::Action::{}", quoted(a))).collect();
    let action = match each.as_slice() {
        [one] => format!("action == {one}"),
        all => format!("action in [{}]", all.join(", ")),
    };
    let (resource, condition) = match targets {
        [Target::Exactly(one)] => (format!("resource == AWS::Resource::{}", quoted(one)), String::new()),
        all => ("resource".to_owned(), format!("\nwhen {{ {} }}", any_of(all))),
    };
    format!("@id(\"{id}\")\npermit (\n    principal == {who},\n    {action},\n    {resource}\n){condition};\n\n")
}

fn any_of(targets: &[Target]) -> String {
    let exactly: Vec<String> = targets
        .iter()
        .filter_map(|t| match t {
            Target::Exactly(arn) => Some(quoted(arn)),
            Target::Below(_) => None,
        })
        .collect();
    let mut parts = match exactly.as_slice() {
        [] => Vec::new(),
        [one] => vec![format!("resource.arn == {one}")],
        all => vec![format!("[{}].contains(resource.arn)", all.join(", "))],
    };
    parts.extend(targets.iter().filter_map(|t| match t {
        Target::Exactly(_) => None,
        Target::Below(start) => {
            let elements = start.chars().map(PatternElem::Char).chain([PatternElem::Wildcard]);
            Some(format!("resource.arn like \"{}\"", Pattern::from(elements.collect::<Vec<_>>())))
        }
    }));
    parts.join(" || ")
}

fn statement(id: &str, actions: &[String], targets: &[Target]) -> Value {
    // What IAM would take for a wildcard or a variable, and is none.
    let plain = |text: &str| {
        let mut out = String::new();
        for c in text.chars() {
            if matches!(c, '*' | '?' | '$') { out += &format!("${{{c}}}") } else { out.push(c) }
        }
        out
    };
    let resources = targets.iter().map(|t| match t {
        Target::Exactly(arn) if arn == "*" => "*".to_owned(),
        Target::Exactly(arn) => plain(arn),
        Target::Below(start) => format!("{}*", plain(start)),
    });
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    json!({"Sid": id, "Effect": "Allow", "Action": actions, "Resource": resources.collect::<Vec<_>>()})
}

/// The resources of one action, with what stands for many of them.
fn widen(resources: &BTreeSet<String>) -> Vec<Target> {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for arn in resources {
        let (family, name) = arn.split_at(family(arn));
        families.entry(family).or_default().push(name);
    }
    let mut targets: Vec<Target> = families
        .into_iter()
        .flat_map(|(family, names)| {
            let found = below(&names, 0);
            let bucket = family.contains(":s3:::") && found.len() > MANY;
            if bucket { vec![Target::Below(family.to_owned())] } else { prefixed(family, found) }
        })
        .collect();
    targets.sort();
    targets
}

fn prefixed(family: &str, found: Vec<Target>) -> Vec<Target> {
    found
        .into_iter()
        .map(|t| match t {
            Target::Exactly(name) => Target::Exactly(format!("{family}{name}")),
            Target::Below(start) => Target::Below(format!("{family}{start}")),
        })
        .collect()
}

/// Where the name begins in an ARN, after what its like have in common: a bucket's objects, a kind of an account and region.
/// What has no name of its own stays whole.
fn family(arn: &str) -> usize {
    let rest = match arn.match_indices(':').nth(4) {
        Some((at, _)) if arn.starts_with("arn:") => at + 1,
        _ => return 0,
    };
    match arn[rest..].find(['/', ':']) {
        // A name that is a path itself: SSM's `parameter/a/b`, a bucket's `b/k`.
        Some(end) => rest + end + 1,
        None => 0,
    }
}

/// Names by the paths that they share, from a depth on.
fn below(names: &[&str], depth: usize) -> Vec<Target> {
    let exactly = || names.iter().map(|n| Target::Exactly((*n).to_owned())).collect();
    if names.len() <= FEW {
        return exactly();
    }
    let shared = shared(names);
    if shared > depth {
        return vec![Target::Below(names[0][..shared].to_owned())];
    }
    let mut parts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut found = Vec::new();
    for name in names {
        match name[depth..].find('/') {
            Some(end) => parts.entry(&name[..=depth + end]).or_default().push(name),
            None => found.push(Target::Exactly((*name).to_owned())),
        }
    }
    for (part, names) in parts {
        if names.len() > FEW { found.extend(below(&names, part.len() - 1)) } else { found.extend(below(&names, depth)) }
    }
    found
}

/// How far all names are the same path, up to and with a `/`.
fn shared(names: &[&str]) -> usize {
    let first = names[0];
    let same =
        names.iter().map(|n| first.bytes().zip(n.bytes()).take_while(|(a, b)| a == b).count()).min().unwrap_or(0);
    first.as_bytes()[..same].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::model::catalog;
    use crate::config::Mode;
    use crate::policy::case::Case;
    use crate::policy::{Effect, PolicySet};

    fn case(action: &str, resource: &str) -> Case {
        let who = json!({"issuer": "https://i.example", "subject": "repo:acme/app \"x\"", "groups": ["ops"]});
        serde_json::from_value(json!({"action": action, "resource": resource, "principal": who, "exchange": 1}))
            .unwrap()
    }

    fn suggested(cases: &[Case]) -> (Suggestion, PolicySet) {
        let all: Vec<_> = cases.iter().map(|c| (c.who(), c.operation().unwrap())).collect();
        let found = suggest(all.iter().map(|(p, o)| (p, o)));
        let set = PolicySet::from_sources(&[("s.cedar", &found.cedar)], Mode::Enforce, catalog())
            .unwrap_or_else(|e| panic!("{e:#?}\n{}", found.cedar));
        assert!(set.warnings().is_empty() && set.findings().is_empty(), "{:#?} {:#?}", set.warnings(), set.findings());
        (found, set)
    }

    fn allows(set: &PolicySet, case: &Case) -> bool {
        case.judge(set, &case.operation().unwrap()).effect == Effect::Allow
    }

    #[test]
    fn what_was_seen_is_permitted_and_its_siblings_are_not() {
        let mut cases = Vec::new();
        for n in 0..20 {
            cases.push(case("s3:GetObject", &format!("arn:aws:s3:::data/in/2026/{n}.csv")));
            cases.push(case("ssm:GetParameter", &format!("arn:aws:ssm:r:111122223333:parameter/app/prod/p{n}")));
            cases.push(case("sqs:SendMessage", &format!("arn:aws:sqs:r:111122223333:queue-{n}")));
        }
        for key in ["out/a*b?.csv", "out/é \"q\" \\.csv"] {
            cases.push(case("s3:PutObject", &format!("arn:aws:s3:::data/{key}")));
        }
        cases.push(case("s3:ListBucket", "arn:aws:s3:::data"));
        cases.push(case("sts:GetCallerIdentity", "*"));
        cases.push(case("ec2:DescribeInstances", "*"));
        cases.push(case("ec2:DescribeVolumes", "*"));
        cases.push(case("iam:PassRole", "arn:aws:iam::111122223333:role/builder"));
        let (found, set) = suggested(&cases);
        assert!(found.left_out.is_empty());
        for case in &cases {
            assert!(allows(&set, case), "{case:?}\n{}", found.cedar);
        }
        for (action, resource) in [
            ("s3:GetObject", "arn:aws:s3:::data/in/2025/1.csv"),
            ("s3:GetObject", "arn:aws:s3:::data/other"),
            ("s3:GetObject", "arn:aws:s3:::data2/in/2026/1.csv"),
            ("s3:GetObject", "*"),
            ("s3:PutObject", "arn:aws:s3:::data/in/2026/1.csv"),
            ("s3:PutObject", "arn:aws:s3:::data/out/aXXbY.csv"),
            ("s3:DeleteObject", "arn:aws:s3:::data/in/2026/1.csv"),
            ("s3:ListBucket", "arn:aws:s3:::other"),
            ("ssm:GetParameter", "arn:aws:ssm:r:111122223333:parameter/app/test/p1"),
            ("ssm:GetParameter", "arn:aws:ssm:r:444455556666:parameter/app/prod/p1"),
            ("ssm:PutParameter", "arn:aws:ssm:r:111122223333:parameter/app/prod/p1"),
            // No path: named one by one, however many there are.
            ("sqs:SendMessage", "arn:aws:sqs:r:111122223333:queue-20"),
            ("ec2:TerminateInstances", "*"),
            ("iam:PassRole", "arn:aws:iam::111122223333:role/admin"),
            ("iam:PassRole", "*"),
        ] {
            assert!(!allows(&set, &case(action, resource)), "{action} {resource}\n{}", found.cedar);
        }
        let mut other = cases[0].clone();
        if let Some(who) = &mut other.principal {
            who.subject = "repo:acme/other".into();
        }
        assert!(!allows(&set, &other), "another principal");
        // Actions on the same resources are one policy.
        let both = r#"action in [AWS::Action::"ec2:DescribeInstances", AWS::Action::"ec2:DescribeVolumes"]"#;
        assert!(found.cedar.contains(both), "{}", found.cedar);
        let statements = found.iam["Statement"].as_array().unwrap();
        let of = |action: &str| statements.iter().find(|s| s["Action"][0] == action).unwrap();
        assert_eq!(of("s3:GetObject")["Resource"], json!(["arn:aws:s3:::data/in/2026/*"]));
        assert!(
            of("s3:PutObject")["Resource"].as_array().unwrap().contains(&json!("arn:aws:s3:::data/out/a${*}b${?}.csv"))
        );
        assert_eq!(of("sqs:SendMessage")["Resource"].as_array().unwrap().len(), 20);
        assert_eq!(
            of("sts:GetCallerIdentity"),
            &json!({"Sid": "sts1", "Effect": "Allow", "Action": ["sts:GetCallerIdentity"], "Resource": ["*"]})
        );
    }

    #[test]
    fn a_bucket_is_the_widest() {
        let keys = |keys: &[String]| keys.iter().map(|k| format!("arn:aws:s3:::b/{k}")).collect::<BTreeSet<_>>();
        let numbered = |f: fn(usize) -> String, n: usize| (0..n).map(f).collect::<Vec<_>>();
        let start = |text: &str| Target::Below(text.to_owned());
        // Few are named.
        assert_eq!(widen(&keys(&numbered(|n| format!("a/{n}"), 3))).len(), 3);
        assert_eq!(widen(&keys(&numbered(|n| format!("a/b/{n}"), 4))), [start("arn:aws:s3:::b/a/b/")]);
        // Two paths of several, and one by itself.
        let mut mixed = numbered(|n| format!("x/{n}"), 5);
        mixed.extend(numbered(|n| format!("y/z/{n}"), 5));
        mixed.push("alone".into());
        let expected =
            [Target::Exactly("arn:aws:s3:::b/alone".into()), start("arn:aws:s3:::b/x/"), start("arn:aws:s3:::b/y/z/")];
        assert_eq!(widen(&keys(&mixed)), expected);
        // Too many paths for a list.
        assert_eq!(widen(&keys(&numbered(|n| format!("{n}/k"), 40))), [start("arn:aws:s3:::b/")]);
        // Other services have nothing like a bucket: no account is opened.
        let logs: BTreeSet<_> = (0..40).map(|n| format!("arn:aws:logs:r:1:log-group:g{n}")).collect();
        assert_eq!(widen(&logs).len(), 40);
    }

    #[test]
    fn what_was_not_recognised_is_said_to_be_left_out() {
        let (found, set) = suggested(&[case(UNKNOWN, "*")]);
        assert_eq!((found.left_out.len(), set.len()), (1, 0));
        assert!(found.left_out[0].contains("only a permit for unknown:unknown"));
    }
}
