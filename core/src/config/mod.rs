//! The configuration: its keys, the findings about it, and the part of it that is in effect. Reading files and the API server is not part
//! of this module.
//!
//! `Document → parse → Parsed → effective → View`.

pub mod cached;
pub mod checked;
pub mod document;
pub mod effective;
pub mod finding;
pub mod last_good;
pub mod list_record;
pub mod manifest;
pub mod merge;
pub mod parse;
pub mod possible;
pub mod project;
pub mod selector;
pub mod shapes;
pub mod spec;
mod summaries;
pub mod surroundings;
pub mod text;
pub mod truth;
pub mod unknown;
pub mod view;
pub mod vtep_config;

use std::collections::BTreeMap;

/// Keys of a `cilium-config`: key → value as written.
pub type Keys = BTreeMap<String, String>;
