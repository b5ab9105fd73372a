use super::*;
use crate::tunnel::{
    flow::{Kinds, PodTraffic, Sender},
    mac_learning::{MacLearning, Record},
};

const TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    thresholds: Thresholds { raise: 3, clear: 3 },
};

fn vtep() -> Vtep {
    Vtep {
        cidr: "10.1.6.0/24".parse().expect("a CIDR"),
        endpoint: [10, 169, 72, 34].into(),
        mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
    }
}

fn flow(source: [u8; 4], vni: u32, inner_source: Option<[u8; 4]>, arp_sender: Option<[u8; 4]>) -> Flow {
    Flow {
        source: source.into(),
        port: 8472,
        vni,
        packets: 1,
        bytes: 100,
        last_seen: Instant::now(),
        inner_mac: Mac::default(),
        inner_source: inner_source.map(Ipv4Addr::from),
        arp_sender: arp_sender.map(Ipv4Addr::from),
        foreign: None,
    }
}

/// The tap has seen this stream.
fn see(probes: &mut VtepProbes, flow: Flow) {
    let tunnel = Tunnel::default();
    if flow.belongs_to(tunnel) {
        let (source, packets, bytes) = (flow.source, flow.packets, flow.bytes);
        let counts = EndpointCounts {
            source,
            tunnel: Some(flow),
            packets,
            bytes,
            kinds: Kinds::default(),
            pods: PodTraffic::default(),
        };
        probes.on_counts(&counts, tunnel, Instant::now());
    } else {
        probes.on_strays(vec![flow], 0, tunnel);
    }
}

#[test]
fn learns_the_self_ip_from_frames_of_its_cidr_and_vni_only() {
    const HERE: [u8; 4] = [10, 169, 72, 34];
    let self_ip = [10, 1, 6, 34];
    let table = [
        ("an ARP request", flow(HERE, 2, None, Some(self_ip)), Some(self_ip)),
        ("a packet", flow(HERE, 2, Some(self_ip), None), Some(self_ip)),
        ("ARP before IP", flow(HERE, 2, Some([10, 1, 6, 99]), Some(self_ip)), Some(self_ip)),
        ("outside the CIDR", flow(HERE, 2, Some([10, 9, 9, 9]), None), None),
        ("another VNI", flow(HERE, 3, None, Some(self_ip)), None),
    ];
    for (what, flow, expected) in table {
        let mut probes = VtepProbes::new(vtep(), None, TIMING, Instant::now());
        see(&mut probes, flow);
        assert_eq!(probes.target.map(|target| target.address), expected.map(Ipv4Addr::from), "{what}");
    }
}

#[test]
fn a_configured_target_stays_and_a_learned_one_follows() {
    let now = Instant::now();
    let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 1].into()), TIMING, now);
    see(&mut probes, flow([10, 169, 72, 34], 2, None, Some([10, 1, 6, 34])));
    assert_eq!(probes.target.map(|target| target.origin), Some(Origin::Configured));

    let mut probes = VtepProbes::new(vtep(), None, TIMING, now);
    assert_eq!((probes.arp_state(), probes.icmp_state()), (ProbeState::NoTarget, ProbeState::NoTarget));
    for self_ip in [[10, 1, 6, 34], [10, 1, 6, 35]] {
        see(&mut probes, flow([10, 169, 72, 34], 2, None, Some(self_ip)));
        assert_eq!(probes.target.map(|target| target.address), Some(self_ip.into()));
    }
    let (source, kinds) = ([10, 169, 72, 34].into(), Kinds::default());
    probes.on_counts(
        &EndpointCounts { source, tunnel: None, packets: 0, bytes: 0, kinds, pods: PodTraffic::default() },
        Tunnel::default(),
        now,
    );
    assert!(probes.target.is_some(), "without frames, the target remains");
}

/// The probes of an agent that remembers a self IP after a restart.
fn remembering(now: Instant) -> VtepProbes {
    let mut probes = VtepProbes::new(vtep(), None, TIMING, now);
    probes.recall(Known { self_ip: [10, 1, 6, 34].into(), mac: None, echo: true });
    probes
}

