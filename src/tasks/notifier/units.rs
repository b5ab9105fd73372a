//! Reports, once each, that another unit of a BIG-IP has taken over, and that an entry follows its MAC.

use std::{collections::BTreeMap, time::Instant};

use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use tracing::info;
use vtep_core::{
    report::{assembly::failover, event::EventRecord, status::Status},
    tunnel::{failover::GROUP, mac_learning::LearnedMac, report::ProbeReport, vtep_probes::VtepProbes},
};

use crate::k8s::events::Queue;

/// A MAC that was learned longer ago than this was reported by an earlier run of the agent.
const NEWS: SignedDuration = SignedDuration::from_secs(10);

#[derive(Default)]
pub(super) struct Units {
    /// The time of the last failover that was reported.
    failovers: BTreeMap<Ipv4Net, Instant>,
    macs: BTreeMap<Ipv4Net, LearnedMac>,
    /// When the next failover is complete.
    due: Option<Instant>,
}

impl Units {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// `label`: a VTEP in words.
    pub(super) fn failovers(
        &mut self,
        probes: &ProbeReport,
        label: impl Fn(Ipv4Net) -> String,
        events: &Queue,
        now: Instant,
        at: Timestamp,
    ) {
        self.failovers.retain(|cidr, _| probes.vteps.contains_key(cidr));
        self.due = None;
        for (&cidr, of) in &probes.vteps {
            let reported = self.failovers.get(&cidr).copied();
            let news = of.failovers.recent.iter().filter(|failover| reported.is_none_or(|last| failover.at > last));
            for news in news {
                let complete = news.at + GROUP;
                if complete > now {
                    self.due = self.due.into_iter().chain([complete]).min();
                    continue;
                }
                self.failovers.insert(cidr, news.at);
                let Some(told) = failover(news, now, at) else { continue };
                let endpoint = of.vtep.endpoint;
                info!(%cidr, %endpoint, what = told.words(), "failover");
                events.push(EventRecord::failover(&label(cidr), endpoint, &told, at));
            }
        }
    }

    /// `status` has the line for `cilium-config`; it is assembled only if there is something to report.
    pub(super) fn macs(
        &mut self,
        probes: &ProbeReport,
        label: impl Fn(Ipv4Net) -> String,
        status: impl Fn() -> Status,
        events: &Queue,
        at: Timestamp,
    ) {
        let learned = |of: &VtepProbes| of.learning.learned();
        let now: BTreeMap<_, _> = probes.vteps.iter().filter_map(|(&cidr, of)| Some((cidr, learned(of)?))).collect();
        for (&cidr, learned) in now.iter().filter(|(cidr, learned)| self.macs.get(cidr) != Some(learned)) {
            if at.duration_since(learned.since) > NEWS {
                continue;
            }
            let vteps = status().vteps;
            let learning = vteps.iter().find(|vtep| vtep.cidr == cidr).and_then(|vtep| vtep.mac_learning.as_ref());
            let line = learning.and_then(|of| of.config_line.as_deref());
            events.push(EventRecord::mac_learned(&label(cidr), learned.configured, learned.mac, line, at));
        }
        self.macs = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vtep_core::{
        config::spec::Vtep,
        tunnel::{
            failover::{Failover, Takeover},
            vtep_probes::ProbeTiming,
            window::Thresholds,
        },
    };

    use super::*;

    #[test]
    fn a_failover_is_reported_once_when_it_is_complete() {
        let now = Instant::now();
        let vtep = Vtep {
            cidr: "10.1.6.0/24".parse().expect("a CIDR"),
            endpoint: [10, 169, 72, 34].into(),
            mac: [2; 6].into(),
        };
        let second = Duration::from_secs(1);
        let thresholds = Thresholds { raise: 3, clear: 3 };
        let timing = ProbeTiming { interval: second, timeout: second / 2, thresholds };
        let mut probes = VtepProbes::new(vtep, None, timing, now);
        let changes = vec![Takeover::TunnelMac { from: [2; 6].into(), to: [4; 6].into() }];
        probes.failovers.recent.push_back(Failover { at: now, changes, lost: Some(second) });
        let report = ProbeReport { vteps: [(vtep.cidr, probes.into())].into(), ..ProbeReport::default() };
        // The queue has no receiver, so each Event counts as dropped.
        let (events, _) = Queue::new();
        let mut units = Units::default();
        let mut told = |after: Duration| {
            units.failovers(&report, |cidr| cidr.to_string(), &events, now + after, Timestamp::now());
            (events.dropped(), units.deadline())
        };
        assert_eq!(told(Duration::ZERO), (0, Some(now + GROUP)));
        assert_eq!(told(GROUP), (1, None));
        assert_eq!(told(2 * GROUP), (1, None));
    }
}
