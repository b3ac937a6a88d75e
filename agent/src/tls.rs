//! TLS on both sides: the host-local CA, leaves minted for server names, and what upstreams are verified against.
//!
//! Owns the CA's key, which is readable by the daemon alone, and every rustls configuration. Never writes a key that
//! others can read. Called from connection tasks; minting a leaf takes some 100 µs, once per name.

mod authority;
mod leaves;
mod roots;

use std::io;
use std::path::PathBuf;

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
