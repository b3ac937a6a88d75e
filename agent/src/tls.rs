//! Room `tls`.
