//! What a captured frame is. A capture cuts frames, so a length in a header may be larger than the bytes that are there.

use std::net::Ipv4Addr;

use etherparse::{EtherType, Ethernet2Slice, Icmpv4Slice, IpNumber, LaxIpv4Slice, TcpHeaderSlice, UdpSlice};

use super::{Captured, Direction, Known, filter::USUAL_PORTS};
use crate::{
    config::spec::{Tunnel, TunnelProtocol},
    tunnel::frames::{self, Arp, ArpKind, Echo},
    types::mac::Mac,
};

/// A frame, as far as a capture knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Arp(ArpKind, Arp),
    Ip(Ip),
    Tunnel(TunnelFrame),
    /// Something else, or too short.
    Other,
}

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Its length, as its header says.
    pub length: u16,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    EchoRequest(EchoMessage),
    EchoReply(EchoMessage),
    /// Type and code of another ICMP message; an error has the packet's destination that it is about.
    Icmp {
        kind: u8,
        code: u8,
        about: Option<Ipv4Addr>,
        mtu: Option<u16>,
    },
    Tcp {
        source: u16,
        destination: u16,
        flags: TcpFlags,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    /// A piece behind the first one.
    Fragment,
    /// The protocol's number.
    Other(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoMessage {
    pub echo: Echo,
    /// Its data is zeros: the agent's echoes are such, and those of `ping` are not.
    pub is_zeros: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
}

/// A frame of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelFrame {
    /// Outer addresses.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Outer UDP destination port.
    pub port: u16,
    /// `None`: the header is none of this kind of tunnel, or has no VNI.
    pub vni: Option<u32>,
    /// Source MAC of the inner frame.
    pub mac: Option<Mac>,
    pub inner: Inner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    Arp(ArpKind, Arp),
    Ip(Ip),
    Other,
}

impl Packet {
    #[must_use]
    pub fn decode(frame: &[u8], tunnel: Tunnel) -> Self {
        let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return Self::Other };
        let payload = ethernet.payload().payload;
        match ethernet.ether_type() {
            EtherType::ARP => frames::arp(payload).map_or(Self::Other, |(kind, arp)| Self::Arp(kind, arp)),
            EtherType::IPV4 => match tunnel_frame(payload, tunnel) {
                Some(tunnel) => Self::Tunnel(tunnel),
                None => ip(payload).map_or(Self::Other, Self::Ip),
            },
            _ => Self::Other,
        }
    }

    /// Traffic through a tunnel, which may come at the line's rate: neither ARP nor ICMP.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        let is_icmp =
            |ip: &Ip| matches!(ip.content, Content::EchoRequest(_) | Content::EchoReply(_) | Content::Icmp { .. });
        match self {
            Self::Arp(..) | Self::Other => false,
            Self::Ip(ip) => !is_icmp(ip),
            Self::Tunnel(frame) => match &frame.inner {
                Inner::Arp(..) => false,
                Inner::Ip(ip) => !is_icmp(ip),
                Inner::Other => true,
            },
        }
    }

    /// Which of the agent's probes it is, or answers, in words for a comment in the file.
    #[must_use]
    pub fn probe(&self, direction: Direction, known: &Known) -> Option<String> {
        let is_ours = |address: &Ipv4Addr| Some(*address) == known.router || known.node.contains(address);
        let words = |what: String| match direction {
            Direction::Out => format!("probe of vtep-agent: {what}"),
            Direction::In => format!("answer to a probe of vtep-agent: {what}"),
        };
        match (self, direction) {
            (Self::Tunnel(TunnelFrame { inner: Inner::Arp(ArpKind::Request, arp), .. }), Direction::Out) => {
                is_ours(&arp.sender).then(|| words(format!("ARP for {} through the tunnel", arp.target)))
            }
            (Self::Tunnel(TunnelFrame { inner: Inner::Arp(ArpKind::Reply, arp), .. }), Direction::In) => {
                is_ours(&arp.target).then(|| words(format!("{} has {}", arp.sender_mac, arp.sender)))
            }
            (Self::Tunnel(TunnelFrame { inner: Inner::Ip(ip), .. }), _) => {
                let of = if ip.length > ORDINARY { "echo of the largest size" } else { "echo" };
                ip.is_probe(direction, is_ours).then(|| words(format!("{of} through the tunnel, {} bytes", ip.length)))
            }
            (Self::Ip(ip), _) => ip.is_probe(direction, is_ours).then(|| words("echo beside the tunnel".to_owned())),
            (Self::Tunnel(_) | Self::Arp(..) | Self::Other, _) => None,
        }
    }
}

/// The length of an ordinary echo of the agent, in bytes; those that measure the path MTU are longer.
const ORDINARY: u16 = 84;

impl Ip {
    fn is_probe(&self, direction: Direction, is_ours: impl Fn(&Ipv4Addr) -> bool) -> bool {
        match (&self.content, direction) {
            (Content::EchoRequest(message), Direction::Out) => message.is_zeros && is_ours(&self.source),
            (Content::EchoReply(message), Direction::In) => message.is_zeros && is_ours(&self.destination),
            (_, _) => false,
        }
    }
}

