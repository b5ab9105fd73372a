//! Holds a verdict until the evidence for another one is complete. A function of diagnoses, evidence and `now`.
//!
//! Probes that begin to fail, or to be answered again, pass through states that name no fault or another one: after a MAC is mended, ARP is
//! right at once, and ping still counts as lost for three probes. So a cause is reported once it has held for a second; it ends when the
//! probes were answered three times; and another cause takes its place only if probes are still lost.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Cause, Diagnosis, Evidence, Verdict, age::has_had_time, cause::ProbeKind};
use crate::tunnel::{
    vtep_probes::{ProbeState, VtepProbes},
    window::ProbeWindow,
};

/// A cause is reported when it has held for this time.
const ONSET: Duration = Duration::from_secs(1);
/// Causes that alternate are reported after this time: the latest of them.
const ONSET_LIMIT: Duration = Duration::from_secs(5);
/// An outage is reported when this many more probes are lost, and none is answered: three lost in a row may be chance.
const MORE_LOSSES: u64 = 3;
/// This many probes that are lost after the end of one fault show another. One of them was on its way when the first fault ended.
const OTHER_LOSSES: u64 = 4;
/// Without probes to count, another verdict must hold for this time.
const UNCOUNTED: Duration = Duration::from_secs(10);
/// After this time without health, the answers of a link that flaps do not count against its outages.
const ALTERNATES: Duration = Duration::from_secs(20);
/// A cause that nothing proves or replaces ends after this time.
const UNDECIDED: Duration = Duration::from_secs(60);
/// Cilium loads its programs, and fills its map, within this time after its start.
const CILIUM_STARTS: Duration = Duration::from_secs(10);
/// This many outages, each less than `FLAP_WINDOW` after the one before it, are flapping.
const FLAPS: u64 = 3;
const FLAP_WINDOW: Duration = Duration::from_secs(120);
/// A flapping VTEP is healthy again after this time without an outage.
const QUIET_PERIOD: Duration = Duration::from_secs(60);

/// The outages of a VTEP that flaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    pub outages: u64,
    /// The end of the first of them.
    pub since: Timestamp,
}

impl std::fmt::Display for Flapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} outages since {:.0}", self.outages, self.since)
    }
}

/// The verdict of one VTEP over time.
#[derive(Clone, Debug, Default)]
pub struct HoldDown {
    /// The verdict that is reported.
    held: Option<Diagnosis>,
    /// When the evidence of the reported verdict ended.
    left: Option<(Instant, Counts)>,
    /// What the evidence shows instead, and since when.
    candidate: Option<Candidate>,
    outages: Outages,
    /// When the last cause ended: losses before that are no packet loss.
    recovered: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Candidate {
    cause: Option<Cause>,
    verdict: Verdict,
    at: Timestamp,
    since: Instant,
}

/// What has changed since the evidence of the reported verdict ended.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// How long the evidence has shown the candidate.
    since: Duration,
    /// How long the evidence has not shown the reported verdict.
    away: Duration,
    /// The probes in that time.
    counts: Counts,
}

/// The counts of the probes.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Answers, by [`ProbeKind`].
    answered: [u64; 3],
    /// Losses in a row, by [`ProbeKind`].
    in_a_row: [u32; 3],
    /// Losses of the window that lost most.
    lost: u64,
}

#[derive(Clone, Debug, Default)]
struct Outages {
    cause: Option<Cause>,
    /// The probe window's count of interruptions so far.
    seen: Option<u64>,
    count: u64,
    since: Option<Timestamp>,
    last: Option<Instant>,
}

impl HoldDown {
    /// When the last cause ended.
    #[must_use]
    pub fn recovered(&self) -> Option<Instant> {
        self.recovered
    }

