//! The clocks of the tap: its records have times of `CLOCK_MONOTONIC`, and the agent has `Instant`s.

use std::time::{Duration, Instant};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};

/// Two clocks that are read within this time count as one moment.
const TOGETHER: Duration = Duration::from_millis(1);
/// How often to try that.
const READINGS: usize = 3;

/// One moment on two clocks: `Instant`, and the clock of the program's records.
#[derive(Clone, Copy)]
pub struct Clocks {
    pub(super) now: Instant,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    now_ns: u64,
}

impl Clocks {
    /// If the thread was interrupted between the two, they do not belong together, and it reads them again.
    #[must_use]
    pub fn read() -> Self {
        let mut clocks = Self::read_once();
        for _ in 0..READINGS {
            if clocks.now.elapsed() < TOGETHER {
                break;
            }
            clocks = Self::read_once();
        }
        clocks
    }

    fn read_once() -> Self {
        let now = Instant::now();
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let ns = |time: TimeSpec| time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned();
        Self { now, now_ns: time.map_or(0, ns) }
    }

    pub(super) fn instant(self, ns: u64) -> Instant {
        let ago = Duration::from_nanos(self.now_ns.saturating_sub(ns));
        self.now.checked_sub(ago).unwrap_or(self.now)
    }
}
