//! The records that the tap writes in the kernel and the agent reads: plain bytes and integers in host order, without padding.
#![no_std]

/// The VNI of VTEP traffic: Cilium takes the VNI for the sender's identity, and 2 is "world".
pub const VTEP_VNI: u32 = 2;

/// How many endpoints and networks the tap can match: twice as many as `cilium_vtep_map` holds.
pub const TARGETS_MAX: usize = 16;

/// The size of the map `FLOWS`, which drops the streams that were silent for longest. It has room for several ports and VNIs of every
/// endpoint; a sender that invents more displaces only streams of this map. The tap does not record other sources: between Cilium's nodes
/// the VNI is the sender's identity, and a cluster has thousands of identities.
///
/// Of a flood, between 1 and 256 streams are left when it ends: before Linux 6.17 each CPU sets up to 128 places aside for streams to come
/// (`LOCAL_FREE_TARGET`, kernel/bpf/bpf_lru_list.c). A stream that persists comes back with its next frame.
pub const FLOWS_MAX: u32 = 256;

/// The size of the map `UNEXPECTED`, which drops its oldest entries. It is separate so that it cannot displace the flows of endpoints.
pub const UNEXPECTED_MAX: u32 = 64;

/// How many bytes of an outer packet the tap passes to the agent. Outer IPv4 with options, UDP, Geneve with options, Ethernet and ARP fit.
pub const SNAP_LEN: u32 = 512;

/// The map with the tap's data: its only value is `Targets`.
pub const TARGETS_MAP: &str = ".data.targets";

/// The addresses that the tap matches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Outer sources: the configured VTEP endpoints. An endpoint must not change its place here while it is configured.
    pub endpoints: [Endpoint; TARGETS_MAX],
    /// The default, for all other sources: a search that finds no endpoint ends here.
    pub nobody: Endpoint,
    /// The VTEP CIDRs.
    pub networks: [Network; TARGETS_MAX],
    /// The smallest network that contains all of them. Its endpoint has no meaning.
    pub around: Network,
    /// This node's address inside the tunnel, in network order; zero if it is not known.
    pub router: u32,
    /// The identifier of the agent's own echoes, in host order.
    pub echo_id: u32,
    pub reserved: [u8; 4],
    /// A bit for each endpoint: of the frames of other nodes, most need no comparison with the endpoints.
    pub sieve: u64,
}

impl Targets {
    /// The place of an address in `sieve`: its last six bits. Neighbours on the underlay mostly differ in them.
    #[must_use]
    #[inline(always)]
    pub fn sieve_place(address: u32) -> u32 {
        u32::from_be(address) & 63
    }
}

/// A VTEP endpoint. The default has an address that sends nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// In network order.
    pub address: u32,
    /// Its place in the map `ENDPOINTS`; `NOWHERE` if it is none.
    pub place: u32,
    /// One of its VTEP CIDRs, in network order. The tap compares the inner sources with it first.
    pub home_address: u32,
    pub home_mask: u32,
}

impl Endpoint {
    pub const NOWHERE: u32 = u32::MAX;
    /// The default: it has no place, and no address is in its VTEP CIDR.
    pub const NONE: Self = Self { address: 0, place: Self::NOWHERE, home_address: !0, home_mask: 0 };

    #[must_use]
    #[inline(always)]
    pub fn is_home_of(&self, address: u32) -> bool {
        address & self.home_mask == self.home_address
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::NONE
    }
}

/// A VTEP CIDR, in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: u32,
    pub mask: u32,
    /// The endpoint of this VTEP.
    pub endpoint: u32,
}

impl Network {
    /// The default: it contains no address. No network behind it is in use.
    pub const NONE: Self = Self { address: !0, mask: 0, endpoint: 0 };

    #[must_use]
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.address == Self::NONE.address
    }

    #[must_use]
    #[inline(always)]
    pub fn contains(self, address: u32) -> bool {
        address & self.mask == self.address
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::NONE
    }
}

/// One flow of tunnel frames that arrives on the underlay and is not the configured tunnel: another VNI, or another port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Outer IPv4 source, in network order.
    pub source: [u8; 4],
    /// The VXLAN network identifier, 24 bits, in host order.
    pub vni: u32,
    /// Outer UDP destination port, in host order.
    pub port: u16,
    /// Always zero, so that every byte of the key is defined.
    pub reserved: [u8; 2],
}

