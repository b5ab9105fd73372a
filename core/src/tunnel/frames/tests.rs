use proptest::prelude::*;

use super::*;

const VXLAN: Tunnel = Tunnel { protocol: TunnelProtocol::Vxlan, port: 8472 };
const GENEVE: Tunnel = Tunnel { protocol: TunnelProtocol::Geneve, port: 6081 };

/// The packets of a capture (pcap, little endian, Ethernet) behind their link-layer header.
fn captured() -> Vec<Vec<u8>> {
    let mut rest = &include_bytes!("../../../../tests/fixtures/cilium-1.18/underlay-ok.pcap")[24..];
    let mut packets = Vec::new();
    while let Some((header, tail)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        packets.push(tail[14..length].to_vec());
        rest = &tail[length..];
    }
    packets
}

#[test]
fn finds_the_one_arp_reply_of_a_real_capture() {
    let replies: Vec<_> = captured().iter().filter_map(|packet| tunnel_arp_reply(packet, VXLAN)).collect();
    let mac = |text: &str| text.parse::<Mac>().expect("a MAC");
    let expected = TunnelArpReply {
        endpoint: [10, 169, 72, 239].into(),
        vni: 2,
        arp: Arp {
            sender_mac: mac("da:b7:27:82:ba:5b"),
            sender: [10, 0, 0, 15].into(),
            target_mac: mac("00:50:56:a0:7d:d8"),
            target: [10, 1, 6, 34].into(),
        },
    };
    assert_eq!(replies, [expected]);
}

#[test]
fn a_request_is_what_a_real_bigip_sends() {
    let mac: Mac = "00:50:56:a0:7d:d8".parse().expect("a MAC");
    let ours = arp_request(TunnelProtocol::Vxlan, mac, [10, 1, 6, 34].into(), [10, 0, 0, 24].into());
    // Behind the outer IPv4 and UDP headers; the capture is padded to Ethernet's minimum inside the tunnel, too.
    let theirs = &captured()[0][28..];
    assert_eq!(ours, theirs[..ours.len()]);
    assert!(theirs[ours.len()..].iter().all(|byte| *byte == 0));
}

/// An outer IPv4 and UDP header before `payload`.
fn outer(payload: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 169, 72, 34], [10, 169, 72, 239], 64)
        .udp(40000, port)
        .write(&mut bytes, payload)
        .expect("a Vec takes all");
    bytes
}

/// An ARP reply as the far side of a tunnel sends it.
fn reply(protocol: TunnelProtocol) -> Vec<u8> {
    let mut payload = arp_request(protocol, [2; 6].into(), [10, 1, 6, 34].into(), [10, 0, 0, 126].into());
    payload[TUNNEL_HEADER + 14 + 7] = 2;
    payload
}

#[test]
fn what_differs_in_one_point_does_not_match() {
    for tunnel in [VXLAN, GENEVE] {
        let good = reply(tunnel.protocol);
        assert!(tunnel_arp_reply(&outer(&good, tunnel.port), tunnel).is_some());
        assert_eq!(tunnel_arp_reply(&outer(&good, tunnel.port + 1), tunnel), None, "another port");
        for (at, what) in [(0, "tunnel flags or version"), (20, "inner type"), (22, "hardware type"), (29, "operation")]
        {
            let mut bad = good.clone();
            bad[at] ^= 0xc8;
            assert_eq!(tunnel_arp_reply(&outer(&bad, tunnel.port), tunnel), None, "{what}");
        }
        let whole = outer(&good, tunnel.port);
        for length in 0..whole.len() {
            assert_eq!(tunnel_arp_reply(&whole[..length], tunnel), None, "cut to {length} bytes");
        }
        let mut fragment = whole;
        fragment[6] |= 0x20;
        assert_eq!(tunnel_arp_reply(&fragment, tunnel), None, "a fragment");
    }
}

#[test]
fn geneve_options_are_skipped() {
    let mut payload = reply(TunnelProtocol::Geneve);
    payload[0] = 2;
    payload.splice(8..8, [0xaa; 8]);
    assert!(tunnel_arp_reply(&outer(&payload, GENEVE.port), GENEVE).is_some());
}

#[test]
fn echoes_come_back() {
    let echo = Echo { id: 0x1234, sequence: 7 };
    let mut message = echo_request(echo, 56);
    assert_eq!(message.len(), 64);
    message[0] = 0;
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([10, 1, 6, 34], [10, 0, 0, 126], 64)
        .write(&mut packet, IpNumber::ICMP, &message)
        .expect("a Vec takes all");
    assert_eq!(echo_reply(&packet), Some(([10, 1, 6, 34].into(), echo)));
    let mut other = packet.clone();
    other[9] = 17;
    assert_eq!(echo_reply(&other), None, "another protocol");
    packet[20] = 8;
    assert_eq!(echo_reply(&packet), None, "a request is no reply");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = tunnel_arp_reply(&bytes, VXLAN);
        let _ = tunnel_arp_reply(&bytes, GENEVE);
        let _ = tunnel_arp_reply(&outer(&bytes, VXLAN.port), VXLAN);
        let _ = tunnel_arp_reply(&outer(&bytes, GENEVE.port), GENEVE);
        let _ = echo_reply(&bytes);
    }
}
