//! Facts about this node: its devices and routes, its capabilities, and what Cilium runs with. Read only.

pub mod agent_api;
pub mod capabilities;
pub mod cilium;
pub mod devices;
pub mod drift;
pub mod facts;
pub mod features;
pub mod fitness;
pub mod kernel;
pub mod lock;
pub mod neighbour;
pub mod netlink;
pub mod networks;
pub mod version;
