//! Tollgate: a host daemon that puts a control point between AI agents and AWS.
//!
//! One room per module; `ARCHITECTURE.md` says what each owns and which way data goes.
//! `aws`, `policy` and `mask` are pure. `unsafe` lives in `sys` alone.
#![deny(unsafe_code)]

pub mod approval;
pub mod aws;
pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod credential;
pub mod daemon;
pub mod demo;
pub mod gateway;
pub mod identity;
pub mod journal;
pub mod launch;
pub mod mask;
pub mod metadata;
pub mod policy;
pub mod record;
pub mod session;
pub mod sys;
pub mod tls;
pub mod trust;
