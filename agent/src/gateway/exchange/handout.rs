//! Operations whose answers carry credentials: the real ones stay here, the agent gets placeholders that stand for them.
//!
//! Owns when such a request is sent at all, and the exchange in the answer. Never passes on an answer whose keys it could
//! not take out. Runs on the exchange's task.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, Limited};

use super::answer::forget_checksums;
use super::refusal::Refusal;
use super::{Exchange, Signer};
use crate::aws::error::ErrorKind;
use crate::aws::handout::answer::{Answer, Ends, Key, Substitute};
use crate::aws::handout::{self, Site, Treatment};
use crate::aws::operation::Operation;
use crate::aws::sigv4::{Claim, TokenKind};
use crate::credential::{Derived, Held, NotIssued, Placeholder};
use crate::gateway::body::{Completion, ResponseBody};
use crate::mask::{self, View};
use crate::policy::{CredentialFacts, Decision};

/// Longest answer that is read for its keys. AWS's own are a few KiB.
const LONGEST: usize = 4 << 20;
/// How long credentials count whose answer does not say when they end: as long as a role's can live.
const LIFE: Duration = Duration::from_secs(12 * 3600);

/// Why an operation is denied whatever the policies say; `None`: it is theirs to decide.
pub(super) fn forbidden(operation: &Operation) -> Option<String> {
    match handout::of(operation).map(|h| &h.treatment) {
        Some(Treatment::Denied(reason)) => Some(format!("{CARRIES}, and {reason}")),
        // Nobody has said what to do about it.
        None if operation.credentials_in_output => Some(CARRIES.into()),
        _ => None,
    }
}

const CARRIES: &str = "its answer carries credentials";

/// Whether a reason is one of [`forbidden`]'s.
pub(super) fn is_forbidden(reason: &str) -> bool {
    reason.starts_with(CARRIES)
}

/// The placeholder has ended: what to do depends on what stands behind it.
pub(super) fn expired(placeholder: &Placeholder) -> Refusal {
    let sentence = match &placeholder.behind {
        None => "the placeholder credentials have expired; ask the metadata service again".to_owned(),
        Some(derived) => format!("the credentials that {} gave have expired; ask it for new ones", derived.operation),
    };
    Refusal::new(ErrorKind::ExpiredToken, sentence)
}

/// The credentials behind a placeholder, for requests of the kind that they are for.
pub(super) fn fitting(derived: Option<&Derived>, claim: &Claim) -> Result<Option<Arc<Held>>, Refusal> {
    let of_session = derived.is_some_and(|d| d.bucket.is_some());
    if of_session && claim.service != "s3express" {
        return Err(Refusal::new(
            ErrorKind::InvalidClientTokenId,
            "these are the credentials of an S3 Express session, which sign requests for objects of its bucket only; use the \
             session's own for everything else",
        ));
    }
    if of_session != (claim.token_kind == TokenKind::S3Session) {
        return Err(Refusal::new(
            ErrorKind::InvalidClientTokenId,
            "the session token is in the wrong header: that of an S3 Express session goes in x-amz-s3session-token, every \
             other in x-amz-security-token",
        ));
    }
    Ok(derived.map(|d| d.held.clone()))
}

/// What policies may know of the credentials that a request is signed with.
pub(super) fn facts<'a>(signer: &'a Signer, account: Option<&'a str>) -> CredentialFacts<'a> {
    let account = account.unwrap_or_default();
    match signer {
        Signer::Nobody => CredentialFacts { kind: "none", ..CredentialFacts::default() },
        Signer::Held(None) => CredentialFacts { kind: "binding", account, ..CredentialFacts::default() },
        Signer::Held(Some(derived)) => CredentialFacts {
            kind: "derived",
            account,
            arn: derived.arn.as_deref().unwrap_or_default(),
            operation: &derived.operation,
        },
    }
}

