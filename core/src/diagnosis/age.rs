//! Evidence has an age: a hint says so, and a cause with old evidence comes after those that hold now. A hint gives ages and counts in steps.
//! Pure.

use std::time::{Duration, Instant};

use super::{Cause, Evidence};
use crate::tunnel::vtep_probes::{ProbeState, VtepProbes};

/// An observation younger than this counts as present.
pub(super) const FRESH: Duration = Duration::from_secs(15);
/// Frames, probes and the sweep need this time. Before it has passed, missing knowledge is no finding.
pub(super) const DISCOVERY: Duration = Duration::from_secs(15);
/// The sweep searches one CIDR after the other; eight CIDRs take less than this.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(60);
/// A hint rounds ages down to this step, so that it does not change every second.
const STEP_S: u64 = 5;

/// Old evidence for a cause: an observation, and the time when it was last made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub cause: Cause,
    pub what: &'static str,
    pub seen: Instant,
}

impl Evidence<'_> {
    /// The evidence for this cause, if it is old.
    pub(super) fn observation(&self, cause: Cause, now: Instant) -> Option<Observation> {
        let (what, seen) = cause.basis(self)?;
        (now.saturating_duration_since(seen) > FRESH).then_some(Observation { cause, what, seen })
    }

    /// Whether the causes that hold now come before this one: its evidence is old, or the tunnel that showed it has fallen silent.
    pub(super) fn is_outranked(&self, cause: Cause, now: Instant) -> bool {
        let is_silent = cause == Cause::VtepMacMismatch
            && !self.vtep.mac.is_multicast()
            && self.state(VtepProbes::arp_state) == ProbeState::Failed;
        is_silent || self.observation(cause, now).is_some()
    }

    /// Nothing is known, and it is too early to know more.
    pub(super) fn is_early(&self, cause: Option<Cause>, now: Instant) -> bool {
        let is_unknown = matches!(cause, None | Some(Cause::SelfIpUnknown));
        is_unknown && !self.probes.is_some_and(|probes| has_had_time(probes, now))
    }
}

/// Whether frames, probes and the sweep have had enough time for this VTEP.
pub(super) fn has_had_time(probes: &VtepProbes, now: Instant) -> bool {
    let time = now.saturating_duration_since(probes.learnable_since());
    time >= DISCOVERY && (probes.target.is_some() || probes.swept || !probes.heard || time >= DISCOVERY_LIMIT)
}

/// A count for a hint: rounded down to one digit, so that the hint does not change with every frame.
pub(super) fn at_least(count: u64) -> String {
    let step = 10_u64.pow(count.checked_ilog10().unwrap_or(0));
    let rounded = count / step * step;
    if step == 1 { rounded.to_string() } else { format!("at least {rounded}") }
}

impl Observation {
    /// The age, for the end of a hint.
    pub(super) fn ago(&self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.seen).as_secs() / STEP_S * STEP_S;
        match seconds {
            ..120 => format!(" (seen {seconds} s ago)"),
            120.. => format!(" (seen {} min ago)", seconds / 60),
        }
    }
}
