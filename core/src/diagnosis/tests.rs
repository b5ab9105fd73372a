mod bigip;
mod map;
mod node;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use Wire::{Beside, Icmp, InArp};
use proptest::prelude::*;

use super::{age::DISCOVERY, *};
use crate::{
    config::spec::Spec,
    datapath::{
        abi::{IpcacheEntry, VtepValue},
        contention::Contended,
        ipcache::Inside,
        layout::Layout,
        plan::Op,
        report::{Failure, Pass, Reason},
    },
    node::{
        cilium_agent::AgentState,
        devices::{CiliumDevices, Device, Underlay},
        drift::differences,
        running::{Running, RunningConfig, RunningVtep},
        udp::UdpErrors,
        version::CiliumVersion,
    },
    tunnel::{
        echo_pace::Counts,
        flow::{Flow, Kinds, Sender, UnexpectedSource},
        frames::{Arp, TunnelArpReply, VTEP_VNI},
        mac_learning::{MacLearning, Record},
        owners::Owner,
        self_ip::Known,
        tcp_probe::TcpProbe,
        vtep_probes::{ProbeTiming, Target},
        window::Thresholds,
    },
    types::mac::Mac,
};

/// The evidence about one VTEP, which is healthy at first.
pub(super) struct Case {
    pub(super) vtep: Vtep,
    name: Option<&'static str>,
    in_pod: bool,
    differences: Vec<Difference>,
    kernel: Kernel,
    facts: Facts,
    datapath: DatapathReport,
    pub(super) probes: VtepProbes,
}

pub(super) const TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    thresholds: Thresholds { raise: 3, clear: 3 },
};
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 34);

fn device(index: u32, name: &str) -> Device {
    Device { index, name: name.into(), mac: [2; 6].into(), mtu: 1500, up: true }
}

impl Case {
    pub(super) fn healthy() -> Self {
        let vtep = Vtep {
            cidr: "10.1.6.0/24".parse().expect("a CIDR"),
            endpoint: ENDPOINT,
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
        };
        let pass = Pass {
            at: Timestamp::now(),
            config_hash: String::new(),
            reason: Reason::Tick,
            took: Duration::ZERO,
            applied: 0,
            failed: 0,
        };
        let mut case = Self {
            vtep,
            name: None,
            in_pod: false,
            differences: Vec::new(),
            kernel: Kernel { release: "6.1.0".into(), supported: true, reasons: vec![] },
            facts: Facts {
                tunnel: Tunnel::default(),
                cilium: CiliumDevices {
                    tunnel: Some(device(5, "cilium_vxlan")),
                    host: Some(device(4, "cilium_host")),
                    router: Some([10, 0, 0, 126].into()),
                },
                underlay: BTreeMap::from([(
                    ENDPOINT,
                    Underlay {
                        device: device(2, "eth0"),
                        source: Some([10, 169, 72, 239].into()),
                        next_hop: ENDPOINT,
                        unresolved: false,
                    },
                )]),
                strict_devices: BTreeSet::new(),
                running: Running::Absent,
                running_problem: None,
                version: None,
                agent: AgentState::default(),
            },
            datapath: DatapathReport { model: Layout::VtepHash, last_pass: Some(pass), ..DatapathReport::default() },
            probes: VtepProbes::new(vtep, None, TIMING, Instant::now()),
        };
        case.probes.target =
            Some(Target { address: [10, 1, 6, 34].into(), origin: crate::tunnel::vtep_probes::Origin::Configured });
        case.answer(&[Beside, InArp, Icmp], 30);
        case
    }

    /// Larger inner packets than this are lost, and the search has found the limit.
    fn limit_path_mtu(&mut self, passes: u16) {
        let path_mtu = &mut self.probes.path_mtu;
        let start = Instant::now();
        for (sequence, now) in (0..200).map(|n| (n, start + Duration::from_secs(n.into()))) {
            let Some(due) = path_mtu.turn(1450, true, Duration::ZERO, now) else { continue };
            path_mtu.on_sent(sequence, due, now);
            if due.size <= passes {
                assert!(path_mtu.on_reply(sequence, now));
            } else {
                path_mtu.on_send_error(&std::io::Error::other("too large"), now);
            }
        }
    }

