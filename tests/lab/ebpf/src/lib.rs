//! The types that the lab and its datapath share: the settings that are fixed when the programs load, and the maps' records.
//!
//! The maps `cilium_vtep_map`, `cilium_ipcache_v2`, `cilium_lxc` and `cilium_metrics` have the layouts of Cilium 1.18; the first
//! may also be a trie, as in later builds. Addresses are in network order, numbers in the machine's.
#![no_std]

pub use vtep_agent_ebpf::VTEP_VNI;

/// A VTEP map's key: the network address of the CIDR. In a trie, it follows the prefix length.
pub type VtepKey = [u8; 4];
/// A VTEP map's value: MAC, two zero bytes, endpoint, four zero bytes.
pub type VtepValue = [u8; 16];
/// An ipcache key after the prefix length: cluster id (2 bytes), pad, family; address (16 bytes).
///
/// The type is an array of words, because BPF has no `memset`, with which the compiler would clear an array of bytes.
pub type IpcacheKey = [u32; 5];
/// An ipcache value: identity, tunnel endpoint (16 bytes), pad, key, flags.
pub type IpcacheValue = [u8; 24];
/// A local endpoint's key: address (16 bytes); family, key, cluster id (2 bytes).
pub type EndpointKey = [u32; 5];

pub const VTEP_ENTRIES: u32 = 8;
pub const IPCACHE_ENTRIES: u32 = 512_000;
pub const ENDPOINT_ENTRIES: u32 = 65_535;
pub const METRICS_ENTRIES: u32 = 1024;
/// `BPF_F_NO_PREALLOC`; Cilium creates its maps with it.
pub const NO_PREALLOC: u32 = 1;

/// The number of bits before the address in an ipcache key.
pub const IPCACHE_STATIC_PREFIX: u32 = 32;
const FAMILY_IPV4: u8 = 1;

/// The endpoint is the node itself: its packets go to the stack, not to a pod.
pub const ENDPOINT_HOST: u32 = 1;

/// Drop reasons of `cilium_metrics`.
pub const DROP_UNROUTABLE: u8 = 151;
pub const DROP_INCORRECT_VNI: u8 = 183;
pub const INGRESS: u8 = 1;
pub const EGRESS: u8 = 2;

/// Constants of one loaded datapath.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Settings {
    pub vtep_mask: [u8; 4],
    pub tunnel_ifindex: u32,
    /// The peer of `cilium_host`: packets that it sends arrive on the node's stack.
    pub net_ifindex: u32,
    /// The VNI of local pods to destinations that only the ipcache has: their identity.
    pub pod_identity: u32,
    pub tunnel_mac: [u8; 6],
    pub host_mac: [u8; 6],
    /// 1: drop packets from a VTEP with another VNI than 2.
    pub check_vni: u8,
    /// 1: ARP replies carry no MAC, as in Cilium 1.18.0 to 1.18.7.
    pub zero_mac_arp: u8,
    /// 1: the VTEP map is a trie, and the longest prefix wins; no mask.
    pub vtep_trie: u8,
    pub reserved: u8,
}

/// A local endpoint: 48 bytes, like Cilium's.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EndpointInfo {
    pub ifindex: u32,
    pub unused: u16,
    pub id: u16,
    pub flags: u32,
    pub padding: u32,
    /// The pod's MAC.
    pub mac: [u8; 8],
    /// The MAC of the pod's device on the node.
    pub node_mac: [u8; 8],
    pub identity: u32,
    pub parent_ifindex: u32,
    pub padding2: [u8; 8],
}

/// A `cilium_metrics` key.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MetricsKey {
    pub reason: u8,
    pub direction: u8,
    /// The place in Cilium's source; unused here.
    pub line: u16,
    pub file: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct MetricsValue {
    pub packets: u64,
    pub bytes: u64,
}

const _: () = assert!(size_of::<Settings>() == 32);
const _: () = assert!(size_of::<EndpointInfo>() == 48);
const _: () = assert!(size_of::<MetricsKey>() == 8);
const _: () = assert!(size_of::<MetricsValue>() == 16);

pub fn ipcache_key(ip: [u8; 4]) -> IpcacheKey {
    [u32::from_ne_bytes([0, 0, 0, FAMILY_IPV4]), u32::from_ne_bytes(ip), 0, 0, 0]
}

pub fn endpoint_key(ip: [u8; 4]) -> EndpointKey {
    [u32::from_ne_bytes(ip), 0, 0, 0, u32::from_ne_bytes([FAMILY_IPV4, 0, 0, 0])]
}
