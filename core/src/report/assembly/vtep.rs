//! Assembles the part of the status about one VTEP, from its diagnosis, its probes and the report about the maps.

use std::{collections::BTreeSet, time::Instant};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::micros;
use crate::{
    config::spec::Vtep,
    datapath::report::DatapathReport,
    diagnosis::{self, Diagnosis, Verdict},
    report::status::{
        EntryState, Failover, MacLearning, Observation, PathMtu, Probe, Probes, Seen, SeenKinds, SeenPods, Stream,
        VtepDatapath, VtepStatus,
    },
    tunnel::{
        failover,
        flow::{Flow, Kinds},
        rtt::RttHistogram,
        vtep_probes::{ProbeState, VtepProbes},
        window::ProbeWindow,
    },
};

/// An endpoint that invents ports and VNIs does not make the status longer than this.
const STREAMS: usize = 8;

pub(super) fn vtep_status(
    vtep: &Vtep,
    diagnosis: Option<&Diagnosis>,
    probes: Option<&VtepProbes>,
    datapath: &DatapathReport,
    now: Instant,
    at: Timestamp,
) -> VtepStatus {
    let cidr = vtep.cidr;
    let learned = probes.and_then(|probes| probes.learning.learned()).map(|learned| learned.mac);
    let failovers = probes.map(|probes| &probes.failovers);
    VtepStatus {
        cidr: vtep.cidr,
        name: None,
        endpoint: vtep.endpoint,
        mac: learned.unwrap_or(vtep.mac),
        mac_configured: vtep.mac,
        mac_learned: learned,
        mac_learning: probes.and_then(|probes| mac_learning(vtep, probes, datapath)),
        failovers: failovers
            .iter()
            .flat_map(|failovers| &failovers.recent)
            .filter_map(|of| failover(of, now, at))
            .collect(),
        failovers_total: failovers.map_or(0, |failovers| failovers.total),
        verdict: diagnosis.map_or(Verdict::Unknown, |diagnosis| diagnosis.verdict),
        cause: diagnosis.and_then(|diagnosis| diagnosis.cause),
        also: diagnosis.map(|diagnosis| diagnosis.also.clone()).unwrap_or_default(),
        since: diagnosis.map(|diagnosis| diagnosis.since),
        hint: diagnosis.and_then(|diagnosis| diagnosis.hint.clone()),
        evidence: diagnosis
            .iter()
            .flat_map(|diagnosis| &diagnosis.evidence)
            .map(|of| observation(of, now, at))
            .collect(),
        runbook: None,
        flapping: diagnosis.and_then(|diagnosis| diagnosis.flapping),
        early: diagnosis.is_none_or(|diagnosis| diagnosis.early),
        datapath: VtepDatapath {
            state: entry_state(datapath, cidr),
            repairs: datapath.repairs.get(&cidr).copied().unwrap_or(0),
            route_repairs: datapath.route_repairs.get(&cidr).copied().unwrap_or(0),
            error: datapath.entry_error(cidr).map(str::to_owned),
        },
        probes: probe_statuses(probes, now, at),
        seen: seen(probes, now, at),
    }
}

fn mac_learning(vtep: &Vtep, probes: &VtepProbes, datapath: &DatapathReport) -> Option<MacLearning> {
    let learning = Some(&probes.learning).filter(|learning| learning.is_enabled())?;
    Some(MacLearning {
        since: learning.learned().map(|learned| learned.since),
        made_good: datapath.made_good.get(&vtep.cidr).copied().unwrap_or(0),
        config_line: None,
        refused: learning.refusal().map(|refusal| refusal.to_string()),
    })
}

/// A failover for the status; `None` if its time is not on the calendar.
#[must_use]
pub fn failover(of: &failover::Failover, now: Instant, at: Timestamp) -> Option<Failover> {
    let lost_ms = of.lost.map(|lost| u64::try_from(lost.as_millis()).unwrap_or(u64::MAX));
    Some(Failover { at: wall_clock(of.at, now, at)?, changes: of.changes.clone(), lost_ms })
}

