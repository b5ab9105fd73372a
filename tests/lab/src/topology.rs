//! The addresses of the lab, as plain values. The defaults are those of F5's document for BIG-IP and Cilium.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vtep_lab_ebpf::{VtepKey, VtepValue};

use crate::mac::Mac;

/// All addresses and numbers of the lab.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The router's address on the underlay, with the underlay's prefix length.
    pub underlay: Ipv4Net,
    /// The VLAN of the underlay, tagged on all links.
    pub vlan: Option<u16>,
    pub node_ip: Ipv4Addr,
    /// Cilium's own address on the node, on `cilium_host`.
    pub router_ip: Ipv4Addr,
    /// Another node of the cluster. See [`Builder::other_node`](crate::Builder::other_node).
    pub other_node_ip: Option<Ipv4Addr>,
    pub pod_cidr: Ipv4Net,
    pub pod_ip: Ipv4Addr,
    /// The network that BIG-IP routes into its tunnel: the pods of all nodes.
    pub cluster_cidr: Ipv4Net,
    pub tunnel: Tunnel,
    /// UDP port of the tunnel, on the node and on every BIG-IP.
    pub tunnel_port: u16,
    /// The MTU of the routes through the tunnel.
    pub tunnel_mtu: u32,
    pub bigips: Vec<BigIpAddresses>,
    /// The host behind the router, with the prefix length of its network. See [`Builder::api_host`](crate::Builder::api_host).
    pub api: Ipv4Net,
    /// The other end of the node's second interface, with the prefix length of that network. See
    /// [`Builder::second`](crate::Builder::second).
    pub second: Ipv4Net,
    /// The node's address on its second interface.
    pub node_second_ip: Ipv4Addr,
}

/// The kind of tunnel between the node and the BIG-IPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    Vxlan,
    /// Geneve devices of the kernel.
    Geneve,
    /// Geneve without the kernel's devices: a thread plays each of them. It carries pings. The thread checks the VNI, not Cilium's
    /// programs.
    UserGeneve,
}

/// One BIG-IP.
#[derive(Debug, Clone)]
pub struct BigIpAddresses {
    /// Its address on the underlay, in the underlay's prefix.
    pub underlay_ip: Ipv4Addr,
    /// Its self IP in the tunnel, with the prefix length of the CIDR that it stands for.
    pub self_ip: Ipv4Net,
    /// MAC of its tunnel.
    pub mac: Mac,
    /// VNI of its tunnel. Cilium accepts only 2.
    pub vni: u32,
}

/// A VTEP in Cilium's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    pub endpoint: Ipv4Addr,
    pub cidr: Ipv4Net,
    pub mac: Mac,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            underlay: net([10, 169, 72, 10], 24),
            vlan: None,
            node_ip: Ipv4Addr::new(10, 169, 72, 239),
            router_ip: Ipv4Addr::new(10, 0, 0, 126),
            other_node_ip: None,
            pod_cidr: net([10, 0, 0, 0], 24),
            pod_ip: Ipv4Addr::new(10, 0, 0, 130),
            cluster_cidr: net([10, 0, 0, 0], 16),
            tunnel: Tunnel::Vxlan,
            tunnel_port: Tunnel::Vxlan.port(),
            tunnel_mtu: 1450,
            bigips: vec![
                BigIpAddresses {
                    underlay_ip: Ipv4Addr::new(10, 169, 72, 34),
                    self_ip: net([10, 1, 6, 34], 24),
                    mac: Mac([0x00, 0x50, 0x56, 0xa0, 0x7d, 0xd8]),
                    vni: 2,
                },
                BigIpAddresses {
                    underlay_ip: Ipv4Addr::new(10, 169, 72, 36),
                    self_ip: net([10, 1, 5, 36], 24),
                    mac: Mac([0x00, 0x50, 0x56, 0x86, 0x6b, 0x28]),
                    vni: 2,
                },
            ],
            api: net([10, 169, 73, 10], 24),
            second: net([10, 169, 74, 1], 24),
            node_second_ip: Ipv4Addr::new(10, 169, 74, 239),
        }
    }
}

impl Topology {
    /// The VTEPs of a correct configuration for this topology.
    #[must_use]
    pub fn vteps(&self) -> Vec<Vtep> {
        self.bigips.iter().map(BigIpAddresses::vtep).collect()
    }
}

impl Tunnel {
    /// The port that Cilium uses by default.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Vxlan => 8472,
            Self::Geneve | Self::UserGeneve => 6081,
        }
    }

    /// The value of Cilium's `tunnel-protocol`.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve | Self::UserGeneve => "geneve",
        }
    }

    /// Cilium's device on the node.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::Vxlan => "cilium_vxlan",
            Self::Geneve | Self::UserGeneve => "cilium_geneve",
        }
    }
}

impl BigIpAddresses {
    /// The VTEP of this BIG-IP in a correct configuration.
    #[must_use]
    pub fn vtep(&self) -> Vtep {
        Vtep { endpoint: self.underlay_ip, cidr: self.self_ip.trunc(), mac: self.mac }
    }
}

impl Vtep {
    /// Its key in `cilium_vtep_map`.
    #[must_use]
    pub fn key(&self) -> VtepKey {
        self.cidr.network().octets()
    }

    /// Its value in `cilium_vtep_map`.
    #[must_use]
    pub fn value(&self) -> VtepValue {
        let mut value = [0; 16];
        value[..6].copy_from_slice(&self.mac.0);
        value[8..12].copy_from_slice(&self.endpoint.octets());
        value
    }
}

const fn net([a, b, c, d]: [u8; 4], prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}
