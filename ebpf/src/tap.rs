//! The tap: a socket filter on an `AF_PACKET`/`SOCK_DGRAM` socket of the underlay device.
//!
//! Counts the tunnel frames of the VTEP endpoints per source, port and VNI, and passes only their inner ARP replies to user space. It sees copies:
//! nothing that it does changes, delays or drops a packet. Data starts at the outer IPv4 header, whatever the link layer is.
#![no_std]
#![no_main]

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_ns,
    macros::{map, socket_filter},
    maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, lpm_trie::Key},
    programs::SkBuffContext,
};
use vtep_agent_ebpf::{
    COUNTERS, Counter, ENDPOINTS_MAX, FLOWS_MAX, FlowKey, FlowStats, NETWORKS_MAX, SNAP_LEN, STRAYS_MAX, Stray,
};

const BPF_F_NO_PREALLOC: u32 = 1;
/// The VNI of VTEP traffic. Between Cilium's nodes it is the sender's identity.
const VTEP_VNI: u32 = 2;
const PACKET_OTHERHOST: u32 = 3;
const PACKET_OUTGOING: u32 = 4;
const IPPROTO_UDP: u8 = 17;
const PORT_VXLAN_IANA: u16 = 4789;
const PORT_VXLAN_LINUX: u16 = 8472;
const PORT_GENEVE: u16 = 6081;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_ETHERNET: u16 = 0x6558;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

/// The configured tunnel port and its protocol, set by the agent when it loads the program.
#[unsafe(no_mangle)]
static TUNNEL_PORT: u16 = PORT_VXLAN_LINUX;
#[unsafe(no_mangle)]
static TUNNEL_IS_GENEVE: u8 = 0;

/// The outer sources to look at, filled by the agent: the configured VTEP endpoints.
#[map]
static ENDPOINTS: HashMap<[u8; 4], u8> = HashMap::with_max_entries(ENDPOINTS_MAX, 0);
/// The VTEP CIDRs, filled by the agent.
#[map]
static NETWORKS: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(NETWORKS_MAX, BPF_F_NO_PREALLOC);
#[map]
static STRAYS: LruHashMap<[u8; 4], Stray> = LruHashMap::with_max_entries(STRAYS_MAX, 0);
#[map]
static FLOWS: PerCpuHashMap<FlowKey, FlowStats> = PerCpuHashMap::with_max_entries(FLOWS_MAX, 0);
#[map(name = "COUNTERS")]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Bytes of the packet to hand up: 0 drops the copy.
#[socket_filter]
pub fn tap(ctx: SkBuffContext) -> i64 {
    match look(&ctx) {
        Ok(keep) => i64::from(keep),
        Err(Ignored) => 0,
    }
}

/// The packet is too short for what it claims to be, or no business of ours.
struct Ignored;

fn look(ctx: &SkBuffContext) -> Result<u32, Ignored> {
    // SAFETY: the kernel passes a valid __sk_buff for the time of the call.
    let (packet_type, length) = unsafe { ((*ctx.skb.skb).pkt_type, (*ctx.skb.skb).len) };
    if packet_type == PACKET_OTHERHOST || packet_type == PACKET_OUTGOING {
        return Ok(0);
    }
    let version_ihl: u8 = load(ctx, 0)?;
    let header = usize::from(version_ihl & 0x0f) * 4;
    let protocol: u8 = load(ctx, 9)?;
    if version_ihl >> 4 != 4 || header < 20 || protocol != IPPROTO_UDP {
        return Ok(0);
    }
    let source: [u8; 4] = load(ctx, 12)?;
    // The value, not the pointer: a pointer that is kept on the stack is refused where `CAP_PERFMON` is missing (kernels before 5.12).
    // SAFETY: a byte that the agent writes before packets come; no reference outlives the line.
    let is_endpoint = unsafe { ENDPOINTS.get(&source) }.copied().unwrap_or(0) != 0;
    if load_u16(ctx, 6)? & 0x1fff != 0 {
        if is_endpoint {
            count(Counter::Fragment);
        }
        return Ok(0);
    }
    let port = load_u16(ctx, header + 2)?;
    let tunnel = header + 8;
    let opened = match tunnel_of(port) {
        Some(Tunnel::Vxlan) => vxlan(ctx, tunnel),
        Some(Tunnel::Geneve) => geneve(ctx, tunnel),
        None => return Ok(0),
    };
    let Ok((vni, inner)) = opened else {
        if is_endpoint {
            count(Counter::Malformed);
        }
        return Ok(0);
    };
    if !is_endpoint {
        return if vni == VTEP_VNI { stray(ctx, source, inner) } else { Ok(0) };
    }
    let key = FlowKey { source, vni, port, reserved: [0; 2] };
    let frame = Inner::read(ctx, inner)?;
    let keep = frame.arp_operation == ARP_REPLY;
    record(&key, &frame, u64::from(length));
    Ok(if keep { SNAP_LEN } else { 0 })
}

