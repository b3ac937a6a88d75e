//! Recorded exchanges as questions to the policies: asked again, explained.
//!
//! Owns how the record's columns become a case (`policy::case`), and what cannot be had back from them. Reads on a blocking
//! thread, judges on the task that asks.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Body, error, json as answer_json};
use crate::daemon::Core;
use crate::gateway;
use crate::policy::case::{Case, CaseNeed, Credential, Ids, Process, Session, Who};
use crate::record::{Judged, Reader, RecordError};
use crate::session::SessionId;

/// An exchange as a case, and what was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub case: Case,
    /// `allow`, `deny` or `hold`; `refuse`: the policies were not asked.
    pub decision: String,
    pub policies: Vec<String>,
    pub reason: String,
    pub observed: bool,
    /// The policies had no say in it.
    pub unasked: bool,
}

/// `GET /v1/sessions/{id}/cases`
pub(super) async fn cases(core: &Arc<Core>, id: &str) -> Response<Body> {
    if SessionId::parse(id).is_none() {
        return super::routes::no_session_id(id);
    }
    let session = id.to_owned();
    let ask = move |r: &Reader| r.session(&session)?.map(|_| r.judged(&session)).transpose();
    match read(core, ask).await {
        Ok(Some(found)) => {
            let all: Vec<Recorded> = found.into_iter().map(recorded).collect();
            answer_json(StatusCode::OK, &all)
        }
        Ok(None) => {
            error(StatusCode::NOT_FOUND, &format!("there is no session `{id}`"), "see `tollgate sessions list`")
        }
        Err(answer) => answer,
    }
}

/// `GET /v1/exchanges/{id}/explanation`; the id is the exchange's number, or the request id that the agent was given.
pub(super) async fn explanation(core: &Arc<Core>, id: &str) -> Response<Body> {
    let asked = id.to_owned();
    let find = move |r: &Reader| match asked.parse::<i64>() {
        Ok(number) => r.judged_one(number),
        Err(_) => r.judged_of_request(&asked),
    };
    match read(core, find).await {
        Ok(Some(found)) => {
            let recorded = recorded(found);
            let explanation = match (recorded.unasked, recorded.case.operation()) {
                (true, _) => Value::Null,
                (false, Ok(operation)) => {
                    let policies = core.policy.load_full();
                    json!(recorded.case.ask(&operation, |question| policies.explain(question)))
                }
                (false, Err(why)) => {
                    return error(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        &why,
                        "see the exchange by `tollgate sessions show`",
                    );
                }
            };
            answer_json(StatusCode::OK, &json!({ "recorded": recorded, "explanation": explanation }))
        }
        Ok(None) => error(
            StatusCode::NOT_FOUND,
            &format!("there is no exchange {id}"),
            "give the request id of the answer, or the number: `TOLLGATE_EXCHANGE` of an event",
        ),
        Err(answer) => answer,
    }
}

async fn read<T: Send + 'static>(
    core: &Core,
    ask: impl FnOnce(&Reader) -> Result<T, RecordError> + Send + 'static,
) -> Result<T, Response<Body>> {
    core.store.flush().await;
    let path = core.store.path().to_owned();
    let failed = |why: &str| error(StatusCode::INTERNAL_SERVER_ERROR, why, "see the daemon's journal");
    match tokio::task::spawn_blocking(move || ask(&Reader::open(&path)?)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => Err(failed(&e.to_string())),
        Err(_) => Err(failed("reading the record broke off")),
    }
}

