//! BIG-IP's end of the tunnels: the objects that it needs, and the objects that it has.
//!
//! - [`wanted`]: the objects that a BIG-IP needs for a VTEP, as tmsh commands
//! - [`device`]: the objects that a BIG-IP has, as its configuration or its REST interface shows them

pub mod device;
pub mod wanted;

pub use self::wanted::{BigIp, FdbRecord, InvalidName, SiteValues, TunnelName, UnusedSelfIp, bigips};
