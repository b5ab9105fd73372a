//! Who else writes an entry. Some repairs of one key in a row are told, until the entry was left in peace for a minute. More than ten
//! within a minute are a fight, and a fight is left alone for a minute.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::abi::VtepValue;

/// So many repairs, none long after the one before, are no accident.
const TOLD: usize = 3;
/// An entry that was as wanted for so long is contended no more.
const PEACE: Duration = Duration::from_secs(60);
/// Repairs that came at least so far apart may be Cilium's sync, one a minute.
const SYNC_AT_LEAST: Duration = Duration::from_secs(45);
/// The sync is sometimes late: peace takes so long where repairs came as it comes. Repairs farther apart have nothing in common.
const SYNC_AT_MOST: Duration = Duration::from_secs(75);
const FIGHT: usize = 10;
const FIGHT_WINDOW: Duration = Duration::from_secs(60);
/// More repairs than any rule here looks back to.
const KEPT: usize = 16;

/// The repairs of the last minutes, per key.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    repairs: BTreeMap<Ipv4Net, Repairs>,
    /// Until when.
    left_alone: BTreeMap<Ipv4Net, Instant>,
}

#[derive(Clone, Debug)]
struct Repairs {
    at: VecDeque<Instant>,
    /// What somebody else had put there the last time; `None` where it had been deleted.
    found: Option<VtepValue>,
    /// When the entry last differed from what is wanted: repaired then, or left alone.
    disturbed: Instant,
}

/// An entry that somebody else keeps writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contended {
    /// What had been put there last; `None` where it had been deleted.
    pub found: Option<VtepValue>,
    /// When that was put right last.
    pub repaired: Instant,
}

impl Repairs {
    fn new(now: Instant) -> Self {
        Self { at: VecDeque::new(), found: None, disturbed: now }
    }

    /// How long the entry must be as wanted until this is over. Cilium writes values and deletes none.
    fn peace(&self) -> Duration {
        let gaps = self.at.iter().zip(self.at.iter().skip(1)).map(|(a, b)| b.saturating_duration_since(*a));
        let syncs = self.found.is_some() && gaps.max().is_some_and(|gap| gap >= SYNC_AT_LEAST);
        if syncs { SYNC_AT_MOST } else { PEACE }
    }

    fn is_contended(&self, now: Instant) -> bool {
        self.at.len() >= TOLD && now.saturating_duration_since(self.disturbed) < self.peace()
    }
}

impl Contention {
    /// Counts a repair of a key that held `found`, or nothing. True when this one is one too many: from now on the key is left alone.
    pub fn on_repair(&mut self, key: Ipv4Net, found: Option<VtepValue>, now: Instant) -> bool {
        self.forget(now);
        let repairs = self.repairs.entry(key).or_insert_with(|| Repairs::new(now));
        if repairs.at.len() == KEPT {
            repairs.at.pop_front();
        }
        repairs.at.push_back(now);
        repairs.found = found;
        repairs.disturbed = now;
        let last = self.left_alone.get(&key).copied();
        // Those before the key was left alone have been counted.
        let counts = |at: &&Instant| now.duration_since(**at) < FIGHT_WINDOW && last.is_none_or(|last| **at >= last);
        let fight = repairs.at.iter().filter(counts).count() > FIGHT;
        if fight {
            self.left_alone.insert(key, now + FIGHT_WINDOW);
        }
        fight
    }

    /// What is over no longer counts, and takes no memory. Two repairs do not prove anything yet: a third may come with the next sync.
    fn forget(&mut self, now: Instant) {
        self.repairs.retain(|_, repairs| {
            let patience = if repairs.at.len() >= TOLD { repairs.peace() } else { SYNC_AT_MOST };
            now.saturating_duration_since(repairs.disturbed) < patience
        });
        self.left_alone.retain(|_, until| now.saturating_duration_since(*until) < FIGHT_WINDOW);
    }

    /// Whether the key, whose entry differs now, is to be left alone: then this is no peace.
    pub fn holds_back(&mut self, key: Ipv4Net, now: Instant) -> bool {
        let held = self.is_left_alone(key, now);
        if let (true, Some(repairs)) = (held, self.repairs.get_mut(&key)) {
            repairs.disturbed = now;
        }
        held
    }

    /// The minute of this key is not over.
    fn is_left_alone(&self, key: Ipv4Net, now: Instant) -> bool {
        self.left_alone.get(&key).is_some_and(|until| now < *until)
    }

    /// The keys left alone now.
    #[must_use]
    pub fn left_alone(&self, now: Instant) -> BTreeSet<Ipv4Net> {
        self.left_alone.keys().copied().filter(|key| self.is_left_alone(*key, now)).collect()
    }

    /// The keys that somebody else keeps writing.
    #[must_use]
    pub fn contended(&self, now: Instant) -> BTreeMap<Ipv4Net, Contended> {
        let told = self.repairs.iter().filter(|(_, repairs)| repairs.is_contended(now));
        let last = |repairs: &Repairs| repairs.at.back().copied().unwrap_or(repairs.disturbed);
        told.map(|(&key, repairs)| (key, Contended { found: repairs.found, repaired: last(repairs) })).collect()
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
        assert_eq!(contention.contended(after(180)), [(key(), Contended { found, repaired: after(180) })].into());
        assert!(!contention.contended(after(254)).is_empty(), "the next sync may be late");
        assert!(contention.contended(after(255)).is_empty());
        assert!(contention.left_alone(after(180)).is_empty());
    }

    #[test]
    fn a_minute_of_peace_ends_what_a_hand_did() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        assert!((0..10).all(|at| !contention.on_repair(key(), None, after(at))));
        assert!(!contention.contended(after(68)).is_empty());
        assert!(contention.contended(after(69)).is_empty(), "a minute after the last of ten deletions");
        contention.on_repair(key(), None, after(70));
        assert!(contention.contended(after(70)).is_empty(), "one more, later, is one");
    }

    /// Left alone is no peace while the entry differs, and peace where it does not.
    #[test]
    fn a_fight_is_over_when_the_entry_stays_right() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        for _ in 0..=FIGHT {
            contention.on_repair(key(), None, start);
        }
        let mut fought = contention.clone();
        assert!((1..60).all(|at| fought.holds_back(key(), after(at))));
        assert!(!fought.holds_back(key(), after(60)));
        assert!(!fought.contended(after(118)).is_empty());
        assert!(fought.contended(after(119)).is_empty());
        assert!(contention.contended(after(60)).is_empty());
    }
}
