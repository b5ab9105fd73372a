//! What the configuration asks for, once it is parsed: types that cannot hold a wrong value.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::mac::Mac;

/// One BIG-IP as this node shall reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vtep {
    /// The BIG-IP's tunnel network, without host bits; its prefix length is that of the VTEP mask.
    pub cidr: Ipv4Net,
    /// The BIG-IP's address on the underlay, unicast.
    pub endpoint: Ipv4Addr,
    /// The MAC of the BIG-IP's tunnel, never zero.
    pub mac: Mac,
}

/// The encapsulation of the cluster's tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelProtocol {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
}

impl TunnelProtocol {
    /// The UDP port Cilium uses where `tunnel-port` is not set.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Vxlan => 8472,
            Self::Geneve => 6081,
        }
    }

    /// The name of Cilium's tunnel device.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Vxlan => "cilium_vxlan",
            Self::Geneve => "cilium_geneve",
        }
    }
}

impl fmt::Display for TunnelProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        })
    }
}

/// How packets travel between this node and every other tunnel endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    pub protocol: TunnelProtocol,
    /// UDP destination port.
    pub port: u16,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { protocol: TunnelProtocol::Vxlan, port: TunnelProtocol::Vxlan.default_port() }
    }
}

/// A whole valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// `enable-vtep`. When false nothing below is in force.
    pub enabled: bool,
    /// In the order of the lists; CIDRs are unique and do not overlap.
    pub vteps: Vec<Vtep>,
    /// `vtep-mask`: what the datapath applies to an address before it looks it up.
    pub mask: Ipv4Addr,
    pub tunnel: Tunnel,
}
