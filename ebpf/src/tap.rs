//! The tap: a socket filter on an `AF_PACKET`/`SOCK_DGRAM` socket of the underlay device.
//!
//! It counts the tunnel frames of the VTEP endpoints, and passes only their inner ARP replies to user space. Each endpoint has a place of its
//! own for its VTEP traffic on the configured port; its frames with other VNIs and ports share a map that drops the oldest. The tap sees
//! copies, so it cannot change, delay or drop a packet. The data starts at the outer IPv4 header, whatever the link layer is.
//!
//! The kernel's speculation barriers cost more than everything else: without `CAP_PERFMON`, the verifier inserts one behind each first
//! write to a place on the stack. So most frames take a way without such a write (`usual`). The others begin anew, on a way with barriers.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, link_llvm_intrinsics)]
#![expect(internal_features, reason = "the packet-load instructions have no other name")]

mod headers;
mod kinds;
mod packet;
mod targets;
mod usual;

use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_MAC,
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_skb_load_bytes_relative},
    macros::{map, socket_filter},
    maps::{LruHashMap, LruPerCpuHashMap, PerCpuArray},
    programs::SkBuffContext,
};
use headers::{
    ARP, ARP_OPERATION, ARP_REPLY, ARP_SENDER, ETHERNET_HEADER, ETHERNET_SOURCE, ETHERTYPE, FragmentWord, INNER,
    IP_FRAGMENT, IP_SOURCE, IPV4, TUNNEL_HEADER, TUNNEL_VNI, UDP_HEADER, UDP_PORT, ip_header, tunnel_options,
};
use kinds::{mask, note_arp, note_kind};
use packet::Packet;
use targets::{Owner, configured_port, endpoint_or_nobody, owner_of, tunnel_of};
use vtep_agent_ebpf::{
    COUNTERS, Counter, Endpoint, EndpointStats, FLOWS_MAX, FlowKey, FlowStats, NEIGHBOURS_EACH, Neighbour, SNAP_LEN,
    TARGETS_MAX, UNEXPECTED_MAX, UnexpectedSource,
};

const PACKET_OUTGOING: u32 = 4;

#[map]
static UNEXPECTED: LruHashMap<[u8; 4], UnexpectedSource> = LruHashMap::with_max_entries(UNEXPECTED_MAX, 0);
/// A place for each endpoint, so that no flood displaces its VTEP traffic. Each CPU has its own: common ones would lose counts, or need
/// atomic instructions, and would move between the CPUs' caches with each frame.
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

/// Records a packet, and returns how many bytes of it to pass to the agent: 0 drops the copy.
#[socket_filter]
pub fn tap(ctx: SkBuffContext) -> i64 {
    let packet = Packet::new(&ctx);
    if usual::is_dealt_with(packet) { 0 } else { on_unusual(packet.again()) }
}

/// Deals with any UDP packet. It takes over nothing that `usual` has read: that would have to be on the stack.
#[inline(always)]
fn on_unusual(packet: Packet) -> i64 {
    let udp = ip_header(packet.byte(0));
    if udp == 0 {
        return 0;
    }
    let sender = endpoint_or_nobody(packet.address(IP_SOURCE));
    if FragmentWord(packet.word(IP_FRAGMENT)).is_later_fragment() {
        return count(sender, Counter::Fragment);
    }
    // As in `usual`, a packet that is too short for a port ends the program here.
    let port = packet.half(udp + UDP_PORT);
    let Some(tunnel) = tunnel_of(port) else { return 0 };
    let start = udp + UDP_HEADER;
    if packet.length() < start + TUNNEL_HEADER {
        return count(sender, Counter::Malformed);
    }
    let vni = packet.word(start + TUNNEL_VNI) >> 8;
    let Some(options) = tunnel_options(packet.word(start), tunnel) else { return count(sender, Counter::Malformed) };
    let frame = start + TUNNEL_HEADER + options;
    if packet.length() < frame + INNER {
        return count(sender, Counter::Malformed);
    }
    let inner = Inner::of(packet, frame);
    let is_vtep_traffic = vni == VTEP_VNI;
    if inner.owner == Owner::Another && is_vtep_traffic {
        note_unexpected(packet, &inner);
    }
    if sender.place == Endpoint::NOWHERE {
        // The answer of a second owner of the self IP.
        return if inner.owner == Owner::Another && is_vtep_traffic { inner.keep(packet) } else { 0 };
    }
    if is_vtep_traffic && port == configured_port() {
        on_tunnel(packet, sender, &inner);
    } else {
        on_other(packet, sender, vni, port, &inner);
    }
    inner.keep(packet)
}

