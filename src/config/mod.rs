//! The configuration: where it comes from, what it says, and what is wrong with it.
//!
//! `source → Document → parse → Parsed → in_force → View`. Everything but the sources (`dir`, `kube`) is a function of values.

pub mod dir;
pub mod document;
pub mod finding;
pub mod follow;
pub mod in_force;
pub mod key_files;
pub mod kube;
pub mod last_good;
pub mod mac;
pub mod manifest;
pub mod parse;
pub mod selector;
pub mod spec;
pub mod surroundings;
pub mod view;

use std::collections::BTreeMap;

/// Keys of a `cilium-config`: key → value as written.
pub type Keys = BTreeMap<String, String>;
