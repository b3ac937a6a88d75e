//! What AWS is on the wire: endpoints, operations, error shapes, signatures.
//!
//! Owns every piece of knowledge about AWS. Pure: no I/O, no clock, no async; callers pass time in.
//! Never decides whether a request is allowed.

pub mod endpoint;
pub mod error;
pub mod handout;
pub mod model;
pub mod operation;
pub mod sigv4;

pub use endpoint::{Endpoint, HostClass};
pub use operation::{AccessLevel, Operation, Protocol};
