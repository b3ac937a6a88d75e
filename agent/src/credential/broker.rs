//! Brokers: which principal uses which held credentials, and keeping those fresh.
//!
//! Owns the choice of a binding and the cache in front of each source. A credential is renewed in the background
//! before it ends; a request waits only where there is none that is still valid, and then all wait for one renewal.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::role::{Role, Sts};
use super::sdk::DefaultChain;
use super::session::{ForSession, PerSession};
use super::{BrokerError, Held, static_keys};
use crate::config::{self, Binding};
use crate::identity::Principal;
use crate::session::SessionId;

/// Renewal starts this long before the end: longer than most uploads take, which are signed at their start.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// After a failure, this long nobody asks again.
const BACK_OFF: Duration = Duration::from_secs(2);

/// All bindings of the configuration, in its order.
#[derive(Debug)]
pub struct Brokers {
    bindings: Vec<(Selector, Kind)>,
}

/// What a binding gives.
#[derive(Debug)]
enum Kind {
    /// The same credentials for everybody.
    Shared(Arc<Broker>),
    /// Credentials of each session's own.
    PerSession(PerSession),
}

/// For whom credentials are asked.
#[derive(Debug, Clone)]
pub struct Client<'a> {
    pub session: &'a SessionId,
    pub session_name: &'a str,
    pub principal: Arc<Principal>,
}

impl Brokers {
    /// Reads the files of static bindings; a default chain or STS is asked when it is first needed.
    pub fn new(bindings: &[Binding], sts: &Arc<dyn Sts>) -> Result<Self, BrokerError> {
        let bindings = bindings
            .iter()
            .map(|b| {
                let kind = match Role::of(&b.broker) {
                    Some(role) => Kind::PerSession(PerSession::new(role, &b.broker, sts.clone())?),
                    None => Kind::Shared(Arc::new(Broker::new(&b.broker)?)),
                };
                Ok((Selector::of(b), kind))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { bindings })
    }

    /// The held credentials of the first binding that matches a principal.
    pub async fn held(&self, client: &Client<'_>) -> Result<Arc<Held>, BrokerError> {
        let now = SystemTime::now();
        match self.of(&client.principal)? {
            Kind::Shared(broker) => broker.clone().held(now).await,
            Kind::PerSession(roles) => roles.broker(client, now)?.held(now).await,
        }
    }

    /// The role that a principal's requests are signed as, if its binding names one.
    pub fn role(&self, principal: &Principal) -> Option<&str> {
        match self.of(principal).ok()? {
            Kind::Shared(_) => None,
            Kind::PerSession(roles) => Some(roles.role.arn()),
        }
    }

    /// Forgets what was held for a session.
    pub fn forget(&self, session: &SessionId) {
        for (_, kind) in &self.bindings {
            if let Kind::PerSession(roles) = kind {
                roles.forget(session);
            }
        }
    }

    fn of(&self, principal: &Principal) -> Result<&Kind, BrokerError> {
        let kind = self.bindings.iter().find(|(selector, _)| selector.matches(principal)).map(|(_, kind)| kind);
        kind.ok_or_else(|| BrokerError::NoBinding {
            subject: principal.subject.clone(),
            issuer: principal.issuer.as_ref().map_or_else(|| "no issuer".to_owned(), |i| format!("issuer `{i}`")),
        })
    }
}

/// Whom a binding is for.
#[derive(Debug)]
struct Selector {
    issuer: Option<url::Url>,
    subject: Option<String>,
    group: Option<String>,
}

impl Selector {
    fn of(binding: &Binding) -> Self {
        Self { issuer: binding.issuer.clone(), subject: binding.subject.clone(), group: binding.group.clone() }
    }

