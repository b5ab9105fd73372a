//! Reports each change once: as a line in the log, and as an Event for `kubectl`. The monitor decides on verdicts; this module only
//! compares them with the last ones.

mod units;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tracing::{info, warn};
use vtep_core::{
    config::{
        finding::{Finding, Severity},
        truth::Truth,
        view::View,
    },
    diagnosis::{Diagnosis, Verdict},
    report::{
        event::EventRecord,
        flap_damping::{Emission, FlapDamping},
    },
};

use self::units::Units;
use super::monitor::AgentState;
use crate::k8s::events::Queue;

/// The state that was reported last.
pub struct Notifier {
    events: Queue,
    /// The URL of the runbook that Events link to.
    runbook: String,
    damping: BTreeMap<Ipv4Net, FlapDamping>,
    /// The same for changes of endpoint or MAC: two gateways that both claim to be the leader move a VTEP all the time.
    moves: BTreeMap<Ipv4Net, FlapDamping>,
    /// VTEPs whose last Event reported a cause.
    troubled: BTreeSet<Ipv4Net>,
    units: Units,
    findings: Vec<Finding>,
    source_fails: bool,
    truth: Truth,
    unfit: Vec<String>,
}

impl Notifier {
    #[must_use]
    pub fn new(events: Queue, runbook: &str) -> Self {
        Self {
            events,
            runbook: runbook.to_owned(),
            damping: BTreeMap::new(),
            moves: BTreeMap::new(),
            troubled: BTreeSet::new(),
            units: Units::default(),
            findings: Vec::new(),
            source_fails: false,
            truth: Truth::default(),
            unfit: Vec::new(),
        }
    }