/// The line for `cilium-config` with the MACs that the entries have.
pub(super) fn config_line(vteps: &[VtepStatus]) -> String {
    let macs: Vec<_> = vteps.iter().map(|vtep| vtep.mac.to_string()).collect();
    format!("vtep-mac: \"{}\"", macs.join(" "))
}

fn observation(of: &diagnosis::Observation, now: Instant, at: Timestamp) -> Observation {
    let diagnosis::Observation { cause, what, seen } = *of;
    let age = now.saturating_duration_since(seen);
    Observation { cause, what: what.to_owned(), seen_at: wall_clock(seen, now, at), age_s: age.as_secs() }
}

/// The instant on the wall clock, given that it is `at` now.
fn wall_clock(instant: Instant, now: Instant, at: Timestamp) -> Option<Timestamp> {
    at.checked_sub(now.saturating_duration_since(instant)).ok()
}

fn entry_state(datapath: &DatapathReport, cidr: Ipv4Net) -> EntryState {
    let pending = datapath.pending.iter().any(|op| op.entry() == Some(cidr));
    if datapath.backed_off.contains(&cidr) {
        EntryState::Contended
    } else if !datapath.model.is_known() || datapath.last_pass.is_none() {
        EntryState::Unknown
    } else if pending || datapath.over_capacity.contains(&cidr) {
        EntryState::Pending
    } else {
        EntryState::InSync
    }
}

fn probe_statuses(probes: Option<&VtepProbes>, now: Instant, at: Timestamp) -> Probes {
    let time = |instant: Instant| wall_clock(instant, now, at);
    let probe = |state, window: &ProbeWindow| Probe {
        answered_at: window.answered_at().and_then(time),
        ..Probe::new(state, window)
    };
    let target = probes.and_then(|probes| probes.target);
    let in_tunnel = |state: fn(&VtepProbes) -> ProbeState, window: fn(&VtepProbes) -> &ProbeWindow| Probe {
        target: target.map(|target| target.address),
        target_origin: target.map(|target| target.origin),
        ..probes.map_or_else(Probe::none, |probes| probe(state(probes), window(probes)))
    };
    Probes {
        underlay: probes.map_or_else(Probe::none, |probes| Probe {
            target: Some(probes.vtep.endpoint),
            ..probe(probes.underlay_state(), &probes.underlay)
        }),
        arp: Probe {
            observed_mac: probes.and_then(|probes| probes.observed_mac),
            observed_at: probes.and_then(|probes| probes.observed_at).and_then(time),
            ..in_tunnel(VtepProbes::arp_state, |probes| &probes.arp)
        },
        echo_every: probes.map_or(1, |probes| probes.pace.every()),
        path_mtu: probes.map_or_else(PathMtu::default, |probes| PathMtu {
            state: probes.path_mtu_state(),
            inner_mtu: probes.path_mtu.inner_mtu(),
        }),
        icmp: in_tunnel(VtepProbes::icmp_state, |probes| &probes.icmp),
        tcp: probes.and_then(|probes| probes.tcp.as_ref()).map(|tcp| Probe {
            target: Some(*tcp.target.ip()),
            port: Some(tcp.target.port()),
            ..probe(tcp.window.state().into(), &tcp.window)
        }),
        skipped: probes.map_or(0, |probes| probes.passive.skipped_total),
    }
}

impl Probe {
    fn new(state: ProbeState, window: &ProbeWindow) -> Self {
        Self {
            state,
            rtt_us: window.rtt.map(micros),
            target: None,
            port: None,
            target_origin: None,
            observed_mac: None,
            observed_at: None,
            answered_at: None,
            sent: window.sent,
            received: window.received,
            lost: window.lost_total,
            duplicates: window.duplicates,
            loss: window.loss(),
            recent: window.recent() as u64,
            recent_lost: window.lost() as u64,
            rtts: window.rtts,
            error: window.send_error.as_ref().map(ToString::to_string),
        }
    }

