//! How much memory reading one body may take.
//!
//! A value costs the same few hundred bytes however short it is on the wire: a body of brackets would grow to a hundred
//! times its size. All readers count what they make against one budget and stop where it ends. Pure.

use super::Malformed;

/// Values, names and elements of one body. With a full budget, each of the readers was measured to need 75 to 90 MiB.
pub(super) const VALUES: usize = 200_000;

/// What is left of [`VALUES`] for the body being read.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: VALUES }
    }
}

impl Budget {
    /// Pays for one more value.
    pub(super) fn take(&mut self) -> Result<(), Malformed> {
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Malformed::new(format!(
                "the body has more than {VALUES} values in it, which is more than is read to judge a request; send it in \
                 several smaller requests"
            ))
        })?;
        Ok(())
    }
}