    fn matches(&self, principal: &Principal) -> bool {
        let (subject, group) = (self.subject.as_deref(), self.group.as_deref());
        crate::identity::Selector { issuer: self.issuer.as_ref(), subject, group }.matches(principal)
    }
}

/// Where credentials come from.
#[derive(Debug)]
enum Source {
    Static(Arc<Held>),
    Chain(DefaultChain),
    /// A role, in one session's name.
    Role(ForSession),
    #[cfg(test)]
    Counted(tests::Counted),
}

/// A source with a cache in front of it.
#[derive(Debug)]
pub(super) struct Broker {
    source: Source,
    cached: ArcSwapOption<Held>,
    /// Held by whoever renews; remembers the last failure.
    renewing: Mutex<Option<(Instant, BrokerError)>>,
}

impl Broker {
    pub(super) fn new(broker: &config::Broker) -> Result<Self, BrokerError> {
        Ok(Self::over(match broker {
            config::Broker::Static { access_key_id, secret_access_key_file, session_token_file, account } => {
                Source::Static(Arc::new(static_keys::load(
                    access_key_id,
                    secret_access_key_file,
                    session_token_file.as_deref(),
                    account.as_deref(),
                )?))
            }
            config::Broker::DefaultChain { account } => Source::Chain(DefaultChain::new(account.clone())),
            config::Broker::AssumeRole { role_arn, .. } | config::Broker::WebIdentity { role_arn, .. } => {
                let reason = "a role cannot be the source of another one".to_owned();
                return Err(BrokerError::Role { role: role_arn.clone(), reason });
            }
        }))
    }

    pub(super) fn of_role(role: ForSession) -> Self {
        Self::over(Source::Role(role))
    }

    fn over(source: Source) -> Self {
        Self { source, cached: ArcSwapOption::empty(), renewing: Mutex::new(None) }
    }

    pub(super) async fn held(self: Arc<Self>, now: SystemTime) -> Result<Arc<Held>, BrokerError> {
        if let Source::Static(held) = &self.source {
            return Ok(held.clone());
        }
        match self.cached.load_full() {
            Some(held) if !held.ends_within(AHEAD, now) => Ok(held),
            Some(held) if !held.ends_within(Duration::ZERO, now) => {
                if let Ok(guard) = self.renewing.try_lock() {
                    drop(guard);
                    let broker = self.clone();
                    tokio::spawn(async move {
                        if let Err(e) = broker.renew(AHEAD, now).await {
                            tracing::warn!("held credentials that end soon could not be renewed: {e}");
                        }
                    });
                }
                Ok(held)
            }
            // Boxed: asking a source takes kilobytes, and every exchange would keep room for it.
            _ => Box::pin(self.renew(Duration::ZERO, now)).await,
        }
    }

    /// Whether it holds nothing that could still be used, and nobody is asking for it.
    pub(super) fn is_idle(&self, now: SystemTime) -> bool {
        self.renewing.try_lock().is_ok()
            && self.cached.load().as_ref().is_some_and(|h| h.ends_within(Duration::ZERO, now))
    }

