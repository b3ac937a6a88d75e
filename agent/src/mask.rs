//! Hiding values: in answers, in the record, and in command lines.
//!
//! Owns what is hidden ([`Masks`], from `masks.toml` and AWS's model), and the streaming readers of every protocol that
//! hide it while an answer passes ([`Stream`]). Reading the rule file ([`Masks::load`]) is the only I/O; there is no
//! clock. Never passes what it could not read where it was told to mask.

mod cbor;
mod coding;
mod events;
mod json;
mod names;
mod path;
mod pattern;
mod plan;
mod redact;
mod rules;
mod select;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod veil;
mod xml;

pub use plan::{Answer, View};
pub use redact::{redact_argv, redact_parameters, redact_target};
pub use rules::{Masks, RuleError, When};
pub use stream::Stream;
pub use token::{Keyed, Master, PREFIX, Tokens};

/// Why an answer could not be masked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("it is not the {0} that was expected")]
    Unreadable(&'static str),
    #[error("{0}")]
    Limit(&'static str),
    #[error("its encoding `{0}` cannot be read")]
    Coding(String),
    #[error("it is a part of something that can only be read whole")]
    Part,
    #[error(
        "it is `{0}`, and the rule does not say what to read it as; give the rule `as = \"json\"`, `\"xml\"`, `\"cbor\"` or `\"text\"`"
    )]
    Kind(String),
}
