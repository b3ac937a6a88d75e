//! Black-box tests.

pub mod load;