    /// Cilium was started with other values.
    fn differ(&mut self, change: fn(&mut RunningConfig)) {
        let Vtep { cidr, endpoint, mac } = self.vtep;
        let spec = Spec {
            enabled: true,
            vteps: vec![self.vtep],
            mask: Some([255, 255, 255, 0].into()),
            tunnel: Tunnel::default(),
        };
        let known = RunningVtep { endpoint: Some(endpoint), mac: Some(mac) };
        let vteps = Some([(cidr.network(), known)].into());
        let mut running = RunningConfig { vtep_mask: spec.mask, vteps, ..RunningConfig::default() };
        change(&mut running);
        self.differences = differences(&spec, &running);
    }

    fn window(&mut self, wire: Wire) -> &mut crate::tunnel::window::ProbeWindow {
        match wire {
            Beside => &mut self.probes.underlay,
            InArp => &mut self.probes.arp,
            Icmp => &mut self.probes.icmp,
        }
    }

    fn answer(&mut self, wires: &[Wire], times: u16) {
        let now = Instant::now();
        for &wire in wires {
            for sequence in 0..times {
                self.window(wire).on_sent(sequence, now);
                self.window(wire).on_reply(sequence, now);
            }
        }
    }

    /// The entry follows this MAC, which answers.
    pub(super) fn learn_mac(&mut self, mac: Mac) {
        self.probes.learning = MacLearning::new(self.vtep, true, Record::default());
        let start = Instant::now();
        for n in 0..3_u16 {
            let at = start + u32::from(n) * TIMING.interval;
            self.probes.arp.on_sent(1000 + n, at);
            self.answer_arp_at(mac, at);
            self.probes.decide_mac(&BTreeSet::new(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(self.probes.learning.mac(), mac);
    }

    /// SYNs that are lost, after one that perhaps was answered.
    pub(super) fn probe_tcp(&mut self, is_answered: bool) {
        let target = SocketAddrV4::new([10, 1, 6, 34].into(), 443);
        let mut tcp = TcpProbe::new(target, TIMING.thresholds, TIMING.timeout);
        let start = Instant::now() - 10 * TIMING.interval;
        for n in 0..8_u16 {
            let at = start + u32::from(n) * TIMING.interval;
            tcp.window.on_sent(n, at);
            if n == 0 && is_answered {
                tcp.window.on_reply(n, at);
            }
            tcp.window.on_time(at + TIMING.timeout);
        }
        self.probes.tcp = Some(tcp);
    }

    fn answer_arp(&mut self, mac: Mac, times: u16) {
        (0..times).for_each(|_| self.answer_arp_at(mac, Instant::now()));
    }

    /// The self IP answers ARP once.
    pub(super) fn answer_arp_at(&mut self, mac: Mac, now: Instant) {
        let (router, self_ip) = ([10, 0, 0, 126].into(), [10, 1, 6, 34].into());
        let arp = Arp { sender_mac: mac, sender: self_ip, target_mac: [2; 6].into(), target: router };
        let reply = TunnelArpReply { endpoint: ENDPOINT, vni: VTEP_VNI, arp };
        self.probes.on_arp_reply(&reply, router, now);
    }

    /// The entry is not in the map, or is there again.
    pub(super) fn lack_entry(&mut self, is_missing: bool) {
        let cidr = self.vtep.cidr;
        let add = Op::AddEntry { cidr, value: VtepValue::new(self.vtep.mac, self.vtep.endpoint) };
        self.datapath.pending = if is_missing { vec![add] } else { Vec::new() };
    }

    /// Frames from inside the VTEP's CIDR come from this outer source.
    pub(super) fn stray(&mut self, source: Ipv4Addr, sender: Sender) {
        let (inner_source, inner_mac, last_seen) = ([10, 1, 6, 34].into(), self.vtep.mac, Instant::now());
        let frame = UnexpectedSource { source, sender, inner_source, inner_mac, last_seen };
        *if sender == Sender::Node { &mut self.probes.forwarded } else { &mut self.probes.unexpected } = Some(frame);
    }

    /// The tap sees these frames beside the earlier ones.
    fn arrive(&mut self, kinds: Kinds) {
        // Later than every probe sent so far.
        let now = Instant::now() + Duration::from_millis(1);
        self.probes.delivery.on_kinds(kinds, false, now);
    }

    fn lose(&mut self, wires: &[Wire], times: u16) {
        self.lose_at(wires, times, Instant::now());
    }

    fn lose_at(&mut self, wires: &[Wire], times: u16, now: Instant) {
        for &wire in wires {
            (0..times).for_each(|_| self.window(wire).on_send_error(&std::io::Error::other("lost"), now));
        }
    }

    fn fresh(&self) -> crate::tunnel::window::ProbeWindow {
        crate::tunnel::window::ProbeWindow::new(TIMING.thresholds, TIMING.timeout)
    }

    /// This agent is restarted: it knows from its file which self IP had answered.
    fn restart(&mut self) {
        self.probes = VtepProbes::new(self.vtep, None, TIMING, Instant::now());
        self.probes.recall(Known { self_ip: [10, 1, 6, 34].into(), mac: Some(self.vtep.mac), echo: true });
    }

    /// Another writer keeps changing the entry to this value.
    pub(super) fn contend(&mut self, found: Option<VtepValue>) {
        self.datapath
            .contended
            .insert(self.vtep.cidr, Contended { found, repaired: Instant::now(), minutely_since: None });
    }

    /// Cilium was started at this time.
    pub(super) fn start_cilium(&mut self, at: Timestamp) {
        self.facts.running = Running::Known(RunningConfig { started: Some(at), ..RunningConfig::default() });
    }

    /// Cilium was started with this endpoint for the VTEP.
    fn run_with(&mut self, endpoint: Ipv4Addr) {
        let known = RunningVtep { endpoint: Some(endpoint), mac: Some(self.vtep.mac) };
        let vteps = Some([(self.vtep.cidr.network(), known)].into());
        self.facts.running = Running::Known(RunningConfig { vteps, ..RunningConfig::default() });
    }

    /// Nobody answers ARP for the endpoint.
    fn unresolve(&mut self) {
        self.facts.underlay.values_mut().for_each(|underlay| underlay.unresolved = true);
    }

    fn see(&mut self, port: u16, vni: u32) {
        self.probes.flows.push(Flow {
            source: ENDPOINT,
            port,
            vni,
            packets: 1,
            bytes: 100,
            // Later than every probe sent so far.
            last_seen: Instant::now() + Duration::from_millis(1),
            inner_mac: Mac::default(),
            inner_source: None,
            arp_sender: None,
            foreign: None,
        });
    }

    fn diagnose(&self) -> Diagnosis {
        self.diagnose_at(Instant::now())
    }

    pub(super) fn diagnose_at(&self, now: Instant) -> Diagnosis {
        self.with_evidence(None, |evidence| diagnose(evidence, now, Timestamp::now()))
    }

    pub(super) fn with_evidence<T>(&self, recovered: Option<Instant>, of: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let Self { vtep, name, in_pod, differences, kernel, facts, datapath, probes } = self;
        let (name, in_pod, probes, tunnel) = (*name, *in_pod, Some(probes), Tunnel::default());
        of(&Evidence { vtep, name, in_pod, tunnel, differences, kernel, facts, datapath, probes, recovered })
    }
}

#[derive(Clone, Copy)]
enum Wire {
    Beside,
    InArp,
    Icmp,
}

/// A fault, its cause and verdict, and a part of the hint.
type Row = (&'static str, fn(&mut Case), Option<Cause>, Verdict, &'static str);

fn assert_named(table: &[Row]) {
    for (what, fault, cause, verdict, words) in table {
        let mut case = Case::healthy();
        fault(&mut case);
        let diagnosis = case.diagnose();
        assert_eq!((diagnosis.cause, diagnosis.verdict), (*cause, *verdict), "{what}: {diagnosis:?}");
        assert!(diagnosis.hint.clone().unwrap_or_default().contains(words), "{what}: {diagnosis:?}");
    }
}

/// Packets pass while Cilium's agent does not run: it is never the cause.
#[test]
fn a_remark_changes_no_verdict() {
    let since = "2026-11-26T10:20:30Z".parse().expect("a time");
    let mut case = Case::healthy();
    case.facts.agent = AgentState::NotRunning { since };
    let diagnosis = case.diagnose();
    assert_eq!((diagnosis.verdict, diagnosis.cause), (Verdict::Healthy, None), "{diagnosis:?}");
    assert_eq!(diagnosis.also, [Cause::CiliumAgentNotRunning]);
    case.lose(&[InArp, Icmp], 3);
    let diagnosis = case.diagnose();
    assert_eq!(diagnosis.cause, Some(Cause::TunnelSilent), "{diagnosis:?}");
    assert_eq!(diagnosis.also, [Cause::CiliumAgentNotRunning]);
}

/// The same losses, while ARP is answered all the while: they may come from a limit of ICMP, and are judged first.
#[test]
fn losses_that_may_come_from_a_limit_are_no_loss_yet() {
    let lossy = |arp_lost: u16| {
        let mut case = Case::healthy();
        case.probes.turn(Instant::now());
        for n in (1..6).rev() {
            case.lose_at(&[Icmp], 2, Instant::now() - 2 * n * TIMING.interval);
            case.answer(&[Icmp, InArp], 8);
        }
        case.lose(&[InArp], arp_lost);
        case.diagnose().cause
    };
    assert_eq!(lossy(0), None);
    assert_eq!(lossy(1), Some(Cause::PacketLoss), "ARP is lost as well, which no limit of ICMP explains");
}

/// A pace that just suffices loses a few. ARP, which has no limit, would show a loss.
#[test]
fn under_a_known_limit_a_few_losses_are_none() {
    let lossy = |is_limited: bool| {
        let mut case = Case::healthy();
        let before = Instant::now() - Duration::from_secs(60);
        let counts = |answered, lost| Counts { answered, lost };
        // Every other one is lost, until the pace is half.
        let fast = (0..=10).map(|n| (counts(n, n), 2 * n));
        let rounds = fast.chain([(counts(10, 10), 20), (counts(30, 10), 40)]);
        for (echoes, arp) in rounds.filter(|_| is_limited) {
            case.probes.pace.on_round(echoes, counts(arp, 0), before);
        }
        for n in (1..6).rev() {
            case.lose_at(&[Icmp], 2, Instant::now() - 2 * n * TIMING.interval);
            case.answer(&[Icmp, InArp], 8);
        }
        let diagnosis = case.diagnose();
        (diagnosis.cause, diagnosis.also)
    };
    assert_eq!(lossy(true), (None, vec![Cause::IcmpRateLimited]));
    assert_eq!(lossy(false).0, Some(Cause::PacketLoss));
}

/// These concern the whole node, and their hints are the same for every VTEP.
const OF_THE_NODE: [Cause; 4] =
    [Cause::NodeKernelUnsupported, Cause::CiliumNotRunning, Cause::CiliumDeviceDown, Cause::CiliumVtepDisabled];

/// A VTEP from a custom resource may be any gateway: its hints name it, and use no word of BIG-IP or of the lists.
#[test]
fn a_vtep_with_a_name_is_called_by_it() {
    let mut seen = Vec::new();
    for (what, fault, cause, ..) in [node::FAULTS, map::FAULTS, wire::FAULTS, bigip::FAULTS].into_iter().flatten() {
        let mut case = Case::healthy();
        case.name = Some("vpc-gateway");
        fault(&mut case);
        // Cilium reconciles a custom resource while it runs, so other lists make no difference.
        case.differences.retain(|difference| !difference.is_of_lists());
        let diagnosis = case.diagnose();
        let (Some(cause), true) = (diagnosis.cause, diagnosis.cause == *cause) else { continue };
        let hint = diagnosis.hint.unwrap_or_default();
        let is_of_vtep = !OF_THE_NODE.contains(&cause) && case.datapath.map_problem.is_none();
        assert_eq!(hint.contains("vpc-gateway"), is_of_vtep, "{what}: {hint}");
        for word in ["BIG-IP", "tmsh", "vtep-mac", "vtep-endpoint", "vtep-cidr", "vtep-mask", "FDB", "SNAT", "self IP"]
        {
            assert!(!hint.contains(word), "{what}: {word} in {hint}");
        }
        seen.push(cause);
    }
    assert!(Cause::ALL.iter().all(|cause| seen.contains(cause) || cause.is_remark()), "{seen:?}");
}

#[test]
fn health_has_no_cause() {
    assert_named(&[("nothing", |_| {}, None, Verdict::Healthy, "")]);
}

#[test]
fn two_misses_name_nothing() {
    let mut case = Case::healthy();
    case.lose(&[Beside, InArp, Icmp], 2);
    assert_eq!(case.diagnose().verdict, Verdict::Healthy);
}

#[test]
fn the_nearer_cause_comes_first_and_the_other_is_named_too() {
    let mut case = Case::healthy();
    case.kernel.supported = false;
    case.lose(&[Beside, InArp, Icmp], 3);
    let diagnosis = case.diagnose();
    assert_eq!(diagnosis.cause, Some(Cause::NodeKernelUnsupported));
    assert_eq!(diagnosis.also, [Cause::EndpointUnreachable]);
}

#[test]
fn a_cause_that_the_agent_corrects_comes_last() {
    let mut case = Case::healthy();
    case.differ(|running| {
        let vteps = running.vteps.iter_mut().flat_map(BTreeMap::values_mut);
        vteps.for_each(|vtep| vtep.mac = Some([2; 6].into()));
    });
    case.lose(&[InArp, Icmp], 3);
    let diagnosis = case.diagnose();
    assert_eq!(diagnosis.cause, Some(Cause::TunnelSilent));
    assert_eq!(diagnosis.also, [Cause::CiliumRestartRequired]);
}

/// The MAC was corrected on BIG-IP, and its tunnel went down at the same time.
#[test]
fn an_answer_from_before_the_tunnel_fell_silent_comes_last() {
    let mut case = Case::healthy();
    case.answer_arp([0, 0x50, 0x56, 0, 0, 0x99].into(), 3);
    assert_eq!(case.diagnose().cause, Some(Cause::VtepMacMismatch));
    case.lose(&[InArp, Icmp], 3);
    let now = Instant::now();
    let at = |seconds| case.diagnose_at(now + Duration::from_secs(seconds));
    let silent = at(0);
    assert_eq!((silent.cause, &silent.also[..]), (Some(Cause::TunnelSilent), &[Cause::VtepMacMismatch][..]));
    assert!(silent.evidence.is_empty(), "it is not old yet");
    let old: Vec<_> = at(40).evidence.iter().map(|seen| (seen.cause, seen.what)).collect();
    assert_eq!(old, [(Cause::VtepMacMismatch, "ARP was answered with another MAC")]);
    let later = at(61);
    assert_eq!((later.cause, later.also.len(), later.evidence.len()), (Some(Cause::TunnelSilent), 0, 0));
    case.lose(&[Beside], 3);
    assert_eq!(case.diagnose().cause, Some(Cause::EndpointUnreachable));
}

#[test]
fn a_hint_with_old_evidence_says_when_it_was_seen() {
    let mut case = Case::healthy();
    case.answer_arp([0, 0x50, 0x56, 0, 0, 0x99].into(), 3);
    let now = Instant::now();
    let hint = |seconds| case.diagnose_at(now + Duration::from_secs(seconds)).hint.unwrap_or_default();
    assert!(hint(10).ends_with("instead of 00:50:56:a0:7d:d8"), "{}", hint(10));
    assert!(hint(43).ends_with(" (seen 40 s ago)"), "{}", hint(43));
    assert!(hint(200).ends_with(" (seen 3 min ago)"), "{}", hint(200));
}

#[test]
fn a_start_is_too_early_for_news() {
    let mut case = Case::healthy();
    assert!(!case.diagnose().early);
    case.probes = VtepProbes::new(case.vtep, None, TIMING, Instant::now());
    case.probes.swept = true;
    assert!(case.diagnose().early, "no self IP yet");
    assert!(!case.diagnose_at(Instant::now() + DISCOVERY).early);
    case.kernel.supported = false;
    assert!(!case.diagnose().early, "a known cause is never early");
}

/// Until the entry is written, an echo still reaches the endpoint before.
#[test]
fn an_echo_alone_is_no_health_yet() {
    let mut case = Case::healthy();
    let target = case.probes.target.map(|target| target.address);
    case.probes = VtepProbes::new(case.vtep, target, TIMING, Instant::now());
    case.answer(&[Icmp], 3);
    let diagnosis = case.diagnose();
    assert_eq!((diagnosis.verdict, diagnosis.cause, diagnosis.early), (Verdict::Unknown, None, true));
    assert_eq!(case.diagnose_at(Instant::now() + DISCOVERY).verdict, Verdict::Healthy, "nobody asks by ARP");
    let mut without_tap = case.probes.clone();
    without_tap.heard = false;
    case.answer(&[InArp], 1);
    assert_eq!(case.diagnose().verdict, Verdict::Healthy);
    case.probes = without_tap;
    assert_eq!(case.diagnose().verdict, Verdict::Healthy);
}

/// The results of a window, oldest first: `true` was answered.
fn results() -> impl Strategy<Value = Vec<bool>> {
    prop_oneof![
        prop::collection::vec(any::<bool>(), 0..12),
        prop::collection::vec(Just(false), 0..8),
        prop::collection::vec(Just(true), 0..8),
    ]
}

proptest! {
    /// Whatever the probes were answered: if one through the tunnel has failed, or all have, there is a cause with a hint.
    #[test]
    fn a_failed_probe_has_a_cause(
        windows in [results(), results(), results()],
        has_target in any::<bool>(), is_heard in any::<bool>(), is_other_mac in any::<bool>(), is_known in any::<bool>(),
        is_pending in any::<bool>(), unresolved in any::<bool>(), flows in prop::collection::vec((0..3_u16, 0..3_u32), 0..3),
    ) {
        let mut case = Case::healthy();
        let target = has_target.then_some([10, 1, 6, 34].into());
        case.probes = VtepProbes::new(case.vtep, target, TIMING, Instant::now());
        case.probes.heard = is_heard;
        if is_known {
            case.probes.recall(Known { self_ip: [10, 1, 6, 34].into(), mac: Some(case.vtep.mac), echo: true });
        }
        for (wire, results) in [Beside, InArp, Icmp].into_iter().zip(windows) {
            for answered in results {
                if answered { case.answer(&[wire], 1) } else { case.lose(&[wire], 1) }
            }
        }
        if is_other_mac {
            case.answer_arp([0, 0x50, 0x56, 0, 0, 0x99].into(), 3);
        }
        if unresolved {
            case.unresolve();
        }
        case.lack_entry(is_pending);
        for (port, vni) in flows {
            case.see(8471 + port, 1 + vni);
        }
        let diagnosis = case.diagnose();
        let [underlay, arp, icmp] = [case.probes.underlay_state(), case.probes.arp_state(), case.probes.icmp_state()];
        let has_failed = [arp, icmp].contains(&ProbeState::Failed);
        prop_assert!(!has_failed || diagnosis.verdict == Verdict::Healthy || diagnosis.cause.is_some(), "{diagnosis:?}");
        let is_decided = ![arp, icmp].contains(&ProbeState::Pending);
        let has_all_failed = underlay == ProbeState::Failed && is_decided && icmp != ProbeState::Ok;
        prop_assert!(!has_all_failed || diagnosis.cause.is_some(), "{diagnosis:?}");
        prop_assert_eq!(diagnosis.cause.is_some(), diagnosis.hint.is_some());
        prop_assert!(diagnosis.verdict != Verdict::Healthy || icmp == ProbeState::Ok);
    }
}