    fn none() -> Self {
        Self {
            state: ProbeState::Pending,
            rtt_us: None,
            target: None,
            port: None,
            target_origin: None,
            observed_mac: None,
            observed_at: None,
            answered_at: None,
            sent: 0,
            received: 0,
            lost: 0,
            duplicates: 0,
            loss: 0.0,
            recent: 0,
            recent_lost: 0,
            rtts: RttHistogram::default(),
            error: None,
        }
    }
}

fn seen(probes: Option<&VtepProbes>, now: Instant, at: Timestamp) -> Seen {
    let flows = probes.map(|probes| probes.flows.as_slice()).unwrap_or_default();
    let mut newest_first: Vec<_> = flows.iter().collect();
    newest_first.sort_by_key(|flow| std::cmp::Reverse(flow.last_seen));
    let stream = |flow: &&Flow| Stream {
        port: flow.port,
        vni: flow.vni,
        mac: flow.inner_mac,
        packets: flow.packets,
        last_seen_at: wall_clock(flow.last_seen, now, at),
    };
    Seen {
        packets: probes.map_or(0, |probes| probes.packets),
        bytes: probes.map_or(0, |probes| probes.bytes),
        last_seen_at: newest_first.first().and_then(|newest| wall_clock(newest.last_seen, now, at)),
        vnis: distinct(flows, |flow| flow.vni),
        ports: distinct(flows, |flow| flow.port),
        macs: distinct(flows, |flow| flow.inner_mac),
        streams: newest_first.iter().take(STREAMS).map(stream).collect(),
        other_streams: probes.map_or(0, |probes| probes.other_streams),
        pods: probes.map_or_else(SeenPods::default, |probes| {
            let at = |seen: Option<Instant>| seen.and_then(|seen| wall_clock(seen, now, at));
            SeenPods { asked_at: at(probes.pods.asked), answered_at: at(probes.pods.answered) }
        }),
        kinds: seen_kinds(probes.map(|probes| probes.delivery.seen()).unwrap_or_default()),
    }
}

fn seen_kinds(kinds: Kinds) -> SeenKinds {
    let Kinds { arp_requests, arp_replies, asked_for_us: arp_requests_for_node, echo_replies, other } = kinds;
    SeenKinds { arp_requests, arp_requests_for_node, arp_replies, echo_replies, other }
}

fn distinct<T: Ord>(flows: &[Flow], of: impl Fn(&Flow) -> T) -> Vec<T> {
    flows.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tunnel::{vtep_probes::ProbeTiming, window::Thresholds};

    /// An endpoint that invents VNIs does not make the status longer, and each VNI has a date of its own.
    #[test]
    fn streams_are_dated_newest_first_and_bounded() {
        let (now, at) = (Instant::now() + Duration::from_secs(100), Timestamp::UNIX_EPOCH + Duration::from_secs(100));
        let flow = |vni: u32| Flow {
            source: [10, 169, 72, 34].into(),
            port: 8472,
            vni,
            packets: 1,
            bytes: 100,
            last_seen: now - Duration::from_secs(u64::from(vni)),
            inner_mac: [2; 6].into(),
            inner_source: None,
            arp_sender: None,
            foreign: None,
        };
        let vtep = Vtep {
            cidr: "10.1.6.0/24".parse().expect("a CIDR"),
            endpoint: [10, 169, 72, 34].into(),
            mac: [2; 6].into(),
        };
        let thresholds = Thresholds { raise: 3, clear: 3 };
        let second = Duration::from_secs(1);
        let timing = ProbeTiming { interval: second, timeout: second / 2, thresholds };
        let mut probes = VtepProbes::new(vtep, None, timing, now);
        probes.flows = [5, 3, 9, 1, 2, 4, 6, 7, 8, 10].map(flow).into();
        probes.packets = 10;
        let seen = seen(Some(&probes), now, at);
        let dated = |stream: &Stream| (u64::from(stream.vni), stream.last_seen_at.map(|at| at.as_second()));
        assert!(seen.streams.iter().map(dated).eq((1..=8).map(|n: u64| (n, Some(100 - n as i64)))), "{seen:?}");
        assert_eq!(seen.last_seen_at, seen.streams[0].last_seen_at);
        assert_eq!((seen.packets, seen.vnis.len()), (10, 10));
    }
}
