//! Facts about this node: its devices and routes, its capabilities, and what Cilium runs with. Read only.

pub mod agent_api;
pub mod capabilities;
pub mod cilium;
pub mod cilium_files;
pub mod device;
pub mod devices;
pub mod drift;
pub mod facts;
pub mod features;
pub mod fitness;
pub mod fitness_probe;
pub mod kernel;
pub mod lock;
pub mod moment;
pub mod neighbour;
pub mod netlink;
pub mod networks;
pub mod node_networks;
pub mod version;
