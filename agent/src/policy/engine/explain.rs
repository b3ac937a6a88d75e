//! How an explanation is found: every policy of the set is put the question, and where one does not match, its parts are
//! evaluated one by one.
//!
//! Owns the walk over a policy's parts. The parts are evaluated by the evaluator that decides, on the same entities.

use std::collections::BTreeMap;

use cedar_policy_core::ast::{BinaryOp, Expr, ExprKind, UnaryOp, Value, Var};
use cedar_policy_core::evaluator::Evaluator;

use super::{Bucket, Engine, Known, asked, context, entity, satisfied};
use crate::aws::AccessLevel;
use crate::aws::operation::{Need, UNKNOWN};
use crate::config::Mode;
use crate::policy::explain::{Asked, Explanation, Missing, Near, Policy, Remedy};
use crate::policy::expr::{children, operands, quoted, text};
use crate::policy::rule::Rule;
use crate::policy::{Decision, Effect, PolicySet, Question};

/// Most policies that are told as having nearly matched.
const NEAREST: usize = 5;
/// What a policy may lack to be told of: another action counts for more than another resource.
const FAR: usize = 4;
/// Longest value that is shown.
const LONGEST: usize = 200;

impl Engine {
    /// `all` has the policies on trial besides; they are told, and count for nothing.
    pub fn explain(&self, question: &Question<'_>, all: &Self) -> Explanation {
        let decision = self.decide(question);
        let operation = question.operation;
        let principal = self.principal(question.principal);
        let unknown = [Need::new(UNKNOWN, vec!["*".into()])];
        let needs = if operation.needs.is_empty() { &unknown[..] } else { &operation.needs[..] };
        let mut found = Vec::new();
        for need in needs {
            let fallback = if needs.len() == 1 { operation.access } else { AccessLevel::Unknown };
            // Policies for other actions, too: they may be what was meant.
            let bucket = all.bucket_of(&need.action, fallback, |_, _| true);
            for arn in &need.resources {
                found.push(all.explain_one(question, &principal, &bucket, arn, fallback));
            }
        }
        let remedy = if decision.effect == Effect::Deny { self.remedy(question, &principal, &found) } else { None };
        Explanation {
            decision: effect(decision.effect).into(),
            policies: decision.policies,
            reason: decision.reason,
            asked: found,
            remedy,
        }
    }

    fn explain_one(
        &self,
        question: &Question<'_>,
        principal: &Known,
        bucket: &Bucket,
        arn: &str,
        fallback: AccessLevel,
    ) -> Asked {
        let contexts: Vec<_> = bucket.usages.iter().map(|usage| context(question, usage)).collect();
        let action = bucket.action_id();
        let known = self.catalog.level(action).filter(|level| *level != AccessLevel::Unknown);
        let level = entity::level_group(known.unwrap_or(fallback));
        let mut matched = Vec::new();
        let mut near: Vec<(usize, Near)> = Vec::new();
        // Entities of this size always can be put together; if they could not, nothing would match.
        let _ = asked(principal, bucket, arn, &contexts, |evaluators| {
            for entry in &bucket.rules {
                let (rule, evaluator) = (&self.rules[entry.rule], &evaluators[entry.usage]);
                if rule.applies(action, level) && satisfied(evaluator, &entry.condition) == Ok(true) {
                    matched.push(policy(rule));
                    continue;
                }
                let missing = self.missing(question, rule, evaluator, (action, level, arn));
                let far: usize = missing.iter().map(|m| if m.part == "action" { 2 } else { 1 }).sum();
                if !missing.is_empty() && far < FAR {
                    near.push((far, Near { policy: policy(rule), missing }));
                }
            }
        });
        let binds = |effect: &str| matched.iter().any(|p| !p.observed && p.effect == effect);
        let (forbids, permits) = (binds("forbid"), binds("permit"));
        // A forbid that cannot be evaluated denies as one that matches.
        let doubts =
            |n: &Near| !n.policy.observed && n.policy.effect == "forbid" && n.missing.iter().any(|m| m.error.is_some());
        let doubt = near.iter().any(|(_, n)| doubts(n));
        near.retain(|(far, n)| match n.policy.effect.as_str() {
            "permit" => !permits && !forbids,
            _ => doubts(n) || (permits && !forbids && *far == 1),
        });
        near.sort_by_key(|(far, n)| (!doubts(n), *far));
        near.truncate(NEAREST);
        let decision = match (forbids || doubt, permits) {
            (true, _) | (_, false) => "deny",
            _ if matched.iter().all(|p| p.effect != "permit" || p.observed || self.asks(&p.id)) => "hold",
            _ => "allow",
        };
        Asked {
            action: action.to_owned(),
            resource: arn.to_owned(),
            decision: decision.into(),
            matched,
            near: near.into_iter().map(|(_, n)| n).collect(),
        }
    }

