//! Flap damping: limits how often changes are reported. A link that flaps all night is reported once as flapping, and not a thousand times.
//! A function of changes and of `now`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// At most this many changes are reported within `WINDOW`.
const LIMIT: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);
/// Stable time after which reporting resumes.
const QUIET_PERIOD: Duration = Duration::from_secs(60);

/// The action for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emission {
    Emit,
    /// Report that it is flapping, and that further changes are suppressed.
    EmitSuppressing,
    Suppress,
}

/// The changes of one thing.
#[derive(Clone, Debug, Default)]
pub struct FlapDamping {
    /// When changes were reported, oldest first.
    reported: VecDeque<Instant>,
    /// The time of the last suppressed change.
    suppressed: Option<Instant>,
}

impl FlapDamping {
    pub fn on_change(&mut self, now: Instant) -> Emission {
        while self.reported.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.reported.pop_front();
        }
        if self.suppressed.is_some() {
            self.suppressed = Some(now);
            Emission::Suppress
        } else if self.reported.len() < LIMIT {
            self.reported.push_back(now);
            Emission::Emit
        } else {
            self.suppressed = Some(now);
            Emission::EmitSuppressing
        }
    }

    /// Whether the current state must be reported now, because it has been stable for long enough.
    pub fn settles(&mut self, now: Instant) -> bool {
        let settled = self.deadline().is_some_and(|deadline| now >= deadline);
        if settled {
            self.suppressed = None;
        }
        settled
    }

    /// When [`Self::settles`] may be true next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.suppressed.map(|at| at + QUIET_PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_changes_are_reported_then_that_it_flaps_then_the_stable_state() {
        let (mut damping, start) = (FlapDamping::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let emissions: Vec<_> = (0..20).map(|n| damping.on_change(second(n))).collect();
        assert!(emissions[..10].iter().all(|emission| *emission == Emission::Emit), "{emissions:?}");
        assert_eq!(emissions[10], Emission::EmitSuppressing);
        assert!(emissions[11..].iter().all(|emission| *emission == Emission::Suppress), "{emissions:?}");
        assert!(!damping.settles(second(19 + 59)));
        assert!(damping.settles(second(19 + 60)), "it has been stable for a minute");
        assert!(!damping.settles(second(19 + 61)), "and that was reported");
        assert_eq!(
            damping.on_change(second(90)),
            Emission::EmitSuppressing,
            "the limit of ten in ten minutes still applies"
        );
        assert_eq!(damping.deadline(), Some(second(150)));
        assert!(damping.settles(second(150)));
        assert_eq!(damping.on_change(second(700)), Emission::Emit);
    }
}
