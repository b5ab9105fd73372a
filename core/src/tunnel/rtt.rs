//! A histogram of round-trip times since the start, in the form that Prometheus uses.

use std::time::Duration;

/// Upper bounds in microseconds. They range from a BIG-IP in the same rack to one on another continent behind a full queue.
const BOUNDS_US: [u64; 15] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];

/// Counts of round-trip times. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RttHistogram {
    /// One count for each bound: the round-trip times up to it and above the previous bound. The last one counts those above all bounds.
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl RttHistogram {
    pub fn observe(&mut self, rtt: Duration) {
        let bucket = BOUNDS_US.partition_point(|&bound| Duration::from_micros(bound) < rtt);
        self.counts[bucket] += 1;
        self.sum += rtt;
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Each upper bound in seconds, the last infinite, with the count between the previous bound and this one.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS_US.into_iter().map(|bound| bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = RttHistogram::default();
        for micros in [0, 50, 51, 2_000_000, 2_000_001, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(50e-6, 2), (100e-6, 1), (2.0, 1), (f64::INFINITY, 2)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, Duration::from_micros(13_000_102)));
    }
}
