//! Who else writes an entry: more than ten repairs of one key within a minute are a fight, and a fight is left alone for a minute.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::abi::VtepValue;

const REPAIRS: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// The repairs of the last minute, per key.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    repairs: BTreeMap<Ipv4Net, VecDeque<Instant>>,
    left_alone: BTreeMap<Ipv4Net, LeftAlone>,
}

#[derive(Clone, Copy, Debug)]
struct LeftAlone {
    until: Instant,
    found: Option<VtepValue>,
}

impl Contention {
    /// Counts a repair of a key that held `found`, or nothing. True when this one is one too many: from now on the key is left alone.
    pub fn on_repair(&mut self, key: Ipv4Net, found: Option<VtepValue>, now: Instant) -> bool {
        self.forget(now);
        let repairs = self.repairs.entry(key).or_default();
        repairs.push_back(now);
        let fight = repairs.len() > REPAIRS;
        if fight {
            repairs.clear();
            self.left_alone.insert(key, LeftAlone { until: now + WINDOW, found });
        }
        fight
    }

    /// What is older than a minute no longer counts, and takes no memory.
    fn forget(&mut self, now: Instant) {
        for repairs in self.repairs.values_mut() {
            while repairs.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
                repairs.pop_front();
            }
        }
        self.repairs.retain(|_, repairs| !repairs.is_empty());
        self.left_alone.retain(|_, left_alone| now < left_alone.until);
    }

    /// The minute of this key is not over.
    #[must_use]
    pub fn is_left_alone(&self, key: Ipv4Net, now: Instant) -> bool {
        self.left_alone.get(&key).is_some_and(|left_alone| now < left_alone.until)
    }

    /// The keys left alone now, each with what somebody else had put there; `None` where it had been deleted.
    #[must_use]
    pub fn left_alone(&self, now: Instant) -> BTreeMap<Ipv4Net, Option<VtepValue>> {
        let current = self.left_alone.iter().filter(|(_, left_alone)| now < left_alone.until);
        current.map(|(&key, left_alone)| (key, left_alone.found)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Ipv4Net {
        "10.1.6.0/24".parse().expect("a CIDR")
    }

    /// Repairs `count` times, `gap` apart; true when any of them was one too many.
    fn fights(count: u32, gap: Duration) -> bool {
        let start = Instant::now();
        let mut contention = Contention::default();
        (0..count).map(|n| contention.on_repair(key(), None, start + gap * n)).filter(|fight| *fight).count() > 0
    }

    #[test]
    fn the_eleventh_repair_in_a_minute_is_one_too_many() {
        assert!(!fights(10, Duration::from_secs(1)));
        assert!(fights(11, Duration::from_secs(1)));
        assert!(!fights(100, Duration::from_secs(7)), "Cilium's sync, sped up, is no fight");
    }

    #[test]
    fn a_key_is_left_alone_for_a_minute() {
        let start = Instant::now();
        let mut contention = Contention::default();
        for _ in 0..=REPAIRS {
            contention.on_repair(key(), None, start);
        }
        let other = "10.1.5.0/24".parse().expect("a CIDR");
        assert!(contention.is_left_alone(key(), start + Duration::from_secs(59)));
        assert!(!contention.is_left_alone(key(), start + Duration::from_secs(60)));
        assert!(!contention.is_left_alone(other, start));
        assert!(!contention.on_repair(key(), None, start + Duration::from_secs(61)), "it starts anew");
    }
}
