//! Server configurations with a leaf for each server name, made on first use.
//!
//! Owns the cache. A lock is held while a leaf is minted, so that a burst of connections mints it once.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use super::{Authority, TlsError};

/// Names kept: virtual-host buckets are the only ones that there can be many of.
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// The cache of server configurations.
#[derive(Debug)]
pub struct Leaves {
    authority: Arc<Authority>,
    cache: Mutex<LruCache<String, Arc<ServerConfig>>>,
}

impl Leaves {
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority, cache: Mutex::new(LruCache::new(KEPT)) }
    }

    /// The configuration for a server name, which is lower case and under one of AWS's domains.
    pub fn server_config(&self, name: &str) -> Result<Arc<ServerConfig>, TlsError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache.get(name) {
            return Ok(found.clone());
        }
        let made = Arc::new(self.make(name)?);
        cache.put(name.to_owned(), made.clone());
        Ok(made)
    }

    fn make(&self, name: &str) -> Result<ServerConfig, TlsError> {
        if name.contains('*') || !crate::aws::endpoint::is_aws(name) {
            return Err(TlsError::Name(name.into()));
        }
        let (chain, key) = self.authority.issue(name)?;
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Clients name theirs in an order that says little of their machine; see `provider`.
        config.ignore_client_order = true;
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // Tickets carry the state; a table of sessions per name would only hold memory.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}
