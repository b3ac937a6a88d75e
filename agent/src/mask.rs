//! Room `mask`.
