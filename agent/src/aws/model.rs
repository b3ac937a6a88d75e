//! The generated model of all services: compact, read lazily.