/// The inner frame.
struct Inner {
    /// Its place in the packet.
    frame: u64,
    ethertype: u64,
    /// The source of IPv4 or the sender of ARP, and whose it is.
    source: u32,
    owner: Owner,
}

impl Inner {
    #[inline(always)]
    fn of(packet: Packet, frame: u64) -> Self {
        let ethertype = packet.half(frame + ETHERTYPE);
        let at = match ethertype {
            IPV4 => IP_SOURCE,
            ARP => ARP_SENDER,
            _ => return Self { frame, ethertype, source: 0, owner: Owner::Unknown },
        };
        let source = packet.address(frame + ETHERNET_HEADER + at);
        Self { frame, ethertype, source, owner: owner_of(source, packet.address(IP_SOURCE)) }
    }

    /// How many bytes of the packet to pass to the agent: ARP replies.
    #[inline(always)]
    fn keep(&self, packet: Packet) -> i64 {
        let is_reply = self.ethertype == ARP && packet.half(self.frame + ETHERNET_HEADER + ARP_OPERATION) == ARP_REPLY;
        if is_reply { SNAP_LEN.into() } else { 0 }
    }
}

/// A frame of the endpoint's VTEP traffic on the configured port.
#[inline(always)]
fn on_tunnel(packet: Packet, sender: &Endpoint, inner: &Inner) {
    let Some(stats) = place(sender) else { return };
    update(&mut stats.tunnel, packet, inner);
    if inner.ethertype == IPV4 {
        if inner.owner == Owner::Sender {
            stats.own_tick = stats.tunnel.last_tick;
        }
        note_kind(packet, inner.frame, stats);
    }
    if inner.ethertype == ARP {
        let is_reply = note_arp(packet, inner.frame, stats);
        note_neighbour(packet, sender.place * NEIGHBOURS_EACH + u32::from(!is_reply), stats.tunnel.last_seen_ns);
    }
}

/// A frame of the endpoint with another VNI or on another port.
#[inline(always)]
fn on_other(packet: Packet, sender: &Endpoint, vni: u64, port: u64, inner: &Inner) {
    if let Some(stats) = place(sender) {
        stats.other_packets += 1;
        stats.other_bytes += packet.length();
    }
    let key = FlowKey { source: sender.address.to_ne_bytes(), vni: vni as u32, port: port as u16, reserved: [0; 2] };
    let stats = match FLOWS.get_ptr_mut(&key) {
        Some(stats) => stats,
        None => {
            if FLOWS.insert(&key, &NOTHING_SEEN, 0).is_err() {
                count(sender, Counter::Overflow);
                return;
            }
            let Some(stats) = FLOWS.get_ptr_mut(&key) else { return };
            stats
        }
    };
    // SAFETY: this is a per-CPU value, as in `place`.
    update(unsafe { &mut *stats }, packet, inner);
}

/// Records a sender of VTEP traffic with an inner source in the CIDR of another VTEP, such as a BIG-IP with another local address, or one that
/// has taken over the self IP of another.
#[inline(always)]
fn note_unexpected(packet: Packet, inner: &Inner) {
    let source = packet.address(IP_SOURCE).to_ne_bytes();
    // An LRU map is never full. The value is written in place, because without `CAP_PERFMON` the verifier refuses a stack slot whose two
    // halves are written one after the other.
    if UNEXPECTED.get_ptr(&source).is_none() && UNEXPECTED.insert(&source, &NONE_SEEN, 0).is_err() {
        return;
    }
    let Some(unexpected) = UNEXPECTED.get_ptr_mut(&source) else { return };
    // SAFETY: the value lives as long as the program runs. A reader may see it half written, and reads it again a second later.
    let unexpected = unsafe { &mut *unexpected };
    unexpected.inner_source = inner.source.to_ne_bytes();
    // SAFETY: the field is part of a map's value.
    unsafe { packet.copy(inner.frame + ETHERNET_SOURCE, &raw mut unexpected.inner_mac) };
    // SAFETY: the helper has no arguments.
    unexpected.last_seen_ns = unsafe { bpf_ktime_get_ns() };
}