    fn asks(&self, id: &str) -> bool {
        self.rules.iter().any(|r| r.name == id && r.approval.is_some())
    }

    /// The parts of a rule that do not hold.
    fn missing(
        &self,
        question: &Question<'_>,
        rule: &Rule,
        evaluator: &Evaluator<'_>,
        (action, level, arn): (&str, &str, &str),
    ) -> Vec<Missing> {
        let policy: &cedar_policy_core::ast::Policy = rule.policy.as_ref();
        let mut missing = Vec::new();
        let who = policy.principal_constraint();
        let scopes = [
            ("principal", who.as_expr(), who.to_string(), principal_facts(question)),
            (
                "resource",
                policy.resource_constraint().as_expr(),
                policy.resource_constraint().to_string(),
                vec![("resource".into(), arn.to_owned())],
            ),
        ];
        for (part, expr, text, actual) in scopes {
            if satisfied(evaluator, &expr) != Ok(true) {
                missing.push(Missing { part: part.into(), text, actual, error: None });
            }
        }
        if !rule.applies(action, level) {
            let text = policy.action_constraint().to_string();
            let actual = vec![("action".into(), format!("{action} ({level})"))];
            missing.push(Missing { part: "action".into(), text, actual, error: None });
        }
        if let Some(conditions) = policy.non_scope_constraints() {
            Walk { evaluator, question }.wanted(conditions, &mut missing);
        }
        missing
    }

    /// Permits, and exceptions from forbids, that would let it through; proven by a decision with them.
    fn remedy(&self, question: &Question<'_>, principal: &Known, asked: &[Asked]) -> Option<Remedy> {
        let who = principal.entity.uid().to_string();
        let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut exceptions: Vec<(String, String)> = Vec::new();
        let mut changed = String::new();
        for one in asked.iter().filter(|a| a.decision == "deny") {
            let in_the_way = one.matched.iter().filter(|p| p.effect == "forbid" && !p.observed).map(|p| &p.id);
            let in_doubt = one.near.iter().filter(|n| n.policy.effect == "forbid" && !n.policy.observed);
            let in_doubt = in_doubt.map(|n| &n.policy.id);
            for id in in_the_way.chain(in_doubt) {
                if exceptions.iter().any(|(other, _)| other == id) {
                    continue;
                }
                let clause = exception(&who, asked.iter().filter(|a| a.decision == "deny"));
                let rule = self.rules.iter().find(|r| r.name == *id)?;
                let text = rule.policy.to_string();
                changed += &format!("{}\n{clause};\n", text.trim_end().trim_end_matches(';'));
                exceptions.push((id.clone(), clause));
            }
            if !one.matched.iter().any(|p| p.effect == "permit" && !p.observed) {
                lacking.entry(&one.action).or_default().push(&one.resource);
            }
        }
        let permits: String = lacking.iter().map(|(action, arns)| permit(&who, action, arns)).collect();
        let kept = |r: &&std::sync::Arc<Rule>| !exceptions.iter().any(|(id, _)| *id == r.name);
        let others: Vec<String> = self.rules.iter().filter(kept).map(|r| r.policy.to_string()).collect();
        let proof = format!("{permits}\n{changed}\n{}", others.join("\n"));
        let set = PolicySet::from_sources(&[("remedy", &proof)], Mode::Enforce, self.catalog.clone()).ok()?;
        (set.decide(question).effect != Effect::Deny).then_some(Remedy { permits, exceptions })
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::Hold => "hold",
    }
}

