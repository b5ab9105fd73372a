//! Frames for the tests of this module: those of a real node, and made ones.

use super::*;

/// The frames of a capture (pcap, little endian, Ethernet) of a node with Cilium 1.18 and two BIG-IPs.
pub(crate) fn captured() -> Vec<Vec<u8>> {
    let mut rest = &include_bytes!("../../../tests/fixtures/cilium-1.18/underlay-ok.pcap")[24..];
    let mut frames = Vec::new();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        frames.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    frames
}

/// That node.
pub(crate) fn known() -> Known {
    let [first, second]: [Ipv4Addr; 2] = [[10, 169, 72, 34].into(), [10, 169, 72, 36].into()];
    Known {
        tunnel: Tunnel::default(),
        endpoints: [first, second].map(|endpoint| (endpoint, format!("BIG-IP {endpoint}"))).into(),
        networks: [(net("10.1.6.0/24"), first), (net("10.1.5.0/24"), second)].into(),
        next_hops: [[10, 169, 72, 1].into()].into(),
        node: [[10, 169, 72, 239].into()].into(),
        router: Some([10, 0, 0, 15].into()),
    }
}

fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

pub(crate) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], &ether_type.to_be_bytes(), payload].concat()
}

/// A frame with UDP inside.
pub(crate) fn udp(source: [u8; 4], destination: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4(source, destination, 64).udp(40000, port);
    builder.write(&mut packet, payload).expect("a Vec takes all");
    ethernet(0x0800, &packet)
}

/// A frame with an ICMP message, whose data begins behind its first four bytes.
pub(crate) fn icmp(source: [u8; 4], destination: [u8; 4], kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let message = [&[kind, 0, 0, 0][..], rest].concat();
    let ip = etherparse::Ipv4Header::new(
        message.len().try_into().expect("short"),
        64,
        etherparse::IpNumber::ICMP,
        source,
        destination,
    );
    ip.expect("short").write(&mut packet).expect("a Vec takes all");
    packet.extend(message);
    ethernet(0x0800, &packet)
}

/// The rest of an ICMP error about a packet to this address: unused bytes, and the beginning of the packet.
pub(crate) fn about(destination: [u8; 4]) -> Vec<u8> {
    let mut rest = vec![0; 4 + 28];
    rest[4] = 0x45;
    rest[4 + 16..4 + 20].copy_from_slice(&destination);
    rest
}

/// An ARP request.
pub(crate) fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2, 0, 0, 0, 0, 1], &sender, &[0; 6], &target].concat();
    ethernet(0x0806, &arp)
}

/// RFC 7348, section 5.
pub(crate) fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, vni @ ..] = vni.to_be_bytes();
    [&[8, 0, 0, 0, vni[0], vni[1], vni[2], 0][..], inner].concat()
}

pub(crate) fn arp_inside() -> Vec<u8> {
    arp([10, 1, 6, 34], [10, 0, 0, 24])
}

pub(crate) fn ping_inside() -> Vec<u8> {
    icmp([10, 1, 6, 34], [10, 0, 0, 24], 8, &[0; 60])
}

pub(crate) fn tcp_inside() -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4([10, 1, 6, 34], [10, 0, 0, 24], 64).tcp(40000, 80, 1, 1000).syn();
    builder.write(&mut packet, &[0; 100]).expect("a Vec takes all");
    ethernet(0x0800, &packet)
}

/// A capture of these frames on one interface, a millisecond apart, that ends two seconds after the last one.
pub(crate) fn capture(frames: Vec<(Direction, Vec<u8>)>) -> Capture {
    let begin: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
    let at = |n: usize| begin + jiff::SignedDuration::from_millis(n as i64);
    let ended = at(frames.len() + 2000);
    let frames = frames.into_iter().enumerate().map(|(n, (direction, bytes))| Captured {
        at: at(n),
        interface: 0,
        direction,
        length: bytes.len() as u32,
        bytes,
    });
    let interfaces = vec![Interface { name: "eth0".into(), ..Interface::default() }];
    Capture { interfaces, frames: frames.collect(), ended, without_bulk_since: None, left_out: Vec::new() }
}