    /// The next time at which a suppressed change may have become stable.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let damped = self.damping.values().chain(self.moves.values()).filter_map(FlapDamping::deadline);
        damped.chain(self.units.deadline()).min()
    }

    /// Reports each change of place, verdict or cause unless the VTEP flaps. Returns the VTEPs with a reported change of verdict or cause, and
    /// those that have stopped moving.
    pub fn changes(
        &mut self,
        before: &BTreeMap<Ipv4Net, Diagnosis>,
        after: &BTreeMap<Ipv4Net, Diagnosis>,
        now: Instant,
    ) -> BTreeSet<Ipv4Net> {
        self.damping.retain(|cidr, _| after.contains_key(cidr));
        self.moves.retain(|cidr, _| after.contains_key(cidr));
        self.troubled.retain(|cidr| after.contains_key(cidr));
        let mut changed = BTreeSet::new();
        for (&cidr, diagnosis) in after {
            let (before, moved): (Vec<_>, Vec<_>) =
                before.get(&cidr).into_iter().partition(|before| before.place == diagnosis.place);
            let has_settled = self.moved(cidr, moved.first().copied(), diagnosis, now);
            // The verdict about the old place is no verdict about the new one.
            let is_news = is_news(before.first().copied(), diagnosis);
            let damping = self.damping.entry(cidr).or_default();
            let emission = if is_news { damping.on_change(now) } else { Emission::Suppress };
            let is_reported = emission == Emission::Emit || damping.settles(now);
            if emission == Emission::EmitSuppressing {
                warn!(%cidr, name = diagnosis.name, "verdict is flapping; suppressed until stable for 60 s; see /status");
                self.events.push(EventRecord::flapping(&diagnosis.label(cidr), Timestamp::now()));
            }
            if is_reported {
                changed.insert(cidr);
                self.change(cidr, diagnosis);
            } else if has_settled {
                changed.insert(cidr);
            }
        }
        changed
    }

    /// Reports failovers and learned MACs.
    pub fn units(&mut self, state: &AgentState, diagnoses: &BTreeMap<Ipv4Net, Diagnosis>, now: Instant) {
        let (probes, at) = (state.probes.borrow().clone(), Timestamp::now());
        let label = |cidr| diagnoses.get(&cidr).map_or_else(|| cidr.to_string(), |of| of.label(cidr));
        self.units.failovers(&probes, label, &self.events, now, at);
        self.units.macs(&probes, label, || state.status(), &self.events, at);
    }

    /// Reports that a VTEP has another endpoint or MAC than `before`, if it does: a failover. It begins anew, so earlier changes of its
    /// verdict do not dampen the next ones. Returns true if it has stopped moving after it moved too often.
    fn moved(&mut self, cidr: Ipv4Net, before: Option<&Diagnosis>, after: &Diagnosis, now: Instant) -> bool {
        let (name, to) = (&after.name, after.place);
        let moves = self.moves.entry(cidr).or_default();
        let Some(from) = before.map(|before| before.place) else { return moves.settles(now) };
        match moves.on_change(now) {
            Emission::Emit => {
                info!(%cidr, name, %from, %to, "VTEP moved; its probes begin anew");
                self.damping.remove(&cidr);
            }
            Emission::EmitSuppressing => {
                warn!(%cidr, name, %from, %to, "VTEP moves too often; suppressed until stable for 60 s; see /history");
            }
            Emission::Suppress => {}
        }
        false
    }

    fn change(&mut self, cidr: Ipv4Net, diagnosis: &Diagnosis) {
        let Diagnosis { name, verdict, cause, hint, .. } = diagnosis;
        match (cause, hint) {
            (Some(cause), Some(hint)) => warn!(%cidr, name, %verdict, %cause, hint, "verdict changed"),
            (None, _) | (_, None) => info!(%cidr, name, %verdict, "verdict changed"),
        }
        // A healthy VTEP gets an Event only after one about a cause, so that a fleet that starts healthy does not write to the API server.
        if cause.is_some() {
            self.troubled.insert(cidr);
        } else if *verdict != Verdict::Healthy || !self.troubled.remove(&cidr) {
            return;
        }
        self.events.push(EventRecord::verdict(cidr, diagnosis, &self.runbook, Timestamp::now()));
    }

    /// Reports once that the source does not answer, and once that it answers again.
    pub fn source(&mut self, view: Option<&View>) {
        let Some(View { source, source_error, effective, .. }) = view else { return };
        match (source_error, self.source_fails) {
            (Some(reason), false) if effective.is_some() => {
                warn!(source, reason, "cannot read the configuration; the last one read remains in effect");
            }
            (Some(reason), false) => warn!(source, reason, "cannot read the configuration yet"),
            (None, true) => info!(source, "the configuration can be read again"),
            (Some(_), true) | (None, false) => {}
        }
        self.source_fails = source_error.is_some();
    }

    /// Reports that the VTEPs come from another source than `cilium-config`, and that they are in `cilium-config` again.
    pub fn truth(&mut self, view: Option<&View>) {
        let Some(&View { truth, truth_reason: ref reason, .. }) = view else { return };
        match (self.truth, truth) {
            (Truth::Configmap, Truth::None) => {
                warn!(%truth, "no VTEP lists in cilium-config: CiliumVTEPConfig objects may have them; nothing is written or deleted");
            }
            (Truth::None, Truth::Configmap) => info!(%truth, "VTEP lists are in cilium-config again"),
            (Truth::Crd, Truth::None) => {
                warn!(%truth, reason, "no source of VTEPs is known now; nothing is written or deleted");
            }
            (Truth::Configmap | Truth::None, Truth::Crd) => {
                info!(%truth, reason, "VTEPs come from custom resources; Cilium reconciles them, and this agent repairs what it leaves");
            }
            (Truth::Crd, Truth::Configmap) => info!(%truth, reason, "VTEPs come from the lists in cilium-config again"),
            (Truth::Configmap, Truth::Configmap) | (Truth::Crd, Truth::Crd) | (Truth::None, Truth::None) => {}
        }
        self.truth = truth;
    }

    /// Reports each new reason against writing on this node, and that the last one is gone.
    pub fn fitness(&mut self, reasons: Vec<String>) {
        for reason in reasons.iter().filter(|reason| !self.unfit.contains(reason)) {
            warn!(reason, "node unsupported; running read-only");
        }
        if reasons.is_empty() && !self.unfit.is_empty() {
            info!("node supported again");
        }
        self.unfit = reasons;
    }

    /// Reports each new finding, and that the last error is gone.
    pub fn findings(&mut self, view: Option<&View>) {
        let Some(view) = view else { return };
        for finding in view.findings.iter().filter(|finding| !self.findings.contains(finding)) {
            let Finding { rule, severity, key, index, message: detail, .. } = finding;
            match severity {
                Severity::Error if view.stale => {
                    warn!(%rule, key, index, detail, "configuration error; last good values remain in effect");
                }
                Severity::Error => warn!(%rule, key, index, detail, "configuration error"),
                Severity::Warning => warn!(%rule, key, index, detail, "configuration warning"),
                Severity::Info => info!(%rule, key, index, detail, "configuration note"),
            }
            EventRecord::finding(finding, Timestamp::now()).into_iter().for_each(|note| self.events.push(note));
        }
        if self.findings.iter().any(|finding| finding.severity == Severity::Error) && view.valid() {
            info!(hash = view.hash, "the configuration is valid again");
        }
        self.findings.clone_from(&view.findings);
    }
}