impl Exchange<'_> {
    /// Asked before the request goes up: its answer could not be kept.
    pub(super) fn room_for_credentials(&self, operation: &Operation) -> Result<(), Refusal> {
        if !matches!(handout::of(operation).map(|h| &h.treatment), Some(Treatment::Placeholder(_))) {
            return Ok(());
        }
        let core = &self.connection.core;
        let limit = core.config.load().gateway.max_credentials;
        core.placeholders.room(&self.connection.session.id, limit, self.started).map_err(not_issued)
    }

    /// The answer with placeholders in the places of its keys, or a refusal in its place. The refusal's own outcome is
    /// then the only one: the agent never had this answer.
    pub(super) async fn exchanged<B>(
        &self,
        mut parts: http::response::Parts,
        body: B,
        (operation, sites): (&Operation, &[Site]),
        decision: &Decision,
        held: Option<&Held>,
        completion: Completion,
    ) -> Result<Response<ResponseBody>, Refusal>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let whole = match Limited::new(body, LONGEST).collect().await {
            Err(e) => Err(e.to_string()),
            Ok(_) if parts.headers.contains_key(header::CONTENT_ENCODING) => Err("it is compressed".into()),
            Ok(whole) => Ok(whole.to_bytes()),
        };
        let answer = whole.and_then(|bytes| Answer::read(operation.protocol, &bytes, sites).map_err(|e| e.to_string()));
        let written = match answer {
            Err(e) => Err(unreadable(&e)),
            Ok(answer) => {
                let account = account(operation, answer.arn.as_deref(), held);
                let bucket = bucket(operation);
                let derived =
                    |key: &Key| self.derived(key, operation, account.clone(), answer.arn.clone(), bucket.clone());
                self.issue(answer.keys.iter().map(derived).collect()).and_then(|placeholders| {
                    let substitutes: Vec<Substitute<'_>> = placeholders.iter().map(|p| substitute(p)).collect();
                    let view = self.view(operation, decision);
                    let written = answer.write(&substitutes).map_err(|e| e.to_string());
                    written
                        .and_then(|bytes| match &view {
                            Some(view) => self.masked_keys(operation, view, bytes, sites, &substitutes),
                            None => Ok(bytes),
                        })
                        .map_err(|e| unreadable(&e))
                })
            }
        };
        match written {
            Ok(bytes) => {
                forget_checksums(&mut parts.headers);
                parts.headers.remove(header::ETAG);
                completion.finish(bytes.len() as u64);
                Ok(Response::from_parts(parts, ResponseBody::Whole(bytes)))
            }
            Err(refusal) => {
                completion.give_up();
                Err(refusal)
            }
        }
    }

    fn issue(&self, derived: Vec<(Derived, SystemTime)>) -> Result<Vec<Arc<Placeholder>>, Refusal> {
        let core = &self.connection.core;
        let limit = core.config.load().gateway.max_credentials;
        core.placeholders.issue(&self.connection.session.id, derived, limit, SystemTime::now()).map_err(not_issued)
    }

    fn derived(
        &self,
        key: &Key,
        operation: &Operation,
        account: Option<String>,
        arn: Option<String>,
        bucket: Option<String>,
    ) -> (Derived, SystemTime) {
        let ends = key.ends.unwrap_or(Ends::After(LIFE)).at(self.started);
        let held = Held {
            access_key_id: key.access_key_id.clone(),
            secret_access_key: key.secret_access_key.clone(),
            session_token: key.session_token.clone(),
            expires: Some(ends),
            account,
        };
        let name = format!("{}:{}", operation.service, operation.name);
        (Derived { held: Arc::new(held), operation: name, arn, bucket }, ends)
    }

    /// What else is secret in an answer, hidden. The placeholders are not: they stay.
    fn masked_keys(
        &self,
        operation: &Operation,
        view: &View,
        bytes: Bytes,
        sites: &[Site],
        substitutes: &[Substitute<'_>],
    ) -> Result<Bytes, String> {
        let key = self.connection.core.mask_keys.kept(self.connection.session.id.as_str());
        let Some(mut stream) = view.stream(&mask::Answer::default(), key).map_err(|e| e.to_string())? else {
            return Ok(bytes);
        };
        let mut hidden = Vec::with_capacity(bytes.len());
        stream.push(&bytes, &mut hidden).and_then(|()| stream.finish(&mut hidden)).map_err(|e| e.to_string())?;
        let answer = Answer::read(operation.protocol, &hidden, sites).map_err(|e| e.to_string())?;
        answer.write(substitutes).map_err(|e| e.to_string())
    }
}

fn substitute(placeholder: &Placeholder) -> Substitute<'_> {
    Substitute {
        access_key_id: &placeholder.access_key_id,
        secret_access_key: placeholder.secret_access_key.expose(),
        session_token: placeholder.session_token.expose(),
    }
}

fn not_issued(why: NotIssued) -> Refusal {
    Refusal::new(ErrorKind::AccessDenied, why.to_string())
}

fn unreadable(why: &str) -> Refusal {
    Refusal::new(
        ErrorKind::AccessDenied,
        "the answer carries credentials that could not be exchanged for placeholders, so it is not passed on",
    )
    .with_detail(format!("an answer with credentials is not passed on: {why}"))
}

/// In whose account the keys of an answer act, if it can be told.
fn account(operation: &Operation, arn: Option<&str>, held: Option<&Held>) -> Option<String> {
    let parameter = |name: &str| operation.parameters.get(name).and_then(|v| v.as_str());
    let of_arn = |arn: &str| arn.split(':').nth(4).filter(|a| is_account(a)).map(str::to_owned);
    if let Some(account) = arn.and_then(of_arn) {
        return Some(account);
    }
    match (operation.service.as_str(), operation.name.as_str()) {
        // They act as who asked for them.
        ("sts", "GetSessionToken") | ("s3", "CreateSession") => held.and_then(|h| h.account.clone()),
        ("sts", "AssumeRoot") => {
            parameter("TargetPrincipal").and_then(|p| of_arn(p).or_else(|| is_account(p).then(|| p.to_owned())))
        }
        ("sso" | "awsssoportal", _) => parameter("accountId").filter(|a| is_account(a)).map(str::to_owned),
        _ => parameter("RoleArn").and_then(of_arn),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The bucket that an S3 Express session is for.
fn bucket(operation: &Operation) -> Option<String> {
    let express = (operation.service.as_str(), operation.name.as_str()) == ("s3", "CreateSession");
    let name = || operation.parameters.get("Bucket").and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    express.then(name)
}
