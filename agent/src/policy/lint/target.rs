//! Whether a rule's actions are ever asked of its resource.
//!
//! Owns what is known of the resources of an action: the templates that the model resolves its requests by.

use cedar_policy_core::ast::{EntityReference, PrincipalOrResourceConstraint};

use crate::aws::model::Input;
use crate::policy::catalog::{ActionCatalog, glob};
use crate::policy::rule::{ActionScope, Rule};

/// Services whose resources S3's requests stand for.
const S3: [&str; 4] = ["s3", "s3express", "s3-object-lambda", "s3-outposts"];

/// Why none of a rule's actions is ever asked of its resource, and what to do; `None`: one may be.
pub(super) fn unreachable(rule: &Rule, catalog: &dyn ActionCatalog) -> Option<(String, String)> {
    let (arn, inside) = match rule.core().resource_constraint().as_inner() {
        PrincipalOrResourceConstraint::Eq(EntityReference::EUID(uid)) => (uid.eid().as_ref().to_owned(), false),
        PrincipalOrResourceConstraint::In(EntityReference::EUID(uid)) => (uid.eid().as_ref().to_owned(), true),
        _ => return None,
    };
    if arn == "*" {
        return None;
    }
    let mut why = None;
    for action in actions(&rule.scope, catalog)? {
        match never(&action, &arn, inside, catalog) {
            Some(reason) => why = why.or(Some(reason)),
            None => return None,
        }
    }
    let (reason, fix) = why?;
    Some((format!("policy `{}` can never match: {reason}", rule.name), fix))
}

/// The actions that a scope is about; `None`: any, or those of any service.
pub(super) fn actions(scope: &ActionScope, catalog: &dyn ActionCatalog) -> Option<Vec<String>> {
    let ActionScope::Named(names) = scope else { return None };
    let mut all = Vec::new();
    for name in names {
        let (service, action) = name.split_once(':')?;
        if name.starts_with("level:") || service.contains('*') || name == crate::aws::operation::UNKNOWN {
            return None;
        }
        if action.contains('*') {
            all.extend(catalog.actions(service).filter(|a| glob(action, a)).map(|a| format!("{service}:{a}")));
        } else {
            all.push(name.clone());
        }
    }
    Some(all)
}

/// Why an action is never asked of a resource.
fn never(action: &str, arn: &str, inside: bool, catalog: &dyn ActionCatalog) -> Option<(String, String)> {
    let service = arn.split(':').nth(2).unwrap_or_default();
    let check = || "check the action, and the resource's ARN".to_owned();
    let of_another = || Some((format!("{action} is never asked of a resource of `{service}`"), check()));
    if action == "iam:PassRole" {
        return if service == "iam" { None } else { of_another() };
    }
    let inputs = catalog.inputs(action)?;
    let prefix = action.split(':').next().unwrap_or_default();
    if S3.contains(&prefix) || prefix.starts_with("s3-") {
        return if S3.contains(&service) { of_bucket(action, arn, inside, &inputs) } else { of_another() };
    }
    let own =
        |i: &Input| i.op.needs.iter().filter(|(a, _)| *a == action).flat_map(|(_, t)| t.iter()).copied().collect();
    let templates: Vec<Vec<&str>> = inputs.iter().map(own).collect();
    let templates: Vec<&str> = templates.concat();
    // Actions that operations lead to by their parameters only.
    if !inputs.iter().any(|i| i.op.actions().any(|a| a == action)) {
        return None;
    }
    if templates.is_empty() {
        let reason = format!("the resource of {action} is always `*`");
        return Some((reason, "write `resource` alone, or `resource == AWS::Resource::\"*\"`".into()));
    }
    if templates.iter().any(|t| !t.starts_with("arn:")) {
        return None;
    }
    let part = |text: &str, n: usize| text.splitn(6, ':').nth(n).unwrap_or_default().to_owned();
    let fitting: Vec<&&str> = templates.iter().filter(|t| part(t, 2) == service || part(t, 2).contains('$')).collect();
    if fitting.is_empty() {
        return of_another();
    }
    // Names that bring their own kind along.
    if service == "kms" {
        return None;
    }
    let kind = |template: &str| part(template, 5).split("${").next().unwrap_or_default().to_owned();
    let rest = part(arn, 5);
    let kinds: Vec<String> = fitting.iter().map(|t| kind(t)).collect();
    if kinds.iter().any(|k| rest.starts_with(k.as_str())) {
        return None;
    }
    let mut kinds: Vec<String> = kinds.iter().map(|k| format!("`{k}…`")).collect();
    kinds.sort();
    kinds.dedup();
    Some((format!("{action} is asked of {}, and never of `{rest}`", kinds.join(" or ")), check()))
}

/// Requests of S3 are for a bucket or for an object in it, by their path.
fn of_bucket(action: &str, arn: &str, inside: bool, inputs: &[Input]) -> Option<(String, String)> {
    let name = arn.strip_prefix("arn:").and_then(|a| a.split_once(':')).and_then(|(_, a)| a.strip_prefix("s3:::"))?;
    let of_object = |i: &Input| i.op.path.contains("{Key") || ["DeleteObjects", "CreateSession"].contains(&i.op.name);
    let of_bucket = |i: &Input| !i.op.path.contains("{Key");
    match name.contains('/') {
        true if !inputs.iter().any(of_object) => {
            let bucket = arn.split('/').next().unwrap_or_default();
            let fix = format!("write `resource == AWS::Resource::\"{bucket}\"`");
            Some((format!("{action} is never asked of an object"), fix))
        }
        false if !inside && !inputs.iter().any(of_bucket) => {
            let fix = format!("write `resource in AWS::Resource::\"{arn}\"`");
            Some((format!("{action} is never asked of a bucket"), fix))
        }
        _ => None,
    }
}
