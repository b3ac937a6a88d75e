//! A role's credentials: asked of STS for one session, in its name.
//!
//! Owns the two requests (`AssumeRole`, `AssumeRoleWithWebIdentity`) and the reading of their answers. The way to STS is
//! the caller's ([`Sts`]). Runs on the task that asks for credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};

use super::{BrokerError, Held};
use crate::aws::handout::answer::{Answer, Ends};
use crate::aws::handout::web_identity::RoleArn;
use crate::aws::handout::{Treatment, named};
use crate::aws::sigv4::{self, Algorithm, Order, Payload, SigningKeys, TokenKind};
use crate::aws::{Protocol, endpoint};
use crate::config::template::{Facts, sts_name};
use crate::config::{Broker, Template};
use crate::identity::Principal;

/// The way to STS. Errors are texts for the operator.
pub trait Sts: fmt::Debug + Send + Sync {
    /// Sends a request and reads its whole answer.
    fn ask(&self, host: String, request: Request<Bytes>) -> Asking<'_>;
}

/// An answer to come.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<(StatusCode, Bytes), String>> + Send + 'a>>;

/// Longest value of a session tag.
const LONGEST_TAG: usize = 256;

/// What is configured of a role.
#[derive(Debug)]
pub(super) struct Role {
    arn: RoleArn,
    session_name: Template,
    source_identity: Option<Template>,
    tags: BTreeMap<String, Template>,
    external_id: Option<String>,
    duration: Duration,
    region: String,
}

/// What is asked for in a session's name; other facts, other credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    session_name: String,
    source_identity: Option<String>,
    tags: Vec<(String, String)>,
}

impl Role {
    /// The role of a broker that has one. The configuration has been checked.
    pub(super) fn of(broker: &Broker) -> Option<Self> {
        let (arn, session_name, duration, region) = match broker {
            Broker::AssumeRole { role_arn, session_name, duration, region, .. }
            | Broker::WebIdentity { role_arn, session_name, duration, region } => {
                (RoleArn::parse(role_arn)?, session_name.clone(), *duration, region.clone())
            }
            _ => return None,
        };
        let region = region.unwrap_or_else(|| endpoint::first_region(&arn.partition).to_owned());
        let mut role = Self {
            arn,
            session_name,
            source_identity: None,
            tags: BTreeMap::new(),
            external_id: None,
            duration,
            region,
        };
        if let Broker::AssumeRole { source_identity, session_tags, external_id, .. } = broker {
            role.source_identity.clone_from(source_identity);
            role.tags.clone_from(session_tags);
            role.external_id.clone_from(external_id);
        }
        Some(role)
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn.text
    }

    /// Fills in the session's facts. A tag decides what its bearer may do, so it is taken as it is or not at all.
    pub(super) fn terms(&self, facts: Facts<'_>) -> Result<Terms, BrokerError> {
        let fill = |what: &str, template: &Template| {
            template.fill(facts).map_err(|claim| BrokerError::Claim { what: what.to_owned(), claim })
        };
        let tag = |(name, template): (&String, &Template)| {
            let value = fill(name, template)?;
            let allowed = |c: char| c.is_alphanumeric() || " _.:/=+-@".contains(c);
            if value.chars().count() > LONGEST_TAG || !value.chars().all(allowed) {
                return Err(BrokerError::Tag { name: name.clone() });
            }
            Ok((name.clone(), value))
        };
        Ok(Terms {
            session_name: sts_name(&fill("session_name", &self.session_name)?),
            source_identity: self
                .source_identity
                .as_ref()
                .map(|t| fill("source_identity", t).map(|text| sts_name(&text)))
                .transpose()?,
            tags: self.tags.iter().map(tag).collect::<Result<_, _>>()?,
        })
    }

    /// Assumes it with other credentials.
    pub(super) async fn assume(&self, terms: &Terms, with: &Held, sts: &dyn Sts) -> Result<Held, BrokerError> {
        let (host, request) = self.signed(terms, with)?;
        self.ask(host, request, sts).await
    }

    fn signed(&self, terms: &Terms, with: &Held) -> Result<(String, Request<Bytes>), BrokerError> {
        let mut form = self.form("AssumeRole", terms);
        if let Some(identity) = &terms.source_identity {
            form.append_pair("SourceIdentity", identity);
        }
        if let Some(id) = &self.external_id {
            form.append_pair("ExternalId", id);
        }
        for (n, (name, value)) in terms.tags.iter().enumerate() {
            form.append_pair(&format!("Tags.member.{}.Key", n + 1), name);
            form.append_pair(&format!("Tags.member.{}.Value", n + 1), value);
        }
        let (host, request) = self.request(form.finish())?;
        let (mut parts, body) = request.into_parts();
        let order = Order {
            payload: &Payload::Hashed(sigv4::sha256_hex(&body)),
            held: with,
            algorithm: Algorithm::V4,
            token_kind: TokenKind::Security,
            region: &self.region,
            signing_name: "sts",
            now: SystemTime::now(),
        };
        // Renewed once an hour: a cache of keys would be empty each time.
        sigv4::sign(&mut parts, &order, &SigningKeys::default()).map_err(|e| self.failed(e.to_string()))?;
        Ok((host, Request::from_parts(parts, body)))
    }

