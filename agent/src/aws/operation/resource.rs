//! ARN templates and members → ARNs.
//!
//! Templates are those of the service authorization reference with members in the place of variables
//! (`xtask/src/model/overrides.toml` says how they are written). What cannot be told is `*`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Operation;

/// More resources than this in one request are `*`.
const MAX: usize = 1_000;
/// Stands for the account until it is known.
pub(super) const ACCOUNT: &str = "${Account}";

pub(super) fn resolve(templates: &[&'static str], operation: &Operation, account: &str) -> Vec<String> {
    let mut found = Vec::new();
    for template in templates {
        one(template, operation, account, &mut found);
    }
    if found.is_empty() || found.len() > MAX {
        return vec!["*".into()];
    }
    found
}

/// Puts the account where the head alone could not.
pub(super) fn fill_account(resources: &mut [String], account: &str) {
    for resource in resources.iter_mut().filter(|r| r.contains(ACCOUNT)) {
        *resource = resource.replace(ACCOUNT, account);
    }
}

/// One template's ARNs: none if a member is missing, several if a member is a list.
pub(super) fn one(template: &str, operation: &Operation, account: &str, found: &mut Vec<String>) {
    let mut arns = vec![String::new()];
    let mut others = false;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((variable, after)) = after.split_once('}') else { return };
        arns.iter_mut().for_each(|arn| arn.push_str(before));
        rest = after;
        let fixed = match variable {
            "Partition" => Some(operation.partition),
            "Region" => Some(operation.region.as_str()),
            "Account" => Some(account),
            _ => None,
        };
        if let Some(fixed) = fixed {
            arns.iter_mut().for_each(|arn| arn.push_str(fixed));
            continue;
        }
        let mut how = variable.chars();
        let (how, member) = (how.next(), how.as_str());
        let (values, whole) = at(&operation.parameters, member);
        if !whole && !values.is_empty() && !others {
            // Items that name it otherwise.
            others = true;
            found.push("*".into());
        }
        if let Some(how @ ('?' | '<' | '!')) = how {
            let named = values.first().map(|v| v.as_ref()).filter(|v| !v.is_empty());
            let owner = match (how, named) {
                // `-` is what some have for the caller's own.
                ('?', None | Some("-")) => account,
                ('?', Some(named)) if is_account(named) => named,
                ('<', None) => return,
                // A queue's URL. A name alone, or another's idea of a URL, leaves open whose queue it is.
                ('<', Some(url)) if let Some(owner) = url.rsplit('/').nth(1).filter(|o| is_account(o)) => owner,
                ('!', named) => {
                    if named.is_some_and(|named| is_account(named) && named != account) && !others {
                        others = true;
                        found.push("*".into());
                    }
                    ""
                }
                _ => {
                    found.push("*".into());
                    return;
                }
            };
            arns.iter_mut().for_each(|arn| arn.push_str(owner));
            continue;
        }
        if values.is_empty() || arns.len().saturating_mul(values.len()) > MAX {
            if !values.is_empty() {
                found.push("*".into());
            }
            return;
        }
        arns = arns
            .iter()
            .flat_map(|arn| values.iter().map(move |value| put(arn, how, value, operation, account)))
            .collect();
    }
    for mut arn in arns {
        // A value that is an ARN is the resource, and nothing is to be said after it.
        match arn.rfind(WHOLE) {
            Some(at) => arn = arn[at + WHOLE.len_utf8()..].to_owned(),
            None => arn.push_str(rest),
        }
        if !found.contains(&arn) {
            found.push(arn);
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Stands before a value that is an ARN of its own.
const WHOLE: char = '\u{1}';

fn put(arn: &str, how: Option<char>, value: &str, operation: &Operation, account: &str) -> String {
    if arn.contains(WHOLE) {
        return arn.to_owned();
    }
    let is_arn = value.starts_with("arn:");
    let value: Cow<'_, str> = match how {
        Some('@') if !is_arn => {
            // A name where an ARN was expected: which resource it is cannot be told.
            return format!("{WHOLE}*");
        }
        Some('/') if !is_arn => value.rsplit('/').next().unwrap_or_default().into(),
        Some('~') if !is_arn => value.trim_start_matches('/').into(),
        _ => value.into(),
    };
    if is_arn {
        return format!("{WHOLE}{value}");
    }
    let (partition, region) = (operation.partition, &operation.region);
    // Values that bring their own kind along.
    if arn.ends_with(":key/") && value.starts_with("alias/") {
        return format!("{}{value}", arn.trim_end_matches("key/"));
    }
    if arn.ends_with(":function:")
        && let Some((owner, function)) = value.split_once(":function:")
    {
        let owner = owner.rsplit(':').next().filter(|o| !o.is_empty()).unwrap_or(account);
        return format!("arn:{partition}:lambda:{region}:{owner}:function:{function}");
    }
    format!("{arn}{value}")
}

/// The texts of a member by its path (`Target.RoleArn`), in every item of the lists on the way; and whether all of those
/// have it.
fn at<'v>(parameters: &'v Map<String, Value>, path: &str) -> (Vec<Cow<'v, str>>, bool) {
    let mut names = path.split('.');
    let mut here: Vec<&Value> = names.next().and_then(|first| parameters.get(first)).into_iter().collect();
    let mut whole = true;
    for name in names {
        let items = here.into_iter().flat_map(|v| v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice));
        let found: Vec<Option<&Value>> = items.map(|v| v.get(name)).collect();
        whole &= found.iter().all(Option::is_some);
        here = found.into_iter().flatten().collect();
    }
    (here.into_iter().flat_map(|v| texts(Some(v))).collect(), whole)
}

fn texts(value: Option<&Value>) -> Vec<Cow<'_, str>> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => vec![text.as_str().into()],
        Some(Value::Number(n)) => vec![n.to_string().into()],
        Some(Value::Array(items)) => items.iter().flat_map(|v| texts(Some(v))).collect(),
        _ => Vec::new(),
    }
}
