use std::{collections::BTreeMap, net::Ipv4Addr};

use Wire::{Beside, Icmp, InArp};

use super::{
    age::{FRESH, LOOKING},
    *,
};
use crate::{
    config::spec::Spec,
    datapath::{
        abi::{IpcacheEntry, VtepValue},
        contention::Contended,
        ipcache::Inside,
        report::{Failure, Pass, Reason},
    },
    node::{
        devices::{CiliumDevices, Device, Underlay},
        drift::differences,
        running::{Running, RunningConfig, RunningVtep},
        version::CiliumVersion,
    },
    report::flap_damping::{Damper, Word},
    tunnel::{
        flow::{Flow, Stray},
        frames::{Arp, TunnelArpReply},
        self_ip::Known,
        vtep_probes::{Pace, Target},
        window::Thresholds,
    },
    types::mac::Mac,
};

/// `asm-generic/errno.h` and `errno-base.h`.
const ENOBUFS: i32 = 105;
const EPERM: i32 = 1;

/// All that is known of one VTEP, healthy to begin with.
struct Case {
    vtep: Vtep,
    differences: Vec<Difference>,
    kernel: Kernel,
    facts: Facts,
    datapath: DatapathReport,
    lane: Lane,
}

const PACE: Pace = Pace {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    thresholds: Thresholds { raise: 3, clear: 3 },
};
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 34);

fn device(index: u32, name: &str) -> Device {
    Device { index, name: name.into(), mac: [2; 6].into(), mtu: 1500 }
}

