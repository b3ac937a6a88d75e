//! `tollgate aws sign`: requests as JSON lines in, the same signed anew, with what was signed, out.
//!
//! For whoever hunts a `SignatureDoesNotMatch`. The signature that a request carries says how it is to be signed, and is
//! not verified: its secret is not known here.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use http::HeaderName;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::identify::{Asked, each_line};
use crate::aws::endpoint::resolve;
use crate::aws::sigv4::{self, Algorithm, Order, Payload, SigningKeys, TokenKind};
use crate::credential::{Held, Secret};
use crate::gateway;

/// Reads requests from standard input, one a line, and prints each as it would go to AWS.
///
/// A request: {"method": "GET", "url": "https://…", "headers": [["name", "value"], …], "body": "base64"}; `headers` and
/// `body` may be left out. The answer has `headers`, `canonical_request` and `string_to_sign`, the session token
/// included. Of a body in signed pieces, the request's head is shown. The exit code is 1 if any line could not be signed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the key that is signed with.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key_id: String,
    /// Its secret. The variable keeps it out of process lists.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_access_key: String,
    /// The token of temporary credentials.
    #[arg(long, env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    session_token: Option<String>,
    /// The moment of the signature, such as `2026-01-02T03:04:05Z`; now, if it is left out.
    #[arg(long)]
    time: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let now = match &args.time {
        Some(text) => OffsetDateTime::parse(text, &Rfc3339)
            .with_context(|| format!("`{text}` is not a time such as `2026-01-02T03:04:05Z`"))?
            .into(),
        None => SystemTime::now(),
    };
    let held = Held {
        access_key_id: args.access_key_id,
        secret_access_key: Secret::new(args.secret_access_key),
        session_token: args.session_token.map(Secret::new),
        expires: None,
        account: None,
    };
    let keys = SigningKeys::default();
    each_line(|line| sign(line, &held, now, &keys))
}

/// One request, signed.
fn sign(line: &[u8], held: &Held, now: SystemTime, keys: &SigningKeys) -> anyhow::Result<Value> {
    let mut asked = Asked::read(line)?;
    let Some(endpoint) = resolve(&asked.host) else { bail!("`{}` is not under one of AWS's domains", asked.host) };
    let (claim, operation) = asked.understood(&endpoint, None).map_err(anyhow::Error::msg)?;
    let payload = match claim.as_ref().map(|c| &c.payload) {
        None | Some(Payload::Absent) => Payload::Hashed(sigv4::sha256_hex(&asked.body)),
        Some(payload) => payload.clone(),
    };
    let algorithm = claim.as_ref().map_or(Algorithm::V4, |c| c.algorithm);
    let order = Order {
        payload: &payload,
        held,
        algorithm,
        token_kind: claim.as_ref().map_or(TokenKind::Security, |c| c.token_kind),
        region: match &claim {
            Some(claim) if algorithm == Algorithm::V4a => &claim.region,
            _ => &operation.region,
        },
        signing_name: &operation.signing_name,
        now,
    };
    let mut parts = asked.parts;
    gateway::prepare(&mut parts.headers);
    let signed = sigv4::sign(&mut parts, &order, keys)?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(&str, String)> = parts.headers.iter().map(|(n, v)| (HeaderName::as_str(n), text(v))).collect();
    Ok(json!({
        "method": parts.method.as_str(),
        "url": format!("https://{}{}", endpoint.host, parts.uri),
        "headers": headers,
        "canonical_request": String::from_utf8_lossy(&signed.canonical),
        "string_to_sign": signed.string_to_sign(),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// AWS's own example (GetObject of the documentation of S3), and errors that say what is wrong.
    #[test]
    fn requests_are_signed_as_awss_own_examples() {
        let held = Held {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
            expires: None,
            account: None,
        };
        let (now, keys) = (UNIX_EPOCH + Duration::from_secs(1_369_353_600), SigningKeys::default());
        let ask = |line: &str| sign(line.as_bytes(), &held, now, &keys);
        let answer = ask(r#"{"method":"GET","url":"https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2"}"#)
            .expect("signed");
        let canonical = answer["canonical_request"].as_str().expect("text");
        assert_eq!(
            sigv4::sha256_hex(canonical.as_bytes()),
            "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7"
        );
        let authorization = answer["headers"].as_array().expect("headers").iter().find(|h| h[0] == "authorization");
        assert_eq!(
            authorization.expect("signed")[1],
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        assert!(answer["string_to_sign"].as_str().expect("text").starts_with("AWS4-HMAC-SHA256\n20130524T000000Z\n"));
        for (line, expected) in [
            (r#"{"method":"GET","url":"https://example.com/"}"#, "not under one of AWS's domains"),
            (r#"{"method":"GET","url":"https://sts.amazonaws.com/?X-Amz-Expires=1"}"#, "lacks `X-Amz-Algorithm`"),
        ] {
            let error = ask(line).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
