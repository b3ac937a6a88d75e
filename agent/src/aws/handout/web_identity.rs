//! `sts:AssumeRoleWithWebIdentity`, as STS reads and answers it.
//!
//! Owns what of a request must be there and in which form, and the shape of the answer. Verifies no token. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::aws::error::escape;
use crate::credential::{Placeholder, Secret};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub role: RoleArn,
    pub session_name: String,
    pub token: Secret,
    pub duration: Duration,
}

/// `arn:aws:iam::123456789012:role/path/name`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn {
    pub text: String,
    pub partition: String,
    pub account: String,
    /// Without its path.
    pub name: String,
}

impl RoleArn {
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (Some("arn"), partition, Some("iam"), Some(""), account, Some(rest)) =
            (next(), next()?, next(), next(), next()?, next())
        else {
            return None;
        };
        let name = rest.strip_prefix("role/")?.rsplit('/').next()?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@-_".contains(&b);
        let sound = account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(allowed)
            && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        sound.then(|| Self {
            text: text.to_owned(),
            partition: partition.to_owned(),
            account: account.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Whether STS takes a text as the name of a role's session.
pub fn is_session_name(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

impl Asked {
    /// `Err`: what is wrong, for whoever asks.
    pub fn read(parameters: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| {
            let value = parameters.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
            value.ok_or_else(|| format!("`{name}` is missing; send it"))
        };
        let role = text("RoleArn")?;
        let role = RoleArn::parse(role).ok_or("`RoleArn` is not the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)")?;
        let session_name = text("RoleSessionName")?.to_owned();
        if !is_session_name(&session_name) {
            return Err("`RoleSessionName` must be 2 to 64 letters, digits and `_+=,.@-`; shorten it".into());
        }
        let duration = match parameters.get("DurationSeconds") {
            None => 3600,
            Some(n) => n
                .as_u64()
                .filter(|n| (900..=43200).contains(n))
                .ok_or("`DurationSeconds` must be a number from 900 to 43200")?,
        };
        if ["Policy", "PolicyArns"].iter().any(|name| parameters.contains_key(*name)) {
            return Err("session policies cannot be applied by Tollgate; leave `Policy` and `PolicyArns` out".into());
        }
        Ok(Self {
            role,
            session_name,
            token: Secret::new(text("WebIdentityToken")?),
            duration: Duration::from_secs(duration),
        })
    }

    /// STS's answer: the placeholder as the role's credentials.
    pub fn answer(
        &self,
        placeholder: &Placeholder,
        ends: SystemTime,
        issuer: &str,
        subject: &str,
        audience: &str,
        request_id: &str,
    ) -> String {
        let RoleArn { partition, account, name, text } = &self.role;
        let session = &self.session_name;
        let digest = hex::encode_upper(Sha256::digest(text));
        let ends = OffsetDateTime::from(ends)
            .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
            .unwrap_or_default();
        format!(
            r#"<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Audience>{audience}</Audience>
    <AssumedRoleUser>
      <AssumedRoleId>AROA{id}:{session}</AssumedRoleId>
      <Arn>arn:{partition}:sts::{account}:assumed-role/{name}/{session}</Arn>
    </AssumedRoleUser>
    <Provider>{provider}</Provider>
    <Credentials>
      <AccessKeyId>{key}</AccessKeyId>
      <SecretAccessKey>{secret}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{ends}</Expiration>
    </Credentials>
    <SubjectFromWebIdentityToken>{subject}</SubjectFromWebIdentityToken>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata>
    <RequestId>{request_id}</RequestId>
  </ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>
"#,
            id = &digest[..17],
            audience = escape(audience),
            provider = escape(issuer.trim_start_matches("https://")),
            subject = escape(subject),
            key = placeholder.access_key_id,
            secret = placeholder.secret_access_key.expose(),
            token = placeholder.session_token.expose(),
            request_id = escape(request_id),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use serde_json::json;

    use super::*;
    use crate::aws::Protocol;
    use crate::aws::handout::answer::Answer;
    use crate::aws::handout::{Treatment, named};

    fn asked(change: impl Fn(&mut Value)) -> Result<Asked, String> {
        let mut parameters = json!({
            "RoleArn": "arn:aws:iam::123456789012:role/ci/deploy",
            "RoleSessionName": "run-7@main",
            "WebIdentityToken": "a.b.c",
        });
        change(&mut parameters);
        Asked::read(parameters.as_object().expect("an object"))
    }

    #[test]
    fn what_sts_would_not_take_is_not_taken() {
        let good = asked(|_| ()).expect("good");
        assert_eq!((good.role.account.as_str(), good.role.name.as_str()), ("123456789012", "deploy"));
        assert_eq!(good.duration, Duration::from_secs(3600));
        for (name, value, expected) in [
            ("RoleArn", json!(""), "`RoleArn` is missing"),
            ("RoleArn", json!("arn:aws:iam::123456789012:user/x"), "not the ARN of a role"),
            ("RoleArn", json!("arn:aws:iam::12345:role/x"), "not the ARN of a role"),
            ("RoleArn", json!("arn:aws:iam::123456789012:role/<x>"), "not the ARN of a role"),
            ("RoleSessionName", json!("x"), "2 to 64"),
            ("RoleSessionName", json!("x".repeat(65)), "2 to 64"),
            ("RoleSessionName", json!("a b"), "2 to 64"),
            ("WebIdentityToken", json!(null), "`WebIdentityToken` is missing"),
            ("DurationSeconds", json!(899), "900 to 43200"),
            ("DurationSeconds", json!("x"), "900 to 43200"),
            ("Policy", json!("{}"), "session policies"),
        ] {
            let error = asked(|p| p[name] = value.clone()).expect_err(expected);
            assert!(error.contains(expected), "{name} = {value}: {error}");
        }
        assert_eq!(asked(|p| p["RoleSessionName"] = json!("x".repeat(64))).expect("64").session_name.len(), 64);
    }

    #[test]
    fn the_answer_is_as_sts_writes_it() {
        let placeholder = Placeholder {
            access_key_id: "ASIAPLACEHOLDERPLACE".into(),
            secret_access_key: Secret::new("s/e+c"),
            session_token: Secret::new("t/o+k"),
            issued: UNIX_EPOCH,
            expires: UNIX_EPOCH,
            behind: None,
        };
        let ends = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let text = asked(|_| ()).expect("good").answer(&placeholder, ends, "https://idp.example", "a<b", "aud&", "id");
        for part in [
            "<Arn>arn:aws:sts::123456789012:assumed-role/deploy/run-7@main</Arn>",
            "<Provider>idp.example</Provider>",
            "<SubjectFromWebIdentityToken>a&lt;b</SubjectFromWebIdentityToken>",
            "<Audience>aud&amp;</Audience>",
            "<Expiration>2023-11-14T22:13:20Z</Expiration>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Read by our own reader of such answers.
        let Some(Treatment::Placeholder(sites)) = named("sts", "AssumeRole").map(|h| &h.treatment) else { panic!() };
        let read = Answer::read(Protocol::Query, text.as_bytes(), sites).expect("reads");
        assert_eq!(read.keys[0].secret_access_key.expose(), "s/e+c");
    }
}
