use proptest::prelude::*;

use super::*;
use crate::{capture, config::spec::Tunnel};

fn redactor() -> Redactor {
    Redactor::new(7, "worker-1")
}

/// Words that are in no replacement.
fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

#[test]
fn addresses_are_found_wherever_they_stand() {
    let [a, b] = ["10.1.6.34", "10.1.5.36"];
    let mut redactor = redactor();
    let [new_a, new_b] = [a, b].map(|text| redactor.text(text));
    assert!(new_a.starts_with("240.0.") && new_a.ends_with(".34") && new_b.ends_with(".36"), "{new_a} {new_b}");
    for (template, what) in [
        ("{}", "alone"),
        ("10.1.6.0/24={}", "behind a network"),
        ("BIG-IP {}.", "at the end of a sentence"),
        ("http://{}:8472/", "with a port"),
        ("\"{}\",", "in JSON"),
        ("[{}]", "in brackets"),
        ("x{}x", "in a word"),
        ("({},{})", "twice"),
    ] {
        let words = redactor.text(&template.replace("{}", a));
        assert!(words.contains(&new_a) && !has(&words, &["10.1."]), "{what}: {words}");
    }
    for unchanged in [
        "1.18.8",
        "6.18.44",
        "0.0.0.0/0",
        "127.0.0.1:9808",
        "255.255.255.0",
        "255.255.255.255",
        "10.0.0.0/8",
        "224.0.0.1",
        "12:30:45",
        "2026-11-27T12:30:45.123Z",
        "vtep_agent::tasks",
        "::",
        "::1",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "1.3.6.1.4.1.2021",
        "5.14.0-503.el9",
        "a::b::c",
        "client::client",
        "",
        "dead-beef",
        "sha256:0a1b",
    ] {
        assert_eq!(redactor.text(unchanged), unchanged);
    }
}

#[test]
fn networks_remain_networks() {
    let mut redactor = redactor();
    let net = |text: String| text.parse::<Ipv4Net>().expect("a network");
    for (network, inside, outside) in [
        ("10.1.6.0/24", "10.1.6.34", "10.1.5.36"),
        ("10.1.0.0/16", "10.1.200.3", "10.2.0.1"),
        ("10.1.4.0/22", "10.1.7.255", "10.1.8.0"),
        ("192.168.7.128/25", "192.168.7.130", "192.168.7.1"),
    ] {
        let new = net(redactor.text(network));
        assert_eq!(new, new.trunc(), "{network}");
        let address = |redactor: &mut Redactor, text: &str| redactor.ipv4(text.parse().expect("an address"));
        assert!(new.contains(&address(&mut redactor, inside)), "{network} {inside}");
        assert!(!new.contains(&address(&mut redactor, outside)), "{network} {outside}");
    }
    assert!(redactor.text("10.1.6.34/24").ends_with(".34/24"), "host bits show");
}

#[test]
fn macs_and_names_are_replaced() {
    let mut redactor = redactor();
    assert_eq!(redactor.text("vtep-mac 00:50:56:A0:7D:D8,"), "vtep-mac 02:f5:00:00:00:01,");
    assert_eq!(redactor.text("00-50-56-a0-7d-d8 0050.56a0.7dd8"), "02:f5:00:00:00:01 02:f5:00:00:00:01");
    assert_eq!(redactor.text("01:50:56:a0:7d:d8"), "03:f5:00:00:00:02", "a group's");
    assert_eq!(redactor.text("01:00:5e:00:00:01"), "01:00:5e:00:00:01", "a protocol's");
    assert_eq!(
        redactor.text("worker-1 \"worker-1\" worker-12 my-worker-1 worker-1.example"),
        "node-1 \"node-1\" worker-12 my-worker-1 node-1.example"
    );
    assert_eq!(redactor.text("fd00::1 and fd00::2, fd00::1"), "2001:db8::1 and 2001:db8::2, 2001:db8::1");
    assert_eq!(
        redactor.text("\"enx005056a07dd8\" wlx005056a07dd9, enx005056A07DD8 tenx005056a07dd8 enx005056a07dd8f enx0050"),
        "\"enx02f500000001\" wlx02f500000003, enx02f500000001 tenx005056a07dd8 enx005056a07dd8f enx0050"
    );
    let dashed = redactor.text("ip-10-1-6-34.internal");
    assert!(dashed.starts_with("ip-240-0-") && dashed.ends_with("-34.internal"), "{dashed}");
}

