//! The way of most frames: it writes nothing on the stack. It knows only frames without options, neither of IPv4 nor of the tunnel, so that
//! every number has a constant place, and the few values that it needs at one time have registers.

use aya_ebpf::helpers::generated::bpf_jiffies64;

use crate::{
    VTEP_VNI,
    headers::{
        ETHERNET_HEADER, ETHERTYPE, FragmentWord, ICMP, INNER, IP_DESTINATION, IP_FRAGMENT, IP_HEADER, IP_SOURCE, IPV4,
        TCP, TUNNEL_HEADER, TUNNEL_VNI, Tunnel, UDP, UDP_HEADER, UDP_PORT, ip_header, tunnel_options,
    },
    kinds::are_pods_known,
    packet::Packet,
    place,
    targets::{Owner, configured_port, configured_tunnel, endpoint, is_far, owner_of, router, tunnel_of},
};

/// From this type on, a packet is not for this node, or does not arrive.
const PACKET_OTHERHOST: u32 = 3;

/// The places of the headers without options.
const TUNNEL: u64 = IP_HEADER + UDP_HEADER;
const FRAME: u64 = TUNNEL + TUNNEL_HEADER;
const INNER_IP: u64 = FRAME + ETHERNET_HEADER;

/// Counts a usual frame. `false` means that the frame is not a usual one, and that nothing of it is counted.
#[inline(always)]
pub fn is_dealt_with(packet: Packet) -> bool {
    if packet.kind() >= PACKET_OTHERHOST {
        return true;
    }
    // The protocol comes first, because most packets of a node are TCP.
    let piece = FragmentWord(packet.word(IP_FRAGMENT));
    if piece.protocol() != UDP {
        return true;
    }
    if piece.is_later_fragment() || ip_header(packet.byte(0)) != IP_HEADER {
        return false;
    }
    // A packet that is too short for a port ends the program here, and is no tunnel frame.
    let Some(tunnel) = tunnel_of(port(packet)) else { return true };
    if packet.length() < FRAME + INNER {
        return false;
    }
    let Some(sender) = endpoint(packet.address(IP_SOURCE)) else {
        return vni(packet) != VTEP_VNI || is_from_elsewhere(packet, tunnel);
    };
    if vni(packet) != VTEP_VNI || port(packet) != configured_port() || !is_plain(packet, configured_tunnel()) {
        return false;
    }
    let source = packet.address(INNER_IP + IP_SOURCE);
    if !sender.is_home_of(source) && owner_of(source, sender.address) != Owner::Sender {
        return false;
    }
    let Some(stats) = place(sender) else { return true };
    // The first such frame of a tick has the inner addresses, and the time. SAFETY: the helper has no arguments. The kernel inlines it.
    if stats.own_tick != unsafe { bpf_jiffies64() } {
        return false;
    }
    let protocol = FragmentWord(packet.word(INNER_IP + IP_FRAGMENT)).protocol();
    if protocol == TCP && !are_pods_known(stats) {
        return false;
    }
    if protocol == ICMP && packet.address(INNER_IP + IP_DESTINATION) == router() {
        return false;
    }
    stats.tunnel.packets += 1;
    stats.tunnel.bytes += packet.length();
    true
}

#[inline(always)]
fn port(packet: Packet) -> u64 {
    packet.half(IP_HEADER + UDP_PORT)
}

#[inline(always)]
fn vni(packet: Packet) -> u64 {
    packet.word(TUNNEL + TUNNEL_VNI) >> 8
}

/// Whether it has a valid tunnel header without options, and an IPv4 packet inside.
#[inline(always)]
fn is_plain(packet: Packet, tunnel: Tunnel) -> bool {
    tunnel_options(packet.word(TUNNEL), tunnel) == Some(0) && packet.half(FRAME + ETHERTYPE) == IPV4
}

/// Frames of other nodes with traffic from outside the cluster also have the VNI of VTEP traffic. They need not be valid to be of no interest.
#[inline(always)]
fn is_from_elsewhere(packet: Packet, tunnel: Tunnel) -> bool {
    let has_options = match tunnel {
        Tunnel::Vxlan => false,
        Tunnel::Geneve => tunnel_options(packet.word(TUNNEL), tunnel) != Some(0),
    };
    !has_options && packet.half(FRAME + ETHERTYPE) == IPV4 && is_far(packet.address(INNER_IP + IP_SOURCE))
}
