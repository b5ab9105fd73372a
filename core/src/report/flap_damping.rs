//! Flap damping: limits how often changes are reported. A link that flaps all night is reported once as flapping, and not a thousand times.
//! A function of changes and of `now`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// At most this many changes are reported within `WINDOW`.
const TOLD: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);
/// Stable time after which reporting resumes.
const CALM: Duration = Duration::from_secs(60);

/// The action for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Tell,
    /// Report that it is flapping, and that further changes are suppressed.
    TellOften,
    Keep,
}

/// The changes of one thing.
#[derive(Clone, Debug, Default)]
pub struct Damper {
    /// When changes were reported, oldest first.
    told: VecDeque<Instant>,
    /// The time of the last suppressed change.
    kept: Option<Instant>,
}

impl Damper {
    pub fn on_change(&mut self, now: Instant) -> Word {
        while self.told.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.told.pop_front();
        }
        if self.kept.is_some() {
            self.kept = Some(now);
            Word::Keep
        } else if self.told.len() < TOLD {
            self.told.push_back(now);
            Word::Tell
        } else {
            self.kept = Some(now);
            Word::TellOften
        }
    }

    /// Whether the current state must be reported now, because it has been stable for long enough.
    pub fn settles(&mut self, now: Instant) -> bool {
        let settled = self.deadline().is_some_and(|deadline| now >= deadline);
        if settled {
            self.kept = None;
        }
        settled
    }

    /// When [`Self::settles`] may be true next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.kept.map(|at| at + CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_changes_are_reported_then_that_it_flaps_then_the_stable_state() {
        let (mut damper, start) = (Damper::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let words: Vec<_> = (0..20).map(|n| damper.on_change(second(n))).collect();
        assert!(words[..10].iter().all(|word| *word == Word::Tell), "{words:?}");
        assert_eq!(words[10], Word::TellOften);
        assert!(words[11..].iter().all(|word| *word == Word::Keep), "{words:?}");
        assert!(!damper.settles(second(19 + 59)));
        assert!(damper.settles(second(19 + 60)), "it has been stable for a minute");
        assert!(!damper.settles(second(19 + 61)), "and that was reported");
        assert_eq!(damper.on_change(second(90)), Word::TellOften, "the limit of ten in ten minutes still applies");
        assert_eq!(damper.deadline(), Some(second(150)));
        assert!(damper.settles(second(150)));
        assert_eq!(damper.on_change(second(700)), Word::Tell);
    }
}
