//! Facts about a node: its devices and networks, its kernel, its rights, and what Cilium runs with.

pub mod capabilities;
pub mod devices;
pub mod drift;
pub mod facts;
pub mod fitness;
pub mod kernel;
pub mod networks;
pub mod running;
pub mod version;