#[test]
fn each_name_has_its_own_replacement() {
    let names = [
        ("node-2", "node-1"),
        ("node-1", "node-2"),
        ("a", "node-3"),
        ("a.example.com", "node-4"),
        ("ü-1", "node-5"),
        ("", "x"),
    ];
    let mut redactor =
        Redactor::of_names(7, names.map(|(name, replacement)| (name.to_owned(), replacement.to_owned())));
    for (text, expected) in [
        // The replacement of one is the name of the other.
        ("node-1 node-2 node-1", "node-2 node-1 node-2"),
        ("a.example.com, a.example, a.b", "node-4, node-3.example, node-3.b"),
        ("a.example.community ab ba -a a- a", "node-3.example.community ab ba -a a- node-3"),
        ("node-10 my-node-1 node-1x", "node-10 my-node-1 node-1x"),
        ("ü-1=ü-12", "node-5=ü-12"),
        ("", ""),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn frames_lose_what_they_carry() {
    let mut redactor = redactor();
    let tunnel = Tunnel::default();
    let mut captured = capture::tests::capture(
        capture::tests::captured().into_iter().map(|frame| (capture::Direction::In, frame)).collect(),
    );
    let before: Vec<_> = captured.frames.iter().map(|frame| frame.decode(tunnel)).collect();
    captured.frames.iter_mut().for_each(|frame| redactor.frame(frame, tunnel));
    let addresses = [[10, 169, 72, 34], [10, 169, 72, 239], [10, 1, 6, 34]];
    for (frame, before) in captured.frames.iter().zip(before) {
        assert!(addresses.iter().all(|address| !frame.bytes.windows(4).any(|bytes| bytes == address)), "{before:?}");
        let after = frame.decode(tunnel);
        assert_eq!(std::mem::discriminant(&before), std::mem::discriminant(&after), "{before:?} {after:?}");
    }
    // In a frame and in a text it is the same.
    let capture::packet::Packet::Tunnel(first) = captured.frames[0].decode(tunnel) else { panic!("a tunnel frame") };
    assert_eq!(redactor.text("10.169.72.34"), first.source.to_string());
}

/// The address in this block that has this replacement.
fn with_replacement(redactor: &mut Redactor, [a, b]: [u8; 2], replacement: Ipv4Addr) -> [u8; 4] {
    let [.., d] = replacement.octets();
    let all = (0..=255).map(|c| [a, b, c, d]);
    let mut found = all.filter(|octets| redactor.ipv4((*octets).into()) == replacement);
    found.next().expect("each third octet is the replacement of one")
}

/// From what remains, nobody can compute what was replaced or cut: checksums, the gateway of a redirect, the options of Geneve.
#[test]
fn frames_that_differ_only_in_what_is_replaced_become_the_same() {
    use capture::tests::{about, icmp, ping_inside, udp, vxlan};

    let [source, destination, third] = [[10, 169, 72, 34], [10, 169, 72, 239], [10, 1, 6, 34]];
    let (mut one, mut other) = (redactor(), redactor());
    let twins = [([172, 16], source), ([172, 16], destination), ([192, 168], third)]
        .map(|(block, address)| with_replacement(&mut other, block, one.ipv4(address.into())));
    let with = |[a, b, c]: [[u8; 4]; 3], data: u8| {
        let tcp = |source, destination| {
            let mut packet = Vec::new();
            let builder = etherparse::PacketBuilder::ipv4(source, destination, 64).tcp(40000, 80, 1, 1000).syn();
            builder.write(&mut packet, &[data; 20]).expect("a Vec takes all");
            capture::tests::ethernet(0x0800, &packet)
        };
        let icmp = |kind, rest: &[u8]| {
            let mut frame = icmp(a, b, kind, rest);
            frame[14 + 20 + 2..][..2].fill(data);
            frame
        };
        let redirect = [&c[..], &about(c)[4..]].concat();
        let geneve = |inner: &[u8]| [&[1, 0, 0x65, 0x58, 0, 0, 2, 0, data, data, data, data][..], inner].concat();
        vec![
            ("TCP", tcp(a, b)),
            ("cut TCP", tcp(a, b)[..14 + 20 + 17].to_vec()),
            ("UDP", udp(a, b, 53, &[data; 20])),
            ("ping", icmp(8, &[&[0, 1, 0, 1][..], &[data; 20]].concat())),
            ("error", icmp(3, &about(c))),
            ("redirect", icmp(5, &redirect)),
            ("advertisement", icmp(9, &[[1, 2, 0, data], c].concat())),
            ("VXLAN", udp(a, b, 8472, &vxlan(2, &tcp(c, b)))),
            ("Geneve", udp(a, b, 6081, &geneve(&ping_inside()[..14]))),
        ]
    };
    let redacted = |redactor: &mut Redactor, frame: Vec<u8>| {
        let mut frame = capture::tests::capture(vec![(capture::Direction::In, frame)]).frames.remove(0);
        redactor.frame(&mut frame, Tunnel::default());
        frame.bytes
    };
    let pairs = with([source, destination, third], 7).into_iter().zip(with(twins, 9));
    for ((what, first), (_, second)) in pairs {
        assert_ne!(first, second, "{what}");
        let [first, second] = [redacted(&mut one, first), redacted(&mut other, second)];
        assert_eq!(first, second, "{what}");
        let (header, _) = etherparse::Ipv4Header::from_slice(&first[14..]).expect("a header");
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "{what}");
    }
    // Its gateway is a replaced one, too.
    let mut redirect = capture::tests::capture(vec![(capture::Direction::In, icmp(source, destination, 5, &third))]);
    one.frame(&mut redirect.frames[0], Tunnel::default());
    assert_eq!(redirect.frames[0].bytes[14 + 20 + 4..], one.ipv4(third.into()).octets());
}

/// The third octets share as many bits as before, and from no replacement follows more than that about another one.
#[test]
fn one_known_address_reveals_no_more_of_others_than_networks_do() {
    let mut redactor = redactor();
    let mut third = |b, c| redactor.ipv4(Ipv4Addr::new(10, b, c, 1)).octets()[2];
    let new: Vec<u8> = (0..=255).map(|c| third(1, c)).collect();
    for (one, new_one) in (0..=255_u8).zip(&new) {
        for (other, new_other) in (0..=255_u8).zip(&new) {
            assert_eq!((one ^ other).leading_zeros(), (new_one ^ new_other).leading_zeros(), "{one} {other}");
        }
    }
    // With a constant for all of a block, this would be one.
    let differences: std::collections::BTreeSet<u8> = (0..=255).zip(&new).map(|(c, new)| c ^ new).collect();
    assert!(differences.len() > 16, "{differences:?}");
    assert_ne!(new, (0..=255).map(|c| third(2, c)).collect::<Vec<_>>(), "another block has other ones");
    let mut other = Redactor::new([7; 32], "worker-1");
    assert_ne!(new, (0..=255).map(|c| other.ipv4(Ipv4Addr::new(10, 1, c, 1)).octets()[2]).collect::<Vec<_>>());
}

/// Text with addresses in it.
fn texts() -> impl Strategy<Value = String> {
    let ipv4 = any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).to_string());
    let net = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(octets, length)| format!("{}/{length}", Ipv4Addr::from(octets)));
    let mac = any::<[u8; 6]>().prop_map(|octets| Mac::new(octets).to_string());
    let ipv6 = any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).to_string());
    let separator = prop_oneof![Just(" "), Just(","), Just("\":\""), Just("="), Just(". "), Just(" worker-1 ")];
    let item = prop_oneof![ipv4, net, mac, ipv6, "[ -~]{0,12}"];
    prop::collection::vec((item, separator), 0..8)
        .prop_map(|items| items.into_iter().map(|(item, separator)| item + separator).collect())
}

