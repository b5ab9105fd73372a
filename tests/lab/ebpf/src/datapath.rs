//! The lab's datapath: three tc classifiers that treat VTEP traffic as Cilium's do.
//!
//! `from_pod` is attached to the ingress of a pod's device, `from_host` to the egress of `cilium_host`, `from_overlay` to the ingress of
//! the tunnel device. The code follows Cilium's observed behaviour, not its source. It has no policy, no services and no IPv6.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::{bpf_redirect, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
    macros::{classifier, map},
    maps::{HashMap, LpmTrie, PerCpuHashMap, lpm_trie::Key},
    programs::TcContext,
};
use vtep_lab_ebpf::{
    DROP_INCORRECT_VNI, DROP_UNROUTABLE, EGRESS, ENDPOINT_ENTRIES, ENDPOINT_HOST, EndpointInfo, EndpointKey, INGRESS,
    IPCACHE_ENTRIES, IPCACHE_STATIC_PREFIX, IpcacheKey, IpcacheValue, METRICS_ENTRIES, MetricsKey, MetricsValue,
    NO_PREALLOC, Settings, VTEP_ENTRIES, VTEP_VNI, VtepKey, VtepValue, endpoint_key, ipcache_key,
};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERNET_SOURCE: usize = 6;
const ETHERNET_TYPE: usize = 12;
const IPV4_SOURCE: usize = 14 + 12;
const IPV4_DESTINATION: usize = 14 + 16;
/// Hardware type Ethernet, protocol IPv4, and their address lengths: the start of every ARP packet that the program answers.
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_START: usize = 14;
const ARP_OPERATION: usize = 14 + 6;
const ARP_SENDER_MAC: usize = 14 + 8;
const ARP_SENDER_IP: usize = 14 + 14;
const ARP_TARGET_MAC: usize = 14 + 18;
const ARP_TARGET_IP: usize = 14 + 24;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const BROADCAST: [u8; 6] = [0xff; 6];

const OK: i32 = TC_ACT_OK as i32;
const SHOT: i32 = TC_ACT_SHOT as i32;

/// A static, because BPF has no `memset` to create it on the stack.
static NO_MAC: [u8; 6] = [0; 6];

/// The lab sets these when it loads the programs.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    vtep_mask: [0; 4],
    tunnel_ifindex: 0,
    net_ifindex: 0,
    pod_identity: 0,
    tunnel_mac: [0; 6],
    host_mac: [0; 6],
    check_vni: 0,
    zero_mac_arp: 0,
    vtep_trie: 0,
    reserved: 0,
};

#[map(name = "cilium_vtep_map")]
static VTEPS: HashMap<VtepKey, VtepValue> = HashMap::with_max_entries(VTEP_ENTRIES, NO_PREALLOC);
/// The map of releases that have a trie. The kernel truncates its name to that of the hash; only one of them is pinned.
#[map(name = "cilium_vtep_map_trie")]
static VTEP_TRIE: LpmTrie<VtepKey, VtepValue> = LpmTrie::with_max_entries(VTEP_ENTRIES, NO_PREALLOC);
#[map(name = "cilium_ipcache_v2")]
static IPCACHE: LpmTrie<IpcacheKey, IpcacheValue> = LpmTrie::with_max_entries(IPCACHE_ENTRIES, NO_PREALLOC);
#[map(name = "cilium_lxc")]
static ENDPOINTS: HashMap<EndpointKey, EndpointInfo> = HashMap::with_max_entries(ENDPOINT_ENTRIES, NO_PREALLOC);
#[map(name = "cilium_metrics")]
static METRICS: PerCpuHashMap<MetricsKey, MetricsValue> = PerCpuHashMap::with_max_entries(METRICS_ENTRIES, NO_PREALLOC);

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    route(&ctx, OK).unwrap_or(OK)
}

#[classifier]
pub fn from_host(ctx: TcContext) -> i32 {
    let verdict = route(&ctx, SHOT).unwrap_or(OK);
    if verdict == SHOT {
        count(&ctx, DROP_UNROUTABLE, EGRESS);
    }
    verdict
}

#[classifier]
pub fn from_overlay(ctx: TcContext) -> i32 {
    let verdict = match load_u16(&ctx, ETHERNET_TYPE) {
        Ok(ETHERTYPE_IPV4) => from_overlay_ipv4(&ctx),
        Ok(ETHERTYPE_ARP) => from_overlay_arp(&ctx),
        Ok(_) | Err(Short) => return OK,
    };
    verdict.unwrap_or(OK)
}

