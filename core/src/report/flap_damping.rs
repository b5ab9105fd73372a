//! Bounds how often changes are told: a link that flaps all night is told as one that flaps, not a thousand times. A function of
//! changes and of `now`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// So many changes are told within `WINDOW`.
const TOLD: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);
/// What has held so long is told again.
const CALM: Duration = Duration::from_secs(60);

/// What to do about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Tell,
    /// Tell that it changes too often to be told.
    TellOften,
    Keep,
}

/// The changes of one thing.
#[derive(Clone, Debug, Default)]
pub struct Damper {
    /// When changes were told, oldest first.
    told: VecDeque<Instant>,
    /// The last change of those that are kept back.
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

    /// Whether what holds now is to be told, because it has held for a while.
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
    fn ten_changes_are_told_then_that_there_are_many_then_what_remains() {
        let (mut damper, start) = (Damper::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let words: Vec<_> = (0..20).map(|n| damper.on_change(second(n))).collect();
        assert!(words[..10].iter().all(|word| *word == Word::Tell), "{words:?}");
        assert_eq!(words[10], Word::TellOften);
        assert!(words[11..].iter().all(|word| *word == Word::Keep), "{words:?}");
        assert!(!damper.settles(second(19 + 59)));
        assert!(damper.settles(second(19 + 60)), "it has held for a minute");
        assert!(!damper.settles(second(19 + 61)), "and that was told");
        assert_eq!(damper.on_change(second(90)), Word::TellOften, "ten in ten minutes are told as before");
        assert_eq!(damper.deadline(), Some(second(150)));
        assert!(damper.settles(second(150)));
        assert_eq!(damper.on_change(second(700)), Word::Tell);
    }
}
