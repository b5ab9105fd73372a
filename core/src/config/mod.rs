//! The configuration: what it says, what is wrong with it, and what of it is in effect.
//!
//! `Document → parse → Parsed → effective → View`.

pub mod cached;
pub mod document;
pub mod effective;
pub mod finding;
pub mod last_good;
pub mod manifest;
pub mod merge;
pub mod parse;
pub mod selector;
pub mod spec;
pub mod surroundings;
pub mod view;

use std::collections::BTreeMap;

/// Keys of a `cilium-config`: key → value as written.
pub type Keys = BTreeMap<String, String>;