impl Captured {
    #[must_use]
    pub fn decode(&self, tunnel: Tunnel) -> Packet {
        Packet::decode(&self.bytes, tunnel)
    }
}

fn tunnel_frame(packet: &[u8], tunnel: Tunnel) -> Option<TunnelFrame> {
    let (outer, _) = LaxIpv4Slice::from_slice(packet).ok()?;
    let payload = outer.payload();
    if payload.fragmented && outer.header().fragments_offset().value() != 0 || payload.ip_number != IpNumber::UDP {
        return None;
    }
    let udp = UdpSlice::from_slice_lax(payload.payload).ok()?;
    let port = udp.destination_port();
    if port != tunnel.port && !USUAL_PORTS.contains(&port) {
        return None;
    }
    let opened = frames::open_tunnel(udp.payload(), protocol(port, tunnel));
    let (inner, mac) = opened.map_or((Inner::Other, None), |(_, frame)| (inner(frame), mac(frame)));
    Some(TunnelFrame {
        source: outer.header().source_addr(),
        destination: outer.header().destination_addr(),
        port,
        vni: opened.map(|(vni, _)| vni),
        mac,
        inner,
    })
}

/// The kind of tunnel that this port has.
fn protocol(port: u16, tunnel: Tunnel) -> TunnelProtocol {
    match port {
        _ if port == tunnel.port => tunnel.protocol,
        6081 => TunnelProtocol::Geneve,
        _ => TunnelProtocol::Vxlan,
    }
}

fn mac(frame: &[u8]) -> Option<Mac> {
    Some(Ethernet2Slice::from_slice_without_fcs(frame).ok()?.source().into())
}

fn inner(frame: &[u8]) -> Inner {
    let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return Inner::Other };
    let payload = ethernet.payload().payload;
    match ethernet.ether_type() {
        EtherType::ARP => frames::arp(payload).map_or(Inner::Other, |(kind, arp)| Inner::Arp(kind, arp)),
        EtherType::IPV4 => ip(payload).map_or(Inner::Other, Inner::Ip),
        _ => Inner::Other,
    }
}

fn ip(packet: &[u8]) -> Option<Ip> {
    let (ip, _) = LaxIpv4Slice::from_slice(packet).ok()?;
    let header = ip.header();
    let (number, bytes) = (ip.payload().ip_number, ip.payload().payload);
    let content = match number {
        _ if header.fragments_offset().value() != 0 => Content::Fragment,
        IpNumber::ICMP => icmp(bytes, header.total_len()).unwrap_or(Content::Other(number.0)),
        IpNumber::TCP => tcp(bytes).unwrap_or(Content::Other(number.0)),
        IpNumber::UDP => UdpSlice::from_slice_lax(bytes).map_or(Content::Other(number.0), |udp| Content::Udp {
            source: udp.source_port(),
            destination: udp.destination_port(),
        }),
        _ => Content::Other(number.0),
    };
    Some(Ip {
        source: header.source_addr(),
        destination: header.destination_addr(),
        length: header.total_len(),
        content,
    })
}

fn icmp(bytes: &[u8], length: u16) -> Option<Content> {
    /// RFC 792.
    const ECHO_REPLY: u8 = 0;
    const UNREACHABLE: u8 = 3;
    const ECHO_REQUEST: u8 = 8;
    const TIME_EXCEEDED: u8 = 11;
    let icmp = Icmpv4Slice::from_slice(bytes).ok()?;
    let [a, b, c, d] = icmp.bytes5to8();
    let echo = || EchoMessage {
        echo: Echo { id: u16::from_be_bytes([a, b]), sequence: u16::from_be_bytes([c, d]) },
        is_zeros: length > 28 && icmp.payload().iter().all(|byte| *byte == 0),
    };
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    Some(match kind {
        ECHO_REQUEST => Content::EchoRequest(echo()),
        ECHO_REPLY => Content::EchoReply(echo()),
        UNREACHABLE | TIME_EXCEEDED => {
            // Behind the eight bytes of the header is that of the packet, perhaps cut.
            let about = bytes.get(8 + 16..8 + 20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
            // RFC 1191: fragmentation needed, with the next hop's MTU.
            let mtu = ((kind, code) == (UNREACHABLE, 4)).then(|| u16::from_be_bytes([c, d]));
            Content::Icmp { kind, code, about, mtu }
        }
        _ => Content::Icmp { kind, code, about: None, mtu: None },
    })
}

fn tcp(bytes: &[u8]) -> Option<Content> {
    // Ports and flags are in the part without options, and a capture may cut the options.
    let mut header = *bytes.first_chunk::<20>()?;
    header[12] = 5 << 4 | header[12] & 0x0f;
    let tcp = TcpHeaderSlice::from_slice(&header).ok()?;
    Some(Content::Tcp {
        source: tcp.source_port(),
        destination: tcp.destination_port(),
        flags: TcpFlags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() },
    })
}
