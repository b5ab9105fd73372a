//! Prints errors with all their causes on one line.

use std::{error::Error, fmt};

/// Prints an error with all its causes: `the failed action: the reason`.
#[must_use]
pub fn chain(error: &dyn Error) -> Chain<'_> {
    Chain(error)
}

pub struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
