//! The programs run here on a machine of a few lines, with frames of a real node.

use proptest::prelude::*;

use super::{assembler::*, *};
use crate::{
    capture::{packet::Packet, tests::*},
    config::spec::Tunnel,
};

/// The kernel's machine (`net/core/filter.c`), as far as these programs use it. `None`: the program is invalid.
fn run(program: &[Instruction], frame: &[u8]) -> Option<bool> {
    let (mut pc, mut a, mut x) = (0_usize, 0_u32, 0_u32);
    let load = |at: u32, length: usize| {
        let bytes = frame.get(at as usize..(at as usize).checked_add(length)?)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let Instruction { code, jump_true, jump_false, k } = *program.get(pc)?;
        pc += 1;
        let loaded = match code {
            LD_WORD_ABS => load(k, 4),
            LD_HALF_ABS => load(k, 2),
            LD_BYTE_ABS => load(k, 1),
            LD_WORD_IND => load(k + x, 4),
            LD_HALF_IND => load(k + x, 2),
            LD_BYTE_IND => load(k + x, 1),
            LDX_MSH => load(k, 1),
            _ => Some(0),
        };
        // A load behind the frame's end ends the program.
        let Some(loaded) = loaded else { return Some(false) };
        match code {
            LD_WORD_ABS | LD_HALF_ABS | LD_BYTE_ABS | LD_WORD_IND | LD_HALF_IND | LD_BYTE_IND => a = loaded,
            LDX_MSH => x = 4 * (loaded & 0xf),
            AND => a &= k,
            SHIFT_LEFT => a <<= k,
            SHIFT_RIGHT => a >>= k,
            ADD_X => a += x,
            TAX => x = a,
            JUMP => pc += k as usize,
            JUMP_EQUAL => pc += usize::from(if a == k { jump_true } else { jump_false }),
            JUMP_ANY => pc += usize::from(if a & k != 0 { jump_true } else { jump_false }),
            RETURN => return Some(k != 0),
            _ => return None,
        }
    }
}

fn passes(known: &Known, tunneled: Tunneled, frame: &[u8]) -> bool {
    run(&underlay(known, tunneled), frame).expect("a valid program")
}

#[test]
fn the_frames_of_a_real_node_pass() {
    let frames = captured();
    assert!(frames.len() > 10);
    for frame in &frames {
        assert!(passes(&known(), Tunneled::All, frame), "{:?}", Packet::decode(frame, known().tunnel));
        // Everything there is ARP or a ping.
        assert!(passes(&known(), Tunneled::ArpAndIcmp, frame));
    }
    // With other endpoints, only VTEP traffic passes.
    let elsewhere = Known { endpoints: [([192, 0, 2, 1].into(), String::new())].into(), ..known() };
    for frame in &frames {
        let is_tunnel = matches!(Packet::decode(frame, known().tunnel), Packet::Tunnel(_));
        assert_eq!(passes(&elsewhere, Tunneled::All, frame), is_tunnel);
    }
}

