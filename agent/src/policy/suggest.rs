//! Least privilege from what was seen: policies that permit some requests, and little besides.
//!
//! Owns the grouping and the widening. Resources are named one by one, until there are several of a kind that share a
//! part of their path; then that part stands for them. Never wider than one bucket, never a whole account, never another
//! principal or action. A change whose resource cannot be told is held to the names, kinds and counts that it was seen
//! with. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy_core::ast::{Pattern, PatternElem};
use serde_json::{Value, json};

use super::entity;
use super::expr::quoted;
use crate::aws::model::Kind;
use crate::aws::operation::UNKNOWN;
use crate::aws::{AccessLevel, Operation};
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
    let mut limits: BTreeMap<(String, String), Limits> = BTreeMap::new();
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
        if let Some(first) = operation.needs.first() {
            limits.entry((who.clone(), first.action.clone())).or_default().add(operation);
        }
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
        let mut limited = Vec::new();
        for (action, resources) in actions {
            let told = resources.iter().any(|r| r != "*");
            match limits.get(&(who.clone(), action.clone())).and_then(Limits::condition).filter(|_| !told) {
                Some(condition) => limited.push((action, condition)),
                None => groups.entry(widen(&resources)).or_default().push(action),
            }
        }
        let anything = [Target::Exactly("*".to_owned())];
        for (action, condition) in limited {
            let n = count.entry(service.clone()).or_default();
            *n += 1;
            let actions = [action];
            cedar += &permit(&format!("suggested-{service}-{n}"), &who, &actions, &anything, Some(&condition));
            statements.push(statement(&format!("{service}{n}"), &actions, &anything));
        }
        for (targets, actions) in groups {
            let n = count.entry(service.clone()).or_default();
            *n += 1;
            cedar += &permit(&format!("suggested-{service}-{n}"), &who, &actions, &targets, None);
            statements.push(statement(&format!("{service}{n}"), &actions, &targets));
        }
    }
    let iam = json!({"Version": "2012-10-17", "Statement": statements});
    Suggestion { cedar, iam, left_out }
}

/// What the calls of one action had in common.
#[derive(Debug, Default)]
struct Limits {
    calls: usize,
    /// Texts of a parameter, and in how many calls it was.
    texts: BTreeMap<String, (usize, BTreeSet<String>)>,
    /// The greatest value.
    numbers: BTreeMap<String, (usize, i64)>,
}

/// How the names of parameters end that say what is made or changed.
const NAMING: [&str; 6] = ["Name", "Type", "Class", "Family", "Id", "Arn"];
/// … and how many or how much.
const COUNTING: [&str; 5] = ["Count", "Size", "Capacity", "Iops", "Storage"];

impl Limits {
    fn add(&mut self, operation: &Operation) {
        self.calls += 1;
        let Some(input) = operation.input else { return };
        if matches!(operation.access, AccessLevel::Read | AccessLevel::List) {
            return;
        }
        for member in input.detail.input(input.op) {
            let ends = |all: &[&str]| all.iter().any(|end| member.name.ends_with(end));
            match (input.detail.kind(member.shape), operation.parameters.get(member.name)) {
                (Kind::Text, Some(Value::String(text))) if ends(&NAMING) && !text.starts_with("masked:") => {
                    let seen = self.texts.entry(member.name.to_owned()).or_default();
                    seen.0 += 1;
                    seen.1.insert(text.clone());
                }
                (Kind::Integer, Some(value)) if ends(&COUNTING) => {
                    let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                    if let Some(n) = number {
                        let seen = self.numbers.entry(member.name.to_owned()).or_insert((0, n));
                        *seen = (seen.0 + 1, seen.1.max(n));
                    }
                }
                _ => {}
            }
        }
    }

    /// What held for every call.
    fn condition(&self) -> Option<String> {
        let texts = self.texts.iter().filter(|(_, (calls, all))| *calls == self.calls && all.len() <= FEW);
        let texts = texts.map(|(name, (_, all))| {
            let all: Vec<String> = all.iter().map(|text| quoted(text)).collect();
            match all.as_slice() {
                [one] => format!("context.parameters has {name} && context.parameters.{name} == {one}"),
                all => {
                    format!("context.parameters has {name} && [{}].contains(context.parameters.{name})", all.join(", "))
                }
            }
        });
        let numbers = self.numbers.iter().filter(|(_, (calls, _))| *calls == self.calls);
        let numbers = numbers
            .map(|(name, (_, most))| format!("context.parameters has {name} && context.parameters.{name} <= {most}"));
        let all: Vec<String> = texts.chain(numbers).collect();
        (!all.is_empty()).then(|| all.join(" &&\n    "))
    }
}

fn permit(id: &str, who: &str, actions: &[String], targets: &[Target], limits: Option<&str>) -> String {
    let each: Vec<String> = actions.iter().map(|a| format!("AWS::Action::{}", quoted(a))).collect();
    let action = match each.as_slice() {
        [one] => format!("action == {one}"),
        all => format!("action in [{}]", all.join(", ")),
    };
    let (resource, condition) = match targets {
        [Target::Exactly(one)] => {
            let limits = limits.map(|l| format!("\nwhen {{\n    {l}\n}}")).unwrap_or_default();
            (format!("resource == AWS::Resource::{}", quoted(one)), limits)
        }
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
    fn a_change_of_what_cannot_be_told_is_held_to_what_it_was_seen_with() {
        let run = |kind: &str, count: i64, more: Value| {
            let mut case = case("ec2:RunInstances", "*");
            case.parameters.insert("InstanceType".into(), kind.into());
            case.parameters.insert("MaxCount".into(), count.into());
            case.parameters.insert("ClientToken".into(), format!("{kind}{count}").into());
            case.parameters.extend(more.as_object().cloned().unwrap());
            case
        };
        let cases = [
            run("t3.micro", 1, json!({"ImageId": "ami-1"})),
            run("t3.small", 3, json!({"ImageId": "ami-1"})),
            run("t3.small", 2, json!({"ImageId": "ami-1", "KeyName": "k"})),
        ];
        let (found, set) = suggested(&cases);
        for case in cases.iter().chain(&[run("t3.micro", 3, json!({"ImageId": "ami-1"}))]) {
            assert!(allows(&set, case), "{case:?}\n{}", found.cedar);
        }
        for case in [
            run("m5.large", 1, json!({"ImageId": "ami-1"})),
            run("t3.micro", 4, json!({"ImageId": "ami-1"})),
            run("t3.micro", 1, json!({"ImageId": "ami-2"})),
            run("t3.micro", 1, json!({})),
        ] {
            assert!(!allows(&set, &case), "{case:?}\n{}", found.cedar);
        }
        // Not in every call, or another each time.
        assert!(!found.cedar.contains("KeyName") && !found.cedar.contains("ClientToken"), "{}", found.cedar);
        // What reads stays as it is.
        let mut look = case("ec2:DescribeImages", "*");
        look.parameters.insert("MaxResults".into(), 5.into());
        assert!(!suggested(&[look]).0.cedar.contains("when"));
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
