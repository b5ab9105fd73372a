//! What an inner frame of a VTEP is evidence of by itself: ARP, answers to the agent's echoes, and what TCP segments show of the pods.

use vtep_agent_ebpf::EndpointStats;

use crate::{
    headers::{
        ARP_OPERATION, ARP_REPLY, ARP_REQUEST, ARP_TARGET, ECHO_HEADER, ECHO_ID, ECHO_REPLY, ETHERNET_HEADER,
        FragmentWord, ICMP, IP_DESTINATION, IP_FRAGMENT, TCP, TCP_ACK, TCP_FLAGS, TCP_RST, TCP_SYN,
    },
    packet::Packet,
    targets::{echo_id, router},
};

const SECOND_NS: u64 = 1_000_000_000;

/// Counts ARP by its operation, and returns whether it is a reply.
#[inline(always)]
pub fn note_arp(packet: Packet, frame: u64, stats: &mut EndpointStats) -> bool {
    let operation = packet.half(frame + ETHERNET_HEADER + ARP_OPERATION);
    let (is_reply, is_request) = (operation == ARP_REPLY, operation == ARP_REQUEST);
    // Without branches: from these the compiler would make a choice of a field, and without `CAP_PERFMON` the verifier refuses that.
    stats.arp_replies += u64::from(is_reply);
    stats.arp_requests += u64::from(is_request);
    if is_request && packet.length() >= frame + ETHERNET_HEADER + ARP_TARGET + 4 {
        stats.asked_for_us += u64::from(packet.address(frame + ETHERNET_HEADER + ARP_TARGET) == router());
    }
    is_reply
}

/// Records what an IPv4 packet shows.
#[inline(always)]
pub fn note_kind(packet: Packet, frame: u64, stats: &mut EndpointStats) {
    let piece = FragmentWord(packet.word(frame + ETHERNET_HEADER + IP_FRAGMENT));
    let is_to_router = packet.address(frame + ETHERNET_HEADER + IP_DESTINATION) == router();
    match piece.protocol() {
        TCP if !is_to_router && !piece.is_later_fragment() && !are_pods_known(stats) => note_tcp(packet, frame, stats),
        ICMP if is_to_router => note_icmp(packet, frame, stats),
        _ => {}
    }
}

/// Counts an ICMP packet to this node if it answers one of the agent's own echoes.
#[inline(always)]
fn note_icmp(packet: Packet, frame: u64, stats: &mut EndpointStats) {
    let icmp = after_ip(packet, frame);
    if packet.length() >= icmp + ECHO_HEADER
        && packet.byte(icmp) == ECHO_REPLY
        && packet.half(icmp + ECHO_ID) == u64::from(echo_id())
    {
        stats.echo_replies += 1;
    }
}

/// Whether a segment would show nothing new: one in a second is enough.
#[inline(always)]
pub fn are_pods_known(stats: &EndpointStats) -> bool {
    stats.pods_answered_ns != 0 && stats.tunnel.last_seen_ns.wrapping_sub(stats.pods_answered_ns) < SECOND_NS
}

/// Records what a TCP segment from BIG-IP shows of the pods: it opens a connection, or it acknowledges what a pod has sent.
#[inline(always)]
fn note_tcp(packet: Packet, frame: u64, stats: &mut EndpointStats) {
    let flags = after_ip(packet, frame) + TCP_FLAGS;
    if packet.length() < flags + 1 {
        return;
    }
    let flags = packet.byte(flags) & (TCP_SYN | TCP_RST | TCP_ACK);
    let now = stats.tunnel.last_seen_ns;
    // Without branches, as above.
    let (opens, answered) = (mask(flags == TCP_SYN), mask(flags == TCP_ACK));
    stats.pods_asked_ns = (now & opens) | (stats.pods_asked_ns & !opens);
    stats.pods_answered_ns = (now & answered) | (stats.pods_answered_ns & !answered);
}

/// All bits, or none: a choice of values without a branch.
#[inline(always)]
pub fn mask(is_set: bool) -> u64 {
    u64::from(is_set).wrapping_neg()
}

/// The place after the inner IPv4 header.
#[inline(always)]
fn after_ip(packet: Packet, frame: u64) -> u64 {
    frame + ETHERNET_HEADER + (packet.byte(frame + ETHERNET_HEADER) & 0x0f) * 4
}
