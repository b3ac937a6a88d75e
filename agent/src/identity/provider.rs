//! One OIDC provider: discovery, its keys, and when they are asked for again.
//!
//! Owns the key cache. Keys are believed for `jwks_max_age`; after that they are asked for again, by one task while
//! the others wait. A token with an unknown key asks too, but only so often. While the provider does not answer,
//! old keys count for a bounded time; then nothing is verified any more. Runs on the task that verifies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::IdentityError;
use super::fetch::{Fetcher, acceptable};
use super::keys::{self, Key};
use super::token::printable;
use crate::config::Issuer;

/// How patient we are; tests are less so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For one document.
    pub timeout: Duration,
    /// How long keys count beyond `jwks_max_age` while the provider does not answer.
    pub stale: Duration,
    /// After a failure nobody asks again for this long.
    pub retry: Duration,
    /// Tokens with unknown keys may ask this often at once, …
    pub burst: u32,
    /// … and once more after each such time.
    pub refill: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            stale: Duration::from_secs(3600),
            retry: Duration::from_secs(5),
            burst: 5,
            refill: Duration::from_secs(15),
        }
    }
}

/// Keys as the provider published them at one time.
pub(super) struct KeySet {
    /// `issuer` of the discovery document.
    pub issuer: String,
    pub keys: Vec<Key>,
    fetched: Instant,
}

pub(super) struct Provider {
    pub config: Issuer,
    fetcher: Fetcher,
    patience: Patience,
    current: ArcSwapOption<KeySet>,
    /// Held by the one task that asks.
    gate: Mutex<Gate>,
}

struct Gate {
    failed: Option<(Instant, String)>,
    allowance: u32,
    refilled: Instant,
}

impl Provider {
    pub fn new(config: Issuer, patience: Patience) -> Result<Self, IdentityError> {
        let wrong = |message: String| IdentityError::Issuer { issuer: config.url.to_string(), message };
        if config.url.query().is_some() || config.url.fragment().is_some() {
            return Err(wrong("its `url` has a query or a fragment; give the issuer as in the token's `iss`".into()));
        }
        let fetcher = Fetcher::new(&config, patience.timeout).map_err(wrong)?;
        let gate = Mutex::new(Gate { failed: None, allowance: patience.burst, refilled: Instant::now() });
        Ok(Self { config, fetcher, patience, current: ArcSwapOption::empty(), gate })
    }

    /// Keys that are young enough to believe, asked for if need be.
    pub async fn keys(&self) -> Result<Arc<KeySet>, IdentityError> {
        if let Some(keys) = self.current.load_full()
            && keys.fetched.elapsed() < self.config.jwks_max_age
        {
            return Ok(keys);
        }
        let mut gate = self.gate.lock().await;
        let known = self.current.load_full();
        if let Some(keys) = &known
            && keys.fetched.elapsed() < self.config.jwks_max_age
        {
            return Ok(keys.clone());
        }
        let problem = match &gate.failed {
            Some((when, problem)) if when.elapsed() < self.patience.retry => problem.clone(),
            _ => match self.fetch(&mut gate).await {
                Ok(keys) => return Ok(keys),
                Err(problem) => problem,
            },
        };
        match known {
            Some(keys) if keys.fetched.elapsed() < self.config.jwks_max_age + self.patience.stale => {
                tracing::warn!(issuer = %self.config.url, problem, "provider does not answer; older keys still count");
                Ok(keys)
            }
            _ => Err(IdentityError::Provider { issuer: self.config.url.to_string(), message: problem }),
        }
    }

    /// Keys newer than `seen`, for a token whose key is not among those. `None`: there are none, or it was asked
    /// too often.
    pub async fn newer(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let mut gate = self.gate.lock().await;
        let current = self.current.load_full()?;
        if !Arc::ptr_eq(&current, seen) {
            return Some(current);
        }
        let patient = gate.failed.as_ref().is_some_and(|(when, _)| when.elapsed() < self.patience.retry);
        if patient || !gate.admit(self.patience) {
            return None;
        }
        self.fetch(&mut gate).await.ok()
    }

    async fn fetch(&self, gate: &mut Gate) -> Result<Arc<KeySet>, String> {
        match self.ask().await {
            Ok(keys) => {
                gate.failed = None;
                let keys = Arc::new(keys);
                self.current.store(Some(keys.clone()));
                Ok(keys)
            }
            Err(problem) => {
                gate.failed = Some((Instant::now(), problem.clone()));
                Err(problem)
            }
        }
    }

    async fn ask(&self) -> Result<KeySet, String> {
        let base = self.config.url.as_str().trim_end_matches('/');
        let place = Url::parse(&format!("{base}/.well-known/openid-configuration")).map_err(|e| e.to_string())?;
        let document = self.fetcher.json(&place).await?;
        let issuer = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if !self.is_named(issuer) {
            return Err(format!("its discovery document is of `{}`; check `url`", printable(issuer)));
        }
        let keys =
            document.get("jwks_uri").and_then(Value::as_str).ok_or("its discovery document has no `jwks_uri`")?;
        let keys = Url::parse(keys).ok().filter(acceptable).ok_or("its `jwks_uri` is neither https nor on loopback")?;
        let keys = keys::parse(&self.fetcher.json(&keys).await?)?;
        Ok(KeySet { issuer: issuer.to_owned(), keys, fetched: Instant::now() })
    }

    /// Whether `issuer` is this provider's name. A URL without a path is parsed into one with `/`, so both forms
    /// are the configured one there; anything else must be equal to the letter.
    pub fn is_named(&self, issuer: &str) -> bool {
        let configured = self.config.url.as_str();
        issuer == configured || (self.config.url.path() == "/" && configured.strip_suffix('/') == Some(issuer))
    }
}

impl Gate {
    fn admit(&mut self, patience: Patience) -> bool {
        while self.allowance < patience.burst && self.refilled.elapsed() >= patience.refill {
            self.allowance += 1;
            self.refilled += patience.refill;
        }
        if self.allowance == patience.burst {
            self.refilled = Instant::now();
        }
        let admitted = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_ask_only_so_often() {
        let patience = Patience { burst: 2, refill: Duration::from_secs(60), ..Patience::default() };
        let mut gate = Gate { failed: None, allowance: 2, refilled: Instant::now() };
        assert!(gate.admit(patience));
        assert!(gate.admit(patience));
        assert!(!gate.admit(patience));
        gate.refilled -= Duration::from_secs(61);
        assert!(gate.admit(patience));
        assert!(!gate.admit(patience));
    }
}
