//! Reads arbitrary bytes as a packet. Nothing may panic, and an accepted packet must be long enough for its headers.
//!
//! If the input is hexadecimal text, the target decodes it first, so that the seeds can be text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vtep_core::{
    bundle::redact::Redactor,
    capture::{Captured, Direction, packet::Packet},
    config::spec::{Tunnel, TunnelProtocol},
    tunnel::frames::{arp_reply, echo_reply, tunnel_arp_reply},
};

fuzz_target!(|input: &[u8]| {
    let decoded = bytes(input);
    let packet = decoded.as_deref().unwrap_or(input);
    for protocol in [TunnelProtocol::Vxlan, TunnelProtocol::Geneve] {
        let tunnel = Tunnel { protocol, port: protocol.default_port() };
        if let Some(reply) = tunnel_arp_reply(packet, tunnel) {
            assert!(reply.vni < 1 << 24, "24 bits");
            // There is room for outer IPv4, UDP, the tunnel header, Ethernet and ARP.
            assert!(packet.len() >= 20 + 8 + 8 + 14 + 28);
        }
    }
    replace_addresses(packet);
    // As the file of a capture, too: what it makes of one of ours is one.
    let mut redactor = Redactor::new(7, "");
    if let Some(file) = redactor.pcapng(packet, Tunnel::default()) {
        assert!(redactor.pcapng(&file, Tunnel::default()).is_some());
    }
    if arp_reply(packet).is_some() {
        assert!(packet.len() >= 14 + 28);
    }
    if echo_reply(packet).is_some() {
        assert!(packet.len() >= 20 + 8 && packet[9] == 1, "ICMP");
    }
});

/// As in a bundle with other addresses: the frame may become shorter, and remains what it was or becomes nothing.
fn replace_addresses(frame: &[u8]) {
    let (tunnel, at) = (Tunnel::default(), "2026-11-27T12:00:00Z".parse().expect("a time"));
    let (interface, direction, length) = (0, Direction::In, frame.len() as u32);
    let mut captured = Captured { at, interface, direction, length, bytes: frame.to_vec() };
    let before = Packet::decode(frame, tunnel);
    Redactor::new(0, "").frame(&mut captured, tunnel);
    assert!(captured.bytes.len() <= frame.len());
    let after = captured.decode(tunnel);
    let is_same = std::mem::discriminant(&before) == std::mem::discriminant(&after);
    assert!(is_same || after == Packet::Other, "{before:?} {after:?}");
}

fn bytes(input: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(input).ok()?.trim();
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    (!digits.is_empty() && pairs.remainder().is_empty()).then(|| pairs.map(|p| (p[0] * 16 + p[1]) as u8).collect())
}
