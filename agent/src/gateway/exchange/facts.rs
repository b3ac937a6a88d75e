//! What the policies were told of an exchange beyond the record's other columns.
//!
//! Owns the form of `facts`, which `control::judged` reads again. Most exchanges have none: one action, the binding's
//! credentials, the session's own user.

use serde_json::{Map, Value, json};

use super::{Exchange, LONGEST, MOST, handout};
use crate::aws::operation::Operation;

impl Exchange<'_> {
    pub(super) fn facts(&self, operation: &Operation) -> Option<String> {
        let mut facts = Map::new();
        let needs = &operation.needs;
        let listed: usize = needs.iter().map(|n| n.resources.len()).sum();
        let bytes: usize = needs.iter().flat_map(|n| &n.resources).map(String::len).sum();
        if listed > MOST || bytes > LONGEST {
            // The columns have as many as fit; what is left out cannot be judged again.
            facts.insert("cut".into(), true.into());
        } else if needs.len() > 1 || needs.iter().flat_map(|n| &n.resources).any(|r| r.contains(['\n', '\r'])) {
            // The column has a line for each resource, and keys of S3 may have lines of their own.
            let each = needs.iter().map(|n| json!([n.action, n.resources]));
            facts.insert("needs".into(), Value::Array(each.collect()));
        }
        let credential = handout::facts(&self.signer, None);
        if credential.kind != "binding" {
            facts.insert("credential".into(), json!([credential.kind, credential.arn, credential.operation]));
        }
        let c = self.connection;
        if c.flow.uid != c.session.uid {
            facts.insert("uid".into(), c.flow.uid.into());
        }
        (!facts.is_empty()).then(|| Value::Object(facts).to_string())
    }
}
