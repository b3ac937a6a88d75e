//! The query protocols: `Action` and flat members, in the body or in the query string, not in both.

use serde_json::Value;

use super::{Malformed, Operation, is_name, name};

/// Services that speak a query protocol. (SQS and SNS speak JSON too, which is told by `X-Amz-Target`.)
pub(super) fn is_query_service(signing: &str) -> bool {
    matches!(signing, "sts" | "ec2" | "iam" | "sqs" | "sns" | "cloudformation" | "autoscaling" | "elasticloadbalancing")
}

pub(super) fn finish(query: &str, body: &[u8], operation: &mut Operation) -> Result<(), Malformed> {
    let body = std::str::from_utf8(body).map_err(|_| Malformed::new("the form is not UTF-8; encode it"))?;
    if !query.is_empty() && !body.is_empty() {
        return Err(Malformed::new("the request has members in its query string and in its body; send them in one"));
    }
    let text = if body.is_empty() { query } else { body };
    for (key, value) in form_urlencoded::parse(text.as_bytes()) {
        if operation.parameters.insert(key.clone().into_owned(), Value::String(value.into_owned())).is_some() {
            return Err(Malformed::new(format!("the request names `{key}` twice; send it once")));
        }
    }
    let action = operation.parameters.remove("Action");
    operation.parameters.remove("Version");
    if let Some(Value::String(action)) = action
        && is_name(&action)
    {
        name(operation, &action);
    }
    Ok(())
}
