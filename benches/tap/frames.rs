//! The kinds of frames. Each differs from a VTEP's frame in just what its name says: the tap counts that one, so it ignores the others for that.

use vtep_agent_ebpf::SNAP_LEN;

/// This node's address inside the tunnel, and the identifier of the agent's own echoes.
pub(crate) const ROUTER: [u8; 4] = [10, 0, 0, 126];
pub(crate) const ECHO_ID: u8 = 7;
const NODE: [u8; 4] = [10, 169, 72, 239];
const OTHER_NODE: [u8; 4] = [10, 169, 72, 240];
const POD: [u8; 4] = [10, 0, 0, 7];
const OUTSIDE: [u8; 4] = [192, 0, 2, 1];
/// The endpoint that sends.
pub(crate) const SENDER: u8 = 7;
const SELF_IP: [u8; 4] = [10, 1, SENDER, 34];
/// In the sender's second VTEP CIDR.
const SECOND: [u8; 4] = [10, 1, SENDER + 1, 34];

pub(crate) fn endpoint(n: u8) -> [u8; 4] {
    [10, 169, 72, 34 + n]
}

/// The VTEP CIDR of an endpoint, with 24 bits.
pub(crate) fn network(n: u8) -> [u8; 4] {
    [10, 1, n, 0]
}

/// What the tap does with a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It counts nothing.
    Ignored,
    Tunnel,
    ArpRequest,
    ArpReply,
    EchoReply,
    /// It is one of the endpoint's other streams.
    OtherStream,
}

impl Way {
    /// How many bytes it passes to the agent.
    pub(crate) fn kept(self) -> u32 {
        if self == Self::ArpReply { SNAP_LEN } else { 0 }
    }
}

pub(crate) struct Frame {
    pub(crate) name: &'static str,
    /// The time that it may take.
    pub(crate) goal: Option<u32>,
    pub(crate) way: Way,
    /// The frame from its Ethernet header on.
    pub(crate) packet: fn() -> Vec<u8>,
}

/// The goals of VTEP frames, and of all others.
const VTEP: Option<u32> = Some(50);
const OTHERS: Option<u32> = Some(20);

pub(crate) const KINDS: &[Frame] = &[
    Frame { name: "ipv6", goal: OTHERS, way: Way::Ignored, packet: ipv6 },
    Frame {
        name: "tcp",
        goal: OTHERS,
        way: Way::Ignored,
        packet: || tunnel(Outer { protocol: TCP, ..VTEP_FRAME }, tcp()),
    },
    Frame {
        name: "udp-of-another-port",
        goal: OTHERS,
        way: Way::Ignored,
        packet: || tunnel(Outer { port: 443, ..VTEP_FRAME }, tcp()),
    },
    Frame {
        name: "tunnel-frame-of-another-node",
        goal: OTHERS,
        way: Way::Ignored,
        packet: || tunnel(Outer { source: OTHER_NODE, vni: 4242, ..VTEP_FRAME }, tcp()),
    },
    Frame {
        name: "tunnel-frame-of-another-node-from-outside-cluster",
        goal: OTHERS,
        way: Way::Ignored,
        packet: || tunnel(Outer { source: OTHER_NODE, ..VTEP_FRAME }, inner(OUTSIDE, POD, TCP)),
    },
    Frame { name: "vtep-frame-tcp", goal: VTEP, way: Way::Tunnel, packet: || tunnel(VTEP_FRAME, tcp()) },
    Frame {
        name: "vtep-frame-udp",
        goal: VTEP,
        way: Way::Tunnel,
        packet: || tunnel(VTEP_FRAME, inner(SELF_IP, POD, UDP)),
    },
    Frame {
        name: "vtep-frame-tcp-of-second-cidr",
        goal: VTEP,
        way: Way::Tunnel,
        packet: || tunnel(VTEP_FRAME, inner(SECOND, POD, TCP)),
    },
    Frame {
        name: "vtep-frame-tcp-from-outside-its-cidrs",
        goal: None,
        way: Way::Tunnel,
        packet: || tunnel(VTEP_FRAME, inner(OUTSIDE, POD, TCP)),
    },
    Frame {
        name: "vtep-frame-echo-reply",
        goal: VTEP,
        way: Way::EchoReply,
        packet: || tunnel(VTEP_FRAME, inner(SELF_IP, ROUTER, ICMP)),
    },
    Frame { name: "vtep-frame-arp-request", goal: VTEP, way: Way::ArpRequest, packet: || tunnel(VTEP_FRAME, arp(1)) },
    Frame { name: "vtep-frame-arp-reply", goal: VTEP, way: Way::ArpReply, packet: || tunnel(VTEP_FRAME, arp(2)) },
    Frame {
        name: "vtep-frame-with-another-vni",
        goal: None,
        way: Way::OtherStream,
        packet: || tunnel(Outer { vni: 3, ..VTEP_FRAME }, tcp()),
    },
];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

struct Outer {
    source: [u8; 4],
    protocol: u8,
    port: u16,
    vni: u32,
}

const VTEP_FRAME: Outer = Outer { source: [10, 169, 72, 34 + SENDER], protocol: UDP, port: 8472, vni: 2 };

/// The kernel takes the frame as one that arrived on the loopback device, whose address is zero: another destination would be another host.
fn ethernet_to_us(ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[0; 12], &ethertype[..], packet].concat()
}

fn ipv6() -> Vec<u8> {
    ethernet_to_us([0x86, 0xdd], &[&[0x60, 0, 0, 0, 0, 80, TCP, 64][..], &[0xfd; 32], &[0; 80]].concat())
}

/// VXLAN.
fn tunnel(outer: Outer, frame: Vec<u8>) -> Vec<u8> {
    let Outer { source, protocol, port, vni } = outer;
    let [_, vni @ ..] = vni.to_be_bytes();
    let vxlan = [&[8, 0, 0, 0], &vni[..], &[0], &frame].concat();
    let [high, low] = port.to_be_bytes();
    let udp = [&[0x9c, 0x40, high, low], &length(8 + vxlan.len())[..], &[0, 0], &vxlan].concat();
    ethernet_to_us([8, 0], &ipv4(source, NODE, protocol, &udp))
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a short frame").to_be_bytes()
}

fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = length(20 + payload.len());
    let start = [0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
    [&start[..], &source, &destination, payload].concat()
}

/// The Ethernet header inside the tunnel.
fn ethernet(ethertype: [u8; 2]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 0, 0x50, 0x56, 0xa0, 0x7d, 0xd8][..], &ethertype].concat()
}

/// A small packet. As ICMP, its payload is an answer to the agent's echo, and as TCP an acknowledgement.
fn inner(source: [u8; 4], destination: [u8; 4], protocol: u8) -> Vec<u8> {
    let mut payload = [0; 60];
    payload[5] = ECHO_ID;
    payload[13] = if protocol == TCP { 0x10 } else { 0 };
    [ethernet([8, 0]), ipv4(source, destination, protocol, &payload)].concat()
}

fn tcp() -> Vec<u8> {
    inner(SELF_IP, POD, TCP)
}

fn arp(operation: u8) -> Vec<u8> {
    let mac = [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8];
    let packet = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &SELF_IP, &[0; 6], &ROUTER].concat();
    // Ethernet pads it.
    [ethernet([8, 6]), packet, vec![0; 18]].concat()
}
