//! Types that all others use.

pub mod digest;
pub mod error_chain;
pub mod mac;