/// Whoever sends VTEP traffic from another address than its endpoint: BIG-IP with another local address.
fn stray(ctx: &SkBuffContext, source: [u8; 4], inner: usize) -> Result<u32, Ignored> {
    let frame = Inner::read(ctx, inner)?;
    let inner_source = if frame.arp_operation == 0 { frame.source } else { frame.arp_sender };
    if is_of_vtep(inner_source) {
        note_stray(&source, inner_source);
    }
    Ok(0)
}

fn note_stray(source: &[u8; 4], inner_source: [u8; 4]) {
    // A map that forgets is never full. Written in place: half a slot of the stack written after the other half is refused without
    // `CAP_PERFMON`.
    if STRAYS.get_ptr(source).is_none() && STRAYS.insert(source, &NO_STRAY, 0).is_err() {
        return;
    }
    let Some(stray) = STRAYS.get_ptr_mut(source) else { return };
    // SAFETY: the value lives as long as the program runs; readers may see it half written, and read it again a second later.
    let stray = unsafe { &mut *stray };
    stray.inner_source = inner_source;
    // SAFETY: a helper without arguments.
    stray.last_seen_ns = unsafe { bpf_ktime_get_ns() };
}

fn is_of_vtep(address: [u8; 4]) -> bool {
    NETWORKS.get(&Key::new(32, address)).is_some()
}

enum Tunnel {
    Vxlan,
    Geneve,
}

fn tunnel_of(port: u16) -> Option<Tunnel> {
    // SAFETY: both are constants of the loaded program; volatile keeps the compiler from using the values above.
    let (configured, geneve) =
        unsafe { ((&raw const TUNNEL_PORT).read_volatile(), (&raw const TUNNEL_IS_GENEVE).read_volatile()) };
    if port == configured {
        return Some(if geneve != 0 { Tunnel::Geneve } else { Tunnel::Vxlan });
    }
    match port {
        PORT_VXLAN_IANA | PORT_VXLAN_LINUX => Some(Tunnel::Vxlan),
        PORT_GENEVE => Some(Tunnel::Geneve),
        _ => None,
    }
}

/// VNI and offset of the inner frame (RFC 7348, section 5).
fn vxlan(ctx: &SkBuffContext, at: usize) -> Result<(u32, usize), Ignored> {
    let header: [u8; 8] = load(ctx, at)?;
    if header[0] & 0x08 == 0 {
        return Err(Ignored);
    }
    Ok((u32::from_be_bytes([0, header[4], header[5], header[6]]), at + 8))
}

/// VNI and offset of the inner frame (RFC 8926, section 3.4).
fn geneve(ctx: &SkBuffContext, at: usize) -> Result<(u32, usize), Ignored> {
    let header: [u8; 8] = load(ctx, at)?;
    let options = usize::from(header[0] & 0x3f) * 4;
    if header[0] >> 6 != 0 || u16::from_be_bytes([header[2], header[3]]) != ETHERTYPE_ETHERNET {
        return Err(Ignored);
    }
    Ok((u32::from_be_bytes([0, header[4], header[5], header[6]]), at + 8 + options))
}

