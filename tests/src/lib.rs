//! Black-box tests: what they run on.
//!
//! [`bed`] runs inside a network and a mount namespace of its own and holds the world that the tests need: a name
//! server, a stand-in for everything that lies outside, and independent servers that verify signatures. [`host`] is
//! the test's side: it starts a bed, the daemon in it, and commands inside and outside of the tag.
//! Nothing here ever sends a packet off the machine: the namespace has no interface but loopback.

pub mod bed;
pub mod booted;
pub mod host;
pub mod load;