/// The packet is shorter than expected.
struct Short;

/// Forwards an IPv4 packet of this node; `unknown` is the verdict for an address that neither a map nor an endpoint has.
fn route(ctx: &TcContext, unknown: i32) -> Result<i32, Short> {
    if load_u16(ctx, ETHERNET_TYPE)? != ETHERTYPE_IPV4 {
        return Ok(OK);
    }
    let destination: [u8; 4] = load(ctx, IPV4_DESTINATION)?;
    if let Some(vtep) = vtep(destination) {
        store(ctx, 0, &vtep.mac)?;
        return Ok(encapsulate(ctx, VTEP_VNI, vtep.endpoint));
    }
    if let Some(verdict) = deliver(ctx, destination, false)? {
        return Ok(verdict);
    }
    let key = Key::new(IPCACHE_STATIC_PREFIX + 32, ipcache_key(destination));
    if let Some(value) = IPCACHE.get(&key) {
        let endpoint = [value[4], value[5], value[6], value[7]];
        if endpoint != [0; 4] {
            return Ok(encapsulate(ctx, setting(&raw const SETTINGS.pod_identity), endpoint));
        }
    }
    Ok(unknown)
}

fn from_overlay_ipv4(ctx: &TcContext) -> Result<i32, Short> {
    let source: [u8; 4] = load(ctx, IPV4_SOURCE)?;
    let check = setting(&raw const SETTINGS.check_vni) != 0;
    if check && entry(source).is_some() && vni(ctx) != Some(VTEP_VNI) {
        count(ctx, DROP_INCORRECT_VNI, INGRESS);
        return Ok(SHOT);
    }
    let destination: [u8; 4] = load(ctx, IPV4_DESTINATION)?;
    Ok(deliver(ctx, destination, true)?.unwrap_or(OK))
}

/// Answers a VTEP's request for the MAC of an address of this node. The answer goes to the endpoint in the map, regardless of the source
/// of the request.
fn from_overlay_arp(ctx: &TcContext) -> Result<i32, Short> {
    let start: [u8; 6] = load(ctx, ARP_START)?;
    if start != ARP_ETHERNET_IPV4 || load_u16(ctx, ARP_OPERATION)? != ARP_REQUEST {
        return Ok(OK);
    }
    let own_mac = setting(&raw const SETTINGS.tunnel_mac);
    let to: [u8; 6] = load(ctx, 0)?;
    if to != BROADCAST && to != own_mac {
        return Ok(OK);
    }
    let sender: [u8; 4] = load(ctx, ARP_SENDER_IP)?;
    let target: [u8; 4] = load(ctx, ARP_TARGET_IP)?;
    let (Some(vtep), Some(_)) = (vtep(sender), ENDPOINTS.get_ptr(endpoint_key(target))) else { return Ok(OK) };
    let sender_mac: [u8; 6] = load(ctx, ARP_SENDER_MAC)?;
    let answer = if setting(&raw const SETTINGS.zero_mac_arp) != 0 { &NO_MAC } else { &own_mac };
    store(ctx, 0, &sender_mac)?;
    store(ctx, ETHERNET_SOURCE, answer)?;
    store(ctx, ARP_OPERATION, &ARP_REPLY.to_be_bytes())?;
    store(ctx, ARP_SENDER_MAC, answer)?;
    store(ctx, ARP_SENDER_IP, &target)?;
    store(ctx, ARP_TARGET_MAC, &sender_mac)?;
    store(ctx, ARP_TARGET_IP, &sender)?;
    Ok(encapsulate(ctx, VTEP_VNI, vtep.endpoint))
}

struct Vtep {
    mac: [u8; 6],
    endpoint: [u8; 4],
}

/// The VTEP of an address; an entry without MAC or endpoint does not count.
fn vtep(address: [u8; 4]) -> Option<Vtep> {
    // SAFETY: without preallocation an element remains valid until the program ends; a torn write costs the lab one packet.
    let value = unsafe { *entry(address)? };
    let mac = [value[0], value[1], value[2], value[3], value[4], value[5]];
    let endpoint = [value[8], value[9], value[10], value[11]];
    (mac != [0; 6] && endpoint != [0; 4]).then_some(Vtep { mac, endpoint })
}

/// The entry of an address, in the map that the lab pinned.
fn entry(address: [u8; 4]) -> Option<*const VtepValue> {
    if setting(&raw const SETTINGS.vtep_trie) != 0 {
        return VTEP_TRIE.get(Key::new(32, address)).map(|value| &raw const *value);
    }
    VTEPS.get_ptr(network(address))
}

