//! The AWS SDK's own default chain, in the daemon's environment.
//!
//! The daemon is in no tagged cgroup, so what the chain asks (metadata service, STS) is the real thing.

use std::time::SystemTime;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::provider::ProvideCredentials;
use tokio::sync::OnceCell;

use super::{BrokerError, Held, Secret};

/// The chain, set up at its first use: building it reads files and variables.
#[derive(Debug, Default)]
pub(super) struct DefaultChain {
    account: Option<String>,
    chain: OnceCell<DefaultCredentialsChain>,
}

impl DefaultChain {
    pub(super) fn new(account: Option<String>) -> Self {
        Self { account, chain: OnceCell::new() }
    }

    pub(super) async fn load(&self) -> Result<Held, BrokerError> {
        let chain = self.chain.get_or_init(|| DefaultCredentialsChain::builder().build()).await;
        let found = chain.provide_credentials().await.map_err(|e| BrokerError::Chain { reason: whole(&e) })?;
        Ok(Held {
            access_key_id: found.access_key_id().to_owned(),
            secret_access_key: Secret::new(found.secret_access_key()),
            session_token: found.session_token().map(Secret::new),
            expires: found.expiry(),
            account: self.account.clone().or_else(|| found.account_id().map(|id| id.as_str().to_owned())),
        })
    }
}

/// An error with its causes: the SDK's outermost text alone says little.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Held {
    /// Whether it is over, or will be within `margin`.
    pub(super) fn ends_within(&self, margin: std::time::Duration, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now + margin)
    }
}