impl Decision {
    /// `allow`, `deny` or `hold`.
    pub fn verdict(&self) -> &'static str {
        effect(self.effect)
    }
}

fn policy(rule: &Rule) -> Policy {
    Policy {
        id: rule.name.clone(),
        file: rule.file.to_string(),
        line: rule.line,
        effect: if rule.forbids() { "forbid" } else { "permit" }.into(),
        observed: rule.observed,
    }
}

/// The smallest permit of an action on some resources.
fn permit(who: &str, action: &str, arns: &[&str]) -> String {
    let action = quoted(action);
    match arns {
        [one] => format!(
            "permit (\n    principal == {who},\n    action == AWS::Action::{action},\n    resource == AWS::Resource::{}\n);\n",
            quoted(one)
        ),
        many => {
            let all: Vec<String> = many.iter().map(|a| quoted(a)).collect();
            format!(
                "permit (\n    principal == {who},\n    action == AWS::Action::{action},\n    resource\n)\nwhen {{ [{}].contains(resource.arn) }};\n",
                all.join(", ")
            )
        }
    }
}

/// The clause that takes a request out of a forbid.
fn exception<'a>(who: &str, denied: impl Iterator<Item = &'a Asked>) -> String {
    let each = denied.map(|a| {
        format!("(action == AWS::Action::{} && resource == AWS::Resource::{})", quoted(&a.action), quoted(&a.resource))
    });
    let mut each: Vec<String> = each.collect();
    each.dedup();
    format!("unless {{ principal == {who} && ({}) }}", each.join(" || "))
}

fn principal_facts(question: &Question<'_>) -> Vec<(String, String)> {
    let who = question.principal;
    let groups = if who.groups.is_empty() { "none".into() } else { who.groups.join(", ") };
    vec![("principal".into(), entity::principal_id(who)), ("its groups".into(), groups)]
}

/// The walk over a condition that should hold and does not.
struct Walk<'a, 'e> {
    evaluator: &'a Evaluator<'e>,
    question: &'a Question<'a>,
}

