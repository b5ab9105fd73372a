use super::*;
use crate::{
    capture::{
        Direction::{In, Out},
        tests::*,
    },
    config::spec::Tunnel,
};

fn lines(frames: Vec<(Direction, Vec<u8>)>) -> Vec<String> {
    // Without time, interface and direction.
    explain(&capture(frames), &known()).iter().map(|line| line[20..].to_owned()).collect()
}

const BIGIP: [u8; 4] = [10, 169, 72, 34];
const SECOND: [u8; 4] = [10, 169, 72, 36];
const NODE: [u8; 4] = [10, 169, 72, 239];

/// The frame with the opposite ARP operation, sender and target.
fn reply(request: &[u8], mac: [u8; 6]) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[21] = 2;
    reply[22..28].copy_from_slice(&mac);
    let (sender, target) = (request[28..32].to_vec(), request[38..42].to_vec());
    reply[28..32].copy_from_slice(&target);
    reply[38..42].copy_from_slice(&sender);
    reply
}

#[test]
fn a_line_begins_with_time_interface_and_direction() {
    let lines = explain(&capture(vec![(In, arp(NODE, BIGIP)), (Out, arp(NODE, BIGIP))]), &known());
    assert_eq!(
        lines[0],
        "  0.000000 eth0 in  this node (10.169.72.239) asks who has BIG-IP 10.169.72.34; nobody answers"
    );
    assert!(lines[1].starts_with("  0.001000 eth0 out this node"), "{}", lines[1]);
}

#[test]
fn questions_have_their_answers() {
    let ask = arp_inside();
    let answer = reply(&ask, [2; 6]);
    let wrap = |source, destination, inner: &[u8]| udp(source, destination, 8472, &vxlan(2, inner));
    let asked = (In, wrap(BIGIP, NODE, &ask));
    assert_eq!(lines(vec![asked.clone()]), ["BIG-IP 10.169.72.34 asks who has 10.0.0.24; nobody on this node answers"]);
    assert_eq!(
        lines(vec![asked.clone(), (Out, wrap(NODE, BIGIP, &answer))]),
        [
            "BIG-IP 10.169.72.34 asks who has 10.0.0.24; answered after 1.00 ms",
            "this node answers BIG-IP 10.169.72.34 that 10.0.0.24 is at 02:02:02:02:02:02",
        ]
    );
    let of_zeros = lines(vec![asked, (Out, wrap(NODE, BIGIP, &reply(&ask, [0; 6])))]);
    assert!(
        of_zeros[1].ends_with("; a MAC of zeros is no answer: this release of Cilium is broken for VTEPs"),
        "{of_zeros:?}"
    );
    let early = Capture { ended: capture(vec![]).ended, ..capture(vec![(In, arp(NODE, BIGIP))]) };
    let early = Capture { ended: early.frames[0].at, ..early };
    assert!(explain(&early, &known())[0].ends_with("; the capture ends before an answer"));
}

#[test]
fn probes_are_named() {
    let ask = arp([10, 0, 0, 15], [10, 1, 6, 34]);
    let frames = vec![
        (Out, udp(NODE, BIGIP, 8472, &vxlan(2, &ask))),
        (In, udp(BIGIP, NODE, 8472, &vxlan(2, &reply(&ask, [4; 6])))),
        (Out, icmp(NODE, BIGIP, 8, &[0; 60])),
        (Out, icmp(NODE, BIGIP, 8, &[7; 60])),
        (Out, udp(NODE, BIGIP, 8472, &vxlan(2, &icmp([10, 0, 0, 15], [10, 1, 6, 34], 8, &[0; 60])))),
        (Out, udp(NODE, BIGIP, 8472, &vxlan(2, &icmp([10, 0, 0, 24], [10, 1, 6, 34], 8, &[0; 60])))),
    ];
    assert_eq!(
        lines(frames),
        [
            "this node asks BIG-IP 10.169.72.34 who has 10.1.6.34; answered after 1.00 ms \
             [probe of vtep-agent: ARP for 10.1.6.34 through the tunnel]",
            "BIG-IP 10.169.72.34 answers that 10.1.6.34 is at 04:04:04:04:04:04 \
             [answer to a probe of vtep-agent: 04:04:04:04:04:04 has 10.1.6.34]",
            "this node (10.169.72.239) pings BIG-IP 10.169.72.34; nobody answers \
             [probe of vtep-agent: echo beside the tunnel]",
            "this node (10.169.72.239) pings BIG-IP 10.169.72.34; nobody answers",
            "10.0.0.15 pings 10.1.6.34, to BIG-IP 10.169.72.34; nobody answers \
             [probe of vtep-agent: echo through the tunnel, 84 bytes]",
            "10.0.0.24 pings 10.1.6.34, to BIG-IP 10.169.72.34; nobody answers",
        ]
    );
}

#[test]
fn what_is_wrong_is_said() {
    let inside = tcp_inside();
    let table = [
        (udp(BIGIP, NODE, 8472, &vxlan(2, &inside)), ""),
        (udp(BIGIP, NODE, 8472, &vxlan(3, &inside)), "; its VNI is 3, and VTEP traffic has 2"),
        (udp(BIGIP, NODE, 4789, &vxlan(2, &inside)), "; it goes to UDP port 4789, and this node's tunnel has 8472"),
        (udp(SECOND, NODE, 8472, &vxlan(2, &inside)), "; 10.1.6.34 is behind BIG-IP 10.169.72.34"),
        (
            udp([10, 169, 72, 134], NODE, 8472, &vxlan(2, &inside)),
            "; 10.1.6.34 is behind BIG-IP 10.169.72.34, and no VTEP has the endpoint 10.169.72.134",
        ),
        (udp(BIGIP, NODE, 8472, &[0; 60]), "; it has no VXLAN header"),
    ];
    for (frame, words) in table {
        let line = lines(vec![(In, frame)]).remove(0);
        let (_, remarks) =
            line.split_once("from BIG-IP 10.169.72.").or(line.split_once("from 10.169.72.")).expect("a sender");
        let remarks = remarks.split_once(';').map_or(String::new(), |(_, words)| format!(";{words}"));
        assert_eq!(remarks, words, "{line}");
    }
    assert_eq!(
        lines(vec![(In, icmp([10, 169, 72, 1], NODE, 3, &about(BIGIP)))]),
        ["the gateway 10.169.72.1 tells this node (10.169.72.239) about a packet to 10.169.72.34: network unreachable"]
    );
}

/// Every question in the capture of a node where all works has an answer, except those for pods of other nodes.
#[test]
fn a_real_capture_reads_well() {
    let frames = captured().into_iter().map(|frame| {
        let is_out =
            matches!(Packet::decode(&frame, Tunnel::default()), Packet::Tunnel(of) if of.source.octets() == NODE);
        (if is_out { Out } else { In }, frame)
    });
    let lines = lines(frames.collect());
    assert!(
        lines.iter().any(|line| line.starts_with("this node answers BIG-IP 10.169.72.34 that 10.0.0.15 is at")),
        "{lines:#?}"
    );
    assert!(lines.iter().all(|line| !line.contains("another kind")), "{lines:#?}");
}