    /// When [`Self::next`] may decide otherwise although no evidence has changed. Later decisions wait for probes, which are evidence.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.candidate.as_ref().map(|candidate| candidate.since + ONSET).filter(|deadline| *deadline > now)
    }

    /// The verdict to report, given what the evidence shows now.
    pub fn next(&mut self, shown: Diagnosis, evidence: &Evidence<'_>, now: Instant) -> Diagnosis {
        let is_here = |held: &Diagnosis| held.place == shown.place;
        let held = self.held.take().filter(is_here).unwrap_or_else(|| {
            *self = Self::default();
            Diagnosis {
                verdict: Verdict::Unknown,
                cause: None,
                also: Vec::new(),
                hint: None,
                early: true,
                ..shown.clone()
            }
        });
        self.outages.note(evidence, shown.since, now);
        let next = if shown.cause == held.cause && (shown.cause.is_some() || shown.verdict == held.verdict) {
            (self.left, self.candidate) = (None, None);
            let since = if shown.verdict == held.verdict { held.since } else { shown.since };
            Diagnosis { since, ..shown }
        } else {
            self.consider(held, shown, evidence, now)
        };
        self.held = Some(next.clone());
        let Some(flapping) = next.cause.and_then(|cause| self.outages.flapping(cause, now)) else { return next };
        let hint = next.hint.map(|hint| format!("{hint}; it flaps: {flapping}"));
        Diagnosis { hint, flapping: Some(flapping), ..next }
    }

    /// The evidence shows something else than what is held.
    fn consider(&mut self, held: Diagnosis, shown: Diagnosis, evidence: &Evidence<'_>, now: Instant) -> Diagnosis {
        let counts = Counts::of(evidence);
        let (left, before) = *self.left.get_or_insert((now, counts));
        let Diagnosis { cause, verdict, since: at, .. } = shown;
        let is_same = |candidate: &Candidate| (candidate.cause, candidate.verdict) == (cause, verdict);
        let candidate = self.candidate.take().filter(is_same).unwrap_or(Candidate { cause, verdict, at, since: now });
        let change = Change {
            since: now.saturating_duration_since(candidate.since),
            away: now.saturating_duration_since(left),
            counts: counts.since(before),
        };
        if !self.is_due(&held, &shown, &change, evidence, now) {
            self.candidate = Some(candidate);
            return held;
        }
        if is_fault(held.cause) && verdict == Verdict::Healthy {
            self.recovered = Some(now);
        }
        if cause.is_some() {
            self.outages.of(cause);
        }
        self.left = None;
        Diagnosis { since: candidate.at, ..shown }
    }

    /// Whether the evidence for what is shown is complete, so that it takes the place of what is held.
    fn is_due(
        &self,
        held: &Diagnosis,
        shown: &Diagnosis,
        change: &Change,
        evidence: &Evidence<'_>,
        now: Instant,
    ) -> bool {
        let Change { since, away, counts } = *change;
        match (shown.verdict, shown.cause) {
            (Verdict::Healthy, _) if held.cause.and_then(|cause| self.outages.flapping(cause, now)).is_some() => {
                since >= QUIET_PERIOD
            }
            // A window that began anew has forgotten the losses.
            (Verdict::Healthy, _) if held.cause == Some(Cause::PacketLoss) => {
                evidence.probes.is_some_and(|probes| probes.icmp.is_quiet()) || since >= QUIET_PERIOD
            }
            (Verdict::Healthy, _) if held.cause.is_some_and(Cause::is_probed) => {
                counts.answered[ProbeKind::Ping as usize] >= evidence.answers_to_clear() || since >= UNCOUNTED
            }
            (Verdict::Healthy, _) => true,
            (_, None) if is_fault(held.cause) => away >= UNDECIDED,
            (_, None) => away >= UNCOUNTED,
            (_, Some(cause)) if evidence.is_too_early_for(cause, now, shown.since) => false,
            // Random loss is no outage, and no other fault, however long it lasts. Frames that another node forwards need no such proof.
            (_, Some(cause)) if !cause.silent().is_empty() && evidence.forwarder(now).is_none() => {
                change.proves_silence(cause, held.cause)
            }
            (_, Some(cause)) if is_fault(held.cause) && cause.is_probed() => since >= UNCOUNTED,
            (_, Some(_)) => since >= ONSET || away >= ONSET_LIMIT,
        }
    }
}

/// Everything is a fault but a self IP that is not known yet.
fn is_fault(cause: Option<Cause>) -> bool {
    cause.is_some_and(|cause| cause != Cause::SelfIpUnknown)
}

