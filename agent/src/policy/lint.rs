//! What is odd about policies that load: rules that can never match, and permits without limits.
//!
//! Owns the checks that `tollgate policy check` makes besides those of a load. They are findings about what is certain: a
//! rule is called dead only if no request of the model's can meet it. Pure.

mod contradiction;
mod target;

use std::sync::Arc;

use cedar_policy_core::ast::{EntityReference, Expr, ExprKind, Literal, PrincipalOrResourceConstraint, Var};

use super::PolicyError;
use super::catalog::{ActionCatalog, glob};
use super::entity;
use super::expr::{children, operands};
use super::rule::{ActionScope, Rule};
use crate::aws::AccessLevel;

/// All findings, in the order of the rules. `known`: what has been found at load, which is not said again.
pub(super) fn lint(rules: &[Arc<Rule>], catalog: &dyn ActionCatalog, known: &[PolicyError]) -> Vec<PolicyError> {
    let mut found = Vec::new();
    let walls: Vec<&Rule> =
        rules.iter().map(Arc::as_ref).filter(|r| r.forbids() && !r.observed && !r.has_conditions()).collect();
    for rule in rules {
        let (first, last) = rule.lines();
        if known.iter().any(|k| k.file == *rule.file && (first..=last).contains(&k.line)) {
            continue;
        }
        if let Some((message, fix)) = target::unreachable(rule, catalog) {
            found.push(rule.finding(None, message, fix));
        } else if let Some((expr, message)) = contradiction::find(rule, catalog) {
            let fix = "drop one of the two, or make them alternatives with `||`";
            found.push(rule.finding(expr.as_ref(), message, fix.into()));
        } else if let Some(wall) = walls.iter().find(|w| !rule.forbids() && w.shadows(rule, catalog)) {
            let message = format!(
                "policy `{}` can never count: `{}` ({}:{}) forbids all of it, unconditionally",
                rule.name, wall.name, wall.file, wall.line
            );
            found.push(rule.finding(None, message, "take it away, or give the forbid an `unless`".into()));
        } else if let Some((message, fix)) = unlimited(rule) {
            found.push(rule.finding(None, message, fix));
        }
    }
    found
}

impl Rule {
    fn core(&self) -> &cedar_policy_core::ast::Policy {
        self.policy.as_ref()
    }

    /// First and last line.
    fn lines(&self) -> (usize, usize) {
        let written = self.core().loc().and_then(|l| l.snippet()).map_or(0, |text| text.matches('\n').count());
        (self.line, self.line + written)
    }

    /// The conditions that must hold, one by one.
    pub(super) fn conditions(&self) -> Vec<&Expr> {
        self.core().non_scope_constraints().map(operands).unwrap_or_default()
    }

    /// Whether it says more than its scope.
    fn has_conditions(&self) -> bool {
        let trivial = |e: &&Expr| matches!(e.expr_kind(), ExprKind::Lit(Literal::Bool(true)));
        !self.conditions().iter().all(trivial)
    }

    fn finding(&self, at: Option<&Expr>, message: String, fix: String) -> PolicyError {
        let (mut line, mut column) = (self.line, 1);
        if let Some(loc) = at.and_then(|e| e.source_loc())
            && let Some(before) = loc.src.get(..loc.start())
        {
            line = before.matches('\n').count() + 1;
            column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        }
        PolicyError { file: self.file.to_string(), line, column, message, fix }
    }

    /// Whether every request that the other matches is one that this one matches, by their scopes alone.
    fn shadows(&self, other: &Rule, catalog: &dyn ActionCatalog) -> bool {
        let (own, others) = (self.core(), other.core());
        within(others.principal_constraint().as_inner(), own.principal_constraint().as_inner())
            && within(others.resource_constraint().as_inner(), own.resource_constraint().as_inner())
            && self.scope.contains(&other.scope, catalog)
    }
}

/// Whether a constraint lets through no more than another.
fn within(inner: &PrincipalOrResourceConstraint, outer: &PrincipalOrResourceConstraint) -> bool {
    use PrincipalOrResourceConstraint::{Any, Eq, In};
    match (inner, outer) {
        (_, Any) => true,
        (Eq(a) | In(a), In(b)) | (Eq(a), Eq(b)) => a == b || (matches!(outer, In(_)) && is_object_of(a, b)),
        _ => false,
    }
}

fn is_object_of(object: &EntityReference, bucket: &EntityReference) -> bool {
    let (EntityReference::EUID(object), EntityReference::EUID(bucket)) = (object, bucket) else { return false };
    let (object, bucket): (&str, &str) = (object.eid().as_ref(), bucket.eid().as_ref());
    bucket.starts_with("arn:") && object.strip_prefix(bucket).is_some_and(|rest| rest.starts_with('/'))
}

