//! Moments at which all loops wake up together. On an idle core, a wake-up costs more than most loops do in it.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// The first moment that counts.
static START: OnceLock<Instant> = OnceLock::new();

/// About one `period` from now, at most half a period sooner or later: all loops that ask with the same period get the same moment.
#[must_use]
pub fn next(period: Duration) -> Instant {
    let now = Instant::now();
    next_after(*START.get_or_init(|| now), now, period)
}

fn next_after(start: Instant, now: Instant, period: Duration) -> Instant {
    let rounded = (now.saturating_duration_since(start) + period / 2).as_nanos() / period.as_nanos().max(1);
    u32::try_from(rounded).ok().and_then(|passed| start.checked_add(period * passed + period)).unwrap_or(now + period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_about_a_period_away_and_the_same_for_all(period in 1u64..100_000, now in 0u64..1_000_000_000) {
            let (period, start) = (Duration::from_millis(period), Instant::now());
            let now = start + Duration::from_millis(now);
            let next = next_after(start, now, period);
            prop_assert!(next >= now + period / 2 && next <= now + period * 3 / 2, "{:?}", next - now);
            prop_assert_eq!((next - start).as_nanos() % period.as_nanos(), 0);
        }
    }

    #[test]
    fn a_period_that_is_nothing_ends_no_loop() {
        let now = Instant::now();
        assert_eq!(next_after(now, now, Duration::ZERO), now);
    }
}
