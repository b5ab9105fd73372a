//! The configuration: where it comes from, what it says, and what is wrong with it.
//!
//! `source → Keys → parse → Parsed → in_force → View`. Everything but the sources (`dir`, `kube`) is a function of values.

pub mod dir;
pub mod finding;
pub mod in_force;
pub mod kube;
pub mod mac;
pub mod manifest;
pub mod parse;
pub mod spec;
pub mod view;

use std::collections::BTreeMap;

/// The effective `cilium-config` of this node: key → value as written.
pub type Keys = BTreeMap<String, String>;
