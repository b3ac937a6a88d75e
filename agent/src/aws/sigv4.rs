//! SigV4: reading, verifying and making signatures.