/// Whether a diagnosis is a change to report. An unknown verdict shortly after the start is not, because the probes need some time.
fn is_news(before: Option<&Diagnosis>, after: &Diagnosis) -> bool {
    match before {
        _ if after.early => false,
        Some(before) if !before.early => !before.same_as(after),
        Some(_) | None => after.verdict != Verdict::Unknown || after.cause.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vtep_core::{config::spec::Place, diagnosis::Cause};

    use super::*;

    #[test]
    fn what_was_not_looked_at_yet_is_no_news() {
        let of = |verdict, cause| Diagnosis::of(verdict, cause);
        let unknown = of(Verdict::Unknown, Some(Cause::SelfIpUnknown));
        let early = Diagnosis { early: true, ..unknown.clone() };
        let healthy = of(Verdict::Healthy, None);
        let table = [
            (None, &early, false),
            (Some(&early), &early, false),
            (Some(&early), &unknown, true),
            (Some(&unknown), &unknown, false),
            (Some(&early), &healthy, true),
            (Some(&healthy), &early, false),
            (Some(&healthy), &unknown, true),
            (None, &healthy, true),
            (None, &of(Verdict::Unknown, None), false),
        ];
        for (before, after, news) in table {
            assert_eq!(is_news(before, after), news, "{before:?} → {after:?}");
        }
    }

    /// Before the move its verdict had changed too often; nothing of that counts for the new place.
    #[test]
    fn a_vtep_that_moves_begins_anew() {
        let (queue, _) = Queue::new();
        let mut notifier = Notifier::new(queue.clone(), "docs/runbook.md");
        let cidr: Ipv4Net = "10.1.6.0/24".parse().expect("a CIDR");
        let now = Instant::now();
        let healthy = Diagnosis::of(Verdict::Healthy, None);
        let silent = Diagnosis::of(Verdict::Unreachable, Some(Cause::TunnelSilent));
        let of = |diagnosis: &Diagnosis| BTreeMap::from([(cidr, diagnosis.clone())]);
        let flaps = (0..20).map(|n| if n % 2 == 0 { (&healthy, &silent) } else { (&silent, &healthy) });
        let reported =
            flaps.filter(|(before, after)| !notifier.changes(&of(before), &of(after), now).is_empty()).count();
        assert_eq!(reported, 10, "it flaps");

        let at = |n: u8, diagnosis: &Diagnosis| {
            let place = Place { endpoint: [10, 169, 72, n].into(), ..diagnosis.place };
            of(&Diagnosis { place, name: Some("vpc-gateway".into()), ..diagnosis.clone() })
        };
        let early = Diagnosis { early: true, ..Diagnosis::of(Verdict::Unknown, None) };
        assert!(notifier.changes(&of(&healthy), &at(6, &early), now).is_empty(), "nothing is known yet");
        assert_eq!(notifier.changes(&at(6, &early), &at(6, &healthy), now), [cidr].into());
        assert_eq!(notifier.changes(&of(&healthy), &at(7, &healthy), now), [cidr].into(), "healthy is news there");

        // Two leaders: the moves are suppressed in turn.
        let reported =
            (0..100).filter(|n| !notifier.changes(&at(n % 2, &healthy), &at((n + 1) % 2, &healthy), now).is_empty());
        assert!(reported.count() < 20);
        let settled = now + Duration::from_secs(60);
        assert_eq!(notifier.deadline(), Some(settled));
        assert_eq!(notifier.changes(&at(0, &healthy), &at(0, &healthy), settled), [cidr].into());
        assert_eq!(notifier.deadline(), None);
    }

    #[test]
    fn a_start_is_told_once_somebody_has_looked() {
        // The queue has no receiver, so each note counts as dropped.
        let (queue, _) = Queue::new();
        let mut notifier = Notifier::new(queue.clone(), "docs/runbook.md");
        let cidr = "10.1.6.0/24".parse().expect("a CIDR");
        let with = |early| {
            let unknown = Diagnosis::of(Verdict::Unknown, Some(Cause::SelfIpUnknown));
            BTreeMap::from([(cidr, Diagnosis { early, ..unknown })])
        };
        let now = Instant::now();
        assert!(notifier.changes(&BTreeMap::new(), &with(true), now).is_empty());
        assert_eq!(queue.dropped(), 0, "no Event");
        assert_eq!(notifier.changes(&with(true), &with(false), now), [cidr].into());
        assert_eq!(queue.dropped(), 1);
    }
}