impl Walk<'_, '_> {
    /// Adds what keeps an expression from being true.
    fn wanted(&self, expr: &Expr, missing: &mut Vec<Missing>) {
        let result = satisfied(self.evaluator, expr);
        if result == Ok(true) {
            return;
        }
        match expr.expr_kind() {
            ExprKind::And { .. } => {
                let before = missing.len();
                for operand in operands(expr) {
                    match satisfied(self.evaluator, operand) {
                        Ok(true) => {}
                        Ok(false) => self.wanted(operand, missing),
                        // What comes after a part that is false is not asked, and may have no answer.
                        Err(_) if missing.len() > before => {}
                        Err(_) => self.wanted(operand, missing),
                    }
                }
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => self.unwanted(arg, result.err(), missing),
            _ => missing.push(self.part("when", expr, result.err())),
        }
    }

    /// Adds what makes an expression true that should not be: the part of an `unless`, mostly.
    fn unwanted(&self, expr: &Expr, error: Option<String>, missing: &mut Vec<Missing>) {
        match expr.expr_kind() {
            ExprKind::Or { left, right } => {
                for side in [left, right] {
                    if satisfied(self.evaluator, side) == Ok(true) {
                        return self.unwanted(side, None, missing);
                    }
                }
                missing.push(self.part("unless", expr, error));
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } if error.is_none() => self.wanted(arg, missing),
            _ => missing.push(self.part("unless", expr, error)),
        }
    }

    fn part(&self, part: &str, expr: &Expr, error: Option<String>) -> Missing {
        let mut actual = Vec::new();
        self.values(expr, &mut actual);
        Missing { part: part.into(), text: text(expr), actual, error }
    }

    /// What an expression looks at, and what that is.
    fn values(&self, expr: &Expr, found: &mut Vec<(String, String)>) {
        let mut add = |name: String, value: String| {
            if !found.iter().any(|(other, _)| *other == name) {
                found.push((name, shortened(value)));
            }
        };
        match expr.expr_kind() {
            ExprKind::Var(Var::Principal) => principal_facts(self.question).into_iter().for_each(|(n, v)| add(n, v)),
            ExprKind::Var(_) | ExprKind::GetAttr { .. } | ExprKind::BinaryApp { op: BinaryOp::GetTag, .. } => {
                match self.evaluator.interpret(expr, &Default::default()) {
                    Ok(value) => add(text(expr), shown(&value)),
                    Err(_) => add(text(expr), "not there".into()),
                }
            }
            ExprKind::HasAttr { .. }
            | ExprKind::ExtHasAttr { .. }
            | ExprKind::BinaryApp { op: BinaryOp::HasTag, .. } => {
                if satisfied(self.evaluator, expr) == Ok(false) {
                    add(text(expr), "not there".into());
                }
            }
            _ => children(expr).into_iter().for_each(|inner| self.values(inner, found)),
        }
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

fn shortened(text: String) -> String {
    if text.chars().count() <= LONGEST {
        return text;
    }
    let mut cut: String = text.chars().take(LONGEST).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::model::catalog;
    use crate::policy::case::Case;

    const POLICIES: &str = r#"
        @id("small")
        permit (principal in Tollgate::Group::"ops", action == AWS::Action::"ec2:RunInstances", resource)
        when { context.parameters has InstanceType && context.parameters.InstanceType like "t3.*" && context.parameters.MaxCount < 3 }
        unless { context.region == "us-west-1" || context.session.name like "night*" };
        @id("buckets")
        permit (principal in Tollgate::Group::"ops", action in AWS::Action::"s3:Get*", resource in AWS::Resource::"arn:aws:s3:::demo");
        @id("secret") @reason("Not these.")
        forbid (principal, action, resource) when { resource.arn like "*secret*" };
        @id("tomorrow") @observe
        forbid (principal, action in AWS::Action::"s3:Get*", resource) when { resource.arn like "*/old/*" };
        @id("odd")
        forbid (principal, action == AWS::Action::"sqs:SendMessage", resource) when { context.parameters.DelaySeconds > 3 };
    "#;

    fn case(action: &str, resource: &str, parameters: serde_json::Value) -> Case {
        let who = json!({"issuer": "https://i.example", "subject": "a\"b", "groups": ["ops"]});
        serde_json::from_value(json!({"action": action, "resource": resource, "parameters": parameters,
            "principal": who, "region": "us-east-1", "session": {"name": "nightly"}, "exchange": 1}))
        .unwrap()
    }

    fn explained(case: &Case) -> Explanation {
        let text = POLICIES.replace(
            "context.parameters.MaxCount <",
            "context.parameters has MaxCount && context.parameters.MaxCount <",
        );
        let text = text.replace(
            "context.parameters.DelaySeconds >",
            "context.parameters has DelaySeconds && context.parameters.DelaySeconds >",
        );
        let set = PolicySet::from_sources(&[("t.cedar", &text)], Mode::Enforce, catalog())
            .unwrap_or_else(|e| panic!("{e:#?}"));
        case.ask(&case.operation().unwrap(), |q| set.explain(q))
    }

    fn told(near: &Near) -> Vec<String> {
        near.missing
            .iter()
            .map(|m| {
                let actual: Vec<String> = m.actual.iter().map(|(n, v)| format!("{n} is {v}")).collect();
                format!("{} {} [{}]{}", m.part, m.text, actual.join("; "), m.error.as_deref().unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn the_operand_that_failed_is_told_with_its_value() {
        let asked = case("ec2:RunInstances", "*", json!({"InstanceType": "m5.large", "MaxCount": 5}));
        let found = explained(&asked);
        assert_eq!((found.decision.as_str(), found.policies.len()), ("deny", 0));
        let near = &found.asked[0].near[0];
        assert_eq!((near.policy.id.as_str(), near.policy.line), ("small", 2));
        assert_eq!(
            told(near),
            [
                r#"when context.parameters.InstanceType like "t3.*" [context.parameters.InstanceType is "m5.large"]"#,
                "when context.parameters.MaxCount < 3 [context.parameters.MaxCount is 5]",
                r#"unless context.session.name like "night*" [context.session.name is "nightly"]"#,
            ]
        );
        let remedy = found.remedy.expect("a permit");
        assert_eq!(
            remedy.permits,
            "permit (\n    principal == Tollgate::Principal::\"https://i.example#a\\\"b\",\n    action == AWS::Action::\"ec2:RunInstances\",\n    resource == AWS::Resource::\"*\"\n);\n"
        );
        assert!(remedy.exceptions.is_empty());
        // What is not there is told as that.
        let found = explained(&case("ec2:RunInstances", "*", json!({})));
        let told = told(&found.asked[0].near[0]);
        assert_eq!(
            told[0],
            "when context.parameters has InstanceType [context.parameters has InstanceType is not there]"
        );
    }

    #[test]
    fn another_resource_action_or_principal_is_told() {
        let found = explained(&case("s3:GetObject", "arn:aws:s3:::other/k", json!({})));
        let near = &found.asked[0].near[0];
        assert_eq!(
            told(near),
            [r#"resource resource in AWS::Resource::"arn:aws:s3:::demo" [resource is arn:aws:s3:::other/k]"#]
        );
        let found = explained(&case("s3:PutObject", "arn:aws:s3:::demo/k", json!({})));
        assert!(told(&found.asked[0].near[0])[0].starts_with("action action in"), "{found:?}");
        let mut stranger = case("s3:GetObject", "arn:aws:s3:::demo/k", json!({}));
        if let Some(who) = &mut stranger.principal {
            who.groups.clear();
        }
        let found = explained(&stranger);
        assert!(told(&found.asked[0].near[0])[0].contains("its groups is none"), "{found:?}");
    }

    #[test]
    fn a_forbid_is_told_and_the_exception_that_would_do() {
        let found = explained(&case("s3:GetObject", "arn:aws:s3:::demo/secret/old/k", json!({})));
        assert_eq!((found.decision.as_str(), found.reason.as_str()), ("deny", "Not these."));
        let matched: Vec<_> = found.asked[0].matched.iter().map(|p| (p.id.as_str(), p.observed)).collect();
        assert_eq!(matched, [("secret", false), ("tomorrow", true), ("buckets", false)]);
        let remedy = found.remedy.expect("an exception");
        assert!(remedy.permits.is_empty(), "{remedy:?}");
        assert_eq!(remedy.exceptions.len(), 1);
        assert_eq!(remedy.exceptions[0].0, "secret");
        assert!(remedy.exceptions[0].1.contains(r#"resource == AWS::Resource::"arn:aws:s3:::demo/secret/old/k""#));
        // A policy on trial denies nothing.
        let found = explained(&case("s3:GetObject", "arn:aws:s3:::demo/old/k", json!({})));
        assert_eq!((found.decision.as_str(), found.remedy), ("allow", None));
        // One that cannot be evaluated does.
        let found = explained(&case("sqs:SendMessage", "arn:aws:sqs:us-east-1:1:q", json!({"DelaySeconds": "soon"})));
        assert_eq!(found.policies, ["odd"]);
        let near = &found.asked[0].near[0];
        assert!(near.policy.id == "odd" && near.missing[0].error.is_some(), "{near:?}");
        assert_eq!(found.remedy, None, "an exception would come after what cannot be evaluated");
    }

    #[test]
    fn every_need_is_explained_and_the_remedy_covers_all() {
        let mut asked = case("s3:GetObject", "", json!({}));
        asked.action.clear();
        asked.needs = serde_json::from_value(json!([
            {"action": "s3:PutObject", "resources": ["arn:aws:s3:::b/1", "arn:aws:s3:::b/2"]},
            {"action": "s3:GetObject", "resources": ["arn:aws:s3:::demo/k"]},
        ]))
        .unwrap();
        let found = explained(&asked);
        let decisions: Vec<_> = found.asked.iter().map(|a| a.decision.as_str()).collect();
        assert_eq!(decisions, ["deny", "deny", "allow"]);
        let permits = found.remedy.expect("a permit").permits;
        assert!(permits.contains(r#"["arn:aws:s3:::b/1", "arn:aws:s3:::b/2"].contains(resource.arn)"#), "{permits}");
        assert!(!permits.contains("GetObject"), "{permits}");
        // What was not recognised is remedied only by a permit that says so.
        let found = explained(&case(UNKNOWN, "*", json!({})));
        assert!(found.remedy.expect("a permit").permits.contains(r#"AWS::Action::"unknown:unknown""#));
    }
}
