//! The tap: a socket filter on an `AF_PACKET`/`SOCK_DGRAM` socket of the underlay device.
//!
//! It counts the tunnel frames of the VTEP endpoints, and passes only their inner ARP replies to user space. Each endpoint has a place of its
//! own for its VTEP traffic on the configured port; its frames with other VNIs and ports share a map that drops the oldest. The tap sees
//! copies, so it cannot change, delay or drop a packet. The data starts at the outer IPv4 header, whatever the link layer is.
//!
//! Calls of helpers cost more than everything else, especially if the kernel protects its jumps (retpolines). A usual frame needs three.
#![no_std]
#![no_main]

mod headers;
mod kinds;

use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_MAC,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_skb_load_bytes_relative},
    macros::{map, socket_filter},
    maps::{Array, LruHashMap, LruPerCpuHashMap, PerCpuArray},
    programs::SkBuffContext,
};
use headers::{ARP_REPLY, ETHERNET_SOURCE, EthernetSource, Inner, Ip, Transport, Tunnel};
use kinds::{Kind, Tcp, kind_of, tcp_of};
use vtep_agent_ebpf::{
    COUNTERS, Counter, EndpointStats, FLOWS_MAX, FlowKey, FlowStats, NEIGHBOURS_EACH, Neighbour, SNAP_LEN, TARGETS_MAX,
    Targets, UNEXPECTED_MAX, UnexpectedSource, VTEP_VNI,
};

const PACKET_OTHERHOST: u32 = 3;
const PACKET_OUTGOING: u32 = 4;
const PORT_VXLAN_IANA: u16 = 4789;
const PORT_VXLAN_LINUX: u16 = 8472;
const PORT_GENEVE: u16 = 6081;

/// The configured tunnel port and its protocol. The agent sets them when it loads the program.
#[unsafe(no_mangle)]
static TUNNEL_PORT: u16 = PORT_VXLAN_LINUX;
#[unsafe(no_mangle)]
static TUNNEL_IS_GENEVE: u8 = 0;

/// The addresses to match, which the agent writes. It is an array, because the kernel inlines a look-up in an array.
#[map]
static TARGETS: Array<Targets> = Array::with_max_entries(1, 0);
#[map]
static UNEXPECTED: LruHashMap<[u8; 4], UnexpectedSource> = LruHashMap::with_max_entries(UNEXPECTED_MAX, 0);
/// A place for each endpoint, so that no flood displaces its VTEP traffic.
#[map]
static ENDPOINTS: PerCpuArray<EndpointStats> = PerCpuArray::with_max_entries(TARGETS_MAX as u32, 0);
/// They have a map of their own, because without `CAP_PERFMON` the verifier refuses a pointer to one of two fields that the
/// program chooses.
#[map]
static NEIGHBOURS: PerCpuArray<Neighbour> = PerCpuArray::with_max_entries(TARGETS_MAX as u32 * NEIGHBOURS_EACH, 0);
#[map]
static FLOWS: LruPerCpuHashMap<FlowKey, FlowStats> = LruPerCpuHashMap::with_max_entries(FLOWS_MAX, 0);
#[map(name = "COUNTERS")]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Returns how many bytes of the packet to pass to the agent: 0 drops the copy.
#[socket_filter]
pub fn tap(ctx: SkBuffContext) -> i64 {
    match inspect(&ctx) {
        Ok(keep) => i64::from(keep),
        Err(Ignored) => 0,
    }
}

/// The packet is shorter than its headers claim, or is not for the tap.
struct Ignored;

