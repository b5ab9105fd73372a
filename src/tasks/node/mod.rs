//! Facts about this node, read again whenever they may have changed. This module only reads.

pub mod cilium_agent;
pub mod cilium_files;
pub mod facts;
pub mod networks;
