//! The words for one frame.

use std::net::Ipv4Addr;

use crate::{
    capture::{
        Direction, Known,
        packet::{Content, Inner, Ip, Packet, TcpFlags, TunnelFrame},
    },
    config::spec::TunnelProtocol,
    tunnel::frames::{Arp, ArpKind, VTEP_VNI},
    types::mac::Mac,
};

pub(super) fn of(packet: &Packet, direction: Direction, known: &Known) -> String {
    match packet {
        Packet::Arp(kind, arp) => of_arp(*kind, arp, known),
        Packet::Ip(ip) => of_ip(ip, known),
        Packet::Tunnel(frame) => of_tunnel(frame, direction, known),
        Packet::Other => "a frame of another kind".to_owned(),
    }
}

/// ARP that arrived through the tunnel, as Cilium's tunnel device shows it: the sender is behind a VTEP.
pub(super) fn is_on_tunnel_device(packet: &Packet, known: &Known) -> bool {
    matches!(packet, Packet::Arp(ArpKind::Request, arp) if known.behind(arp.sender).is_some())
}

/// Who has this address.
fn who(address: Ipv4Addr, known: &Known) -> String {
    match known.endpoints.get(&address) {
        Some(endpoint) => endpoint.clone(),
        None if known.node.contains(&address) => format!("this node ({address})"),
        None if Some(address) == known.router => format!("this node ({address})"),
        None if known.next_hops.contains(&address) => format!("the gateway {address}"),
        None => address.to_string(),
    }
}

fn of_arp(kind: ArpKind, arp: &Arp, known: &Known) -> String {
    let Arp { sender_mac, sender, target_mac: _, target } = arp;
    match kind {
        _ if sender == target => format!("{} announces itself at {sender_mac}", who(*sender, known)),
        ArpKind::Request => format!("{} asks who has {}", who(*sender, known), bare(*target, known)),
        ArpKind::Reply => {
            format!("{} is at {sender_mac}, for {}{}", bare(*sender, known), who(*target, known), zeros(*sender_mac))
        }
    }
}

/// The address, with the word for its owner where that adds something.
fn bare(address: Ipv4Addr, known: &Known) -> String {
    if known.endpoints.contains_key(&address) { who(address, known) } else { address.to_string() }
}

/// Cilium 1.18.0 to 1.18.7 and others answer so, and BIG-IP cannot use it.
fn zeros(mac: Mac) -> &'static str {
    if mac.is_zero() { "; a MAC of zeros is no answer: this release of Cilium is broken for VTEPs" } else { "" }
}

fn of_ip(ip: &Ip, known: &Known) -> String {
    let (source, destination) = (who(ip.source, known), who(ip.destination, known));
    content(ip, &source, &destination)
}

fn content(ip: &Ip, source: &str, destination: &str) -> String {
    match ip.content {
        Content::EchoRequest(_) => format!("{source} pings {destination}"),
        Content::EchoReply(_) => format!("{source} answers the ping of {destination}"),
        Content::Icmp { kind, code, about, mtu } => {
            let about = about.map(|about| format!(" about a packet to {about}")).unwrap_or_default();
            let mtu = mtu.map(|mtu| format!(", the next network takes {mtu} bytes")).unwrap_or_default();
            format!("{source} tells {destination}{about}: {}{mtu}", icmp_words(kind, code))
        }
        Content::Tcp { source: from, destination: to, flags } => {
            format!("TCP from {source} port {from} to {destination} port {to}{}", flag_words(flags))
        }
        Content::Udp { source: from, destination: to } => {
            format!("UDP from {source} port {from} to {destination} port {to}")
        }
        Content::Fragment => format!("a further piece of a packet from {source} to {destination}"),
        Content::Other(protocol) => format!("IP protocol {protocol} from {source} to {destination}"),
    }
}

/// RFC 792 and RFC 1812.
fn icmp_words(kind: u8, code: u8) -> String {
    match (kind, code) {
        (3, 0) => "network unreachable".to_owned(),
        (3, 1) => "host unreachable".to_owned(),
        (3, 3) => "nobody listens on the port".to_owned(),
        (3, 4) => "too large, and it must not be split".to_owned(),
        (3, 9 | 10 | 13) => "forbidden by a filter".to_owned(),
        (3, _) => format!("unreachable, code {code}"),
        (11, _) => "it was under way too long".to_owned(),
        _ => format!("ICMP type {kind}, code {code}"),
    }
}

