//! What the tap counted: streams of tunnel frames, and frames from addresses that send none.

use std::{net::Ipv4Addr, time::Instant};

use crate::types::mac::Mac;

/// One stream of tunnel frames, all CPUs together.
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
    /// Source of the last inner IPv4 packet.
    pub inner_source: Option<Ipv4Addr>,
    /// Sender of the last inner ARP packet.
    pub arp_sender: Option<Ipv4Addr>,
    /// The last inner source outside every VTEP CIDR, and when.
    pub foreign: Option<(Instant, Ipv4Addr)>,
}

/// VTEP traffic from an address that is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Outer source.
    pub source: Ipv4Addr,
    /// Source inside, in a VTEP CIDR.
    pub inner_source: Ipv4Addr,
    pub last_seen: Instant,
}