/// Records a packet, and returns how many bytes of it to pass to the agent.
///
/// It is in one piece, because most of its values are needed to its end, and a BPF function that the compiler does not inline takes only
/// five arguments.
fn inspect(ctx: &SkBuffContext) -> Result<u32, Ignored> {
    // SAFETY: the kernel passes a valid __sk_buff for the time of the call.
    let (packet_type, length) = unsafe { ((*ctx.skb.skb).pkt_type, (*ctx.skb.skb).len) };
    if packet_type == PACKET_OTHERHOST || packet_type == PACKET_OUTGOING {
        return Ok(0);
    }
    // Most packets have no IPv4 options between the two headers, so one call reads both.
    let Ok((ip, transport)) = load::<(Ip, Transport)>(ctx, 0) else { return too_short(ctx) };
    if !ip.carries_udp() {
        return Ok(0);
    }
    if ip.is_later_fragment() {
        return count_of(&ip, Counter::Fragment);
    }
    let header = ip.header_len();
    let transport = if header == size_of::<Ip>() { Ok(transport) } else { load::<Transport>(ctx, header) };
    let Ok(transport) = transport else { return too_short(ctx) };
    let Some(tunnel) = tunnel_of(transport.port()) else { return Ok(0) };
    let place = place_of(ip.source);
    let vni = transport.vni();
    if place == NOWHERE && vni != VTEP_VNI {
        return Ok(0);
    }
    let Some(frame) = transport.frame(tunnel).map(|at| header + at) else { return count_of(&ip, Counter::Malformed) };
    let Ok(inner) = load::<Inner>(ctx, frame + Inner::SKIPPED) else { return count_of(&ip, Counter::Malformed) };
    let owner = inner.sender().map_or(Owner::Unknown, |sender| owner_of(sender, ip.source));
    if owner == Owner::Another && vni == VTEP_VNI {
        note_unexpected(ip.source, &inner);
    }
    if place == NOWHERE {
        // The answer of a second owner of the self IP.
        let keep = owner == Owner::Another && inner.arp_operation() == Some(ARP_REPLY);
        return Ok(if keep { SNAP_LEN } else { 0 });
    }
    let keep = if inner.arp_operation() == Some(ARP_REPLY) { SNAP_LEN } else { 0 };
    let length = u64::from(length);
    if vni == VTEP_VNI && transport.port() == configured_port() {
        let tcp = tcp_of(ctx, place, frame, &inner);
        record(place, &inner, owner, kind_of(ctx, frame, &inner), tcp, length);
        if let Some(operation) = inner.arp_operation() {
            note_neighbour(ctx, place * NEIGHBOURS_EACH + u32::from(operation != ARP_REPLY));
        }
    } else {
        let key = FlowKey { source: ip.source.to_ne_bytes(), vni, port: transport.port(), reserved: [0; 2] };
        record_other(place, &key, &inner, owner, length);
    }
    Ok(keep)
}

/// Handles a packet that is too short for all headers. It may still be long enough to show that it is a tunnel packet.
fn too_short(ctx: &SkBuffContext) -> Result<u32, Ignored> {
    let ip: Ip = load(ctx, 0)?;
    let port: u16 = load(ctx, ip.header_len() + 2)?;
    let is_tunnel = ip.carries_udp() && !ip.is_later_fragment() && tunnel_of(u16::from_be(port)).is_some();
    if is_tunnel { count_of(&ip, Counter::Malformed) } else { Ok(0) }
}

/// Records a sender of VTEP traffic with an inner source in the CIDR of another VTEP, such as a BIG-IP with another local address, or one that
/// has taken over the self IP of another.
fn note_unexpected(source: u32, inner: &Inner) {
    let inner_source = inner.sender().unwrap_or(0);
    let source = source.to_ne_bytes();
    // An LRU map is never full. The value is written in place, because without `CAP_PERFMON` the verifier refuses a stack slot whose two
    // halves are written one after the other.
    if UNEXPECTED.get_ptr(&source).is_none() && UNEXPECTED.insert(&source, &NONE_SEEN, 0).is_err() {
        return;
    }
    let Some(unexpected) = UNEXPECTED.get_ptr_mut(&source) else { return };
    // SAFETY: the value lives as long as the program runs. A reader may see it half written, and reads it again a second later.
    let unexpected = unsafe { &mut *unexpected };
    unexpected.inner_source = inner_source.to_ne_bytes();
    unexpected.inner_mac = inner.mac;
    // SAFETY: the helper has no arguments.
    unexpected.last_seen_ns = unsafe { bpf_ktime_get_ns() };
}

