use super::*;

pub(super) const FAULTS: &[Row] = &[
    (
        "no route to the endpoint",
        |case| {
            case.facts.underlay.clear();
            case.lose(&[Beside, InArp, Icmp], 3);
        },
        Some(Cause::EndpointNoRoute),
        Verdict::Unreachable,
        "10.169.72.34",
    ),
    (
        "a dead BIG-IP",
        |case| case.lose(&[Beside, InArp, Icmp], 3),
        Some(Cause::EndpointUnreachable),
        Verdict::Unreachable,
        "10.169.72.34",
    ),
    (
        "a BIG-IP that left its network after it had answered",
        |case| {
            case.unresolve();
            case.lose(&[Beside, InArp, Icmp], 3);
        },
        Some(Cause::EndpointUnreachable),
        Verdict::Unreachable,
        "nobody on eth0 answers ARP for 10.169.72.34",
    ),
    (
        "an endpoint that never was on this network",
        |case| {
            case.unresolve();
            let target = case.probes.target.map(|target| target.address);
            case.probes = VtepProbes::new(case.vtep, target, TIMING, Instant::now());
            case.lose(&[Beside, InArp, Icmp], 3);
        },
        Some(Cause::EndpointNoRoute),
        Verdict::Unreachable,
        "answers ARP for 10.169.72.34",
    ),
    (
        "a filtered port",
        |case| case.lose(&[InArp, Icmp], 3),
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "UDP port 8472",
    ),
    (
        "a self IP that no device has",
        |case| case.lose(&[InArp, Icmp], 3),
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "; or no device has the ",
    ),
    (
        "a filtered port, and no tap",
        |case| {
            case.probes.heard = false;
            case.lose(&[Icmp], 3);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "UDP port 8472",
    ),
    (
        "a port filtered one way",
        |case| {
            case.lose(&[InArp, Icmp], 3);
            case.see(8472, VTEP_VNI);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "though its own frames arrive",
    ),
    (
        "a BIG-IP that died before this agent was restarted",
        |case| {
            case.unresolve();
            case.restart();
            case.lose(&[Beside, InArp, Icmp], 3);
        },
        Some(Cause::EndpointUnreachable),
        Verdict::Unreachable,
        "nobody on eth0 answers ARP for 10.169.72.34",
    ),
    (
        "a dead BIG-IP whose self IP nobody knows",
        |case| {
            case.unresolve();
            case.probes.target = None;
            (case.probes.arp, case.probes.icmp) = (case.fresh(), case.fresh());
            case.lose(&[Beside], 66);
        },
        Some(Cause::EndpointUnreachable),
        Verdict::Unreachable,
        "nobody on eth0 answers ARP for 10.169.72.34",
    ),
    (
        "an endpoint that never was there, whose self IP nobody knows",
        |case| {
            case.unresolve();
            case.probes = VtepProbes::new(case.vtep, None, TIMING, Instant::now());
            case.lose(&[Beside], 66);
        },
        Some(Cause::EndpointNoRoute),
        Verdict::Unreachable,
        "answers ARP for 10.169.72.34",
    ),
    (
        "a filter of ping, and of the port one way",
        |case| {
            case.lose(&[Beside, InArp, Icmp], 3);
            case.see(8472, VTEP_VNI);
        },
        Some(Cause::TunnelSilent),
        Verdict::Unreachable,
        "answers nothing through the tunnel, though its own frames arrive",
    ),
    (
        "a link for smaller packets only",
        |case| case.limit_path_mtu(1400),
        Some(Cause::PathMtu),
        Verdict::Degraded,
        "inner packets of 1400 bytes pass, those of 1450 do not",
    ),
    (
        "loss",
        |case| {
            for n in (1..6).rev() {
                case.lose_at(&[Icmp], 2, Instant::now() - 2 * n * TIMING.interval);
                case.answer(&[Icmp], 8);
            }
        },
        Some(Cause::PacketLoss),
        Verdict::Degraded,
        "%",
    ),
];

/// The page paints a fault on the hop whose evidence is bad. The search for the path MTU is shown at the underlay.
#[test]
fn a_fault_is_not_on_an_underlay_that_answers() {
    for (name, inject, cause, ..) in FAULTS {
        let mut case = Case::healthy();
        inject(&mut case);
        let answers = case.probes.underlay_state() == ProbeState::Ok;
        let Some(cause) = cause.filter(|cause| answers && *cause != Cause::PathMtu) else { continue };
        assert_ne!(cause.hop(), Hop::Underlay, "{name}: {cause}");
    }
    assert_eq!(Cause::TunnelSilent.hop(), Hop::Bigip);
}

#[test]
fn each_fault_of_the_network_is_named() {
    assert_named(FAULTS);
}

#[test]
fn frames_from_before_do_not_keep_a_dead_endpoint_alive() {
    let mut case = Case::healthy();
    case.lose(&[Beside, InArp, Icmp], 3);
    case.see(8472, VTEP_VNI);
    assert_eq!(case.diagnose().cause, Some(Cause::TunnelSilent));
    let later = Instant::now() + FRESH + Duration::from_secs(1);
    assert_eq!(case.diagnose_at(later).cause, Some(Cause::EndpointUnreachable));
}

/// Until the third answer arrives, the cause of the outage remains.
#[test]
fn the_first_answers_after_an_outage_are_no_frames_of_its_own() {
    let mut case = Case::healthy();
    case.lose(&[Beside, InArp, Icmp], 3);
    case.see(8472, VTEP_VNI);
    assert_eq!(case.diagnose().cause, Some(Cause::TunnelSilent));
    let answered = Instant::now() + Duration::from_millis(2);
    case.window(Icmp).on_sent(99, answered);
    case.probes.on_echo(99, answered);
    assert_eq!(case.diagnose_at(answered).cause, Some(Cause::EndpointUnreachable));
}

/// Pings may be filtered. Without a target inside the tunnel, lost pings count only after the sweep has had its time.
#[test]
fn lost_pings_alone_count_after_the_sweep() {
    let mut case = Case::healthy();
    case.probes = VtepProbes::new(case.vtep, None, TIMING, Instant::now());
    case.lose(&[Beside], 3);
    let diagnosis = case.diagnose();
    assert_eq!((diagnosis.cause, diagnosis.early), (Some(Cause::SelfIpUnknown), true));
    assert!(case.diagnose_at(Instant::now() + DISCOVERY).early, "the sweep is not over");
    case.probes.swept = true;
    let diagnosis = case.diagnose_at(Instant::now() + DISCOVERY);
    assert_eq!((diagnosis.cause, diagnosis.early), (Some(Cause::EndpointUnreachable), false));
    assert_eq!(diagnosis.also, [Cause::SelfIpUnknown]);
}