fn flag_words(TcpFlags { syn, ack, fin, rst }: TcpFlags) -> &'static str {
    match (syn, ack, fin, rst) {
        (_, _, _, true) => " (reset)",
        (true, false, ..) => " (opens a connection)",
        (true, true, ..) => " (accepts a connection)",
        (false, _, true, false) => " (closes a connection)",
        (false, _, false, false) => "",
    }
}

fn of_tunnel(frame: &TunnelFrame, direction: Direction, known: &Known) -> String {
    let peer = match direction {
        Direction::In => frame.source,
        Direction::Out => frame.destination,
    };
    let peer_words = known.endpoints.get(&peer).cloned().unwrap_or_else(|| peer.to_string());
    let words = match (&frame.inner, direction) {
        (Inner::Arp(ArpKind::Request, arp), Direction::In) => format!("{peer_words} asks who has {}", arp.target),
        (Inner::Arp(ArpKind::Request, arp), Direction::Out) => {
            format!("this node asks {peer_words} who has {}", arp.target)
        }
        (Inner::Arp(ArpKind::Reply, arp), Direction::In) => {
            format!("{peer_words} answers that {} is at {}", arp.sender, arp.sender_mac)
        }
        (Inner::Arp(ArpKind::Reply, arp), Direction::Out) => {
            let zeros = zeros(arp.sender_mac);
            format!("this node answers {peer_words} that {} is at {}{zeros}", arp.sender, arp.sender_mac)
        }
        (Inner::Ip(ip), Direction::In) => {
            format!("{}, from {peer_words}", content(ip, &ip.source.to_string(), &ip.destination.to_string()))
        }
        (Inner::Ip(ip), Direction::Out) => {
            format!("{}, to {peer_words}", content(ip, &ip.source.to_string(), &ip.destination.to_string()))
        }
        (Inner::Other, Direction::In) => format!("a tunnel frame from {peer_words}"),
        (Inner::Other, Direction::Out) => format!("a tunnel frame to {peer_words}"),
    };
    words + &remarks(frame, direction, peer, known)
}

/// What is not as it must be.
fn remarks(frame: &TunnelFrame, direction: Direction, peer: Ipv4Addr, known: &Known) -> String {
    let mut remarks = String::new();
    let tunnel = known.tunnel;
    if frame.port != tunnel.port {
        remarks += &format!("; it goes to UDP port {}, and this node's tunnel has {}", frame.port, tunnel.port);
    }
    match frame.vni {
        Some(VTEP_VNI) => {}
        Some(vni) => remarks += &format!("; its VNI is {vni}, and VTEP traffic has {VTEP_VNI}"),
        None if frame.port == tunnel.port => {
            let kind = match tunnel.protocol {
                TunnelProtocol::Vxlan => "VXLAN",
                TunnelProtocol::Geneve => "Geneve",
            };
            remarks += &format!("; it has no {kind} header");
        }
        None => {}
    }
    if direction == Direction::In {
        remarks += &sender_remark(frame, peer, known);
    }
    remarks
}

/// Whether the inner source belongs to whoever sent the frame.
fn sender_remark(frame: &TunnelFrame, peer: Ipv4Addr, known: &Known) -> String {
    let inner = match &frame.inner {
        Inner::Arp(_, arp) => arp.sender,
        Inner::Ip(ip) => ip.source,
        Inner::Other => return String::new(),
    };
    match known.behind(inner) {
        Some(endpoint) if endpoint == peer => String::new(),
        Some(endpoint) => {
            let owner = who(endpoint, known);
            match known.endpoints.contains_key(&peer) {
                true => format!("; {inner} is behind {owner}"),
                false => format!("; {inner} is behind {owner}, and no VTEP has the endpoint {peer}"),
            }
        }
        None if known.endpoints.contains_key(&peer) => format!("; {inner} is in no VTEP's network"),
        None => String::new(),
    }
}