/// Records the outer frame's source MAC. Only frames with ARP inside pay for this: they are few, and each BIG-IP sends some.
fn note_neighbour(ctx: &SkBuffContext, place: u32) {
    let Some(neighbour) = NEIGHBOURS.get_ptr_mut(place) else { return };
    // SAFETY: this is a per-CPU value, as below.
    let neighbour = unsafe { &mut *neighbour };
    // SAFETY: the helper writes as many bytes as the field has. On a device without Ethernet the bytes mean something else, and the agent
    // ignores them.
    unsafe {
        let (to, length) = ((&raw mut neighbour.mac).cast(), size_of::<EthernetSource>() as u32);
        if bpf_skb_load_bytes_relative(ctx.skb.skb.cast(), ETHERNET_SOURCE, to, length, BPF_HDR_START_MAC) == 0 {
            neighbour.seen_ns = bpf_ktime_get_ns();
        }
    }
}

/// Looks `TARGETS` up each time: before 5.12, and without `CAP_PERFMON`, the verifier refuses a pointer that stays on the stack over a
/// call.
fn place_of(endpoint: u32) -> u32 {
    let Some(targets) = TARGETS.get(0) else { return NOWHERE };
    (0..).zip(&targets.endpoints).find(|(_, known)| **known == endpoint).map_or(NOWHERE, |(place, _)| place)
}

/// The place of an address that is no endpoint. It is no `Option`, because the verifier of 5.10 refuses to save its undefined half.
const NOWHERE: u32 = u32::MAX;

/// Whose VTEP CIDR an inner source is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The VTEP that has sent it.
    Sender,
    Another,
    /// It is in no VTEP CIDR.
    Nobody,
    /// The frame has no inner source.
    Unknown,
}

fn owner_of(address: u32, sender: u32) -> Owner {
    let Some(targets) = TARGETS.get(0) else { return Owner::Unknown };
    let mut owner = Owner::Nobody;
    for network in &targets.networks {
        if network.contains(address) {
            owner = Owner::Another;
            if network.endpoint == sender {
                return Owner::Sender;
            }
        }
    }
    owner
}

fn tunnel_of(port: u16) -> Option<Tunnel> {
    // SAFETY: as in `configured_port`.
    let geneve = unsafe { (&raw const TUNNEL_IS_GENEVE).read_volatile() };
    if port == configured_port() {
        return Some(if geneve != 0 { Tunnel::Geneve } else { Tunnel::Vxlan });
    }
    match port {
        PORT_VXLAN_IANA | PORT_VXLAN_LINUX => Some(Tunnel::Vxlan),
        PORT_GENEVE => Some(Tunnel::Geneve),
        _ => None,
    }
}

fn configured_port() -> u16 {
    // SAFETY: it is a constant of the loaded program. The volatile read prevents the compiler from using the initial value above.
    unsafe { (&raw const TUNNEL_PORT).read_volatile() }
}

/// Initial values. They are statics, because BPF has no `memset` to create them on the stack.
static NONE_SEEN: UnexpectedSource =
    UnexpectedSource { last_seen_ns: 0, inner_source: [0; 4], inner_mac: [0; 6], reserved: [0; 6] };
static NOTHING_SEEN: FlowStats = FlowStats {
    packets: 0,
    bytes: 0,
    last_seen_ns: 0,
    last_tick: 0,
    inner_mac: [0; 6],
    reserved: [0; 2],
    inner_source: [0; 4],
    arp_sender: [0; 4],
    foreign_seen_ns: 0,
    foreign_source: [0; 4],
    reserved2: [0; 4],
};

