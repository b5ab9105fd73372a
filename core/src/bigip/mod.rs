//! BIG-IP's end of the tunnels: the objects that it needs, and the objects that it has.
//!
//! - [`wanted`]: the objects that a BIG-IP needs for a VTEP, as tmsh commands
//! - [`compare`]: the differences between the two ends
//! - [`device`]: the objects that a BIG-IP has, as its configuration or its REST interface shows them
//! - [`nodes`]: the nodes that its forwarding databases must know
//! - [`plan`]: what is missing, as tmsh commands

pub mod compare;
pub mod device;
pub mod nodes;
pub mod plan;
pub mod wanted;

pub use self::wanted::{BigIp, FdbRecord, InvalidName, SiteValues, TunnelName, UnusedSelfIp, bigips};
