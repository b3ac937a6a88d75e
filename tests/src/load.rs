//! The load client of `cargo xtask bench`, and the upstream that all contenders share.
//!
//! Owns how requests are made, signed and timed. Never starts a proxy and never judges a figure: `xtask` does.
//! Every verb prints one line of JSON and ends.

pub mod bulk;
pub mod connect;
pub mod credentials;
pub mod idle;
pub mod request;
pub mod server;
pub mod small;
pub mod stats;
pub mod transport;

/// Host of the small requests.
pub const SMALL_HOST: &str = "dynamodb.us-east-1.amazonaws.com";
/// Host of the large bodies, a bucket in the virtual-hosted style.
pub const BULK_HOST: &str = "bench-bucket.s3.us-east-1.amazonaws.com";
/// Region that both hosts sign for.
pub const REGION: &str = "us-east-1";
/// Response header in which the upstream names the access key that signed the request it saw.
pub const SEEN_KEY: &str = "x-bench-access-key";
