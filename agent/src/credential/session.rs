//! Roles for each session: which credentials are whose, and when they are asked for anew.
//!
//! Owns a broker for each session that has a role. One whose principal has become another, or whose token says other
//! things that stand in the role's name or tags, gets other credentials. Runs on the caller's task.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::broker::{Broker, Client};
use super::role::{Role, Sts, Terms, With};
use super::{BrokerError, Held};
use crate::config;
use crate::config::template::Facts;
use crate::identity::Principal;
use crate::session::SessionId;

/// From this many on, those of sessions that have ended unseen are looked for.
const MANY: usize = 256;

/// A role that is assumed for each session.
#[derive(Debug)]
pub(super) struct PerSession {
    pub(super) role: Arc<Role>,
    with: Arc<With<Broker>>,
    sts: Arc<dyn Sts>,
    sessions: Mutex<HashMap<SessionId, Entry>>,
}

/// What is held for one session.
#[derive(Debug)]
struct Entry {
    principal: Arc<Principal>,
    terms: Terms,
    broker: Arc<Broker>,
    /// The principal as it is now: its token may have been renewed since.
    newest: Arc<ArcSwap<Principal>>,
}

/// A role in one session's name.
#[derive(Debug)]
pub(super) struct ForSession {
    role: Arc<Role>,
    with: Arc<With<Broker>>,
    sts: Arc<dyn Sts>,
    terms: Terms,
    principal: Arc<ArcSwap<Principal>>,
}

/// Credentials to come.
pub(super) type Loading<'a> = Pin<Box<dyn Future<Output = Result<Held, BrokerError>> + Send + 'a>>;

impl PerSession {
    pub(super) fn new(role: Role, broker: &config::Broker, sts: Arc<dyn Sts>) -> Result<Self, BrokerError> {
        let with = match broker {
            config::Broker::AssumeRole { source, .. } => With::Credentials(Arc::new(Broker::new(source)?)),
            _ => With::Token,
        };
        Ok(Self { role: Arc::new(role), with: Arc::new(with), sts, sessions: Mutex::default() })
    }

    /// The broker of a session, made when it is first asked for.
    pub(super) fn broker(&self, client: &Client<'_>, now: SystemTime) -> Result<Arc<Broker>, BrokerError> {
        if let Some(entry) = self.sessions().get(client.session)
            && Arc::ptr_eq(&entry.principal, &client.principal)
        {
            return Ok(entry.broker.clone());
        }
        let facts =
            Facts { session: client.session.as_str(), session_name: client.session_name, principal: &client.principal };
        let terms = self.role.terms(facts)?;
        let mut sessions = self.sessions();
        if let Some(entry) = sessions.get_mut(client.session)
            && entry.terms == terms
            && entry.principal.is_same(&client.principal)
        {
            entry.newest.store(client.principal.clone());
            entry.principal = client.principal.clone();
            return Ok(entry.broker.clone());
        }
        if sessions.len() >= MANY {
            sessions.retain(|_, entry| !entry.broker.is_idle(now));
        }
        let newest = Arc::new(ArcSwap::new(client.principal.clone()));
        let broker = Arc::new(Broker::of_role(ForSession {
            role: self.role.clone(),
            with: self.with.clone(),
            sts: self.sts.clone(),
            terms: terms.clone(),
            principal: newest.clone(),
        }));
        let entry = Entry { principal: client.principal.clone(), terms, broker: broker.clone(), newest };
        sessions.insert(client.session.clone(), entry);
        Ok(broker)
    }

    pub(super) fn forget(&self, session: &SessionId) {
        self.sessions().remove(session);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        // Poisoned means a panic between two inserts; the map is still a map.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForSession {
    /// Boxed: a role's source is a broker, too.
    pub(super) fn load(&self, now: SystemTime) -> Loading<'_> {
        Box::pin(async move {
            match &*self.with {
                With::Credentials(broker) => {
                    let held = broker.clone().held(now).await?;
                    self.role.assume(&self.terms, &held, &*self.sts).await
                }
                With::Token => self.role.by_token(&self.terms, &self.principal.load_full(), &*self.sts).await,
            }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use http::{Request, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::credential::{Asking, Brokers, Secret};

    /// An STS whose every answer is another key; keeps the forms that it was sent.
    #[derive(Debug, Default)]
    pub(crate) struct Counted(Mutex<Vec<String>>);

    impl Sts for Counted {
        fn ask(&self, _: String, request: Request<Bytes>) -> Asking<'_> {
            let mut asked = self.0.lock().expect("no panic");
            asked.push(String::from_utf8(request.into_body().to_vec()).expect("a form"));
            let answer = format!(
                "<R><S><Credentials><AccessKeyId>KEY{}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                 <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></S></R>",
                asked.len()
            );
            Box::pin(async move { Ok((StatusCode::OK, Bytes::from(answer))) })
        }
    }

    fn brokers(sts: &Arc<Counted>, more: &str) -> Brokers {
        let text =
            format!("broker = {{ kind = 'web-identity', role_arn = 'arn:aws:iam::111122223333:role/agents'{more} }}");
        let sts: Arc<dyn Sts> = sts.clone();
        Brokers::new(&[toml::from_str(&text).expect("a binding")], &sts).expect("valid")
    }

    fn principal(subject: &str, token: &str, run: u32) -> Arc<Principal> {
        let mut principal = Principal::unidentified();
        principal.issuer = Some("https://idp".into());
        principal.subject = subject.into();
        principal.claims.insert("run".into(), json!(run));
        principal.token = Some(Secret::new(token));
        Arc::new(principal)
    }

    #[tokio::test]
    async fn each_session_has_its_own_and_a_renewed_token_keeps_them() {
        let sts = Arc::new(Counted::default());
        let brokers = brokers(&sts, ", session_name = '{session}-{claim:run}'");
        let (one, two) = (SessionId::random(), SessionId::random());
        let held = async |session: &SessionId, principal: &Arc<Principal>| {
            let client = Client { session, session_name: "job", principal: principal.clone() };
            brokers.held(&client).await.expect("held").access_key_id.clone()
        };
        let alice = principal("alice", "first", 1);
        assert_eq!(held(&one, &alice).await, "KEY1");
        assert_eq!(held(&one, &alice).await, "KEY1");
        assert_eq!(held(&two, &alice).await, "KEY2");
        // A renewed token that says the same keeps the credentials; one that says other things does not.
        assert_eq!(held(&one, &principal("alice", "second", 1)).await, "KEY1");
        assert_eq!(held(&one, &principal("alice", "third", 2)).await, "KEY3");
        assert_eq!(
            held(&one, &principal("bob", "fourth", 2)).await,
            "KEY4",
            "another identity, though the name is the same"
        );
        brokers.forget(&one);
        assert_eq!(held(&one, &principal("bob", "fifth", 2)).await, "KEY5");
        let asked = sts.0.lock().expect("no panic");
        assert!(
            asked[0].contains(&format!("RoleSessionName={one}-1&")) && asked[0].ends_with("WebIdentityToken=first")
        );
        assert!(asked[2].ends_with("WebIdentityToken=third") && asked[2].contains("-2&"), "{asked:?}");
        assert_eq!(brokers.role(&alice), Some("arn:aws:iam::111122223333:role/agents"));
    }
}