impl ActionScope {
    /// Whether another scope is about no action that this one is not about.
    fn contains(&self, other: &Self, catalog: &dyn ActionCatalog) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (Self::Named(own), Self::Named(names)) => names.iter().all(|name| {
                own.contains(name)
                    || match name.split_once(':') {
                        Some((service, action)) if action.contains('*') && !service.contains('*') => {
                            let mut all = catalog.actions(service).filter(|a| glob(action, a)).peekable();
                            all.peek().is_some() && all.all(|a| self.holds(&format!("{service}:{a}"), catalog))
                        }
                        _ => self.holds(name, catalog),
                    }
            }),
        }
    }

    fn holds(&self, action: &str, catalog: &dyn ActionCatalog) -> bool {
        // A level that is not known is taken for any by no forbid.
        let level = catalog.level(action).unwrap_or(AccessLevel::Unknown);
        catalog.level(action).is_some() && self.covers(action, entity::level_group(level))
    }
}

/// A permit of anything on anything.
fn unlimited(rule: &Rule) -> Option<(String, String)> {
    let any = |c: &PrincipalOrResourceConstraint| matches!(c, PrincipalOrResourceConstraint::Any);
    if rule.forbids() || rule.observed || rule.approval.is_some() || !matches!(rule.scope, ActionScope::Any) {
        return None;
    }
    if !any(rule.core().resource_constraint().as_inner()) {
        return None;
    }
    let limits = |e: &&Expr| reads(e, &[Var::Action, Var::Resource, Var::Context]);
    if rule.conditions().iter().any(limits) {
        return None;
    }
    let everybody = any(rule.core().principal_constraint().as_inner())
        && !rule.conditions().iter().any(|e| reads(e, &[Var::Principal]));
    let whom = if everybody { "everybody" } else { "whoever its principal is" };
    Some((
        format!("policy `{}` permits {whom} any action on any resource", rule.name),
        "name actions or resources, or have it wait for somebody with `@approval(\"…\")`".into(),
    ))
}

fn reads(expr: &Expr, variables: &[Var]) -> bool {
    match expr.expr_kind() {
        ExprKind::Var(v) => variables.contains(v),
        _ => children(expr).into_iter().any(|inner| reads(inner, variables)),
    }
}

#[cfg(test)]
mod tests {
    use crate::aws::model::catalog;
    use crate::config::Mode;
    use crate::policy::PolicySet;

    fn findings(text: &str) -> Vec<String> {
        let set = PolicySet::from_sources(&[("t.cedar", text)], Mode::Enforce, catalog());
        let set = set.unwrap_or_else(|e| panic!("{text}: {e:#?}"));
        set.warnings().iter().chain(&set.findings()).map(ToString::to_string).collect()
    }

    #[test]
    fn rules_that_can_never_match_are_told_why() {
        for (text, expected) in [
            // The resource is none of the action's.
            (
                r#"permit (principal, action == AWS::Action::"s3:GetObject", resource == AWS::Resource::"arn:aws:sqs:r:1:q");"#,
                "t.cedar:1:1: policy `t.cedar#0` can never match: s3:GetObject is never asked of a resource of `sqs`",
            ),
            (
                r#"forbid (principal, action == AWS::Action::"s3:GetObject", resource == AWS::Resource::"arn:aws:s3:::bucket");"#,
                "is never asked of a bucket; write `resource in",
            ),
            (
                r#"permit (principal, action == AWS::Action::"s3:ListBucket", resource == AWS::Resource::"arn:aws:s3:::bucket/key");"#,
                "is never asked of an object",
            ),
            (
                r#"permit (principal, action == AWS::Action::"ec2:StartInstances", resource == AWS::Resource::"arn:aws:ec2:r:1:volume/v-1");"#,
                "ec2:StartInstances is asked of `instance/…`, and never of `volume/v-1`",
            ),
            (
                r#"permit (principal, action == AWS::Action::"sts:GetCallerIdentity", resource == AWS::Resource::"arn:aws:iam::111122223333:role/r");"#,
                "the resource of sts:GetCallerIdentity is always `*`",
            ),
            (
                r#"permit (principal, action == AWS::Action::"iam:PassRole", resource == AWS::Resource::"arn:aws:s3:::b");"#,
                "iam:PassRole is never asked of a resource of `s3`",
            ),
            // Conditions against each other.
            (
                r#"permit (principal, action, resource) when { resource.service == "s3" && resource.service == "ec2" };"#,
                r#"`resource.service` would have to be both "s3" and "ec2""#,
            ),
            (
                r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { resource.service == "ec2" };"#,
                r#"`resource.service` would have to be "ec2""#,
            ),
            (
                r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { resource.arn like "arn:aws:ec2:*" };"#,
                "can never match",
            ),
            (
                r#"permit (principal, action == AWS::Action::"ec2:RunInstances", resource) when { context.parameters has MaxCount && context.parameters.MaxCount > 5 && context.parameters.MaxCount <= 5 };"#,
                "`context.parameters.MaxCount` would have to be more than 5 and at most 5",
            ),
            (
                r#"permit (principal, action, resource) when { principal.subject like "repo:acme/*" && principal.subject == "repo:other/x" };"#,
                "`principal.subject` would have to be",
            ),
            (
                r#"permit (principal, action, resource) when { resource.arn like "arn:aws:s3:::a/*" && resource.arn like "arn:aws:s3:::b/*" };"#,
                "`resource.arn` would have to be",
            ),
            (
                r#"permit (principal, action, resource) when { ["a", "b"].contains(context.session.name) } unless { context.session.name == "a" || context.session.name like "b*" };"#,
                "`context.session.name` would have to be",
            ),
            (
                r#"permit (principal, action, resource) when { resource.account == "11112222333" };"#,
                "an account has 12 digits",
            ),
            (
                r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { action == AWS::Action::"s3:PutObject" };"#,
                "policy is impossible",
            ),
            (
                r#"permit (principal == Tollgate::Principal::"https://i.example#bob", action, resource) when { principal.subject == "alice" };"#,
                r#"`principal.subject` would have to be "alice", and by the scope it is "bob""#,
            ),
            (
                r#"permit (principal, action == AWS::Action::"ec2:RunInstances", resource) when { context.operation == "StopInstances" };"#,
                "`context.operation` would have to be",
            ),
            // Shadows.
            (
                r#"@id("wall") forbid (principal, action in AWS::Action::"iam:*", resource);
                permit (principal, action in AWS::Action::"iam:Create*", resource) when { context.session.name == "x" };"#,
                "policy `t.cedar#2` can never count: `wall` (t.cedar:1) forbids all of it",
            ),
            (
                r#"forbid (principal, action in AWS::Action::"level:Write", resource in AWS::Resource::"arn:aws:s3:::b") when { true };
                permit (principal in Tollgate::Group::"g", action == AWS::Action::"s3:PutObject", resource == AWS::Resource::"arn:aws:s3:::b/k");"#,
                "can never count",
            ),
            // No limits.
            ("permit (principal, action, resource);", "permits everybody any action on any resource"),
            (
                r#"permit (principal in Tollgate::Group::"g", action, resource) when { principal.identified };"#,
                "permits whoever its principal is any action on any resource",
            ),
        ] {
            let found = findings(text);
            let expected = expected.replace("t.cedar#0", "t.cedar#1");
            assert!(found.iter().any(|f| f.contains(&expected)), "{text}\n{found:#?}");
        }
    }