    /// Asks the source, unless somebody just did.
    async fn renew(&self, margin: Duration, now: SystemTime) -> Result<Arc<Held>, BrokerError> {
        let mut failure = self.renewing.lock().await;
        if let Some(held) = self.cached.load_full()
            && !held.ends_within(margin, now)
        {
            return Ok(held);
        }
        if let Some((when, error)) = &*failure
            && when.elapsed() < BACK_OFF
        {
            return Err(error.clone());
        }
        let result = match &self.source {
            Source::Static(held) => Ok(Held::clone(held)),
            Source::Chain(chain) => chain.load().await,
            Source::Role(role) => role.load(now).await,
            #[cfg(test)]
            Source::Counted(counted) => counted.load().await,
        };
        match result {
            Ok(held) if held.ends_within(Duration::ZERO, now) => {
                let error = BrokerError::Expired {
                    reason: "the source gave credentials that are over already; check its clock and ours".into(),
                };
                *failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
            Ok(held) => {
                let held = Arc::new(held);
                self.cached.store(Some(held.clone()));
                *failure = None;
                Ok(held)
            }
            Err(error) => {
                *failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::credential::Secret;

    /// A source that counts how often it is asked.
    #[derive(Debug)]
    pub(super) struct Counted {
        asked: AtomicU32,
        life: Duration,
        fails: bool,
    }

    impl Counted {
        pub(super) async fn load(&self) -> Result<Held, BrokerError> {
            let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            if self.fails {
                return Err(BrokerError::Chain { reason: format!("attempt {n}") });
            }
            Ok(Held {
                access_key_id: format!("KEY{n}"),
                secret_access_key: Secret::new("s"),
                session_token: None,
                expires: Some(SystemTime::now() + self.life),
                account: None,
            })
        }
    }

    fn counted(life: Duration, fails: bool) -> Arc<Broker> {
        Arc::new(Broker::over(Source::Counted(Counted { asked: AtomicU32::new(0), life, fails })))
    }

    fn asked(broker: &Broker) -> u32 {
        match &broker.source {
            Source::Counted(c) => c.asked.load(Ordering::SeqCst),
            _ => 0,
        }
    }

    fn binding(text: &str) -> Binding {
        toml::from_str(&format!("{text}\nbroker = {{ kind = 'default-chain' }}")).expect("valid")
    }

    fn principal(issuer: Option<&str>, subject: &str, groups: &[&str]) -> Principal {
        Principal {
            issuer: issuer.map(str::to_owned),
            subject: subject.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Principal::unidentified()
        }
    }

    #[test]
    fn bindings_select_by_issuer_subject_and_group() {
        let acme = principal(Some("https://i.example"), "repo:acme/app:ref:main", &["ci"]);
        let cases = [
            ("", true),
            ("issuer = 'https://i.example'", true),
            ("issuer = 'https://i.example/'", true),
            ("issuer = 'https://j.example'", false),
            ("subject = 'repo:acme/*'", true),
            ("subject = 'repo:acme/*:ref:main'", true),
            ("subject = 'repo:acme/*:ref:dev'", false),
            ("subject = 'repo:acme'", false),
            ("group = 'ci'", true),
            ("group = 'admins'", false),
            ("issuer = 'https://i.example'\nsubject = '*'\ngroup = 'ci'", true),
            ("issuer = 'https://i.example'\ngroup = 'admins'", false),
        ];
        for (text, expected) in cases {
            assert_eq!(Selector::of(&binding(text)).matches(&acme), expected, "{text}");
        }
        let nobody = Principal::unidentified();
        assert!(Selector::of(&binding("")).matches(&nobody));
        assert!(!Selector::of(&binding("issuer = 'https://i.example'")).matches(&nobody));
    }

    #[tokio::test]
    async fn nobody_bound_is_a_clear_error() {
        let sts: Arc<dyn Sts> = Arc::new(crate::credential::session::tests::Counted::default());
        let brokers = Brokers::new(&[binding("group = 'ci'")], &sts).expect("valid");
        let session = SessionId::random();
        let client = Client { session: &session, session_name: "job", principal: Arc::new(Principal::unidentified()) };
        let error = brokers.held(&client).await.expect_err("nobody").to_string();
        assert_eq!(error, "no binding matches subject `unidentified` of no issuer; add a [[binding]] for it");
    }

    #[tokio::test]
    async fn many_wait_for_one_renewal() {
        let broker = counted(Duration::from_secs(3600), false);
        let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(broker.clone().held(SystemTime::now()))).collect();
        for task in waiting {
            assert_eq!(task.await.expect("no panic").expect("held").access_key_id, "KEY1");
        }
        assert_eq!(asked(&broker), 1);
    }

    #[tokio::test]
    async fn what_ends_soon_is_renewed_behind_the_request() {
        let broker = counted(Duration::from_secs(60), false);
        let now = SystemTime::now();
        assert_eq!(broker.clone().held(now).await.expect("held").access_key_id, "KEY1");
        // Still valid, so it is used, and a renewal runs beside it.
        assert_eq!(broker.clone().held(now).await.expect("held").access_key_id, "KEY1");
        let renewed = || broker.cached.load().as_ref().is_some_and(|held| held.access_key_id == "KEY2");
        for _ in 0..100 {
            if renewed() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(renewed());
        assert_eq!(asked(&broker), 2);
        // Over: the request waits.
        let later = broker.clone().held(now + Duration::from_secs(50)).await.expect("held");
        assert_ne!(later.access_key_id, "KEY1");
    }

    #[tokio::test]
    async fn failures_and_dead_credentials_are_refused_and_not_hammered() {
        let broker = counted(Duration::ZERO, true);
        for _ in 0..5 {
            let error = broker.clone().held(SystemTime::now()).await.expect_err("it fails").to_string();
            assert!(error.contains("attempt 1") && error.contains("default chain gave no credentials"), "{error}");
        }
        assert_eq!(asked(&broker), 1);
        let dead = counted(Duration::ZERO, false);
        let later = SystemTime::now() + Duration::from_secs(1);
        assert!(matches!(dead.held(later).await, Err(BrokerError::Expired { .. })));
    }
}