fn network(address: [u8; 4]) -> [u8; 4] {
    let mask = setting(&raw const SETTINGS.vtep_mask);
    [address[0] & mask[0], address[1] & mask[1], address[2] & mask[2], address[3] & mask[3]]
}

/// Delivers a packet to the pod, or the node, with this address. `None` if no local endpoint has it.
///
/// A packet from a pod or the node to the node is on its way to the stack already; one from outside (`overlay`) must arrive there through
/// `cilium_host`.
fn deliver(ctx: &TcContext, destination: [u8; 4], overlay: bool) -> Result<Option<i32>, Short> {
    let Some(endpoint) = ENDPOINTS.get_ptr(endpoint_key(destination)) else { return Ok(None) };
    // SAFETY: as for a VTEP's entry, and the lab never changes an endpoint.
    let EndpointInfo { ifindex, flags, mac, node_mac, .. } = unsafe { *endpoint };
    if flags & ENDPOINT_HOST == 0 {
        store(ctx, 0, &[mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]])?;
        store(ctx, ETHERNET_SOURCE, &[node_mac[0], node_mac[1], node_mac[2], node_mac[3], node_mac[4], node_mac[5]])?;
        return Ok(Some(redirect(ifindex)));
    }
    if !overlay {
        return Ok(Some(OK));
    }
    store(ctx, 0, &setting(&raw const SETTINGS.host_mac))?;
    Ok(Some(redirect(setting(&raw const SETTINGS.net_ifindex))))
}

/// The start of `bpf_tunnel_key`; the kernel recognizes the version by the size.
#[repr(C)]
struct TunnelKey {
    id: u32,
    remote: u32,
}

/// Sends the frame through the tunnel, like Cilium without a UDP checksum.
fn encapsulate(ctx: &TcContext, vni: u32, endpoint: [u8; 4]) -> i32 {
    let mut key = TunnelKey { id: vni, remote: u32::from_be_bytes(endpoint) };
    let key = (&raw mut key).cast::<bpf_tunnel_key>();
    // SAFETY: the key is on the stack during the call, and the given size is its size.
    let set = unsafe {
        bpf_skb_set_tunnel_key(ctx.skb.skb, key, size_of::<TunnelKey>() as u32, u64::from(BPF_F_ZERO_CSUM_TX))
    };
    if set < 0 { SHOT } else { redirect(setting(&raw const SETTINGS.tunnel_ifindex)) }
}

fn vni(ctx: &TcContext) -> Option<u32> {
    let mut key = TunnelKey { id: 0, remote: 0 };
    // SAFETY: as above.
    let got = unsafe {
        bpf_skb_get_tunnel_key(ctx.skb.skb, (&raw mut key).cast::<bpf_tunnel_key>(), size_of::<TunnelKey>() as u32, 0)
    };
    (got >= 0).then_some(key.id)
}

fn redirect(ifindex: u32) -> i32 {
    // SAFETY: this helper takes no pointers.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

static NOTHING_COUNTED: MetricsValue = MetricsValue { packets: 0, bytes: 0 };

fn count(ctx: &TcContext, reason: u8, direction: u8) {
    let key = MetricsKey { reason, direction, line: 0, file: 0 };
    if METRICS.get_ptr(key).is_none() && METRICS.insert(key, &NOTHING_COUNTED, 0).is_err() {
        return;
    }
    if let Some(value) = METRICS.get_ptr_mut(key) {
        // SAFETY: a per-CPU value, which nobody else writes while this program runs on this CPU.
        let value = unsafe { &mut *value };
        value.packets += 1;
        value.bytes += u64::from(ctx.len());
    }
}

/// Reads a setting. The read is volatile, because otherwise the compiler would insert the values in this file.
fn setting<T: Copy>(field: *const T) -> T {
    // SAFETY: callers pass only fields of `SETTINGS`.
    unsafe { field.read_volatile() }
}

fn load<T>(ctx: &TcContext, offset: usize) -> Result<T, Short> {
    ctx.load(offset).map_err(|_| Short)
}

fn load_u16(ctx: &TcContext, offset: usize) -> Result<u16, Short> {
    load(ctx, offset).map(u16::from_be)
}

fn store<T>(ctx: &TcContext, offset: usize, value: &T) -> Result<(), Short> {
    ctx.store(offset, value, 0).map_err(|_| Short)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