    #[test]
    fn what_may_match_is_left_alone() {
        for text in [
            r#"permit (principal, action == AWS::Action::"s3:GetObject", resource in AWS::Resource::"arn:aws:s3:::bucket");"#,
            r#"permit (principal, action in AWS::Action::"s3:*", resource == AWS::Resource::"arn:aws:s3:::bucket");"#,
            r#"permit (principal, action == AWS::Action::"s3:GetObject", resource == AWS::Resource::"*");"#,
            r#"permit (principal, action == AWS::Action::"kms:Decrypt", resource == AWS::Resource::"arn:aws:kms:r:1:alias/a");"#,
            r#"permit (principal, action in [AWS::Action::"s3:GetObject", AWS::Action::"sqs:SendMessage"], resource == AWS::Resource::"arn:aws:sqs:r:1:q");"#,
            r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { resource.service == "s3" || resource.service == "ec2" };"#,
            r#"permit (principal, action, resource) when { resource.service == "s3" } unless { resource.service == "s3" && resource.name like "x*" };"#,
            r#"permit (principal, action == AWS::Action::"s3:GetObject", resource) when { resource.arn like "arn:aws:s3:::a*" && resource.arn like "*/b/*" };"#,
            r#"permit (principal, action, resource) when { resource.account == "111122223333" || resource.account == "" };"#,
            r#"permit (principal, action, resource) when { resource.account == context.credential.account };"#,
            r#"permit (principal, action == AWS::Action::"ec2:RunInstances", resource) when { context.parameters has MaxCount && context.parameters.MaxCount > 1 && context.parameters.MaxCount < 3 };"#,
            r#"permit (principal, action in AWS::Action::"level:Read", resource) when { action == AWS::Action::"s3:GetObject" };"#,
            r#"@approval("all") permit (principal, action, resource);"#,
            r#"forbid (principal, action, resource) unless { principal.identified };
               permit (principal, action == AWS::Action::"s3:GetObject", resource);"#,
            r#"forbid (principal, action in AWS::Action::"iam:Create*", resource);
               permit (principal, action in AWS::Action::"iam:*", resource);"#,
            r#"@observe forbid (principal, action in AWS::Action::"iam:*", resource);
               permit (principal, action == AWS::Action::"iam:GetUser", resource);"#,
            r#"permit (principal, action == AWS::Action::"dynamodb:PutItem", resource == AWS::Resource::"arn:aws:dynamodb:r:1:table/t") when { context.operation == "TransactWriteItems" };"#,
        ] {
            assert_eq!(findings(text), Vec::<String>::new(), "{text}");
        }
    }
}
