//! Facts about a node: its devices and networks, its kernel, its capabilities, and the configuration that Cilium runs with. The agent reads
//! them; this module only interprets them.

pub mod capabilities;
pub mod cilium_agent;
pub mod compatibility;
pub mod devices;
pub mod drift;
pub mod facts;
pub mod fitness;
pub mod kernel;
pub mod networks;
pub mod running;
pub mod udp;
pub mod undisclosed;
pub mod version;