#[test]
fn a_remembered_target_is_asked_and_gives_way_to_what_is_seen() {
    let now = Instant::now();
    let of = |probes: &VtepProbes| probes.target.map(|target| (target.address, target.origin));
    let (before, other) = ([10, 1, 6, 34], [10, 1, 6, 35]);

    let mut probes = remembering(now);
    assert_eq!(of(&probes), Some((before.into(), Origin::Remembered)));
    assert!(probes.has_answered() && probes.has_echoed() && !probes.wants_target());
    see(&mut probes, flow([10, 169, 72, 34], 2, None, Some(other)));
    assert_eq!(of(&probes), Some((other.into(), Origin::Learned)), "by BIG-IP's own frames");
    assert!(!probes.has_answered(), "the history of one address does not apply to another");

    let mut probes = remembering(now);
    for _ in 0..3 {
        probes.arp.on_send_error(&std::io::Error::other("lost"), now);
    }
    assert!(probes.wants_target(), "it is swept for");
    probes.on_arp_reply(&reply(2, other, [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
    assert_eq!(of(&probes), Some((other.into(), Origin::Swept)), "by an answer");
    assert_eq!(probes.known.map(|known| known.self_ip), Some(other.into()));

    let mut probes = remembering(now);
    probes.on_arp_reply(&reply(2, before, [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
    probes.on_arp_reply(&reply(2, other, [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
    assert_eq!(of(&probes), Some((before.into(), Origin::Remembered)), "it has answered: it stays");

    let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 1].into()), TIMING, now);
    probes.recall(Known { self_ip: before.into(), mac: None, echo: true });
    assert_eq!(of(&probes), Some(([10, 1, 6, 1].into(), Origin::Configured)));
    assert!(!probes.has_answered());
}

#[test]
fn a_client_behind_bigip_takes_no_place_that_has_answered() {
    let now = Instant::now();
    let mut probes = remembering(now);
    probes.on_arp_reply(&reply(2, [10, 1, 6, 34], [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
    probes.arp.on_sent(1, now);
    probes.arp.on_reply(1, now);
    see(&mut probes, flow([10, 169, 72, 34], 2, Some([10, 1, 6, 99]), None));
    assert_eq!(probes.target.map(|target| target.address), Some([10, 1, 6, 34].into()));
}

fn reply(vni: u32, sender: [u8; 4], target: [u8; 4], mac: Mac) -> TunnelArpReply {
    let arp = Arp { sender_mac: mac, sender: sender.into(), target_mac: [2; 6].into(), target: target.into() };
    TunnelArpReply { endpoint: [10, 169, 72, 34].into(), vni, arp }
}

#[test]
fn an_arp_answer_counts_only_when_it_answers_us() {
    const SELF_IP: [u8; 4] = [10, 1, 6, 34];
    const ASKER: [u8; 4] = [10, 0, 0, 126];
    let now = Instant::now();
    let mac = vtep().mac;
    let table = [
        ("the answer", reply(2, SELF_IP, ASKER, mac), 1),
        ("another sender", reply(2, [10, 1, 6, 35], ASKER, mac), 0),
        ("an announcement", reply(2, SELF_IP, SELF_IP, mac), 0),
        ("another VNI", reply(3, SELF_IP, ASKER, mac), 0),
    ];
    for (what, reply, received) in table {
        let mut probes = VtepProbes::new(vtep(), Some(SELF_IP.into()), TIMING, now);
        probes.arp.on_sent(1, now);
        probes.on_arp_reply(&reply, ASKER.into(), now);
        assert_eq!((probes.arp.received, probes.observed_mac.is_some()), (received, received == 1), "{what}");
    }
}

#[test]
fn a_foreign_mac_is_believed_the_third_time() {
    let now = Instant::now();
    let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 34].into()), TIMING, now);
    let other: Mac = [4; 6].into();
    let mut answer = |mac| {
        probes.on_arp_reply(&reply(2, [10, 1, 6, 34], [10, 0, 0, 126], mac), [10, 0, 0, 126].into(), now);
        probes.foreign_mac()
    };
    assert_eq!([answer(other), answer(other), answer(other)], [None, None, Some(other)]);
    assert_eq!(answer(vtep().mac), None);
}

#[test]
fn without_the_tap_arp_is_unsupported() {
    let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 34].into()), TIMING, Instant::now());
    probes.heard = false;
    assert_eq!((probes.arp_state(), probes.icmp_state()), (ProbeState::Unsupported, ProbeState::Pending));
}

/// The new gateway sent before it was the endpoint, and the old one sends on for a moment.
#[test]
fn a_failover_is_no_unexpected_source() {
    let now = Instant::now();
    let (before, here, stranger) = ([10, 169, 72, 33], [10, 169, 72, 34], [10, 169, 72, 99]);
    let frame = |source: [u8; 4], seconds| UnexpectedSource {
        source: source.into(),
        sender: Sender::Unknown,
        inner_source: [10, 1, 6, 34].into(),
        inner_mac: vtep().mac,
        last_seen: now + Duration::from_secs(seconds),
    };
    for (what, frame, counts) in [
        ("the endpoint", frame(here, 20), false),
        ("the one before", frame(before, 14), false),
        ("the one before, still", frame(before, 15), true),
        ("another", frame(stranger, 0), true),
    ] {
        let mut probes = VtepProbes::new(vtep(), None, TIMING, now);
        probes.predecessor = Some(before.into());
        probes.on_unexpected_sources(&[frame]);
        assert_eq!(probes.unexpected.is_some(), counts, "{what}");
    }
    let mut probes = VtepProbes::new(vtep(), None, TIMING, now);
    let node = UnexpectedSource { sender: Sender::Node, ..frame([10, 169, 72, 233], 2) };
    probes.on_unexpected_sources(&[frame(stranger, 1), node, frame(stranger, 0)]);
    assert_eq!((probes.unexpected, probes.forwarded), (Some(frame(stranger, 1)), Some(node)), "a node is no BIG-IP");
    let self_ip = Some([10, 1, 6, 34].into());
    let mut probes = VtepProbes::new(vtep(), self_ip, TIMING, now);
    for second in 0..12 {
        let (sender, mac) = if second % 2 == 0 { (Sender::Node, [2; 6].into()) } else { (Sender::Unknown, vtep().mac) };
        probes.on_unexpected_sources(&[UnexpectedSource { sender, inner_mac: mac, ..frame(stranger, second) }]);
    }
    assert!(probes.self_ip_owners.is_one(), "the MAC in a forwarded frame may be the node's");
}

/// An hour of probes and traffic, in which a part of the probes is lost, and BIG-IP announces itself now and then.
#[test]
fn an_hour_of_health_has_no_failover() {
    let start = Instant::now();
    let here = Ipv4Addr::from([10, 1, 6, 34]);
    let mut probes = VtepProbes::new(vtep(), Some(here), TIMING, start);
    probes.learning = MacLearning::new(vtep(), true, Record::default());
    probes.is_neighbour = true;
    let (endpoints, underlay) = ([vtep().endpoint].into(), Mac::from([2, 0, 0, 0, 0, 7]));
    let mut random = 1_u32;
    for second in 0..3600 {
        let now = start + Duration::from_secs(second);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        probes.on_time(now);
        probes.arp.on_sent(second as u16, now);
        probes.icmp.on_sent(second as u16, now);
        if random >> 24 > 50 {
            probes.on_arp_reply(&reply(2, [10, 1, 6, 34], [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
            probes.on_echo(second as u16, now);
        }
        let mut frames = flow([10, 169, 72, 34], 2, Some([10, 1, 6, 34]), None);
        (frames.inner_mac, frames.last_seen) = (vtep().mac, now);
        see(&mut probes, frames);
        probes.on_neighbours(&[(underlay, now)], now);
        probes.follow_owners(&endpoints, now);
        assert_eq!(probes.decide_mac(&BTreeSet::new(), Timestamp::UNIX_EPOCH), None);
        assert_eq!((probes.failovers.total, probes.hurry), (0, 0), "second {second}");
    }
    assert!(probes.icmp.received > 1000 && probes.icmp.lost_total > 100);
}

/// The first answer of another unit brings six quick rounds, and no more within ten seconds.
#[test]
fn another_mac_makes_the_probes_hurry_for_a_while() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 34].into()), TIMING, start);
    let answer = |probes: &mut VtepProbes, ms: u64, mac: u8| {
        probes.arp.on_sent(ms as u16, at(ms));
        let reply = reply(2, [10, 1, 6, 34], [10, 0, 0, 126], [2, 0, 0, 0, 0, mac].into());
        probes.on_arp_reply(&reply, [10, 0, 0, 126].into(), at(ms));
        probes.schedule(TIMING, at(ms), 0.5);
        probes.due.saturating_duration_since(at(ms)).as_millis()
    };
    assert_eq!(answer(&mut probes, 0, 1), 1000);
    let quick: Vec<_> = (0..7).map(|n| answer(&mut probes, 1000 + 120 * n, 2)).collect();
    assert_eq!(quick, [120, 120, 120, 120, 120, 120, 1000]);
    assert_eq!(answer(&mut probes, 5000, 1), 1000, "two units in turn");
    assert_eq!(answer(&mut probes, 20_000, 2), 120);
}

/// BIG-IP itself is only seen when it answers a probe. The other host's frames look like its own, and must not make the probes rare.
#[test]
fn a_second_host_with_the_endpoints_address_makes_no_probe_rare() {
    let start = Instant::now();
    let self_ip = [10, 1, 6, 34];
    let mut probes = VtepProbes::new(vtep(), Some(self_ip.into()), TIMING, start);
    (probes.heard, probes.is_neighbour) = (true, true);
    let (own, other) = (Mac::from([2, 0, 0, 0, 0, 1]), Mac::from([2, 0, 0, 0, 0, 2]));
    let mut answered = start;
    for second in 0..20_u64 {
        let now = start + Duration::from_secs(second);
        probes.on_time(now);
        let mut frames = flow([10, 169, 72, 34], 2, None, Some(self_ip));
        (frames.packets, frames.inner_mac, frames.last_seen) = (10 * second, vtep().mac, now);
        see(&mut probes, frames);
        probes.on_neighbours(&[(own, answered), (other, now)], now);
        if !probes.suppress(Tunnel::default()) {
            answered = now + Duration::from_millis(500);
            probes.arp.on_sent(second as u16, now);
            probes.icmp.on_sent(second as u16, now);
            probes.on_arp_reply(&reply(2, self_ip, [10, 0, 0, 126], vtep().mac), [10, 0, 0, 126].into(), now);
            probes.on_echo(second as u16, now);
            probes.schedule(TIMING, now, 0.5);
        }
    }
    let owners: Vec<_> = probes.endpoint_owners.in_conflict().iter().map(|owner| owner.mac).collect();
    assert_eq!(owners, [own, other]);
}

/// BIG-IP answers one ping a second at most, which is just the rate of the pings at half the pace: whether the one beside the tunnel takes
/// the answer of the one through it depends on the jitter, and must not look like a tunnel without a way back.
#[test]
fn a_limit_of_just_the_rate_of_the_probes_never_silences_the_tunnel() {
    for seed in 0..50_u32 {
        let start = Instant::now();
        let mut probes = VtepProbes::new(vtep(), Some([10, 1, 6, 34].into()), TIMING, start);
        probes.heard = true;
        let mut random = seed;
        let (mut now, mut answered) = (start, None);
        for sequence in 0..600 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            probes.schedule(TIMING, now, f64::from(random >> 8) / f64::from(1 << 24));
            let due = probes.due;
            probes.on_time(due.min(now + TIMING.timeout));
            now = probes.due;
            probes.on_time(now);
            let through_first = probes.icmp.last_lost();
            let turn = probes.turn(now);
            probes.arp.on_sent(sequence, now);
            probes.arp.on_reply(sequence, now);
            let mut echoes = [(turn.beside, false), (turn.through, true)];
            if through_first {
                echoes.reverse();
            }
            for (_, through) in echoes.into_iter().filter(|(sent, _)| *sent) {
                let window = if through { &mut probes.icmp } else { &mut probes.underlay };
                window.on_sent(sequence, now);
                let passes = answered.is_none_or(|at| now - at >= Duration::from_secs(1));
                if passes || sequence < 20 {
                    window.on_reply(sequence, now);
                    answered = Some(now);
                }
            }
            let (lost, every) = (probes.icmp.lost_in_a_row(), probes.pace.every());
            assert!(
                lost < CERTAIN_LOSSES,
                "seed {seed}, round {sequence}: {lost} lost in a row at one ping in {every}"
            );
        }
        assert!(probes.pace.is_limited(), "seed {seed}: the limit is found");
        assert!(probes.underlay.received > 100, "seed {seed}: {} answers beside the tunnel", probes.underlay.received);
    }
}