    /// Assumes it with the principal's own token.
    pub(super) async fn by_token(
        &self,
        terms: &Terms,
        principal: &Principal,
        sts: &dyn Sts,
    ) -> Result<Held, BrokerError> {
        let token = principal.token.as_ref().ok_or_else(|| BrokerError::NoToken { role: self.arn.text.clone() })?;
        let form =
            self.form("AssumeRoleWithWebIdentity", terms).append_pair("WebIdentityToken", token.expose()).finish();
        let (host, request) = self.request(form)?;
        self.ask(host, request, sts).await
    }

    fn form(&self, action: &str, terms: &Terms) -> form_urlencoded::Serializer<'static, String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", "2011-06-15");
        form.append_pair("RoleArn", &self.arn.text).append_pair("RoleSessionName", &terms.session_name);
        form.append_pair("DurationSeconds", &self.duration.as_secs().to_string());
        form
    }

    fn request(&self, body: String) -> Result<(String, Request<Bytes>), BrokerError> {
        let domain = endpoint::domain_of(&self.arn.partition).unwrap_or("amazonaws.com");
        let host = format!("sts.{}.{domain}", self.region);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(header::HOST, &host)
            .header(header::CONTENT_TYPE, kind)
            .body(Bytes::from(body))
            .map_err(|e| self.failed(e.to_string()))?;
        Ok((host, request))
    }

    async fn ask(&self, host: String, request: Request<Bytes>, sts: &dyn Sts) -> Result<Held, BrokerError> {
        let (status, body) = sts.ask(host, request).await.map_err(|e| self.failed(e))?;
        if status != StatusCode::OK {
            return Err(self.failed(format!("STS answered {}: {}", status.as_u16(), error_of(&body))));
        }
        let Some(Treatment::Placeholder(sites)) = named("sts", "AssumeRole").map(|h| &h.treatment) else {
            return Err(self.failed("the model does not know the answer's form".into()));
        };
        let mut answer =
            Answer::read(Protocol::Query, &body, sites).map_err(|e| self.failed(format!("STS's answer: {e}")))?;
        let key = answer.keys.pop().ok_or_else(|| self.failed("STS's answer has no credentials".into()))?;
        let ends = key.ends.unwrap_or(Ends::After(self.duration)).at(SystemTime::now());
        Ok(Held {
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key,
            session_token: key.session_token,
            expires: Some(ends),
            account: Some(self.arn.account.clone()),
        })
    }

    fn failed(&self, reason: String) -> BrokerError {
        BrokerError::Role { role: self.arn.text.clone(), reason }
    }
}

/// Code and message of STS's error; they name ARNs, and nothing that is secret.
fn error_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(inner, _)| inner.trim().chars().take(500).collect::<String>())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => "it says nothing".into(),
    }
}

/// Whose credentials assume a role, and how.
#[derive(Debug)]
pub(super) enum With<B> {
    Credentials(Arc<B>),
    Token,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::credential::Secret;

    /// Keeps what it was asked, and gives one answer.
    #[derive(Debug)]
    struct Recorded {
        asked: Mutex<Vec<(String, http::request::Parts, String)>>,
        answer: (u16, String),
    }