/// What is read of the frame inside the tunnel.
struct Inner {
    mac: [u8; 6],
    source: [u8; 4],
    arp_operation: u16,
    arp_sender: [u8; 4],
}

impl Inner {
    /// Inlined, because a function of its own leaves the fields of an error unwritten on its caller's stack, and a kernel before 5.12 that
    /// loads without `CAP_PERFMON` refuses whatever could read them, if only in speculation.
    #[inline(always)]
    fn read(ctx: &SkBuffContext, at: usize) -> Result<Self, Ignored> {
        let mac = load(ctx, at + 6)?;
        let ethertype = load_u16(ctx, at + 12)?;
        let mut inner = Self { mac, source: [0; 4], arp_operation: 0, arp_sender: [0; 4] };
        if ethertype == ETHERTYPE_IPV4 {
            inner.source = load(ctx, at + 14 + 12)?;
        } else if ethertype == ETHERTYPE_ARP {
            inner.arp_operation = load_u16(ctx, at + 14 + 6)?;
            inner.arp_sender = load(ctx, at + 14 + 14)?;
        }
        Ok(inner)
    }
}

/// New values. Statics, because BPF has no `memset` to make one on the stack.
static NO_STRAY: Stray = Stray { last_seen_ns: 0, inner_source: [0; 4], reserved: [0; 4] };
static NOTHING_SEEN: FlowStats = FlowStats {
    packets: 0,
    bytes: 0,
    last_seen_ns: 0,
    arp_requests: 0,
    inner_mac: [0; 6],
    reserved: [0; 2],
    inner_source: [0; 4],
    arp_sender: [0; 4],
    foreign_seen_ns: 0,
    foreign_source: [0; 4],
    reserved2: [0; 4],
};

fn record(key: &FlowKey, frame: &Inner, length: u64) {
    if FLOWS.get_ptr(key).is_none() && FLOWS.insert(key, &NOTHING_SEEN, 0).is_err() {
        count(Counter::Overflow);
        return;
    }
    let Some(stats) = FLOWS.get_ptr_mut(key) else { return };
    // SAFETY: a per-CPU value: nobody else writes it while this program runs on this CPU.
    let stats = unsafe { &mut *stats };
    stats.packets += 1;
    stats.bytes += length;
    // SAFETY: a helper without arguments.
    stats.last_seen_ns = unsafe { bpf_ktime_get_ns() };
    stats.inner_mac = frame.mac;
    if frame.source != [0; 4] {
        stats.inner_source = frame.source;
        if !is_of_vtep(frame.source) {
            stats.foreign_seen_ns = stats.last_seen_ns;
            stats.foreign_source = frame.source;
        }
    }
    if frame.arp_operation == ARP_REQUEST {
        stats.arp_requests += 1;
    }
    if frame.arp_operation != 0 {
        stats.arp_sender = frame.arp_sender;
    }
}

fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU value, as above.
        unsafe { *value += 1 };
    }
}

fn load<T>(ctx: &SkBuffContext, offset: usize) -> Result<T, Ignored> {
    ctx.load(offset).map_err(|_| Ignored)
}

fn load_u16(ctx: &SkBuffContext, offset: usize) -> Result<u16, Ignored> {
    load(ctx, offset).map(u16::from_be)
}

/// Cilium's ARP replies as they leave through its tunnel device, from the Ethernet header on; nothing else is handed up.
#[socket_filter]
pub fn arp_replies(ctx: SkBuffContext) -> i64 {
    // SAFETY: the kernel passes a valid __sk_buff for the time of the call.
    let packet_type = unsafe { (*ctx.skb.skb).pkt_type };
    if packet_type != PACKET_OUTGOING {
        return 0;
    }
    match (load_u16(&ctx, 12), load_u16(&ctx, 14 + 6)) {
        (Ok(ETHERTYPE_ARP), Ok(ARP_REPLY)) => i64::from(SNAP_LEN),
        _ => 0,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