#[test]
fn what_concerns_nobody_does_not_pass() {
    let [bigip, node, other] = [[10, 169, 72, 34], [10, 169, 72, 239], [10, 169, 72, 233]];
    let table = [
        ("a tunnel frame of BIG-IP", udp(bigip, node, 8472, &vxlan(2, &tcp_inside())), [true, false]),
        ("one to it", udp(node, bigip, 8472, &vxlan(2, &tcp_inside())), [true, false]),
        ("in another VNI", udp(bigip, node, 8472, &vxlan(3, &tcp_inside())), [true, false]),
        ("to another port", udp(bigip, node, 4789, &vxlan(2, &tcp_inside())), [true, false]),
        ("ARP inside", udp(bigip, node, 4789, &vxlan(2, &arp_inside())), [true, true]),
        ("VTEP traffic of a stranger", udp(other, node, 8472, &vxlan(2, &arp_inside())), [true, true]),
        ("pod traffic of another node", udp(other, node, 8472, &vxlan(0x1234, &arp_inside())), [false, false]),
        ("DNS of BIG-IP", udp(bigip, node, 53, &[0; 20]), [false, false]),
        ("a ping of BIG-IP", icmp(bigip, node, 8, &[0; 40]), [true, true]),
        ("a ping of another node", icmp(other, node, 8, &[0; 40]), [false, false]),
        ("a router's error about a packet to BIG-IP", icmp(other, node, 3, &about(bigip)), [true, true]),
        ("about another packet", icmp(other, node, 3, &about(other)), [false, false]),
        ("ARP for BIG-IP", arp(node, bigip), [true, true]),
        ("ARP of the gateway", arp([10, 169, 72, 1], node), [true, true]),
        ("ARP of others", arp(node, other), [false, false]),
        ("nothing", vec![], [false, false]),
    ];
    for (what, frame, expected) in table {
        let found = [Tunneled::All, Tunneled::ArpAndIcmp].map(|tunneled| passes(&known(), tunneled, &frame));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn pieces_pass_by_their_address() {
    let mut piece = udp([10, 169, 72, 34], [10, 169, 72, 239], 53, &[0; 20]);
    // The offset, in words of eight bytes, and then the flag that more pieces follow.
    piece[14 + 7] = 185;
    assert!(passes(&known(), Tunneled::All, &piece) && !passes(&known(), Tunneled::ArpAndIcmp, &piece));
    piece[14 + 6..14 + 8].copy_from_slice(&[0x20, 0]);
    assert!(!passes(&known(), Tunneled::All, &piece), "the first one has the port");
}

#[test]
fn options_of_geneve_are_skipped() {
    let known = Known { tunnel: Tunnel { protocol: TunnelProtocol::Geneve, port: 6081 }, ..known() };
    let geneve =
        |inner: Vec<u8>| [&[2, 0, 0x65, 0x58, 0, 0, 2, 0][..], &[0xff, 0xff, 1, 1, 8, 6, 8, 6], &inner].concat();
    let frame = |inner| udp([10, 169, 72, 34], [10, 169, 72, 239], 6081, &geneve(inner));
    assert!(passes(&known, Tunneled::ArpAndIcmp, &frame(arp_inside())));
    assert!(!passes(&known, Tunneled::ArpAndIcmp, &frame(tcp_inside())));
    assert!(passes(&known, Tunneled::All, &frame(tcp_inside())));
}

#[test]
fn the_tunnel_device_shows_arp_alone() {
    let run = |frame: &[u8]| run(&tunnel_device(), frame).expect("a valid program");
    assert!(run(&arp_inside()) && !run(&tcp_inside()) && !run(&[]));
}

proptest! {
    /// The reader counts by `Packet::is_bulk`, and then asks the kernel to leave out the same frames. A capture keeps at least 96 bytes.
    #[test]
    fn what_is_bulk_is_left_out(
        source in any::<[u8; 4]>(), ports in 0..3_usize, vni in 0..4_u32, inner in 0..3_usize, cut in 96..200_usize,
    ) {
        let inner = [arp_inside(), tcp_inside(), ping_inside()][inner].clone();
        let port = [8472, 4789, 53][ports];
        let mut frame = udp(source, [10, 169, 72, 34], port, &vxlan(vni, &inner));
        frame.truncate(cut);
        let known = known();
        let is_bulk = Packet::decode(&frame, known.tunnel).is_bulk();
        let [all, quiet] = [Tunneled::All, Tunneled::ArpAndIcmp].map(|tunneled| passes(&known, tunneled, &frame));
        prop_assert!(!quiet || all, "the second filter passes no more than the first");
        prop_assert!(!(quiet && is_bulk), "{:?}", Packet::decode(&frame, known.tunnel));
    }

    #[test]
    fn no_frame_breaks_a_program(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        for tunneled in [Tunneled::All, Tunneled::ArpAndIcmp] {
            prop_assert!(run(&underlay(&known(), tunneled), &frame).is_some());
        }
        let _ = Packet::decode(&frame, known().tunnel);
    }
}
