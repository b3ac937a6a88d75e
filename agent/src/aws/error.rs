//! Errors in the shape of each protocol.
