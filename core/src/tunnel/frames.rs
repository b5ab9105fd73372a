//! Encodes the frames that probes send, and decodes the frames that the tap delivers. Only this module knows their bytes.
//!
//! Decoding is strict: a short frame, one with wrong lengths, or one with any other content decodes to `None`.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header, Ethernet2Slice,
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4Slice, UdpSlice,
};

use crate::{
    config::spec::{Tunnel, TunnelProtocol},
    types::mac::Mac,
};

pub use vtep_agent_ebpf::VTEP_VNI;

const TUNNEL_HEADER: usize = 8;
/// VXLAN flag I: the VNI is valid (RFC 7348, section 5).
const VXLAN_FLAG_VNI: u8 = 0x08;
/// Geneve protocol type of an Ethernet frame (RFC 8926, section 3.4).
const GENEVE_ETHERNET: u16 = 0x6558;

/// The relevant fields of an ARP packet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

/// An ARP reply that came through a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelArpReply {
    /// Outer source.
    pub endpoint: Ipv4Addr,
    pub vni: u32,
    pub arp: Arp,
}

/// The UDP payload of a broadcast ARP request inside the tunnel: tunnel header, Ethernet, ARP.
#[must_use]
pub fn arp_request(protocol: TunnelProtocol, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let ethernet = Ethernet2Header { source: sender_mac.octets(), destination: [0xff; 6], ether_type: EtherType::ARP };
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: sender_mac.octets(),
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    let mut bytes = tunnel_header(protocol).to_vec();
    bytes.extend_from_slice(&ethernet.to_bytes());
    bytes.extend_from_slice(&arp.to_bytes());
    bytes
}

fn tunnel_header(protocol: TunnelProtocol) -> [u8; TUNNEL_HEADER] {
    let [_, vni @ ..] = VTEP_VNI.to_be_bytes();
    match protocol {
        TunnelProtocol::Vxlan => [VXLAN_FLAG_VNI, 0, 0, 0, vni[0], vni[1], vni[2], 0],
        TunnelProtocol::Geneve => {
            let [high, low] = GENEVE_ETHERNET.to_be_bytes();
            [0, 0, high, low, vni[0], vni[1], vni[2], 0]
        }
    }
}

/// Decodes an outer IPv4 packet on the tunnel's port that carries an ARP reply.
///
/// `packet` may end after the ARP packet, so the lengths in the outer headers are not compared with its size.
#[must_use]
pub fn tunnel_arp_reply(packet: &[u8], tunnel: Tunnel) -> Option<TunnelArpReply> {
    let outer = Ipv4Slice::from_slice(packet).ok()?;
    if outer.payload().fragmented {
        return None;
    }
    let udp = UdpSlice::from_slice(outer.payload().payload).ok()?;
    if udp.destination_port() != tunnel.port {
        return None;
    }
    let (vni, frame) = open_tunnel(udp.payload(), tunnel.protocol)?;
    Some(TunnelArpReply { endpoint: outer.header().source_addr(), vni, arp: arp_reply(frame)? })
}

/// Decodes an Ethernet frame that carries an ARP reply, as Cilium sends it into its tunnel device.
#[must_use]
pub fn arp_reply(frame: &[u8]) -> Option<Arp> {
    let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
    if ethernet.ether_type() != EtherType::ARP {
        return None;
    }
    match arp(ethernet.payload().payload)? {
        (ArpKind::Reply, arp) => Some(arp),
        (ArpKind::Request, _) => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpKind {
    Request,
    Reply,
}

/// Decodes an ARP packet for IPv4 over Ethernet, behind its Ethernet header.
#[must_use]
pub fn arp(packet: &[u8]) -> Option<(ArpKind, Arp)> {
    let arp = ArpPacketSlice::from_slice(packet).ok()?;
    if arp.hw_addr_type() != ArpHardwareId::ETHERNET {
        return None;
    }
    let kind = match arp.operation() {
        ArpOperation::REQUEST => ArpKind::Request,
        ArpOperation::REPLY => ArpKind::Reply,
        _ => return None,
    };
    let arp = Arp {
        sender_mac: <[u8; 6]>::try_from(arp.sender_hw_addr()).ok()?.into(),
        sender: <[u8; 4]>::try_from(arp.sender_protocol_addr()).ok()?.into(),
        target_mac: <[u8; 6]>::try_from(arp.target_hw_addr()).ok()?.into(),
        target: <[u8; 4]>::try_from(arp.target_protocol_addr()).ok()?.into(),
    };
    Some((kind, arp))
}

/// VNI and inner frame of a tunnel packet, which begins with the tunnel's header.
#[must_use]
pub fn open_tunnel(payload: &[u8], protocol: TunnelProtocol) -> Option<(u32, &[u8])> {
    let (header, rest) = payload.split_first_chunk::<TUNNEL_HEADER>()?;
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    match protocol {
        TunnelProtocol::Vxlan => (header[0] & VXLAN_FLAG_VNI != 0).then_some((vni, rest)),
        TunnelProtocol::Geneve => {
            let is_ethernet = header[0] >> 6 == 0 && header[2..4] == GENEVE_ETHERNET.to_be_bytes();
            let options = usize::from(header[0] & 0x3f) * 4;
            is_ethernet.then(|| rest.get(options..)).flatten().map(|frame| (vni, frame))
        }
    }
}

/// The identity of an ICMP echo, the same in request and reply (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    pub id: u16,
    pub sequence: u16,
}

/// The ICMP message of an echo request with a payload of `payload` zero bytes, without the IP header.
#[must_use]
pub fn echo_request(echo: Echo, payload: usize) -> Vec<u8> {
    let data = vec![0; payload];
    let echo = IcmpEchoHeader { id: echo.id, seq: echo.sequence };
    let mut bytes = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &data).to_bytes().to_vec();
    bytes.extend_from_slice(&data);
    bytes
}

/// Decodes an echo reply in an IPv4 packet, as a raw socket delivers it: its source and its identity.
#[must_use]
pub fn echo_reply(packet: &[u8]) -> Option<(Ipv4Addr, Echo)> {
    let ip = Ipv4Slice::from_slice(packet).ok()?;
    if ip.payload().fragmented || ip.payload().ip_number != IpNumber::ICMP {
        return None;
    }
    let icmp = Icmpv4Slice::from_slice(ip.payload().payload).ok()?;
    if let Icmpv4Type::EchoReply(echo) = icmp.icmp_type() {
        Some((ip.header().source_addr(), Echo { id: echo.id, sequence: echo.seq }))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
