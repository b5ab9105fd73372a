//! The node's datapath as values: Cilium's BPF maps, and the host routes beside them. Nothing here touches the kernel.
//!
//! `decide` computes the desired state of the kernel and plans the difference. Only `abi` knows the bytes of maps.

pub mod abi;
pub mod contention;
pub mod decide;
pub mod grace_period;
pub mod ipcache;
pub mod layout;
pub mod look_pace;
pub mod plan;
pub mod records;
pub mod repairs;
pub mod report;
pub mod route_guard;
pub mod routes;
pub mod settings;
pub mod state;
