//! Types that all other modules use.

pub mod digest;
pub mod error_chain;
pub mod location;
pub mod mac;
