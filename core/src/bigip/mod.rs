//! BIG-IP's end of the tunnels: the objects that it needs, and the objects that it has.
//!
//! - [`wanted`]: the objects that a BIG-IP needs for a VTEP, as tmsh commands
//! - [`compare`]: the differences between the two ends
//! - [`choice`]: one VTEP of several
//! - [`device`]: the objects that a BIG-IP has, as its configuration or its REST interface shows them
//! - [`nodes`]: the nodes that its forwarding databases must know
//! - [`plan`]: what is missing, as tmsh commands
//! - [`read()`]: from files and output of a BIG-IP to these objects

pub mod choice;
pub mod compare;
pub mod device;
pub mod nodes;
pub mod plan;
mod read;
mod rest;
mod tmsh;
pub mod wanted;

pub use self::read::{ReadResult, read};
pub use self::wanted::{BigIp, FdbRecord, InvalidName, SiteValues, TunnelName, UnusedSelfIp, bigips};
