//! Tollgate from outside: real clients, independent servers that verify signatures, real namespaces and cgroups.
//!
//! One module per behaviour; `tests/README.md` says where a new test goes. Needs root, the binaries of
//! `cargo build --workspace --exclude tollgate-ebpf` and the tools of `cargo xtask tools`; fails without them.

mod approval;
mod bad_input;
mod broker;
mod bypass;
mod control;
mod credentials;
mod destination;
mod errors;
mod explain;
mod http2;
mod identity;
mod mask;
mod matrix;
mod policy;
mod record;
mod revoke;
mod run;
mod service;
mod signing;
mod splice;
mod sts;
mod trust;
mod web_identity;
