//! Types that all others use.

pub mod error_chain;
pub mod mac;
