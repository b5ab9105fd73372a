//! The node's datapath: Cilium's BPF maps and the host routes beside them, as values.
//!
//! `decide` says what the kernel should hold and plans the difference; `abi` is the one place that knows bytes.

pub mod abi;
pub mod contention;
pub mod decide;
pub mod ipcache;
pub mod layout;
pub mod plan;
pub mod records;
pub mod repairs;
pub mod report;
pub mod route_guard;
pub mod routes;
pub mod settings;
pub mod state;
