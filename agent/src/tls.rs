//! TLS on both sides: the host-local CA, leaves minted for server names, and what upstreams are verified against.
//!
//! Owns the CA's key, which is readable by the daemon alone, and every rustls configuration. Never writes a key that
//! others can read. Called from connection tasks; minting a leaf takes some 100 µs, once per name.

mod authority;
mod leaves;
mod roots;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use authority::Authority;
pub use leaves::Leaves;
pub use roots::client_config;

/// Why there is no certificate, key or configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot {doing} `{path}`: {source}; check the permissions of the state directory")]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "`{path}` can be read by others (mode {mode:o}); run `chmod 600` on it, and consider the CA burnt: remove its directory to make a new one"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("`{path}` is damaged: {message}; remove the directory to make a new CA, and install that one")]
    Damaged { path: PathBuf, message: String },
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("`{0}` is not a host name that a certificate can be made for")]
    Name(String),
    #[error("cannot make a TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("`{path}` holds no usable root: {message}; give a PEM file with at least one CA certificate")]
    ExtraRoot { path: PathBuf, message: String },
    #[error("this host has no trusted roots ({0}); install its ca-certificates package")]
    NoRoots(String),
}

/// The cryptography of every configuration, made once.
///
/// AES-128 stands before AES-256: nothing that can break one can break TLS with the other, and large bodies are passed
/// on for less.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
            CipherSuite::TLS13_AES_256_GCM_SHA384 | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => 1,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 2,
            _ => 3,
        });
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_suite_of_the_newest_version_comes_first() {
        let suites: Vec<_> = provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
        assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), aws_lc_rs::default_provider().cipher_suites.len());
    }
}
