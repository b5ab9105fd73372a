//! The headers that the tap reads, in network order. In their layout, no address crosses a boundary of four bytes.

const IPPROTO_UDP: u8 = 17;
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_ETHERNET: u16 = 0x6558;
/// The length of an Ethernet header, in bytes.
const ETHERNET: usize = 14;
pub const ARP_REQUEST: u16 = 1;
pub const ARP_REPLY: u16 = 2;
/// The place of the target's IPv4 address in a frame that carries ARP.
pub const ARP_TARGET: usize = ETHERNET + 24;

/// The byte of a TCP header that has the flags, and some of them (RFC 9293, section 3.1).
pub const TCP_FLAGS: usize = 13;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;

/// The source address of an Ethernet frame, and the bytes of the frame before it.
pub type EthernetSource = [u8; 6];
pub const ETHERNET_SOURCE: u32 = 6;

/// IPv4 without options (RFC 791, section 3.1).
#[repr(C)]
pub struct Ip {
    version_ihl: u8,
    _service: u8,
    _length: u16,
    _id: u16,
    fragment: u16,
    _ttl: u8,
    protocol: u8,
    _checksum: u16,
    pub source: u32,
    _destination: u32,
}

impl Ip {
    pub fn carries_udp(&self) -> bool {
        self.version_ihl >> 4 == 4 && self.header_len() >= size_of::<Self>() && self.protocol == IPPROTO_UDP
    }

    /// Whether this is a fragment without a UDP header.
    pub fn is_later_fragment(&self) -> bool {
        u16::from_be(self.fragment) & FRAGMENT_OFFSET != 0
    }

    /// The length of the header with options, in bytes.
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }
}

#[derive(Clone, Copy)]
pub enum Tunnel {
    Vxlan,
    Geneve,
}

/// UDP (RFC 768) and the first eight bytes of the tunnel header. A VXLAN header has no more bytes.
#[repr(C)]
pub struct Transport {
    _source_port: u16,
    destination_port: u16,
    _length: u16,
    _checksum: u16,
    tunnel: [u8; 8],
}

impl Transport {
    pub fn port(&self) -> u16 {
        u16::from_be(self.destination_port)
    }

    /// VXLAN and Geneve have the VNI in the same place (RFC 7348, section 5; RFC 8926, section 3.4).
    pub fn vni(&self) -> u32 {
        let [.., high, middle, low, _] = self.tunnel;
        u32::from_be_bytes([0, high, middle, low])
    }

    /// The number of bytes from the UDP header to the inner frame, or `None` if the tunnel header is invalid.
    pub fn frame(&self, tunnel: Tunnel) -> Option<usize> {
        let [first, _, protocol @ ..] = self.tunnel;
        let (is_sound, options) = match tunnel {
            // Flag I: the VNI is valid.
            Tunnel::Vxlan => (first & 0x08 != 0, 0),
            // Version 0, an Ethernet frame inside, and the length of the options in words.
            Tunnel::Geneve => {
                let is_ethernet = u16::from_be_bytes([protocol[0], protocol[1]]) == ETHERTYPE_ETHERNET;
                (first >> 6 == 0 && is_ethernet, usize::from(first & 0x3f) * 4)
            }
        };
        is_sound.then_some(size_of::<Self>() + options)
    }
}

/// The inner frame without its first two bytes: the Ethernet header, and as many bytes as both an IPv4 header (RFC 791) and an ARP packet
/// (RFC 826) have.
#[repr(C)]
pub struct Inner {
    _destination: [u8; 4],
    pub mac: [u8; 6],
    ethertype: u16,
    /// The first byte has the version and the length of an IPv4 header.
    start: [u16; 3],
    /// In IPv4, the flags and the offset of the fragment.
    arp_operation: u16,
    /// The second byte is the protocol of IPv4.
    middle: [u16; 2],
    /// The source and the destination of IPv4; two bytes after the source, the sender of ARP.
    addresses: [[u8; 2]; 4],
}

impl Inner {
    /// The number of bytes of the frame before this struct.
    pub const SKIPPED: usize = 2;

    pub fn ip_source(&self) -> Option<u32> {
        let [[a, b], [c, d], ..] = self.addresses;
        (self.ethertype == ETHERTYPE_IPV4.to_be()).then_some(u32::from_ne_bytes([a, b, c, d]))
    }

    /// The place of the ICMP header in the frame, if this is an ICMP packet to `address`.
    pub fn icmp_to(&self, address: u32) -> Option<usize> {
        let [.., [a, b], [c, d]] = self.addresses;
        let [[version_ihl, _], [_, protocol]] = [self.start[0].to_ne_bytes(), self.middle[0].to_ne_bytes()];
        let is_icmp = self.ethertype == ETHERTYPE_IPV4.to_be() && protocol == IPPROTO_ICMP;
        let is_to = u32::from_ne_bytes([a, b, c, d]) == address;
        (is_icmp && is_to).then_some(ETHERNET + usize::from(version_ihl & 0x0f) * 4)
    }

    /// The place of the TCP header in the frame, if this is the first fragment of a TCP segment to another address than this one.
    pub fn tcp_not_to(&self, address: u32) -> Option<usize> {
        let [.., [a, b], [c, d]] = self.addresses;
        let [[version_ihl, _], [_, protocol]] = [self.start[0].to_ne_bytes(), self.middle[0].to_ne_bytes()];
        let is_first = u16::from_be(self.arp_operation) & FRAGMENT_OFFSET == 0;
        let is_tcp = self.ethertype == ETHERTYPE_IPV4.to_be() && protocol == IPPROTO_TCP && is_first;
        let is_to = u32::from_ne_bytes([a, b, c, d]) == address;
        (is_tcp && !is_to).then_some(ETHERNET + usize::from(version_ihl & 0x0f) * 4)
    }

    /// The sender of ARP, or the source of IPv4.
    pub fn sender(&self) -> Option<u32> {
        self.arp_sender().or(self.ip_source())
    }

    pub fn arp_sender(&self) -> Option<u32> {
        let [_, [a, b], [c, d], _] = self.addresses;
        self.is_arp().then_some(u32::from_ne_bytes([a, b, c, d]))
    }

    pub fn arp_operation(&self) -> Option<u16> {
        self.is_arp().then_some(u16::from_be(self.arp_operation))
    }

    fn is_arp(&self) -> bool {
        self.ethertype == ETHERTYPE_ARP.to_be()
    }
}

/// An ICMP echo (RFC 792).
#[repr(C)]
pub struct Echo {
    kind: u8,
    _code: u8,
    _checksum: u16,
    identifier: u16,
    _sequence: u16,
}

impl Echo {
    /// The identifier of an echo reply.
    pub fn reply(&self) -> Option<u16> {
        const ECHO_REPLY: u8 = 0;
        (self.kind == ECHO_REPLY).then_some(u16::from_be(self.identifier))
    }
}
