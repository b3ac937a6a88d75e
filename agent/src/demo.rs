//! The demonstration: a whole world on this machine, an agent in it, and what Tollgate makes of the agent.
//!
//! Owns the namespaces it makes for itself, the look-alike of AWS and the identity provider in them, the daemon it
//! starts, and the play of steps that the reader watches. Never touches the network or the mounts of the host: all
//! of it is gone when the process ends. Runs in the process of `tollgate demo`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub mod ca;
pub mod issuer;
pub mod lookalike;

mod daemon;
mod play;
mod report;
mod shell;
mod stage;

pub use play::run;

/// How to play.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The AWS CLI to use; looked for on the `PATH` if unset, and `curl` takes its place if there is none.
    pub aws: Option<PathBuf>,
    /// Leaves the files of the demonstration where they are.
    pub keep: bool,
}

/// Why the demonstration could not be given.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demonstration makes namespaces and loads eBPF programs; run it as root")]
    NotRoot,
    #[error("`{0}` was not found; install the package that has it ({1})")]
    Missing(&'static str, &'static str),
    #[error("cannot {what}: {source}; the demonstration needs a kernel with network and mount namespaces")]
    Namespace { what: &'static str, source: nix::Error },
    #[error("cannot {what} `{path}`: {source}")]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot run `{command}`: {source}")]
    Start { command: String, source: io::Error },
    #[error("`{command}` failed: {message}")]
    Failed { command: String, message: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the daemon did not become ready: {0}")]
    Daemon(String),
    #[error("this host has no user `nobody` to run the agent as; create it")]
    NoUser,
    #[error("the agent's shell ended early: {0}")]
    Shell(String),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot make an identity token: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    #[error("unexpected JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot start the async runtime: {0}")]
    Runtime(io::Error),
}
