//! What a bundle for a ticket has, in words and files; and what it must not have.

pub mod allowed;
pub mod fleet;
pub mod part;
pub mod readme;
pub mod redact;
