//! Whether a rule's conditions can hold together.
//!
//! Owns a small solver: comparisons of one value (`resource.service`, a parameter) with literals, with the alternatives
//! that `||` and `unless` make, and with what the scope says already. What it does not know it takes for possible, so that
//! it never calls a rule dead that is not. Cedar's own validator finds what follows from types.

use std::collections::{BTreeMap, VecDeque};

use cedar_policy_core::ast::{
    BinaryOp, EntityReference, Expr, ExprKind, Literal, Pattern, PatternElem, PrincipalOrResourceConstraint, UnaryOp,
};

use super::target;
use crate::policy::catalog::ActionCatalog;
use crate::policy::entity;
use crate::policy::expr::{operands, text};
use crate::policy::rule::Rule;

/// More alternatives than this are not looked at.
const MOST: usize = 256;

/// Of more actions it is not looked up what their operations are.
const MANY: usize = 200;

/// What is asked of one value.
#[derive(Debug, Clone)]
enum Wish {
    /// One of these.
    OneOf(Vec<Literal>),
    NoneOf(Vec<Literal>),
    Like(Pattern),
    Unlike(Pattern),
    /// At least, at most.
    Within(i64, i64),
}

/// A value's name, what is asked of it, and the expression that asks; `None`: the scope does.
type Atom = (String, Wish, Option<Expr>);

/// Where a rule contradicts itself, and how. `None`: not that is seen.
pub(super) fn find(rule: &Rule, catalog: &dyn ActionCatalog) -> Option<(Option<Expr>, String)> {
    let conditions = rule.conditions();
    if conditions.is_empty() {
        return None;
    }
    let wanted: Vec<(Expr, bool)> = conditions.into_iter().map(|e| (e.clone(), true)).collect();
    let mut solver = Solver { branches: 0, why: None };
    let facts = scope_facts(rule, catalog);
    if solver.possible(&wanted, &facts) {
        return None;
    }
    let (expr, why) = solver.why?;
    Some((expr, format!("policy `{}` can never match: {why}", rule.name)))
}

struct Solver {
    branches: usize,
    /// The last contradiction.
    why: Option<(Option<Expr>, String)>,
}

impl Solver {
    fn possible(&mut self, wanted: &[(Expr, bool)], atoms: &[Atom]) -> bool {
        self.branches += 1;
        if self.branches > MOST {
            return true;
        }
        let mut todo: VecDeque<(Expr, bool)> = wanted.iter().cloned().collect();
        let mut atoms = atoms.to_vec();
        let mut alternatives: Vec<Vec<(Expr, bool)>> = Vec::new();
        while let Some((expr, want)) = todo.pop_front() {
            match (expr.expr_kind(), want) {
                (ExprKind::And { .. }, true) => todo.extend(operands(&expr).into_iter().map(|e| (e.clone(), true))),
                (ExprKind::Or { left, right }, false) => {
                    todo.extend([left, right].map(|e| (e.as_ref().clone(), false)));
                }
                (ExprKind::Or { left, right }, true) | (ExprKind::And { left, right }, false) => {
                    alternatives.push([left, right].map(|e| (e.as_ref().clone(), want)).to_vec());
                }
                (ExprKind::UnaryApp { op: UnaryOp::Not, arg }, _) => todo.push_front((arg.as_ref().clone(), !want)),
                (ExprKind::Lit(Literal::Bool(is)), _) if *is != want => {
                    self.why = Some((Some(expr.clone()), format!("`{}` is never so", text(&expr))));
                    return false;
                }
                _ => {
                    atoms.extend(atom(&expr, want).map(|(name, wish)| (name, wish, Some(expr.clone()))));
                }
            }
        }
        if let Some(why) = contradiction(&atoms) {
            self.why = Some(why);
            return false;
        }
        alternatives.is_empty() || self.possible_all(&[], &atoms, &alternatives)
    }

    /// With one of each of the alternatives.
    fn possible_all(&mut self, wanted: &[(Expr, bool)], atoms: &[Atom], others: &[Vec<(Expr, bool)>]) -> bool {
        let Some((last, others)) = others.split_last() else { return self.possible(wanted, atoms) };
        last.iter().any(|one| {
            let mut wanted = wanted.to_vec();
            wanted.push(one.clone());
            self.possible_all(&wanted, atoms, others)
        })
    }
}

