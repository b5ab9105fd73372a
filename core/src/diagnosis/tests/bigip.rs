use super::*;

pub(super) const FAULTS: &[Row] = &[
    (
        "another UDP port",
        |case| {
            case.see(4789, 2);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongUdpPort),
        Verdict::Misconfigured,
        "UDP port 4789",
    ),
    (
        "another VNI",
        |case| {
            case.see(8472, 68);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongVni),
        Verdict::Misconfigured,
        "VNI 68",
    ),
    (
        "a VNI, and a flood of invented ones",
        |case| {
            case.see(8472, 68);
            case.probes.other_streams = 257;
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongVni),
        Verdict::Misconfigured,
        "its frames carry VNI 68",
    ),
    (
        "more VNIs than are listed",
        |case| {
            (68..73).for_each(|vni| case.see(8472, vni));
            case.probes.other_streams = 257;
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongVni),
        Verdict::Misconfigured,
        "carry VNI 68, 69, 70, 71, 72 and at least 200 more",
    ),
    (
        "a flood of invented VNIs alone",
        |case| {
            case.probes.other_streams = 257;
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "UDP port 8472",
    ),
    (
        "another local address",
        |case| {
            case.stray([10, 169, 72, 99].into(), Sender::Unknown);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongSource),
        Verdict::Misconfigured,
        "10.169.72.99",
    ),
    (
        "what another node forwards",
        |case| {
            case.stray([10, 169, 72, 240].into(), Sender::Unknown);
            case.see(8472, VTEP_VNI);
        },
        None,
        Verdict::Healthy,
        "",
    ),
    (
        "a self IP that moved to another VTEP's endpoint",
        |case| {
            case.stray([10, 169, 72, 36].into(), Sender::Endpoint);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::WrongSource),
        Verdict::Misconfigured,
        "to 10.169.72.36: frames of 10.1.6.34 come from 10.169.72.36, the endpoint of another VTEP",
    ),
    (
        "the same, and its own endpoint still sends something else",
        |case| {
            case.see(8472, VTEP_VNI);
            case.lose(&[InArp, Icmp], 3);
            case.stray([10, 169, 72, 36].into(), Sender::Endpoint);
        },
        Some(Cause::WrongSource),
        Verdict::Misconfigured,
        "move 10.1.6.34 back to",
    ),
    (
        "a self IP that another VTEP's endpoint had before the silence",
        |case| {
            case.see(8472, VTEP_VNI);
            case.stray([10, 169, 72, 36].into(), Sender::Endpoint);
            case.lose_at(&[InArp, Icmp], 3, Instant::now() + Duration::from_millis(1));
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "no device has the self IP now",
    ),
    (
        "what another node forwards, while its own endpoint sends something else",
        |case| {
            case.see(8472, VTEP_VNI);
            case.stray([10, 169, 72, 240].into(), Sender::Unknown);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "FDB record",
    ),
    (
        "no FDB record for this node, and another node forwards what is flooded",
        |case| {
            case.stray([10, 169, 72, 233].into(), Sender::Node);
            case.lose(&[InArp], 3);
        },
        Some(Cause::NoReturnPath),
        Verdict::Degraded,
        "add the FDB record for this node (10.169.72.239) on BIG-IP 10.169.72.34: its frames for this node come only by way of the node \
         10.169.72.233",
    ),
    (
        "the same, and nothing is answered",
        |case| {
            case.stray([10, 169, 72, 233].into(), Sender::Node);
            case.lose(&[InArp, Icmp], 3);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "add the FDB record for this node (10.169.72.239) on it; its frames for this node come only by way of the node 10.169.72.233",
    ),
    (
        "what a node forwards, while BIG-IP's own frames arrive",
        |case| {
            case.stray([10, 169, 72, 233].into(), Sender::Node);
            case.see(8472, VTEP_VNI);
        },
        None,
        Verdict::Healthy,
        "",
    ),
    (
        "two units with one self IP",
        |case| claim_in_turn(case, [([0, 0x50, 0x56, 0xa0, 0x7d, 0xd8], 34), ([0, 0x50, 0x56, 1, 2, 3], 36)]),
        Some(Cause::SelfIpConflict),
        Verdict::Misconfigured,
        "10.1.6.34 of",
    ),
    (
        "two units with one self IP, and both their MACs and sources",
        |case| claim_in_turn(case, [([0, 0x50, 0x56, 0xa0, 0x7d, 0xd8], 34), ([0, 0x50, 0x56, 1, 2, 3], 36)]),
        Some(Cause::SelfIpConflict),
        Verdict::Misconfigured,
        "00:50:56:01:02:03 from 10.169.72.36 and 00:50:56:a0:7d:d8 from 10.169.72.34",
    ),
    (
        "two hosts with the endpoint's address",
        |case| {
            let now = Instant::now();
            for n in 0..6_u8 {
                let owner = Owner { mac: [2, 0, 0, 0, 0, n % 2].into(), source: ENDPOINT };
                case.probes.endpoint_owners.on_claim(owner, now + Duration::from_secs(n.into()));
            }
        },
        Some(Cause::SelfIpConflict),
        Verdict::Misconfigured,
        "come in turn from the MACs 02:00:00:00:00:00 and 02:00:00:00:00:01",
    ),
    (
        "a failover to another MAC",
        |case| {
            case.answer_arp(case.vtep.mac, 5);
            case.answer_arp([0, 0x50, 0x56, 1, 2, 3].into(), 5);
        },
        Some(Cause::VtepMacMismatch),
        Verdict::Misconfigured,
        "00:50:56:01:02:03",
    ),
    (
        "a learned MAC",
        |case| {
            case.learn_mac([0, 0x50, 0x56, 1, 2, 3].into());
            case.answer(&[Icmp], 3);
        },
        None,
        Verdict::Healthy,
        "",
    ),
    (
        "a learned MAC in the place of a group address",
        |case| {
            case.vtep.mac = [1, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into();
            case.learn_mac([0, 0x50, 0x56, 1, 2, 3].into());
        },
        None,
        Verdict::Healthy,
        "",
    ),
    ("TCP that was answered", |case| case.probe_tcp(true), Some(Cause::TcpBroken), Verdict::Degraded, "10.1.6.34:443"),
    ("TCP that never was answered", |case| case.probe_tcp(false), None, Verdict::Healthy, ""),
    (
        "TCP that was answered, and a MAC that is the reason",
        |case| {
            case.probe_tcp(true);
            case.answer_arp([0, 0x50, 0x56, 1, 2, 3].into(), 3);
        },
        Some(Cause::VtepMacMismatch),
        Verdict::Misconfigured,
        "00:50:56:01:02:03",
    ),
    (
        "SNAT to another network",
        |case| {
            case.see(8472, VTEP_VNI);
            case.probes.flows[0].foreign = Some((Instant::now(), [192, 0, 2, 7].into()));
        },
        Some(Cause::ForeignInnerSource),
        Verdict::Degraded,
        "192.0.2.7",
    ),
    (
        "another MAC",
        |case| {
            case.answer_arp([0, 0x50, 0x56, 1, 2, 3].into(), 3);
            case.lose(&[Icmp], 3);
        },
        Some(Cause::VtepMacMismatch),
        Verdict::Misconfigured,
        "00:50:56:01:02:03",
    ),
    (
        "a group address, while ping passes",
        |case| case.vtep.mac = [1, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
        Some(Cause::VtepMacMismatch),
        Verdict::Misconfigured,
        "group address",
    ),
    (
        "a wrong probe target, while BIG-IP sends",
        |case| {
            (case.probes.arp.received, case.probes.icmp.received) = (0, 0);
            case.lose(&[InArp, Icmp], 3);
            case.see(8472, VTEP_VNI);
        },
        Some(Cause::SelfIpUnknown),
        Verdict::Unknown,
        "--probe-target 10.1.6.0/24=10.1.6.34",
    ),
    (
        "no way back any more",
        |case| case.lose(&[Icmp], 3),
        Some(Cause::NoReturnPath),
        Verdict::Unreachable,
        "FDB record for this node (10.169.72.239)",
    ),
    (
        "no way back, and never one: perhaps port lockdown",
        |case| {
            case.probes.icmp.received = 0;
            case.lose(&[Icmp], 3);
        },
        Some(Cause::NoReturnPath),
        Verdict::Degraded,
        "allows ICMP",
    ),
    (
        "no way back, and one before this agent was restarted",
        |case| {
            case.restart();
            case.answer(&[Beside, InArp], 3);
            case.lose(&[Icmp], 3);
        },
        Some(Cause::NoReturnPath),
        Verdict::Unreachable,
        "allows ICMP",
    ),
    (
        "no self IP",
        |case| {
            case.probes.target = None;
            case.probes.arp = case.probes.underlay.clone();
        },
        Some(Cause::SelfIpUnknown),
        Verdict::Unknown,
        "set --probe-target 10.1.6.0/24=",
    ),
    (
        "no self IP, and the agent is in a pod",
        |case| {
            case.in_pod = true;
            case.probes.target = None;
            case.probes.arp = case.probes.underlay.clone();
        },
        Some(Cause::SelfIpUnknown),
        Verdict::Unknown,
        "set the chart's probe.targets (--probe-target) 10.1.6.0/24=",
    ),
];

/// Two owners, each with its MAC and the end of its outer source, claim the self IP in turn.
fn claim_in_turn(case: &mut Case, owners: [([u8; 6], u8); 2]) {
    let now = Instant::now();
    for (second, (mac, source)) in (0..6).zip(owners.into_iter().cycle()) {
        let owner = Owner { mac: mac.into(), source: [10, 169, 72, source].into() };
        case.probes.self_ip_owners.on_claim(owner, now + Duration::from_secs(second));
    }
}

#[test]
fn each_fault_of_bigip_is_named() {
    assert_named(FAULTS);
}

#[test]
fn old_frames_are_no_evidence() {
    let mut case = Case::healthy();
    case.see(8472, 68);
    case.lose(&[Beside, InArp, Icmp], 3);
    let later = Instant::now() + RECENT + Duration::from_secs(1);
    assert_eq!(case.diagnose_at(later).cause, Some(Cause::EndpointUnreachable));
}