    impl Sts for Recorded {
        fn ask(&self, host: String, request: Request<Bytes>) -> Asking<'_> {
            let (parts, body) = request.into_parts();
            let text = String::from_utf8(body.to_vec()).expect("a form");
            self.asked.lock().expect("no panic").push((host, parts, text));
            let answer = StatusCode::from_u16(self.answer.0).expect("a status");
            Box::pin(async move { Ok((answer, Bytes::from(self.answer.1.clone()))) })
        }
    }

    fn sts(status: u16, answer: &str) -> Recorded {
        Recorded { asked: Mutex::default(), answer: (status, answer.into()) }
    }

    const GOOD: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAREALREALREALREAL</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
        </Credentials></AssumeRoleResult></AssumeRoleResponse>";

    fn role(text: &str) -> Role {
        Role::of(&toml::from_str(text).expect("a broker")).expect("with a role")
    }

    fn principal() -> Principal {
        let mut principal = Principal::unidentified();
        principal.subject = "repo:acme/app:ref:refs/heads/main".into();
        principal.claims.insert("repository".into(), json!("acme/app"));
        principal.claims.insert("odd".into(), json!("a*b"));
        principal.token = Some(Secret::new("a.b.c"));
        principal
    }

    fn facts(principal: &Principal) -> Facts<'_> {
        Facts { session: "s-0123456789abcdef", session_name: "job", principal }
    }

    fn held() -> Held {
        Held {
            access_key_id: "AKIABASEBASEBASEBASE".into(),
            secret_access_key: Secret::new("base"),
            session_token: None,
            expires: None,
            account: None,
        }
    }

    #[tokio::test]
    async fn a_role_is_assumed_in_the_sessions_name() {
        let role = role(
            "kind = 'assume-role'\nrole_arn = 'arn:aws-cn:iam::111122223333:role/x/agents'\nsession_name = '{session}-{session_name}'\n\
             source_identity = '{subject}'\nexternal_id = 'e&x'\nduration = 900\nsession_tags = { repository = '{claim:repository}' }",
        );
        let (principal, sts) = (principal(), sts(200, GOOD));
        let terms = role.terms(facts(&principal)).expect("all there");
        let given = role.assume(&terms, &held(), &sts).await.expect("assumed");
        assert_eq!(
            (given.access_key_id.as_str(), given.account.as_deref()),
            ("ASIAREALREALREALREAL", Some("111122223333"))
        );
        assert!(given.expires.is_some_and(|e| e > SystemTime::now()));
        let asked = sts.asked.lock().expect("no panic");
        let (host, parts, body) = &asked[0];
        assert_eq!(host, "sts.cn-north-1.amazonaws.com.cn");
        let authorization = parts.headers[header::AUTHORIZATION].to_str().expect("text");
        assert!(
            authorization.contains("AKIABASEBASEBASEBASE/") && authorization.contains("/cn-north-1/sts/"),
            "{authorization}"
        );
        assert_eq!(
            body,
            "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws-cn%3Aiam%3A%3A111122223333%3Arole%2Fx%2Fagents\
             &RoleSessionName=s-0123456789abcdef-job&DurationSeconds=900&SourceIdentity=repo-acme-app-ref-refs-heads-main\
             &ExternalId=e%26x&Tags.member.1.Key=repository&Tags.member.1.Value=acme%2Fapp"
        );
    }

    #[tokio::test]
    async fn the_principals_token_is_shown_without_a_signature() {
        let role =
            role("kind = 'web-identity'\nrole_arn = 'arn:aws:iam::111122223333:role/agents'\nregion = 'eu-central-1'");
        let (mut principal, sts) = (principal(), sts(200, GOOD));
        let terms = role.terms(facts(&principal)).expect("all there");
        role.by_token(&terms, &principal, &sts).await.expect("assumed");
        {
            let asked = sts.asked.lock().expect("no panic");
            let (host, parts, body) = &asked[0];
            assert_eq!(host, "sts.eu-central-1.amazonaws.com");
            assert!(!parts.headers.contains_key(header::AUTHORIZATION));
            assert!(
                body.ends_with("&RoleSessionName=s-0123456789abcdef&DurationSeconds=3600&WebIdentityToken=a.b.c"),
                "{body}"
            );
        }
        principal.token = None;
        let error = role.by_token(&terms, &principal, &sts).await.expect_err("no token").to_string();
        assert!(error.contains("has no token"), "{error}");
    }

    #[tokio::test]
    async fn what_sts_refuses_is_told_without_secrets() {
        let role = role("kind = 'assume-role'\nrole_arn = 'arn:aws:iam::111122223333:role/agents'");
        let terms = role.terms(facts(&principal())).expect("all there");
        let denied =
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
        for (status, answer, expected) in [
            (403, denied, "STS answered 403: AccessDenied: not you"),
            (500, "", "STS answered 500: it says nothing"),
            (200, "<a></a>", "STS's answer has no credentials"),
            (200, "{}", "STS's answer has no credentials"),
            (200, &GOOD.replace("<SessionToken>t</SessionToken>", ""), "has no session token"),
        ] {
            let error = role.assume(&terms, &held(), &sts(status, answer)).await.expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("role/agents"), "{error}");
        }
    }

    #[test]
    fn a_tag_is_taken_as_it_is_or_not_at_all() {
        let tag = |template: &str| {
            let text = format!(
                "kind = 'assume-role'\nrole_arn = 'arn:aws:iam::111122223333:role/agents'\nsession_tags = {{ t = '{template}' }}"
            );
            role(&text).terms(facts(&principal())).map(|terms| terms.tags)
        };
        assert_eq!(tag("{claim:repository}").expect("good"), [("t".to_owned(), "acme/app".to_owned())]);
        assert!(matches!(tag("{claim:odd}"), Err(BrokerError::Tag { .. })));
        assert!(matches!(tag("{claim:missing}"), Err(BrokerError::Claim { .. })));
        assert!(matches!(tag(&"x".repeat(257)), Err(BrokerError::Tag { .. })));
    }
}
