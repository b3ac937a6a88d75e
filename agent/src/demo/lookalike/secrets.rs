//! The look-alike's Secrets Manager: one secret that nobody should get to see.

use http::StatusCode;
use serde_json::{Value, json};

use super::{ACCOUNT, Answer, Call, respond};

/// Name of the only secret.
pub(super) const NAME: &str = "demo/database";

pub(super) fn answer(call: &Call) -> Answer {
    let target = call.header("x-amz-target").unwrap_or_default();
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    match (target.rsplit('.').next(), body["SecretId"].as_str()) {
        (Some("GetSecretValue"), Some(NAME)) => json_answer(
            StatusCode::OK,
            &json!({
                "ARN": format!("arn:aws:secretsmanager:{}:{ACCOUNT}:secret:{NAME}-AbCdEf", call.claim.region),
                "Name": NAME,
                "VersionId": "00000000-0000-4000-8000-000000000001",
                "SecretString": "{\"user\":\"app\",\"password\":\"look-alike-only\"}",
                "VersionStages": ["AWSCURRENT"],
            }),
        ),
        (Some("GetSecretValue"), _) => {
            error("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        }
        _ => error("InvalidRequestException", "This look-alike's Secrets Manager has only GetSecretValue."),
    }
}

fn error(code: &str, message: &str) -> Answer {
    json_answer(StatusCode::BAD_REQUEST, &json!({"__type": code, "Message": message}))
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    respond(status, "application/x-amz-json-1.1", body.to_string())
}