/// Records a frame of the endpoint's VTEP traffic on the configured port.
fn record(place: u32, inner: &Inner, owner: Owner, kind: Kind, tcp: Tcp, length: u64) {
    let Some(stats) = ENDPOINTS.get_ptr_mut(place) else { return };
    // SAFETY: this is a per-CPU value, so nothing else writes it while this program runs on this CPU.
    let stats = unsafe { &mut *stats };
    // Without branches: from these the compiler would make a choice of a field, which the verifier refuses, as above.
    stats.arp_replies += u64::from(kind == Kind::ArpReply);
    stats.arp_requests += u64::from(kind == Kind::ArpRequest) + u64::from(kind == Kind::ArpRequestForUs);
    stats.asked_for_us += u64::from(kind == Kind::ArpRequestForUs);
    stats.echo_replies += u64::from(kind == Kind::EchoReply);
    update(&mut stats.tunnel, inner, owner, length);
    let now = stats.tunnel.last_seen_ns;
    let (opens, answered) = (mask(tcp == Tcp::Opens), mask(tcp == Tcp::Answered));
    stats.pods_asked_ns = (now & opens) | (stats.pods_asked_ns & !opens);
    stats.pods_answered_ns = (now & answered) | (stats.pods_answered_ns & !answered);
}

/// All bits, or none: a choice of values without a branch.
fn mask(is_set: bool) -> u64 {
    u64::from(is_set).wrapping_neg()
}

/// Records a frame of the endpoint with another VNI or on another port.
fn record_other(place: u32, key: &FlowKey, inner: &Inner, owner: Owner, length: u64) {
    if let Some(stats) = ENDPOINTS.get_ptr_mut(place) {
        // SAFETY: this is a per-CPU value, as above.
        let stats = unsafe { &mut *stats };
        stats.other_packets += 1;
        stats.other_bytes += length;
    }
    let stats = match FLOWS.get_ptr_mut(key) {
        Some(stats) => stats,
        None => {
            if FLOWS.insert(key, &NOTHING_SEEN, 0).is_err() {
                count(Counter::Overflow);
                return;
            }
            let Some(stats) = FLOWS.get_ptr_mut(key) else { return };
            stats
        }
    };
    // SAFETY: this is a per-CPU value, as above.
    update(unsafe { &mut *stats }, inner, owner, length);
}

fn update(stats: &mut FlowStats, inner: &Inner, owner: Owner, length: u64) {
    stats.packets += 1;
    stats.bytes += length;
    // SAFETY: the helper has no arguments. The kernel inlines it.
    let tick = unsafe { bpf_jiffies64() };
    // The clock costs more than the rest of this function, so the program reads it only once a tick (1 to 10 ms).
    if stats.last_tick != tick {
        stats.last_tick = tick;
        // SAFETY: the helper has no arguments.
        stats.last_seen_ns = unsafe { bpf_ktime_get_ns() };
    }
    stats.inner_mac = inner.mac;
    if let Some(source) = inner.ip_source() {
        stats.inner_source = source.to_ne_bytes();
        if owner == Owner::Nobody {
            stats.foreign_seen_ns = stats.last_seen_ns;
            stats.foreign_source = source.to_ne_bytes();
        }
    }
    if let Some(sender) = inner.arp_sender() {
        stats.arp_sender = sender.to_ne_bytes();
    }
}

/// Counts the packet if it comes from an endpoint.
fn count_of(ip: &Ip, counter: Counter) -> Result<u32, Ignored> {
    if place_of(ip.source) != NOWHERE {
        count(counter);
    }
    Ok(0)
}

fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: this is a per-CPU value, as above.
        unsafe { *value += 1 };
    }
}

/// Reads with one call of a helper.
#[inline(always)]
fn load<T>(ctx: &SkBuffContext, offset: usize) -> Result<T, Ignored> {
    ctx.load(offset).map_err(|_| Ignored)
}

/// Passes Cilium's ARP replies to the agent as they leave through Cilium's tunnel device, from the Ethernet header on, and nothing else.
#[socket_filter]
pub fn arp_replies(ctx: SkBuffContext) -> i64 {
    // SAFETY: the kernel passes a valid __sk_buff for the time of the call.
    let packet_type = unsafe { (*ctx.skb.skb).pkt_type };
    if packet_type != PACKET_OUTGOING {
        return 0;
    }
    let is_reply = load(&ctx, Inner::SKIPPED).is_ok_and(|frame: Inner| frame.arp_operation() == Some(ARP_REPLY));
    if is_reply { i64::from(SNAP_LEN) } else { 0 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
