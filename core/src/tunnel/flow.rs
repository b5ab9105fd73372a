//! The counts of the tap: streams of tunnel frames, and frames from unexpected sources.

use std::{net::Ipv4Addr, time::Instant};

use super::frames::VTEP_VNI;
use crate::{config::spec::Tunnel, types::mac::Mac};

/// One stream of tunnel frames, summed over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Outer source.
    pub source: Ipv4Addr,
    /// Outer UDP destination port.
    pub port: u16,
    pub vni: u32,
    pub packets: u64,
    /// Outer IPv4 bytes.
    pub bytes: u64,
    pub last_seen: Instant,
    pub inner_mac: Mac,
    /// Source of the last inner IPv4 packet from a VTEP CIDR of the sender.
    pub inner_source: Option<Ipv4Addr>,
    /// Sender of the last inner ARP packet.
    pub arp_sender: Option<Ipv4Addr>,
    /// The last inner source outside every VTEP CIDR, and when it was seen.
    pub foreign: Option<(Instant, Ipv4Addr)>,
}

impl Flow {
    /// Both ends agree on port and VNI. Where one of the two differs, the kernel or Cilium's programs drop these frames.
    #[must_use]
    pub fn belongs_to(&self, tunnel: Tunnel) -> bool {
        self.port == tunnel.port && self.is_vtep_traffic()
    }

    /// The VNI is that of VTEP traffic, whatever the port: an endpoint with the wrong port still shows its addresses.
    #[must_use]
    pub fn is_vtep_traffic(&self) -> bool {
        self.vni == VTEP_VNI
    }
}

/// What the tap has counted from one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCounts {
    /// Outer source.
    pub source: Ipv4Addr,
    /// Its VTEP traffic through the configured tunnel; `None` if there was none.
    pub tunnel: Option<Flow>,
    /// All its tunnel frames, whatever their VNI and port, and their outer IPv4 bytes.
    pub packets: u64,
    pub bytes: u64,
    pub kinds: Kinds,
    pub pods: PodTraffic,
}

/// What the endpoint's TCP segments show of the pods of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodTraffic {
    /// When it last opened a connection to a pod.
    pub asked: Option<Instant>,
    /// When it last acknowledged what a pod had sent: the pod answers, and its answers arrive. Within a second.
    pub answered: Option<Instant>,
}

/// The VTEP traffic of an endpoint through the configured tunnel, by the kind of the inner frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    pub arp_requests: u64,
    pub arp_replies: u64,
    /// The ARP requests among them that ask for this node's address inside the tunnel.
    pub asked_for_us: u64,
    /// Answers to the agent's own echoes.
    pub echo_replies: u64,
    /// All other frames.
    pub other: u64,
}

/// Whose address an unexpected outer source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The endpoint of another VTEP.
    Endpoint,
    /// A node of the cluster: it forwards frames that a BIG-IP flooded to it.
    Node,
    /// Neither is known.
    Unknown,
}

/// VTEP traffic with an inner source in a VTEP CIDR, from an outer source that is not the endpoint of that VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnexpectedSource {
    /// Outer source.
    pub source: Ipv4Addr,
    pub sender: Sender,
    /// Inner source, in a VTEP CIDR.
    pub inner_source: Ipv4Addr,
    pub inner_mac: Mac,
    pub last_seen: Instant,
}