/// Records the outer frame's source MAC. Only frames with ARP inside pay for this: they are few, and each BIG-IP sends some.
#[inline(always)]
fn note_neighbour(packet: Packet, place: u32, now_ns: u64) {
    let Some(neighbour) = NEIGHBOURS.get_ptr_mut(place) else { return };
    // SAFETY: this is a per-CPU value, as in `place`.
    let neighbour = unsafe { &mut *neighbour };
    // SAFETY: the helper writes as many bytes as the field has. On a device without Ethernet the bytes mean something else, and the agent
    // ignores them.
    unsafe {
        let (to, length) = ((&raw mut neighbour.mac).cast(), size_of_val(&neighbour.mac) as u32);
        if bpf_skb_load_bytes_relative(packet.as_ptr(), ETHERNET_SOURCE as u32, to, length, BPF_HDR_START_MAC) == 0 {
            neighbour.seen_ns = now_ns;
        }
    }
}

/// This CPU's record of an endpoint. The key is read where it is, because a copy would be on the stack.
#[inline(always)]
fn place(endpoint: &Endpoint) -> Option<&'static mut EndpointStats> {
    // SAFETY: this is a per-CPU value, so nothing else writes it while this program runs on this CPU, and each frame asks for it once.
    unsafe {
        let map = (&raw const ENDPOINTS).cast_mut().cast();
        bpf_map_lookup_elem(map, (&raw const endpoint.place).cast()).cast::<EndpointStats>().as_mut()
    }
}

/// In the type of the numbers of a packet.
const VTEP_VNI: u64 = vtep_agent_ebpf::VTEP_VNI as u64;

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

/// Counts the frame, and records its addresses. Packets from elsewhere do not take the place of those from the endpoint's own CIDRs: of these,
/// not every one is recorded, and the agent learns BIG-IP's self IP from them.
#[inline(always)]
fn update(stats: &mut FlowStats, packet: Packet, inner: &Inner) {
    stats.packets += 1;
    stats.bytes += packet.length();
    // SAFETY: the helper has no arguments. The kernel inlines it.
    let tick = unsafe { bpf_jiffies64() };
    // The clock costs more than the rest of this function, so the program reads it only once a tick (1 to 10 ms).
    if stats.last_tick != tick {
        stats.last_tick = tick;
        // SAFETY: the helper has no arguments.
        stats.last_seen_ns = unsafe { bpf_ktime_get_ns() };
    }
    // SAFETY: the field is part of a map's value.
    unsafe { packet.copy(inner.frame + ETHERNET_SOURCE, &raw mut stats.inner_mac) };
    // Without branches: from these the compiler would make a choice of a field, and without `CAP_PERFMON` the verifier refuses that.
    let is_ip = inner.ethertype == IPV4;
    let (own, foreign) = (mask(is_ip && inner.owner == Owner::Sender), mask(is_ip && inner.owner == Owner::Nobody));
    let choose = |old: [u8; 4], mask: u64| {
        let (old, mask) = (u32::from_ne_bytes(old), mask as u32);
        ((inner.source & mask) | (old & !mask)).to_ne_bytes()
    };
    stats.inner_source = choose(stats.inner_source, own);
    stats.arp_sender = choose(stats.arp_sender, mask(inner.ethertype == ARP));
    stats.foreign_source = choose(stats.foreign_source, foreign);
    stats.foreign_seen_ns = (stats.last_seen_ns & foreign) | (stats.foreign_seen_ns & !foreign);
}

/// Counts the packet if it comes from an endpoint.
#[inline(always)]
fn count(sender: &Endpoint, counter: Counter) -> i64 {
    if sender.place != Endpoint::NOWHERE
        && let Some(value) = COUNTS.get_ptr_mut(counter as u32)
    {
        // SAFETY: this is a per-CPU value, as in `place`.
        unsafe { *value += 1 };
    }
    0
}

/// Passes Cilium's ARP replies to the agent as they leave through Cilium's tunnel device, from the Ethernet header on, and nothing else.
#[socket_filter]
pub fn arp_replies(ctx: SkBuffContext) -> i64 {
    let packet = Packet::new(&ctx);
    if packet.kind() != PACKET_OUTGOING || packet.length() < INNER || packet.half(ETHERTYPE) != ARP {
        return 0;
    }
    if packet.half(ETHERNET_HEADER + ARP_OPERATION) == ARP_REPLY { SNAP_LEN.into() } else { 0 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
