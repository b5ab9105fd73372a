//! How often the sentinel looks at the VTEP map: a function of the last overwrite and of `now`.
//!
//! Every minute, Cilium's sync writes the entries that it was started with. If these are out of date, the moment of the next overwrite is
//! known, and a look every millisecond around it leaves the wrong entry in the kernel for no longer than that.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

/// The interval of Cilium's sync, before two overwrites have shown it (since Cilium 1.19.8, `vtep-sync-interval` sets it). The next run
/// begins this long after the last one ended.
const SYNC: Duration = Duration::from_secs(60);
/// Two overwrites with another time between them are no sync.
const SYNCS: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(600);
/// How far from the expected moment the sync may run: timers of a busy node are late, and each run takes some milliseconds.
const AROUND: Duration = Duration::from_millis(500);
/// The period around an expected sync.
const CLOSE: Duration = Duration::from_millis(1);
/// This many syncs are expected after an overwrite. Without another one, Cilium agrees with the configuration again.
const EXPECTED: u32 = 2;
/// The period while the agent leaves an entry to another writer: there is nothing to repair, only something to report.
const HELD_BACK: Duration = Duration::from_millis(100);

/// The pace of the sentinel.
#[derive(Clone, Copy, Debug)]
pub struct LookPace {
    period: Duration,
    /// The last repair of an entry that had another value.
    overwritten: Option<Instant>,
    sync: Duration,
    holds_back: bool,
}

impl LookPace {
    /// `period` applies while no sync is expected.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, overwritten: None, sync: SYNC, holds_back: false }
    }

    /// The agent has repaired an entry that had another value. It may have been the sync.
    pub fn on_overwrite(&mut self, now: Instant) {
        let since = self.overwritten.replace(now).map_or(Duration::MAX, |before| now.saturating_duration_since(before));
        // Sooner, it is the same run of the sync, which writes several entries.
        if since >= *SYNCS.start() {
            self.sync = if SYNCS.contains(&since) { since } else { SYNC };
        }
    }

    /// Whether the agent leaves an entry as it is because of contention.
    pub fn hold_back(&mut self, holds_back: bool) {
        self.holds_back = holds_back;
    }

    /// The time from this look to the next. Most looks need no clock.
    #[must_use]
    pub fn next(&self, now: impl FnOnce() -> Instant) -> Duration {
        if self.holds_back {
            return self.period.max(HELD_BACK);
        }
        let Some(since) = self.overwritten.map(|at| now().saturating_duration_since(at)) else { return self.period };
        let window = |n| (self.sync * n).saturating_sub(AROUND)..self.sync * n + AROUND;
        let Some(window) = (1..=EXPECTED).map(window).find(|window| since < window.end) else { return self.period };
        match window.start.checked_sub(since) {
            // The last look before the window must not sleep into it.
            Some(until) if !until.is_zero() => self.period.min(until),
            Some(_) | None => self.period.min(CLOSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(4);

    /// The longest time between two looks around `at`.
    fn longest_around(pace: &LookPace, from: Instant, at: Instant, around: Duration) -> Duration {
        let mut now = from;
        let mut longest = Duration::ZERO;
        while now < at + around {
            let next = pace.next(|| now);
            if now + next > at.checked_sub(around).expect("later than the start") {
                longest = longest.max(next);
            }
            now += next;
        }
        longest
    }

    proptest! {
        #[test]
        fn an_overwrite_is_expected_again(period in 1u64..4000, late in 0u64..400, interval in proptest::option::of(5u64..600)) {
            let start = Instant::now();
            let mut pace = LookPace::new(Duration::from_millis(period));
            // With one overwrite the interval is Cilium's default, and two have shown it.
            let sync = interval.map_or(SYNC, Duration::from_secs);
            if interval.is_some() {
                pace.on_overwrite(start);
            }
            let start = start + sync;
            pace.on_overwrite(start);
            pace.on_overwrite(start);
            for n in 1..=EXPECTED {
                let at = start + sync * n + Duration::from_millis(late);
                prop_assert!(longest_around(&pace, start, at, Duration::from_millis(50)) <= CLOSE);
            }
            let later = start + sync * (EXPECTED + 1);
            prop_assert_eq!(longest_around(&pace, start, later, AROUND), Duration::from_millis(period));
        }
    }

    #[test]
    fn without_an_overwrite_the_period_is_as_set() {
        assert_eq!(LookPace::new(PERIOD).next(|| Instant::now() + SYNC), PERIOD);
    }

    #[test]
    fn what_another_writer_has_is_looked_at_rarely() {
        let mut pace = LookPace::new(PERIOD);
        pace.on_overwrite(Instant::now());
        pace.hold_back(true);
        assert_eq!(pace.next(|| Instant::now() + SYNC), HELD_BACK);
        pace.hold_back(false);
        assert_eq!(pace.next(Instant::now), PERIOD);
    }
}
