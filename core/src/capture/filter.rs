//! The kernel's filter for a capture: a program for its classic BPF machine, which needs no loader and no further capability.
//!
//! `man 4 bpf` (BSD) and `Documentation/networking/filter.rst` of Linux describe the machine. The frames begin with an Ethernet header.

mod assembler;

use std::net::Ipv4Addr;

pub use self::assembler::Instruction;
use self::assembler::{Assembler, Label};
use super::Known;
use crate::{config::spec::TunnelProtocol, tunnel::frames::VTEP_VNI};

/// Which tunnel frames pass. ARP and ICMP on the underlay pass in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunneled {
    All,
    /// Only those that carry ARP or ICMP, once other traffic has had its share.
    ArpAndIcmp,
}

/// The ports of tunnels: Cilium's for VXLAN, IANA's for VXLAN, and Geneve's. A far end may send to the wrong one.
pub const USUAL_PORTS: [u16; 3] = [8472, 4789, 6081];

const ETHERNET: u32 = 14;
const UDP: u32 = 8;
const TUNNEL: u32 = 8;
const ETHER_TYPE: u32 = 12;
const IPV4: u32 = 0x0800;
const ARP: u32 = 0x0806;
const PROTOCOL_ICMP: u32 = 1;
const PROTOCOL_UDP: u32 = 17;

/// The filter for an underlay device:
///
/// - ARP for an endpoint, or for a gateway to one;
/// - ICMP from or to an endpoint, and ICMP errors about packets to one;
/// - tunnel frames from or to an endpoint, to any usual port, in any VNI;
/// - tunnel frames of VTEP traffic (VNI 2), from and to whomever: a BIG-IP may send with another address.
#[must_use]
pub fn underlay(known: &Known, tunneled: Tunneled) -> Vec<Instruction> {
    let mut a = Assembler::default();
    let [arp, icmp, udp, first_fragment, tunnel, check_vni, passes] = [(); 7].map(|()| a.label());
    a.load_half(ETHER_TYPE);
    a.jump_if(ARP, arp);
    a.reject_unless(IPV4);
    a.load_byte(ETHERNET + 9);
    a.jump_if(PROTOCOL_ICMP, icmp);
    a.reject_unless(PROTOCOL_UDP);
    a.jump(udp);

    a.place(arp);
    let neighbours: Vec<_> = known.endpoints.keys().chain(&known.next_hops).copied().collect();
    // Sender and target (RFC 826).
    accept_addresses(&mut a, &neighbours, [ETHERNET + 14, ETHERNET + 24]);
    a.reject();

    a.place(icmp);
    let endpoints: Vec<_> = known.endpoints.keys().copied().collect();
    accept_addresses(&mut a, &endpoints, [ETHERNET + 12, ETHERNET + 16]);
    accept_errors(&mut a, &endpoints);
    a.reject();

    a.place(udp);
    // Pieces behind the first one have no ports.
    a.load_half(ETHERNET + 6);
    a.jump_unless_any(0x1fff, first_fragment);
    match tunneled {
        Tunneled::All => accept_addresses(&mut a, &endpoints, [ETHERNET + 12, ETHERNET + 16]),
        Tunneled::ArpAndIcmp => {}
    }
    a.reject();
    a.place(first_fragment);
    a.load_header_length(ETHERNET);
    a.load_half_at_header(ETHERNET + 2);
    for port in ports(known) {
        a.jump_if(port.into(), tunnel);
    }
    a.reject();

    a.place(tunnel);
    jump_for_addresses(&mut a, &endpoints, passes);
    a.jump(check_vni);
    a.place(check_vni);
    a.load_half_at_header(ETHERNET + 2);
    a.reject_unless(known.tunnel.port.into());
    a.load_word_at_header(ETHERNET + UDP + 4);
    a.shift_right(8);
    a.reject_unless(VTEP_VNI);

    a.place(passes);
    match tunneled {
        Tunneled::All => a.accept(),
        Tunneled::ArpAndIcmp => accept_inner(&mut a, known.tunnel.protocol),
    }
    a.assemble()
}

/// The filter for Cilium's tunnel device: ARP, and with it Cilium's own answers.
#[must_use]
pub fn tunnel_device() -> Vec<Instruction> {
    let mut a = Assembler::default();
    a.load_half(ETHER_TYPE);
    a.reject_unless(ARP);
    a.accept();
    a.assemble()
}

/// The ports of [`underlay`].
fn ports(known: &Known) -> impl Iterator<Item = u16> {
    let configured = known.tunnel.port;
    USUAL_PORTS.into_iter().filter(move |port| *port != configured).chain([configured])
}

fn accept_addresses(a: &mut Assembler, addresses: &[Ipv4Addr], places: [u32; 2]) {
    for place in places {
        a.load_word(place);
        for address in addresses {
            let next = a.label();
            a.jump_unless(u32::from(*address), next);
            a.accept();
            a.place(next);
        }
    }
}

fn jump_for_addresses(a: &mut Assembler, addresses: &[Ipv4Addr], to: Label) {
    for place in [ETHERNET + 12, ETHERNET + 16] {
        a.load_word(place);
        for address in addresses {
            a.jump_if(u32::from(*address), to);
        }
    }
}

/// Destination unreachable and time exceeded (RFC 792) carry the header of the packet that they are about.
fn accept_errors(a: &mut Assembler, endpoints: &[Ipv4Addr]) {
    let is_error = a.label();
    a.load_header_length(ETHERNET);
    a.load_byte_at_header(ETHERNET);
    a.jump_if(3, is_error);
    a.reject_unless(11);
    a.place(is_error);
    a.load_word_at_header(ETHERNET + 8 + 16);
    for endpoint in endpoints {
        let next = a.label();
        a.jump_unless(u32::from(*endpoint), next);
        a.accept();
        a.place(next);
    }
}

/// Accepts a tunnel frame that carries ARP or ICMP.
fn accept_inner(a: &mut Assembler, protocol: TunnelProtocol) {
    let [not_arp, not_icmp] = [(); 2].map(|()| a.label());
    let inner = ETHERNET + UDP + TUNNEL;
    match protocol {
        TunnelProtocol::Vxlan => {}
        // The options' length, in words of four bytes.
        TunnelProtocol::Geneve => {
            a.load_byte_at_header(ETHERNET + UDP);
            a.and(0x3f);
            a.shift_left(2);
            a.add_to_header_length();
        }
    }
    a.load_half_at_header(inner + ETHER_TYPE);
    a.jump_unless(ARP, not_arp);
    a.accept();
    a.place(not_arp);
    a.reject_unless(IPV4);
    a.load_byte_at_header(inner + ETHERNET + 9);
    a.jump_unless(PROTOCOL_ICMP, not_icmp);
    a.accept();
    a.place(not_icmp);
    a.reject();
}

#[cfg(test)]
mod tests;