/// What one CPU has seen of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Packets as the packet socket sees them: packets that the NIC or GRO has merged count as one.
    pub packets: u64,
    /// The total length of the outer IPv4 packets, in bytes.
    pub bytes: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` at the first frame of the last tick with a frame.
    pub last_seen_ns: u64,
    /// That tick, in jiffies.
    pub last_tick: u64,
    /// Source MAC of the last inner frame.
    pub inner_mac: [u8; 6],
    pub reserved: [u8; 2],
    /// Source of the last inner IPv4 packet from a VTEP CIDR of the sender, in network order; zero if there was none. In a stream of such
    /// packets, only the first one of a tick is recorded, and its MAC.
    pub inner_source: [u8; 4],
    /// Sender of the last inner ARP packet, in network order; zero if there was none.
    pub arp_sender: [u8; 4],
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last inner IPv4 packet whose source lies outside every VTEP CIDR; zero if there was
    /// none.
    pub foreign_seen_ns: u64,
    /// That source, in network order.
    pub foreign_source: [u8; 4],
    pub reserved2: [u8; 4],
}

/// What one CPU has seen of one endpoint: a value of the map `ENDPOINTS`. Nothing that arrives can displace it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Its VTEP traffic on the configured port.
    pub tunnel: FlowStats,
    /// Packets and bytes of all its other flows, including those that are no longer in the map `FLOWS`.
    pub other_packets: u64,
    pub other_bytes: u64,
    /// Its VTEP traffic on the configured port by kind: inner ARP requests and replies.
    pub arp_requests: u64,
    pub arp_replies: u64,
    /// The ARP requests among them that ask for this node's address inside the tunnel.
    pub asked_for_us: u64,
    /// Inner answers to the agent's own echoes.
    pub echo_replies: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last TCP segment that opens a connection to a pod (SYN), and at the last one that shows that a
    /// pod has answered (ACK), to within a second; zero if there was none.
    pub pods_asked_ns: u64,
    pub pods_answered_ns: u64,
    /// The last tick of which `tunnel` has the source of an inner packet from its own CIDRs, in jiffies.
    pub own_tick: u64,
}

/// How many values of the map `NEIGHBOURS` each endpoint has. The first is the host that sent the last frame with an ARP reply inside: the
/// agent's own requests reach that host. The second sent the last one with another ARP packet: any host with the endpoint's address.
pub const NEIGHBOURS_EACH: u32 = 2;

/// A host on the underlay, as one CPU has seen it: a value of the map `NEIGHBOURS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last frame; zero if there was none.
    pub seen_ns: u64,
    /// The source MAC of that outer frame.
    pub mac: [u8; 6],
    pub reserved: [u8; 2],
}

/// Tunnel frames from inside a VTEP CIDR whose outer source is not the endpoint of that VTEP: another VTEP's endpoint, or none. The key is the
/// outer source, in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnexpectedSource {
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last frame.
    pub last_seen_ns: u64,
    /// Source of the inner packet, in network order.
    pub inner_source: [u8; 4],
    /// Source MAC of the inner frame.
    pub inner_mac: [u8; 6],
    pub reserved: [u8; 6],
}

/// A counter of the tap beside the flows: its index in the map `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `FLOWS` could not take a flow.
    Overflow = 0,
    /// A fragment without a UDP header.
    Fragment = 1,
    /// A packet on a tunnel port that is not a VXLAN or Geneve packet.
    Malformed = 2,
}

/// The size of the map `COUNTERS`.
pub const COUNTERS: u32 = 3;

const _: () = assert!(size_of::<Targets>() == TARGETS_MAX * 28 + 48);
const _: () = assert!(size_of::<FlowKey>() == 12);
const _: () = assert!(size_of::<FlowStats>() == 64);
const _: () = assert!(size_of::<EndpointStats>() == 136);
const _: () = assert!(size_of::<Neighbour>() == 16);
const _: () = assert!(size_of::<UnexpectedSource>() == 24);
