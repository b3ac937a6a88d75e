//! Which IAM actions there are.
//!
//! There is no generated model yet: policies are checked for the form of their actions only.

use std::sync::Arc;

use crate::policy::{ActionCatalog, AnyAction};

/// The catalog that policies are validated against.
pub fn catalog() -> Arc<dyn ActionCatalog> {
    Arc::new(AnyAction)
}