impl Change {
    /// Whether the probes that this cause expects to be lost have been lost, and for long enough.
    fn proves_silence(&self, cause: Cause, held: Option<Cause>) -> bool {
        let Counts { answered, in_a_row, lost } = self.counts;
        let (losses, time) = match held {
            Some(Cause::PacketLoss) => (OTHER_LOSSES, UNCOUNTED),
            _ if is_fault(held) => (OTHER_LOSSES, ONSET),
            _ => (MORE_LOSSES, ONSET),
        };
        let is_flap = self.away >= ALTERNATES && held != Some(Cause::PacketLoss);
        let is_silent = |of: &ProbeKind| {
            let of = *of as usize;
            answered[of] == 0 || (is_flap && in_a_row[of] >= 3)
        };
        self.since >= time && lost >= losses && cause.silent().iter().all(is_silent)
    }
}

impl Counts {
    fn of(evidence: &Evidence<'_>) -> Self {
        let Some(probes) = evidence.probes else { return Self::default() };
        let windows = [&probes.underlay, &probes.arp, &probes.icmp];
        let lost = windows.map(|window| window.lost_total).into_iter().max().unwrap_or_default();
        let in_a_row = windows.map(ProbeWindow::lost_in_a_row);
        Self { answered: windows.map(|window| window.received), in_a_row, lost }
    }

    fn since(self, before: Self) -> Self {
        let mut answered = self.answered;
        for (answered, before) in answered.iter_mut().zip(before.answered) {
            *answered = answered.saturating_sub(before);
        }
        Self { answered, lost: self.lost.saturating_sub(before.lost), ..self }
    }
}

impl Outages {
    /// The outages have this cause. Those with another one are over.
    fn of(&mut self, cause: Option<Cause>) {
        if self.cause != cause {
            *self = Self { cause, seen: self.seen, ..Self::default() };
        }
    }

    /// Counts the outages that ended since the last call.
    fn note(&mut self, evidence: &Evidence<'_>, at: Timestamp, now: Instant) {
        let interruptions = evidence.probes.map_or(0, |probes| probes.icmp.interruptions());
        // A window that began anew has a smaller count.
        let new = self.seen.replace(interruptions).map_or(0, |seen| interruptions.saturating_sub(seen));
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= FLAP_WINDOW) {
            (self.count, self.since) = (0, None);
        }
        if new > 0 {
            self.count += new;
            self.since.get_or_insert(at);
            self.last = Some(now);
        }
    }

    /// Random loss also interrupts, and is no flapping.
    fn flapping(&self, cause: Cause, now: Instant) -> Option<Flapping> {
        let is_recent = self.last.is_some_and(|last| now.saturating_duration_since(last) < FLAP_WINDOW);
        let is_outage =
            cause.is_probed() && !matches!(cause, Cause::PacketLoss | Cause::PathMtu | Cause::SelfIpUnknown);
        let since = self.since.filter(|_| is_outage && is_recent && self.count >= FLAPS)?;
        Some(Flapping { outages: self.count, since })
    }
}

impl Evidence<'_> {
    fn answers_to_clear(&self) -> u64 {
        self.probes.map_or(0, |probes| probes.icmp.thresholds().clear.into())
    }

    /// A fault that the agent corrects says nothing about the tunnel before the probes do. A Cilium that has just started has not loaded all
    /// of its programs, so lost probes say nothing about the far end.
    fn is_too_early_for(&self, cause: Cause, now: Instant, at: Timestamp) -> bool {
        let is_pending = self.state(VtepProbes::icmp_state) == ProbeState::Pending
            && !self.probes.is_some_and(|probes| has_had_time(probes, now));
        let age = self.facts.running.config().and_then(|running| running.started).map(|start| at.duration_since(start));
        let is_starting = age.is_some_and(|age| {
            !age.is_negative() && age < jiff::SignedDuration::try_from(CILIUM_STARTS).unwrap_or_default()
        });
        let is_by_probes = cause.is_probed() || (cause == Cause::CiliumRestartRequired && self.drops_probes());
        (is_pending && self.is_corrected(cause)) || (is_starting && is_by_probes)
    }
}

#[cfg(test)]
mod tests;
