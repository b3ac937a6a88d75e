//! Customers' own APIs behind hosts that say all there is to know: API Gateway, function URLs, OpenSearch, AppSync.
//!
//! Their IAM action follows from the host and the method; what the API itself does with a request is its own matter.

use http::request::Parts;

use super::resource::ACCOUNT;
use super::{AccessLevel, Endpoint, Malformed, Need, Operation, Protocol, rest};
use crate::aws::endpoint::Front;
use crate::aws::model::catalog::level;

/// Describes the operation; `false` if the host is none of these.
pub(super) fn route(endpoint: &Endpoint, parts: &Parts, operation: &mut Operation) -> Result<bool, Malformed> {
    let (partition, region) = (operation.partition, operation.region.clone());
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let (action, resource) = match &endpoint.front {
        Front::Gateway(id) => {
            let dotted = |s: &str| matches!(rest::decode(s).as_deref(), Ok("." | ".."));
            if path.split('/').any(dotted) {
                return Err(Malformed::new("the path has `.` or `..` in it; send it without"));
            }
            let connections = path.split('/').any(|s| matches!(rest::decode(s).as_deref(), Ok("@connections")));
            let action = if connections { "execute-api:ManageConnections" } else { "execute-api:Invoke" };
            // `/{stage}/{path}`; the default stage has no label of its own and may be any.
            let (stage, rest) =
                path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
            (action.to_owned(), format!("arn:{partition}:execute-api:{region}:{ACCOUNT}:{id}/{stage}/{method}/{rest}"))
        }
        Front::FunctionUrl => ("lambda:InvokeFunctionUrl".to_owned(), "*".to_owned()),
        Front::Collection(id) => {
            ("aoss:APIAccessAll".to_owned(), format!("arn:{partition}:aoss:{region}:{ACCOUNT}:collection/{id}"))
        }
        Front::GraphQl => ("appsync:GraphQL".to_owned(), "*".to_owned()),
        Front::Search => {
            let verb = match method {
                "GET" => "Get",
                "HEAD" => "Head",
                "POST" => "Post",
                "PUT" => "Put",
                "DELETE" => "Delete",
                "PATCH" => "Patch",
                _ => return Ok(false),
            };
            (format!("es:ESHttp{verb}"), "*".to_owned())
        }
        _ => return Ok(false),
    };
    let Some(found) = level(&action) else { return Ok(false) };
    let (service, name) = action.split_once(':').unwrap_or_default();
    service.clone_into(&mut operation.service);
    name.clone_into(&mut operation.name);
    operation.access = found.max(AccessLevel::Read);
    operation.protocol = Protocol::RestJson;
    operation.needs = vec![Need::new(action.clone(), vec![resource])];
    Ok(true)
}
