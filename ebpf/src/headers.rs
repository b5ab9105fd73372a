//! The headers that the tap reads: where their fields are, and what they mean.

pub const UDP: u64 = 17;
pub const ICMP: u64 = 1;
pub const TCP: u64 = 6;
pub const IPV4: u64 = 0x0800;
pub const ARP: u64 = 0x0806;
const ETHERNET: u64 = 0x6558;
/// The length of an Ethernet header, and the places of its source and of the type in it.
pub const ETHERNET_HEADER: u64 = 14;
pub const ETHERNET_SOURCE: u64 = 6;
pub const ETHERTYPE: u64 = 12;

/// The shortest header of IPv4 (RFC 791, section 3.1), and places in it.
pub const IP_HEADER: u64 = 20;
pub const IP_SOURCE: u64 = 12;
pub const IP_DESTINATION: u64 = 16;
/// The word with flags and offset of a fragment, TTL and protocol.
pub const IP_FRAGMENT: u64 = 6;

/// ARP for IPv4 on Ethernet (RFC 826).
pub const ARP_REQUEST: u64 = 1;
pub const ARP_REPLY: u64 = 2;
pub const ARP_OPERATION: u64 = 6;
pub const ARP_SENDER: u64 = 14;
pub const ARP_TARGET: u64 = 24;

/// An inner frame has at least an Ethernet header, and as many bytes as both an IPv4 header and an ARP packet have.
pub const INNER: u64 = ETHERNET_HEADER + IP_HEADER;

/// The place of the destination's port in a UDP header (RFC 768), and the length of the header.
pub const UDP_PORT: u64 = 2;
pub const UDP_HEADER: u64 = 8;
/// The first bytes of a tunnel header, and the VNI in it with the byte after it: VXLAN and Geneve have it in the same place (RFC 7348, section
/// 5; RFC 8926, section 3.4). A VXLAN header has no more bytes.
pub const TUNNEL_HEADER: u64 = 8;
pub const TUNNEL_VNI: u64 = 4;

/// The byte of a TCP header that has the flags, and some of them (RFC 9293, section 3.1).
pub const TCP_FLAGS: u64 = 13;
pub const TCP_SYN: u64 = 0x02;
pub const TCP_RST: u64 = 0x04;
pub const TCP_ACK: u64 = 0x10;

/// Places in an ICMP echo (RFC 792), and the kind of a reply.
pub const ECHO_HEADER: u64 = 8;
pub const ECHO_ID: u64 = 4;
pub const ECHO_REPLY: u64 = 0;

/// A word of an IPv4 header, at `IP_FRAGMENT`.
#[derive(Clone, Copy)]
pub struct FragmentWord(pub u64);

impl FragmentWord {
    #[inline(always)]
    pub fn protocol(self) -> u64 {
        self.0 & 0xff
    }

    /// Whether this is a fragment without the header of its protocol.
    #[inline(always)]
    pub fn is_later_fragment(self) -> bool {
        self.0 & 0x1fff_0000 != 0
    }
}

/// The length of an IPv4 header with options, from its first byte; zero if it is none.
#[inline(always)]
pub fn ip_header(first: u64) -> u64 {
    let length = (first & 0x0f) * 4;
    if first >> 4 == 4 && length >= IP_HEADER { length } else { 0 }
}

#[derive(Clone, Copy)]
pub enum Tunnel {
    Vxlan,
    Geneve,
}

/// The length of the options behind a tunnel header, from its first word; `None` if the header is invalid.
#[inline(always)]
pub fn tunnel_options(start: u64, tunnel: Tunnel) -> Option<u64> {
    match tunnel {
        // Flag I: the VNI is valid.
        Tunnel::Vxlan => (start & 0x0800_0000 != 0).then_some(0),
        // Version 0, an Ethernet frame inside, and the length of the options in words.
        Tunnel::Geneve => (start & 0xc000_ffff == ETHERNET).then_some((start >> 24 & 0x3f) * 4),
    }
}
