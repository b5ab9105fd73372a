//! Network devices of a node, as far as tunnels depend on them.

use std::net::Ipv4Addr;

use crate::types::mac::Mac;

/// Bytes that a tunnel adds to an inner IPv4 packet: outer IPv4 (20), UDP (8), VXLAN or Geneve without options (8), inner
/// Ethernet (14).
pub const TUNNEL_OVERHEAD: u32 = 50;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub name: String,
    pub mac: Mac,
    /// Bytes of the largest packet, without the link-layer header.
    pub mtu: u32,
    /// `IFF_UP`: an administrator, or Cilium, has switched it on.
    pub up: bool,
}

/// Cilium's own devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumDevices {
    /// `cilium_vxlan` or `cilium_geneve`.
    pub tunnel: Option<Device>,
    pub host: Option<Device>,
    /// The router address on `cilium_host`.
    pub router: Option<Ipv4Addr>,
}

/// How this node reaches an address on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    pub device: Device,
    /// The source address that the kernel chooses.
    pub source: Option<Ipv4Addr>,
    /// The gateway, or the endpoint itself if it is on-link.
    pub next_hop: Ipv4Addr,
    /// The next hop does not answer ARP.
    pub unresolved: bool,
}
