//! Every mode of signing, from real signers, to servers that verify: cases 1 to 15, and what is refused among them.

mod asymmetric;
mod chunks;
mod events;
mod express;
mod presigned;
mod wire;
