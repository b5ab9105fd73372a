//! The node's datapath: Cilium's BPF maps and the host routes beside them.
//!
//! `state` and `plan` are functions of values; `abi` is the one place that knows bytes; `vtep_map`, `ipcache` and `routes`
//! carry bytes to the kernel and back. Nothing here decides when to act: that is `reconcile`.

pub mod abi;
pub mod contention;
pub mod decide;
pub mod found_routes;
pub mod ipcache;
pub mod ipcache_entries;
pub mod journal;
pub mod layout;
pub mod maps;
pub mod owned;
pub mod pins;
pub mod plan;
pub mod records;
pub mod routes;
pub mod search;
pub mod settings;
pub mod state;
pub mod survey;
pub mod vtep_map;
