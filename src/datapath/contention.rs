//! Who else writes an entry. Some repairs of one key in a row are told: usually Cilium's sync, every minute. More than ten within a
//! minute are a fight, and a fight is left alone for a minute.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::abi::VtepValue;

/// So many repairs within [`MEMORY`] are no accident.
const TOLD: usize = 3;
/// Long enough for a few of Cilium's syncs, one a minute.
const MEMORY: Duration = Duration::from_secs(300);
const FIGHT: usize = 10;
const FIGHT_WINDOW: Duration = Duration::from_secs(60);

/// The repairs of the last minutes, per key.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    repairs: BTreeMap<Ipv4Net, Repairs>,
    /// Until when.
    left_alone: BTreeMap<Ipv4Net, Instant>,
}

#[derive(Clone, Debug, Default)]
struct Repairs {
    at: VecDeque<Instant>,
    /// What somebody else had put there the last time; `None` where it had been deleted.
    found: Option<VtepValue>,
}

impl Contention {
    /// Counts a repair of a key that held `found`, or nothing. True when this one is one too many: from now on the key is left alone.
    pub fn on_repair(&mut self, key: Ipv4Net, found: Option<VtepValue>, now: Instant) -> bool {
        self.forget(now);
        let repairs = self.repairs.entry(key).or_default();
        repairs.at.push_back(now);
        repairs.found = found;
        let last = self.left_alone.get(&key).copied();
        // Those before the key was left alone have been counted.
        let counts = |at: &&Instant| now.duration_since(**at) < FIGHT_WINDOW && last.is_none_or(|last| **at >= last);
        let fight = repairs.at.iter().filter(counts).count() > FIGHT;
        if fight {
            self.left_alone.insert(key, now + FIGHT_WINDOW);
        }
        fight
    }

    /// What is old no longer counts, and takes no memory.
    fn forget(&mut self, now: Instant) {
        for repairs in self.repairs.values_mut() {
            while repairs.at.front().is_some_and(|at| now.duration_since(*at) >= MEMORY) {
                repairs.at.pop_front();
            }
        }
        self.repairs.retain(|_, repairs| !repairs.at.is_empty());
        self.left_alone.retain(|_, until| now.saturating_duration_since(*until) < FIGHT_WINDOW);
    }

    /// The minute of this key is not over.
    #[must_use]
    pub fn is_left_alone(&self, key: Ipv4Net, now: Instant) -> bool {
        self.left_alone.get(&key).is_some_and(|until| now < *until)
    }

    /// The keys left alone now.
    #[must_use]
    pub fn left_alone(&self, now: Instant) -> BTreeSet<Ipv4Net> {
        self.left_alone.keys().copied().filter(|key| self.is_left_alone(*key, now)).collect()
    }

    /// The keys that somebody else keeps writing, each with what had been put there last; `None` where it had been deleted.
    #[must_use]
    pub fn contended(&self, now: Instant) -> BTreeMap<Ipv4Net, Option<VtepValue>> {
        let recent = |repairs: &Repairs| repairs.at.iter().filter(|at| now.duration_since(**at) < MEMORY).count();
        let told = self.repairs.iter().filter(|(_, repairs)| recent(repairs) >= TOLD);
        told.map(|(&key, repairs)| (key, repairs.found)).collect()
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
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        for _ in 0..=FIGHT {
            contention.on_repair(key(), None, start);
        }
        let other: Ipv4Net = "10.1.5.0/24".parse().expect("a CIDR");
        assert!(contention.is_left_alone(key(), after(59)));
        assert!(!contention.is_left_alone(key(), after(60)));
        assert!(!contention.is_left_alone(other, start));
        assert!((61..71).all(|at| !contention.on_repair(key(), None, after(at))), "it starts anew");
        assert!(contention.on_repair(key(), None, after(71)), "and ends the same");
    }

    #[test]
    fn a_sync_every_minute_is_told_and_forgotten() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let found = Some(VtepValue::new([2; 6].into(), [10, 9, 9, 9].into()));
        let mut contention = Contention::default();
        for (at, told) in [(0, false), (60, false), (120, true), (180, true)] {
            assert!(!contention.on_repair(key(), found, after(at)));
            assert_eq!(!contention.contended(after(at)).is_empty(), told, "after {at} s");
        }
        assert_eq!(contention.contended(after(180)), [(key(), found)].into());
        assert!(contention.contended(after(420)).is_empty());
        assert!(contention.left_alone(after(180)).is_empty());
    }
}