/// What an expression asks of one value.
fn atom(expr: &Expr, want: bool) -> Option<(String, Wish)> {
    let one_of = |all: Vec<Literal>| if want { Wish::OneOf(all) } else { Wish::NoneOf(all) };
    match expr.expr_kind() {
        ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => match (literal(arg1), literal(arg2)) {
            (None, Some(value)) => Some((name(arg1)?, one_of(vec![value]))),
            (Some(value), None) => Some((name(arg2)?, one_of(vec![value]))),
            _ => None,
        },
        ExprKind::BinaryApp { op: BinaryOp::Contains, arg1, arg2 } => {
            let ExprKind::Set(all) = arg1.expr_kind() else { return None };
            let all: Option<Vec<Literal>> = all.iter().map(literal).collect();
            Some((name(arg2)?, one_of(all?)))
        }
        ExprKind::BinaryApp { op: op @ (BinaryOp::Less | BinaryOp::LessEq), arg1, arg2 } => {
            let strict = i64::from(*op == BinaryOp::Less);
            let (name, wish) = match (literal(arg1), literal(arg2)) {
                // name < n
                (None, Some(Literal::Long(n))) => (
                    name(arg1)?,
                    if want { (i64::MIN, n.checked_sub(strict)?) } else { (n.checked_add(1 - strict)?, i64::MAX) },
                ),
                // n < name
                (Some(Literal::Long(n)), None) => (
                    name(arg2)?,
                    if want { (n.checked_add(strict)?, i64::MAX) } else { (i64::MIN, n.checked_sub(1 - strict)?) },
                ),
                _ => return None,
            };
            Some((name, Wish::Within(wish.0, wish.1)))
        }
        ExprKind::Like { expr, pattern } => {
            let wish = if want { Wish::Like(pattern.clone()) } else { Wish::Unlike(pattern.clone()) };
            Some((name(expr)?, wish))
        }
        ExprKind::GetAttr { .. } => Some((name(expr)?, one_of(vec![Literal::Bool(true)]))),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<Literal> {
    match expr.expr_kind() {
        ExprKind::Lit(literal) => Some(literal.clone()),
        _ => None,
    }
}

/// `resource.service`; `None` for what is more than a path of members.
fn name(expr: &Expr) -> Option<String> {
    match expr.expr_kind() {
        ExprKind::Var(v) => Some(v.to_string()),
        ExprKind::GetAttr { expr, attr } => Some(format!("{}.{attr}", name(expr)?)),
        _ => None,
    }
}

/// What a scope says of the values that conditions look at.
fn scope_facts(rule: &Rule, catalog: &dyn ActionCatalog) -> Vec<Atom> {
    let mut facts: Vec<Atom> = Vec::new();
    let mut fact = |name: &str, all: Vec<Literal>| facts.push((name.to_owned(), Wish::OneOf(all), None));
    if let PrincipalOrResourceConstraint::Eq(EntityReference::EUID(uid)) = rule.core().principal_constraint().as_inner()
    {
        let id: &str = uid.eid().as_ref();
        let (issuer, subject) = id.split_once('#').unwrap_or(("", id));
        fact("principal.issuer", vec![Literal::from(issuer)]);
        fact("principal.subject", vec![Literal::from(subject)]);
        fact("principal.identified", vec![Literal::Bool(!issuer.is_empty())]);
    }
    if let PrincipalOrResourceConstraint::Eq(EntityReference::EUID(uid)) = rule.core().resource_constraint().as_inner()
    {
        let resource = entity::resource(uid.eid().as_ref());
        for attribute in ["arn", "partition", "service", "region", "account", "type", "name"] {
            if let Some(value) = resource.get(attribute).and_then(|v| v.to_string().parse::<Expr>().ok())
                && let Some(value) = literal(&value)
            {
                fact(&format!("resource.{attribute}"), vec![value]);
            }
        }
    }
    let Some(actions) = target::actions(&rule.scope, catalog) else { return facts };
    let prefix = |a: &String| a.split(':').next().unwrap_or_default().to_owned();
    // Requests to the first ones name resources of others (roles, keys), and need actions of them.
    let single = |service: &str| ["ec2", "s3", "sqs", "lambda", "rds", "ssm", "logs", "ecs", "sns"].contains(&service);
    if !actions.is_empty() && actions.len() <= MANY && actions.iter().all(|a| single(&prefix(a))) {
        let mut services: Vec<String> = actions.iter().map(prefix).collect();
        services.push("*".into());
        if services.iter().any(|s| s == "s3") {
            services.extend(["s3express", "s3-object-lambda", "s3-outposts"].map(str::to_owned));
        }
        services.dedup();
        fact("resource.service", services.iter().map(|s| Literal::from(s.as_str())).collect());
        let inputs: Option<Vec<_>> = actions.iter().map(|a| catalog.inputs(a)).collect();
        if let Some(inputs) = inputs {
            let mut names: Vec<&str> = inputs.iter().flatten().map(|i| i.op.name).collect();
            names.sort_unstable();
            names.dedup();
            fact("context.operation", names.into_iter().map(Literal::from).collect());
        }
    }
    facts
}

/// Two things that cannot be asked of one value.
fn contradiction(atoms: &[Atom]) -> Option<(Option<Expr>, String)> {
    let mut by_name: BTreeMap<&str, Vec<&Atom>> = BTreeMap::new();
    for atom in atoms {
        by_name.entry(&atom.0).or_default().push(atom);
    }
    // An ARN says the service, too.
    let services = by_name.get("resource.service").cloned().unwrap_or_default();
    for (name, asked) in &by_name {
        let place = || asked.iter().rev().find_map(|a| a.2.clone());
        if name.ends_with(".account") {
            let is_wrong =
                |a: &&&Atom| matches!(&a.1, Wish::OneOf(all) if a.2.is_some() && !all.iter().any(may_be_account));
            let wrong = asked.iter().find(is_wrong);
            if let Some((_, wish, expr)) = wrong {
                return Some((expr.clone(), format!("`{name}` is never {}; an account has 12 digits", said(wish))));
            }
        }
        if !together(asked) {
            return Some((place(), told(name, asked)));
        }
        if *name == "resource.arn" {
            for (_, wish, expr) in asked {
                let Some(service) = service_of(wish) else { continue };
                let one = Wish::OneOf(vec![Literal::from(service.as_str())]);
                let both: Vec<Atom> = vec![("resource.service".into(), one, expr.clone())];
                let all: Vec<&Atom> = services.iter().copied().chain(&both).collect();
                if !together(&all) {
                    return Some((expr.clone(), told("resource.service", &all)));
                }
            }
        }
    }
    None
}

/// Besides numbers, ARNs have words there (`aws`).
fn may_be_account(literal: &Literal) -> bool {
    match literal {
        Literal::String(text) => text.is_empty() || text.len() == 12 || !text.bytes().all(|b| b.is_ascii_digit()),
        _ => true,
    }
}

/// The service that an ARN must be of.
fn service_of(wish: &Wish) -> Option<String> {
    let text: String = match wish {
        Wish::OneOf(all) => match all.as_slice() {
            [Literal::String(one)] => one.to_string(),
            _ => return None,
        },
        // What follows a wildcard in the first parts cannot be told from them.
        Wish::Like(pattern) => prefix(pattern),
        _ => return None,
    };
    let mut parts = text.splitn(4, ':');
    let (first, _, service) = (parts.next()?, parts.next()?, parts.next()?);
    // The service's own part must be whole.
    (first == "arn" && parts.next().is_some()).then(|| service.to_owned())
}

fn prefix(pattern: &Pattern) -> String {
    let chars = pattern.iter().map_while(|e| match e {
        PatternElem::Char(c) => Some(*c),
        PatternElem::Wildcard => None,
    });
    chars.collect()
}

fn suffix(pattern: &Pattern) -> Vec<char> {
    let chars = pattern.get_elems().iter().rev().map_while(|e| match e {
        PatternElem::Char(c) => Some(*c),
        PatternElem::Wildcard => None,
    });
    chars.collect()
}

fn is_whole(pattern: &Pattern) -> bool {
    !pattern.iter().any(|e| matches!(e, PatternElem::Wildcard))
}

/// Whether a value can meet all of these.
fn together(asked: &[&Atom]) -> bool {
    let meets = |value: &Literal| asked.iter().all(|(_, wish, _)| meets(value, wish));
    let choices = asked.iter().filter_map(|(_, wish, _)| match wish {
        Wish::OneOf(all) => Some(all),
        _ => None,
    });
    if let Some(choices) = choices.min_by_key(|all| all.len()) {
        return choices.iter().any(meets);
    }
    let bounds = asked.iter().filter_map(|(_, wish, _)| match wish {
        Wish::Within(low, high) => Some((*low, *high)),
        _ => None,
    });
    let (low, high) = bounds.fold((i64::MIN, i64::MAX), |a, b| (a.0.max(b.0), a.1.min(b.1)));
    if low > high {
        return false;
    }
    let patterns: Vec<&Pattern> = asked
        .iter()
        .filter_map(|(_, wish, _)| match wish {
            Wish::Like(pattern) => Some(pattern),
            _ => None,
        })
        .collect();
    patterns.iter().enumerate().all(|(n, a)| patterns[n + 1..].iter().all(|b| overlap(a, b)))
}

/// Whether some text may match both; their ends that have no wildcard decide.
fn overlap(a: &Pattern, b: &Pattern) -> bool {
    if is_whole(a) || is_whole(b) {
        let (whole, other) = if is_whole(a) { (a, b) } else { (b, a) };
        return other.wildcard_match(&prefix(whole));
    }
    let (pa, pb) = (prefix(a), prefix(b));
    let (sa, sb) = (suffix(a), suffix(b));
    (pa.starts_with(&pb) || pb.starts_with(&pa)) && (sa.starts_with(&sb) || sb.starts_with(&sa))
}

fn meets(value: &Literal, wish: &Wish) -> bool {
    match (wish, value) {
        (Wish::OneOf(all), _) => all.contains(value),
        (Wish::NoneOf(all), _) => !all.contains(value),
        (Wish::Like(pattern), Literal::String(text)) => pattern.wildcard_match(text),
        (Wish::Unlike(pattern), Literal::String(text)) => !pattern.wildcard_match(text),
        (Wish::Within(low, high), Literal::Long(n)) => low <= n && n <= high,
        // Another type: Cedar's validator says so.
        _ => true,
    }
}

fn told(name: &str, asked: &[&Atom]) -> String {
    let of = |scope: bool| {
        let mut all: Vec<String> =
            asked.iter().filter(|a| a.2.is_none() == scope).map(|(_, wish, _)| said(wish)).collect();
        all.dedup();
        all
    };
    let (scope, wished) = (of(true), of(false));
    let exact = asked.iter().all(|(_, wish, _)| matches!(wish, Wish::OneOf(all) if all.len() == 1));
    let wished = match wished.as_slice() {
        [one, other] if exact => format!("both {one} and {other}"),
        all => all.join(" and "),
    };
    let scope =
        if scope.is_empty() { String::new() } else { format!(", and by the scope it is {}", scope.join(" and ")) };
    format!("`{name}` would have to be {wished}{scope}")
}

fn said(wish: &Wish) -> String {
    const SHOWN: usize = 5;
    let listed = |all: &[Literal]| {
        let mut some: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
        if all.len() > SHOWN {
            some.push("…".into());
        }
        some.join(" or ")
    };
    match wish {
        Wish::OneOf(all) => listed(all),
        Wish::NoneOf(all) => format!("not {}", listed(all)),
        Wish::Like(pattern) => format!("like \"{pattern}\""),
        Wish::Unlike(pattern) => format!("unlike \"{pattern}\""),
        Wish::Within(i64::MIN, high) => format!("at most {high}"),
        Wish::Within(low, i64::MAX) => format!("more than {}", low - 1),
        Wish::Within(low, high) => format!("between {low} and {high}"),
    }
}
