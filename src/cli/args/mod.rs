//! Flags that several commands share, and those of `run`.

pub mod bigip;
pub mod choices;
pub mod cluster;
pub mod cluster_networks;
pub mod far_end;
pub mod node;
pub mod run;
pub mod source;
pub mod state;