proptest! {
    #[test]
    fn a_second_time_changes_nothing(text in texts()) {
        let mut redactor = redactor();
        let once = redactor.text(&text);
        prop_assert_eq!(redactor.text(&once), once);
    }

    /// Also of another bundle: what is replaced stays.
    #[test]
    fn another_redactor_changes_nothing_either(text in texts()) {
        let once = redactor().text(&text);
        prop_assert_eq!(Redactor::new(8, "worker-2").text(&once), once);
    }

    #[test]
    fn different_addresses_stay_different(addresses in prop::collection::btree_set(any::<[u8; 4]>(), 0..100)) {
        let mut redactor = redactor();
        let new: std::collections::BTreeSet<_> = addresses.iter().map(|octets| redactor.ipv4((*octets).into())).collect();
        prop_assert!(new.len() == addresses.len() || addresses.iter().any(|[first, ..]| *first >= 240));
        for octets in &addresses {
            let address = Ipv4Addr::from(*octets);
            prop_assert!(names_nobody(address) || redactor.ipv4(address) != address);
        }
    }

    #[test]
    fn any_text_and_any_frame_are_fine(
        text in "\\PC{0,60}",
        ether_type in prop_oneof![Just(0x0800_u16), Just(0x0806)],
        mut bytes in prop::collection::vec(any::<u8>(), 0..160),
    ) {
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&ether_type.to_be_bytes());
        }
        let mut redactor = redactor();
        let _ = redactor.text(&text);
        let mut captured = capture::tests::capture(vec![(capture::Direction::In, bytes)]);
        let (length, before) = (captured.frames[0].bytes.len(), captured.frames[0].decode(Tunnel::default()));
        redactor.frame(&mut captured.frames[0], Tunnel::default());
        prop_assert!(captured.frames[0].bytes.len() <= length);
        let after = captured.frames[0].decode(Tunnel::default());
        let is_same = std::mem::discriminant(&before) == std::mem::discriminant(&after);
        prop_assert!(is_same || after == capture::packet::Packet::Other, "{before:?} {after:?}");
    }
}