impl Case {
    fn healthy() -> Self {
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
                running: Running::Absent,
                running_problem: None,
                version: None,
            },
            datapath: DatapathReport { model: Model::VtepHash, last_pass: Some(pass), ..DatapathReport::default() },
            lane: Lane::new(vtep, None, PACE, Instant::now()),
        };
        case.lane.target =
            Some(Target { address: [10, 1, 6, 34].into(), origin: crate::tunnel::vtep_probes::Origin::Configured });
        case.answer(&[Beside, InArp, Icmp], 30);
        case
    }

    /// Cilium was started with something else.
    fn differ(&mut self, change: fn(&mut RunningConfig)) {
        let Vtep { cidr, endpoint, mac } = self.vtep;
        let spec =
            Spec { enabled: true, vteps: vec![self.vtep], mask: [255, 255, 255, 0].into(), tunnel: Tunnel::default() };
        let known = RunningVtep { endpoint: Some(endpoint), mac: Some(mac) };
        let vteps = Some([(cidr.network(), known)].into());
        let mut running = RunningConfig { vtep_mask: Some(spec.mask), vteps, ..RunningConfig::default() };
        change(&mut running);
        self.differences = differences(&spec, &running);
    }

    fn health(&mut self, wire: Wire) -> &mut crate::tunnel::window::Health {
        match wire {
            Beside => &mut self.lane.underlay,
            InArp => &mut self.lane.arp,
            Icmp => &mut self.lane.icmp,
        }
    }

    fn answer(&mut self, wires: &[Wire], times: u16) {
        let now = Instant::now();
        for &wire in wires {
            for sequence in 0..times {
                self.health(wire).on_sent(sequence, now);
                self.health(wire).on_reply(sequence, now);
            }
        }
    }

    fn answer_arp(&mut self, mac: Mac, times: u16) {
        let (router, self_ip) = ([10, 0, 0, 126].into(), [10, 1, 6, 34].into());
        let arp = Arp { sender_mac: mac, sender: self_ip, target_mac: [2; 6].into(), target: router };
        let reply = TunnelArpReply { endpoint: ENDPOINT, vni: VTEP_VNI, arp };
        (0..times).for_each(|_| self.lane.on_arp_reply(&reply, router, Instant::now()));
    }

    fn lose(&mut self, wires: &[Wire], times: u16) {
        for &wire in wires {
            (0..times).for_each(|_| self.health(wire).on_send_error(&std::io::Error::other("lost"), Instant::now()));
        }
    }

    fn fresh(&self) -> crate::tunnel::window::Health {
        crate::tunnel::window::Health::new(PACE.thresholds, PACE.timeout)
    }

    /// This agent is restarted: what had answered is known from its file.
    fn restart(&mut self) {
        self.lane = Lane::new(self.vtep, None, PACE, Instant::now());
        self.lane.recall(Known { self_ip: [10, 1, 6, 34].into(), mac: Some(self.vtep.mac), echo: true });
    }

    /// Somebody keeps leaving the entry so.
    fn contend(&mut self, found: Option<VtepValue>) {
        self.datapath.contended.insert(self.vtep.cidr, Contended { found, repaired: Instant::now() });
    }

    /// Cilium tells what it was started with: this endpoint for the VTEP.
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
        self.lane.flows.push(Flow {
            source: ENDPOINT,
            port,
            vni,
            packets: 1,
            bytes: 100,
            // After everything that was sent so far.
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

    fn diagnose_at(&self, now: Instant) -> Diagnosis {
        let Self { vtep, differences, kernel, facts, datapath, lane } = self;
        let tunnel = Tunnel::default();
        let evidence = Evidence { vtep, tunnel, differences, kernel, facts, datapath, lane: Some(lane) };
        diagnose(&evidence, now, Timestamp::now())
    }
}

#[derive(Clone, Copy)]
enum Wire {
    Beside,
    InArp,
    Icmp,
}

/// A fault, the cause it must be given, and what its hint must say.
type Row = (&'static str, fn(&mut Case), Option<Cause>, Verdict, &'static str);

#[test]
fn each_fault_is_named() {
    let table: &[Row] = &[
        ("nothing", |_| {}, None, Verdict::Healthy, ""),
        (
            "an old kernel",
            |case| case.kernel = Kernel { release: "5.3.18".into(), supported: false, reasons: vec!["too old".into()] },
            Some(Cause::NodeKernelUnsupported),
            Verdict::Misconfigured,
            "5.3.18",
        ),
        (
            "no tunnel device",
            |case| case.facts.cilium.tunnel = None,
            Some(Cause::CiliumNotRunning),
            Verdict::Unknown,
            "cilium_vxlan",
        ),
        (
            "a broken release of Cilium",
            |case| case.facts.version = Some(CiliumVersion::new(1, 18, 3)),
            Some(Cause::CiliumBrokenRelease),
            Verdict::Misconfigured,
            "upgrade Cilium to 1.18.8",
        ),
        (
            "a Cilium started with another mask",
            |case| case.differ(|running| running.vtep_mask = Some([255, 255, 0, 0].into())),
            Some(Cause::CiliumRestartRequired),
            Verdict::Misconfigured,
            "Cilium runs with 255.255.0.0",
        ),
        (
            "a Cilium started with another endpoint",
            |case| {
                case.differ(|running| {
                    let endpoint = Some([10, 169, 72, 99].into());
                    let vteps = running.vteps.iter_mut().flat_map(BTreeMap::values_mut);
                    vteps.for_each(|vtep| vtep.endpoint = endpoint);
                });
            },
            Some(Cause::CiliumRestartRequired),
            Verdict::Degraded,
            "Cilium runs with 10.169.72.99",
        ),
        (
            "a Cilium that knows another VTEP instead",
            |case| {
                case.differ(|running| running.vteps = Some([([10, 1, 9, 0].into(), RunningVtep::default())].into()));
                assert_eq!(case.differences.len(), 2);
            },
            None,
            Verdict::Healthy,
            "",
        ),
        (
            "no pinned map",
            |case| {
                case.datapath.model = Model::None;
                case.datapath.map_problem = Some("no map is pinned".into());
            },
            Some(Cause::CiliumVtepDisabled),
            Verdict::Misconfigured,
            "restart the cilium DaemonSet",
        ),
        (
            "an unknown layout",
            |case| {
                case.datapath.model = Model::Unsupported;
                case.datapath.map_problem = Some("a hash with 4-byte keys".into());
            },
            Some(Cause::DatapathMissing),
            Verdict::Misconfigured,
            "a hash with 4-byte keys",
        ),
        (
            "a map that takes no entry",
            |case| {
                let op =
                    Op::AddEntry { cidr: case.vtep.cidr, value: VtepValue::new(case.vtep.mac, case.vtep.endpoint) };
                case.datapath.pending.push(op);
                case.datapath.failures.push(Failure { op, error: "argument list too long".into() });
            },
            Some(Cause::DatapathMissing),
            Verdict::Misconfigured,
            "argument list too long",
        ),
        (
            "a fight",
            |case| {
                let cidr = case.vtep.cidr;
                let found = VtepValue::new(case.vtep.mac, [10, 169, 72, 99].into());
                let value = VtepValue::new(case.vtep.mac, case.vtep.endpoint);
                case.contend(Some(found));
                case.datapath.left_alone.insert(cidr);
                case.datapath.pending.push(Op::ReplaceEntry { cidr, found, value });
            },
            Some(Cause::DatapathContended),
            Verdict::Degraded,
            "10.169.72.99",
        ),
        (
            "a full map",
            |case| _ = case.datapath.left_out.insert(case.vtep.cidr),
            Some(Cause::DatapathMissing),
            Verdict::Misconfigured,
            "no room for 10.1.6.0/24",
        ),
        (
            "a pod in BIG-IP's network",
            |case| {
                let entry = IpcacheEntry { identity: 4711, endpoint: Some([10, 169, 72, 233].into()) };
                let inside = Inside { prefix: "10.1.6.77/32".parse().expect("a prefix"), entry };
                case.datapath.intruders.insert(case.vtep.cidr, vec![inside]);
            },
            Some(Cause::VtepCidrInUse),
            Verdict::Degraded,
            "10.1.6.77/32 (identity 4711 behind 10.169.72.233)",
        ),
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
            "another local address",
            |case| {
                let last_seen = Instant::now();
                let source = [10, 169, 72, 99].into();
                case.lane.stray = Some(Stray { source, inner_source: [10, 1, 6, 34].into(), last_seen });
                case.lose(&[InArp, Icmp], 3);
            },
            Some(Cause::WrongSource),
            Verdict::Misconfigured,
            "10.169.72.99",
        ),
        (
            "what another node forwards",
            |case| {
                let last_seen = Instant::now();
                let source = [10, 169, 72, 240].into();
                case.lane.stray = Some(Stray { source, inner_source: [10, 1, 6, 34].into(), last_seen });
                case.see(8472, VTEP_VNI);
            },
            None,
            Verdict::Healthy,
            "",
        ),
        (
            "SNAT to another network",
            |case| {
                case.see(8472, VTEP_VNI);
                case.lane.flows[0].foreign = Some((Instant::now(), [192, 0, 2, 7].into()));
            },
            Some(Cause::ForeignInnerSource),
            Verdict::Degraded,
            "192.0.2.7",
        ),
        (
            "ARP replies without a MAC",
            |case| case.lane.answered = Some((Instant::now(), Mac::default())),
            Some(Cause::CiliumArpZeroMac),
            Verdict::Misconfigured,
            "1.18.8",
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
            "a program that drops what is sent, though the entry is there",
            |case| {
                let dropped = std::io::Error::from_raw_os_error(ENOBUFS);
                (0..3).for_each(|_| case.lane.icmp.on_send_error(&dropped, Instant::now()));
            },
            Some(Cause::CiliumRestartRequired),
            Verdict::Misconfigured,
            "drop what is sent to 10.1.6.0/24",
        ),
        (
            "a firewall of the node's own",
            |case| {
                let refused = std::io::Error::from_raw_os_error(EPERM);
                (0..3).for_each(|_| case.lane.icmp.on_send_error(&refused, Instant::now()));
            },
            Some(Cause::NoReturnPath),
            Verdict::Unreachable,
            "Operation not permitted",
        ),
        (
            "a group address, while ping passes",
            |case| case.vtep.mac = [1, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
            Some(Cause::VtepMacMismatch),
            Verdict::Misconfigured,
            "group address",
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
                let target = case.lane.target.map(|target| target.address);
                case.lane = Lane::new(case.vtep, target, PACE, Instant::now());
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
            "a filtered port, and no tap",
            |case| {
                case.lane.heard = false;
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
            "a wrong probe target, while BIG-IP sends",
            |case| {
                (case.lane.arp.received, case.lane.icmp.received) = (0, 0);
                case.lose(&[InArp, Icmp], 3);
                case.see(8472, VTEP_VNI);
            },
            Some(Cause::SelfIpUnknown),
            Verdict::Unknown,
            "--probe-target 10.1.6.0/24=10.1.6.34",
        ),
        (
            "no router address",
            |case| case.facts.cilium.router = None,
            Some(Cause::CiliumNotRunning),
            Verdict::Unknown,
            "router address on cilium_host",
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
                case.lane.icmp.received = 0;
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
                case.lane.target = None;
                (case.lane.arp, case.lane.icmp) = (case.fresh(), case.fresh());
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
                case.lane = Lane::new(case.vtep, None, PACE, Instant::now());
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
            "loss",
            |case| {
                for _ in 0..5 {
                    case.lose(&[Icmp], 2);
                    case.answer(&[Icmp], 8);
                }
            },
            Some(Cause::PacketLoss),
            Verdict::Degraded,
            "%",
        ),
        (
            "no self IP",
            |case| {
                case.lane.target = None;
                case.lane.arp = case.lane.underlay.clone();
            },
            Some(Cause::SelfIpUnknown),
            Verdict::Unknown,
            "--probe-target 10.1.6.0/24=",
        ),
    ];
    for (what, fault, cause, verdict, words) in table {
        let mut case = Case::healthy();
        fault(&mut case);
        let diagnosis = case.diagnose();
        assert_eq!((diagnosis.cause, diagnosis.verdict), (*cause, *verdict), "{what}: {diagnosis:?}");
        assert!(diagnosis.hint.clone().unwrap_or_default().contains(words), "{what}: {diagnosis:?}");
    }
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
fn what_the_agent_makes_good_comes_last() {
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

/// The MAC was corrected on BIG-IP, and its tunnel went down in the same moment.
#[test]
fn what_a_tunnel_answered_before_it_fell_silent_comes_last() {
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
fn a_hint_that_rests_on_something_old_says_when_it_was_seen() {
    let mut case = Case::healthy();
    case.answer_arp([0, 0x50, 0x56, 0, 0, 0x99].into(), 3);
    let now = Instant::now();
    let hint = |seconds| case.diagnose_at(now + Duration::from_secs(seconds)).hint.unwrap_or_default();
    assert!(hint(10).ends_with("instead of 00:50:56:a0:7d:d8"), "{}", hint(10));
    assert!(hint(43).ends_with(" (seen 40 s ago)"), "{}", hint(43));
    assert!(hint(200).ends_with(" (seen 3 min ago)"), "{}", hint(200));
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

/// While the third answer is awaited, the cause of the outage stays.
#[test]
fn the_first_answers_after_an_outage_are_no_frames_of_its_own() {
    let mut case = Case::healthy();
    case.lose(&[Beside, InArp, Icmp], 3);
    case.see(8472, VTEP_VNI);
    assert_eq!(case.diagnose().cause, Some(Cause::TunnelSilent));
    let answered = Instant::now() + Duration::from_millis(2);
    case.health(Icmp).on_sent(99, answered);
    case.lane.on_echo(99, answered);
    assert_eq!(case.diagnose_at(answered).cause, Some(Cause::EndpointUnreachable));
}

/// Pings may be filtered: without anybody to ask through the tunnel, that is told when the sweep had its time.
#[test]
fn lost_pings_alone_are_told_when_somebody_has_looked() {
    let mut case = Case::healthy();
    case.lane = Lane::new(case.vtep, None, PACE, Instant::now());
    case.lose(&[Beside], 3);
    let diagnosis = case.diagnose();
    assert_eq!((diagnosis.cause, diagnosis.early), (Some(Cause::SelfIpUnknown), true));
    assert!(case.diagnose_at(Instant::now() + LOOKING).early, "the sweep is not over");
    case.lane.swept = true;
    let diagnosis = case.diagnose_at(Instant::now() + LOOKING);
    assert_eq!((diagnosis.cause, diagnosis.early), (Some(Cause::EndpointUnreachable), false));
    assert_eq!(diagnosis.also, [Cause::SelfIpUnknown]);
}

#[test]
fn a_start_is_too_early_for_news() {
    let mut case = Case::healthy();
    assert!(!case.diagnose().early);
    case.lane = Lane::new(case.vtep, None, PACE, Instant::now());
    case.lane.swept = true;
    assert!(case.diagnose().early, "no self IP yet");
    assert!(!case.diagnose_at(Instant::now() + LOOKING).early);
    case.kernel.supported = false;
    assert!(!case.diagnose().early, "what is known is known");
}

/// Who writes is told by what is found: Cilium writes what it was started with, and deletes nothing.
#[test]
fn cilium_is_named_only_where_it_fits() {
    let found = |n: u8| Some(VtepValue::new([0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(), [10, 169, 72, n].into()));
    let table: [(&str, Option<u8>, Option<VtepValue>, &str); 6] = [
        ("its own older value", Some(99), found(99), "this Cilium was started with"),
        ("another value", Some(34), found(99), "not Cilium, which would write endpoint 10.169.72.34"),
        ("a deletion", Some(99), None, "not Cilium, which would write endpoint 10.169.72.99"),
        ("a deletion, and it does not tell", None, None, "not Cilium, which deletes no entry"),
        (
            "a value, and it does not tell",
            None,
            found(99),
            "a Cilium that was started with an older configuration does",
        ),
        ("a value of a CIDR that it does not know", Some(0), found(99), "not Cilium, which does not know 10.1.6.0/24"),
    ];
    for (what, runs, found, words) in table {
        let mut case = Case::healthy();
        case.contend(found);
        match runs {
            Some(0) => {
                let vteps = Some(BTreeMap::new());
                case.facts.running = Running::Known(RunningConfig { vteps, ..RunningConfig::default() });
            }
            Some(n) => case.run_with([10, 169, 72, n].into()),
            None => {}
        }
        let diagnosis = case.diagnose();
        assert_eq!(diagnosis.cause, Some(Cause::DatapathContended), "{what}");
        let hint = diagnosis.hint.unwrap_or_default();
        assert!(hint.contains(words), "{what}: {hint}");
        assert_eq!(hint.contains("cilium DaemonSet"), !words.starts_with("not Cilium"), "{what}: {hint}");
    }
}

#[test]
fn old_frames_are_no_evidence() {
    let mut case = Case::healthy();
    case.see(8472, 68);
    case.lose(&[Beside, InArp, Icmp], 3);
    let later = Instant::now() + RECENT + Duration::from_secs(1);
    assert_eq!(case.diagnose_at(later).cause, Some(Cause::EndpointUnreachable));
}

#[test]
fn an_hour_of_a_flapping_link_is_told_in_few_lines_and_counted_right() {
    let mut case = Case::healthy();
    let start = Instant::now();
    let (mut now, end) = (start, start + Duration::from_secs(3600));
    let counts = |case: &Case| (case.lane.icmp.sent, case.lane.icmp.received);
    let before = counts(&case);
    let (mut sent, mut answered, mut changes, mut lines) = (0, 0, 0, 0);
    let mut damper = Damper::default();
    let mut last = case.diagnose_at(now);
    let mut sequence = 0_u16;
    while now < end {
        let up = now.duration_since(start).as_secs() / 5 % 2 == 0;
        case.lane.on_time(now);
        if now >= case.lane.due {
            sequence = sequence.wrapping_add(1);
            sent += 1;
            answered += u64::from(up);
            for wire in [Beside, InArp, Icmp] {
                case.health(wire).on_sent(sequence, now);
                if up {
                    case.health(wire).on_reply(sequence, now);
                }
            }
            case.lane.schedule(PACE, now, 0.5);
        }
        let diagnosis = case.diagnose_at(now);
        if !diagnosis.same_as(&last) {
            changes += 1;
            lines += u32::from(damper.on_change(now) != Word::Keep);
        }
        lines += u32::from(damper.settles(now));
        last = diagnosis;
        now += Duration::from_millis(50);
    }
    assert_eq!(counts(&case), (before.0 + sent, before.1 + answered));
    assert!(changes > 600, "it flapped: {changes}");
    assert!(lines <= 12, "{lines} lines for {changes} changes");
}
