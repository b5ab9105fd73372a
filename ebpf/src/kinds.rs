//! What an inner frame is evidence of by itself: its kind, and what a TCP segment shows of the pods.

use aya_ebpf::programs::SkBuffContext;

use super::{ENDPOINTS, TARGETS, load};
use crate::headers::{ARP_REPLY, ARP_REQUEST, ARP_TARGET, Echo, Inner, TCP_ACK, TCP_FLAGS, TCP_RST, TCP_SYN};

const SECOND_NS: u64 = 1_000_000_000;

/// The kinds of inner frames that are evidence by themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ArpReply,
    ArpRequest,
    /// It asks for this node's address inside the tunnel.
    ArpRequestForUs,
    /// It answers one of the agent's own echoes.
    EchoReply,
    Other,
}

/// Only ARP requests and ICMP to this node's address inside the tunnel need another call.
pub fn kind_of(ctx: &SkBuffContext, frame: usize, inner: &Inner) -> Kind {
    match inner.arp_operation() {
        Some(ARP_REPLY) => return Kind::ArpReply,
        Some(ARP_REQUEST) => {
            let Ok(target) = load::<u32>(ctx, frame + ARP_TARGET) else { return Kind::ArpRequest };
            return if is_router(target) { Kind::ArpRequestForUs } else { Kind::ArpRequest };
        }
        _ => {}
    }
    let Some(icmp) = TARGETS.get(0).and_then(|targets| inner.icmp_to(targets.router)) else { return Kind::Other };
    let id = load::<Echo>(ctx, frame + icmp).ok().and_then(|echo| echo.reply());
    let Some(id) = id else { return Kind::Other };
    if TARGETS.get(0).is_some_and(|targets| targets.echo_id == u32::from(id)) { Kind::EchoReply } else { Kind::Other }
}

/// What a TCP segment from BIG-IP shows of the pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// It opens a connection.
    Opens,
    /// BIG-IP acknowledges what a pod has sent.
    Answered,
    Nothing,
}

/// One segment in a second is enough: the others need no call.
pub fn tcp_of(ctx: &SkBuffContext, place: u32, frame: usize, inner: &Inner) -> Tcp {
    let Some(tcp) = TARGETS.get(0).and_then(|targets| inner.tcp_not_to(targets.router)) else { return Tcp::Nothing };
    let is_known = ENDPOINTS.get(place).is_some_and(|stats| {
        stats.pods_answered_ns != 0 && stats.tunnel.last_seen_ns.wrapping_sub(stats.pods_answered_ns) < SECOND_NS
    });
    if is_known {
        return Tcp::Nothing;
    }
    let Ok(flags) = load::<u8>(ctx, frame + tcp + TCP_FLAGS) else { return Tcp::Nothing };
    match flags & (TCP_SYN | TCP_RST | TCP_ACK) {
        TCP_SYN => Tcp::Opens,
        TCP_ACK => Tcp::Answered,
        _ => Tcp::Nothing,
    }
}

fn is_router(address: u32) -> bool {
    TARGETS.get(0).is_some_and(|targets| targets.router == address)
}
