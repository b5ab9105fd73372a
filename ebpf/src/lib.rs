//! Records that the tap writes in the kernel and the agent reads: plain bytes and host-order integers, no padding.
#![no_std]

/// Endpoints and networks that the tap can look for: twice what `cilium_vtep_map` holds.
pub const TARGETS_MAX: usize = 16;

/// Entries of the map `FLOWS`: several ports and VNIs for every endpoint, and a bound against one that invents more. Other
/// sources are not recorded: between Cilium's nodes the VNI is the sender's identity, and a cluster has thousands.
pub const FLOWS_MAX: u32 = 256;

/// Entries of the map `STRAYS`, which forgets the oldest: it must not crowd out what endpoints send.
pub const STRAYS_MAX: u32 = 64;

/// Bytes of an outer packet that the tap hands up: outer IPv4 with options, UDP, Geneve with options, Ethernet and ARP fit.
pub const SNAP_LEN: u32 = 512;

/// What the tap looks for: the one value of the map `TARGETS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Outer sources: the configured VTEP endpoints, network order. Zero, which sends nothing, where there are fewer.
    pub endpoints: [u32; TARGETS_MAX],
    /// The VTEP CIDRs.
    pub networks: [Network; TARGETS_MAX],
}

/// An IPv4 network, network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: u32,
    pub mask: u32,
}

impl Network {
    #[must_use]
    pub fn contains(self, address: u32) -> bool {
        address & self.mask == self.address
    }
}

/// The network without an address in it.
impl Default for Network {
    fn default() -> Self {
        Self { address: !0, mask: 0 }
    }
}

/// One stream of tunnel frames as it comes in on the underlay.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Outer IPv4 source, network order.
    pub source: [u8; 4],
    /// VXLAN network identifier, 24 bits, host order.
    pub vni: u32,
    /// Outer UDP destination port, host order.
    pub port: u16,
    /// Zero: makes every byte of the key defined.
    pub reserved: [u8; 2],
}

/// What one CPU has seen of a stream.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// As the packet socket sees them: what the NIC or GRO merged is one.
    pub packets: u64,
    /// Outer IPv4 packets' total length in bytes.
    pub bytes: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC` at the first frame of the last tick that had one.
    pub last_seen_ns: u64,
    /// That tick, in jiffies.
    pub last_tick: u64,
    pub arp_requests: u64,
    /// Source MAC of the last inner frame.
    pub inner_mac: [u8; 6],
    pub reserved: [u8; 2],
    /// Source of the last inner IPv4 packet, network order; zero when there was none.
    pub inner_source: [u8; 4],
    /// Sender of the last inner ARP packet, network order; zero when there was none.
    pub arp_sender: [u8; 4],
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last inner IPv4 packet whose source lies outside every VTEP CIDR; zero when there was
    /// none.
    pub foreign_seen_ns: u64,
    /// That source, network order.
    pub foreign_source: [u8; 4],
    pub reserved2: [u8; 4],
}

/// Tunnel frames from inside a VTEP CIDR that come from no VTEP endpoint; the key is the outer source, network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stray {
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last frame.
    pub last_seen_ns: u64,
    /// Source of the inner packet, network order.
    pub inner_source: [u8; 4],
    pub reserved: [u8; 4],
}

/// What the tap counts apart from streams; index into the map `COUNTERS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// A stream did not fit into `FLOWS`.
    Overflow = 0,
    /// A fragment that carries no UDP header.
    Fragment = 1,
    /// A frame on a tunnel port that is no VXLAN or Geneve frame.
    Malformed = 2,
}

/// Entries of the map `COUNTERS`.
pub const COUNTERS: u32 = 3;

const _: () = assert!(size_of::<Targets>() == TARGETS_MAX * 12);
const _: () = assert!(size_of::<FlowKey>() == 12);
const _: () = assert!(size_of::<FlowStats>() == 72);
const _: () = assert!(size_of::<Stray>() == 16);
