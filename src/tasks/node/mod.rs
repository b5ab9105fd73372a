//! Facts about this node, read again whenever something may have changed. Read only.

pub mod cilium_files;
pub mod cilium_version;
pub mod facts;
pub mod networks;