/// The question that an exchange was.
fn recorded(j: Judged) -> Recorded {
    let facts = j.facts.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
    let mut incomplete: Vec<String> = Vec::new();
    let actions: Vec<&str> = j.action.split(' ').collect();
    let mut needs: Vec<CaseNeed> = serde_json::from_value::<Vec<(String, Vec<String>)>>(facts["needs"].clone())
        .map(|all| all.into_iter().map(|(action, resources)| CaseNeed { action, resources }).collect())
        .unwrap_or_default();
    if needs.is_empty() {
        // The last of those that are cut says how many more there were.
        let kept = if facts["cut"] == true { j.resources.len().saturating_sub(1) } else { j.resources.len() };
        let resources = &j.resources[..kept];
        let of = |action: &&str| CaseNeed { action: (*action).to_owned(), resources: resources.to_vec() };
        needs = actions.iter().map(of).collect();
        if facts["cut"] == true {
            incomplete.push("it has more resources than are recorded".into());
        } else if actions.len() > 1 {
            incomplete.push("which resources each of its actions is on is not recorded".into());
        }
    }
    let parameters = match serde_json::from_str(&j.parameters) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    if parameters.keys().any(|name| name.starts_with("tollgate:")) {
        incomplete.push("its parameters are not recorded, being too long or not understood".into());
    }
    let mut hidden = Vec::new();
    parameters.iter().for_each(|(name, value)| masked(name, value, &mut hidden));
    if !hidden.is_empty() {
        incomplete.push(format!("the record does not have the value of {}", hidden.join(", ")));
    }
    if j.issuer.is_some() && j.claims.is_empty() {
        incomplete.push("the groups and claims of its principal are not recorded".into());
    }
    let text = |n: usize| facts["credential"][n].as_str().unwrap_or_default().to_owned();
    let kind = if facts["credential"].is_null() { "binding".to_owned() } else { text(0) };
    let resource = match j.resources.as_slice() {
        [] => "*".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    let (action, resource_of, needs) = match needs.as_slice() {
        [one] if one.resources.len() <= 1 => {
            (one.action.clone(), one.resources.first().cloned().unwrap_or_default(), Vec::new())
        }
        _ => (String::new(), String::new(), needs),
    };
    let uid = facts["uid"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(j.uid);
    let case = Case {
        name: format!("{} on {resource}", j.action),
        expect: j.decision.clone(),
        policy: Some(Ids::Many(j.policies.clone())),
        exchange: Some(j.id),
        incomplete: incomplete.join("; "),
        action,
        resource: resource_of,
        needs,
        operation: j.operation,
        region: j.region,
        endpoint: j.host,
        parameters: parameters.into_iter().filter(|(name, _)| !name.starts_with("tollgate:")).collect(),
        request: None,
        principal: Some(Who {
            issuer: j.issuer.unwrap_or_default(),
            subject: j.subject,
            groups: j.groups,
            claims: j.claims,
        }),
        session: Some(Session { id: j.session, name: j.session_name }),
        process: Some(Process { exe: j.exe, pid: j.pid, uid }),
        credential: Some(Credential { kind, account: j.account.unwrap_or_default(), arn: text(1), operation: text(2) }),
    };
    // One that waited came again, or was given up.
    let unasked = matches!(j.decision.as_str(), "refuse" | "wait")
        || (j.policies.is_empty() && gateway::is_before_policy(&j.reason));
    Recorded { case, decision: j.decision, policies: j.policies, reason: j.reason, observed: j.observed, unasked }
}

/// Members whose values were hidden.
fn masked(name: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with("masked:") => found.push(format!("`{name}`")),
        Value::Object(members) => members.iter().for_each(|(n, v)| masked(&format!("{name}.{n}"), v, found)),
        Value::Array(items) => items.iter().for_each(|v| masked(name, v, found)),
        _ => {}
    }
    found.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> Judged {
        Judged {
            id: 7,
            session: "s-0123456789abcdef".into(),
            session_name: "nightly".into(),
            uid: 1000,
            issuer: Some("https://i.example".into()),
            subject: "alice".into(),
            groups: vec!["ops".into()],
            claims: [("sub".to_owned(), json!("alice"))].into_iter().collect(),
            pid: 42,
            exe: "/usr/bin/aws".into(),
            host: "s3.us-east-1.amazonaws.com".into(),
            action: "s3:GetObject".into(),
            operation: "s3:GetObject".into(),
            resources: vec!["arn:aws:s3:::b/k".into()],
            region: "us-east-1".into(),
            account: Some("111122223333".into()),
            parameters: r#"{"Bucket":"b","Key":"k"}"#.into(),
            decision: "allow".into(),
            policies: vec!["p".into()],
            reason: "policy `p` permits it".into(),
            observed: false,
            facts: None,
        }
    }

    #[test]
    fn a_plain_exchange_is_a_whole_case() {
        let found = recorded(judged());
        assert!(found.case.incomplete.is_empty() && !found.unasked, "{found:?}");
        let operation = found.case.operation().expect("one");
        assert_eq!((operation.service.as_str(), operation.name.as_str()), ("s3", "GetObject"));
        assert_eq!(operation.needs[0].resources, ["arn:aws:s3:::b/k"]);
        found.case.ask(&operation, |q| {
            assert_eq!((q.principal.subject.as_str(), q.principal.groups.len()), ("alice", 1));
            assert_eq!((q.process.uid, q.process.pid, q.session.name), (1000, 42, "nightly"));
            assert_eq!((q.credential.kind, q.credential.account), ("binding", "111122223333"));
        });
    }

    #[test]
    fn facts_are_taken_up_and_what_is_missing_is_told() {
        let facts = r#"{"needs":[["s3:PutObject",["arn:aws:s3:::b/t"]],["s3:GetObject",["arn:aws:s3:::b/k"]]],"credential":["derived","arn:x","sts:AssumeRole"],"uid":7}"#;
        let copy = Judged { action: "s3:PutObject s3:GetObject".into(), facts: Some(facts.into()), ..judged() };
        let found = recorded(copy.clone());
        let operation = found.case.operation().expect("one");
        assert_eq!(operation.needs[1].resources, ["arn:aws:s3:::b/k"]);
        found.case.ask(&operation, |q| {
            assert_eq!((q.credential.kind, q.credential.operation, q.process.uid), ("derived", "sts:AssumeRole", 7));
        });
        assert!(found.case.incomplete.is_empty());
        for (judged, expected) in [
            (Judged { facts: None, ..copy.clone() }, "which resources each of its actions"),
            (Judged { facts: Some(r#"{"cut":true}"#.into()), ..copy }, "more resources than are recorded"),
            (Judged { parameters: r#"{"A":{"B":["masked:00"]}}"#.into(), ..judged() }, "the value of `A.B`"),
            (Judged { parameters: r#"{"tollgate:left-out":{}}"#.into(), ..judged() }, "too long"),
            (Judged { claims: Map::new(), ..judged() }, "groups and claims"),
        ] {
            let found = recorded(judged);
            assert!(found.case.incomplete.contains(expected), "{found:?}");
        }
        assert!(recorded(Judged { decision: "refuse".into(), ..judged() }).unasked);
    }
}
