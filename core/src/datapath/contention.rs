//! Detects entries that somebody else keeps overwriting. From the third repair in a row on, a key is contended, until its entry has been
//! correct for about a minute. After more than ten repairs within a minute, the agent backs off from the key for a minute, so that two
//! writers do not fight without end. A function of repairs and of `now`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::abi::VtepValue;

/// This many repairs in a row are contention, if each one comes soon after the one before.
const REPORTED_AFTER: usize = 3;
/// An entry that has been correct for this long is no longer contended.
const QUIET_PERIOD: Duration = Duration::from_secs(60);
/// Repairs at least this far apart may be caused by Cilium's sync, which runs once a minute.
const SYNC_AT_LEAST: Duration = Duration::from_secs(45);
/// Replaces `QUIET_PERIOD` if repairs come as far apart as the sync, because the sync is sometimes late. Repairs farther apart are
/// unrelated.
const SYNC_AT_MOST: Duration = Duration::from_secs(75);
/// More repairs than this within `CONFLICT_WINDOW` are a fight. The agent then backs off for as long.
const CONFLICT_REPAIRS: usize = 10;
const CONFLICT_WINDOW: Duration = Duration::from_secs(60);
/// Remembered repairs per key: more than any rule here counts.
const HISTORY: usize = 16;

/// The repairs of the last minutes, per key.
#[derive(Clone, Debug, Default)]
pub struct Contention {
    repairs: BTreeMap<Ipv4Net, Repairs>,
    /// The keys that the agent backs off from, each with the end of that time.
    backed_off: BTreeMap<Ipv4Net, Instant>,
    made_good: BTreeMap<Ipv4Net, MadeGood>,
}

/// The times that the agent put a learned MAC back, since the start.
#[derive(Clone, Copy, Debug)]
struct MadeGood {
    count: u64,
    last: Instant,
}

#[derive(Clone, Debug)]
struct Repairs {
    at: VecDeque<Instant>,
    /// The value that somebody else last wrote; `None` if the entry was deleted.
    found: Option<VtepValue>,
    /// When the entry last differed from the desired value, whether it was repaired or not.
    disturbed: Instant,
}

/// An entry that somebody else keeps writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contended {
    /// The value that somebody else last wrote; `None` if the entry was deleted.
    pub found: Option<VtepValue>,
    /// The time of the last repair.
    pub repaired: Instant,
    /// If somebody writes a value as often as Cilium's sync does: the time of the first of the last three repairs.
    pub minutely_since: Option<Instant>,
}

impl Repairs {
    fn new(now: Instant) -> Self {
        Self { at: VecDeque::new(), found: None, disturbed: now }
    }

    /// How long the entry must be correct until the contention is over. Cilium's sync writes values and deletes none, so it explains no
    /// deletion.
    fn peace(&self) -> Duration {
        let gaps = self.at.iter().zip(self.at.iter().skip(1)).map(|(a, b)| b.saturating_duration_since(*a));
        let syncs = self.found.is_some() && gaps.max().is_some_and(|gap| gap >= SYNC_AT_LEAST);
        if syncs { SYNC_AT_MOST } else { QUIET_PERIOD }
    }

    /// The time of the first of the last repairs, if each came as long after the one before as Cilium's sync.
    fn minutely_since(&self) -> Option<Instant> {
        self.found?;
        let mut last = self.at.iter().rev().take(REPORTED_AFTER).copied();
        let mut first = last.next().filter(|_| self.at.len() >= REPORTED_AFTER)?;
        for at in last {
            first = Some(at).filter(|at| first.saturating_duration_since(*at) >= SYNC_AT_LEAST)?;
        }
        Some(first)
    }

    fn is_contended(&self, now: Instant) -> bool {
        self.at.len() >= REPORTED_AFTER && now.saturating_duration_since(self.disturbed) < self.peace()
    }
}

impl Contention {
    /// Counts a repair of a key whose entry was `found`, or deleted. Returns true if this repair is one too many: the agent then backs off.
    pub fn on_repair(&mut self, key: Ipv4Net, found: Option<VtepValue>, now: Instant) -> bool {
        self.forget(now);
        let repairs = self.repairs.entry(key).or_insert_with(|| Repairs::new(now));
        if repairs.at.len() == HISTORY {
            repairs.at.pop_front();
        }
        repairs.at.push_back(now);
        repairs.found = found;
        repairs.disturbed = now;
        let last = self.backed_off.get(&key).copied();
        // Only repairs since the end of the last back-off count.
        let counts = |at: &&Instant| now.duration_since(**at) < CONFLICT_WINDOW && last.is_none_or(|last| **at >= last);
        let fight = repairs.at.iter().filter(counts).count() > CONFLICT_REPAIRS;
        if fight {
            self.backed_off.insert(key, now + CONFLICT_WINDOW);
        }
        fight
    }

    /// Counts that somebody wrote the configured MAC over a learned one. Returns false if that comes sooner than with Cilium's sync: then it is
    /// a repair like any other.
    pub fn makes_good(&mut self, key: Ipv4Net, now: Instant) -> bool {
        let is_sync = |made: &MadeGood| now.saturating_duration_since(made.last) >= SYNC_AT_LEAST;
        let before = self.made_good.get(&key).copied();
        if before.as_ref().is_some_and(|made| !is_sync(made)) {
            return false;
        }
        self.made_good.insert(key, MadeGood { count: before.map_or(1, |made| made.count + 1), last: now });
        true
    }

    /// How often the agent put a learned MAC back, per key.
    #[must_use]
    pub fn made_good(&self) -> BTreeMap<Ipv4Net, u64> {
        self.made_good.iter().map(|(key, made)| (*key, made.count)).collect()
    }

    /// The configuration has another value for this key: whoever wrote over the old one may not touch the new one.
    pub fn forget_key(&mut self, key: Ipv4Net) {
        self.repairs.remove(&key);
        self.backed_off.remove(&key);
    }

    /// Removes ended contention, which bounds memory. One or two repairs are not contention, but a third may come with the next sync.
    fn forget(&mut self, now: Instant) {
        self.repairs.retain(|_, repairs| {
            let memory = if repairs.at.len() >= REPORTED_AFTER { repairs.peace() } else { SYNC_AT_MOST };
            now.saturating_duration_since(repairs.disturbed) < memory
        });
        self.backed_off.retain(|_, until| now.saturating_duration_since(*until) < CONFLICT_WINDOW);
    }

    /// Whether the agent backs off from this key, whose entry differs now. If so, the entry is not yet left in peace.
    pub fn holds_back(&mut self, key: Ipv4Net, now: Instant) -> bool {
        let held = self.is_backed_off(key, now);
        if let (true, Some(repairs)) = (held, self.repairs.get_mut(&key)) {
            repairs.disturbed = now;
        }
        held
    }

    /// Whether the agent still backs off from this key.
    fn is_backed_off(&self, key: Ipv4Net, now: Instant) -> bool {
        self.backed_off.get(&key).is_some_and(|until| now < *until)
    }

    /// The keys that the agent backs off from now.
    #[must_use]
    pub fn backed_off(&self, now: Instant) -> BTreeSet<Ipv4Net> {
        self.backed_off.keys().copied().filter(|key| self.is_backed_off(*key, now)).collect()
    }

    /// The keys that somebody else keeps writing.
    #[must_use]
    pub fn contended(&self, now: Instant) -> BTreeMap<Ipv4Net, Contended> {
        let contended = self.repairs.iter().filter(|(_, repairs)| repairs.is_contended(now));
        let of = |repairs: &Repairs| Contended {
            found: repairs.found,
            repaired: repairs.at.back().copied().unwrap_or(repairs.disturbed),
            minutely_since: repairs.minutely_since(),
        };
        contended.map(|(&key, repairs)| (key, of(repairs))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Ipv4Net {
        "10.1.6.0/24".parse().expect("a CIDR")
    }

    /// Repairs `count` times, `gap` apart; returns true if any repair was one too many.
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
    fn the_agent_backs_off_from_a_key_for_a_minute() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        for _ in 0..=CONFLICT_REPAIRS {
            contention.on_repair(key(), None, start);
        }
        let other: Ipv4Net = "10.1.5.0/24".parse().expect("a CIDR");
        let mut moved = contention.clone();
        moved.forget_key(key());
        assert!(!moved.is_backed_off(key(), after(1)) && moved.contended(after(1)).is_empty(), "another value");
        assert!(contention.is_backed_off(key(), after(59)));
        assert!(!contention.is_backed_off(key(), after(60)));
        assert!(!contention.is_backed_off(other, start));
        assert!((61..71).all(|at| !contention.on_repair(key(), None, after(at))), "it starts anew");
        assert!(contention.on_repair(key(), None, after(71)), "and ends the same");
    }

    #[test]
    fn a_sync_every_minute_is_told_and_forgotten() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let found = Some(VtepValue::new([2; 6].into(), [10, 9, 9, 9].into()));
        let mut contention = Contention::default();
        for (at, reported) in [(0, false), (60, false), (120, true), (180, true)] {
            assert!(!contention.on_repair(key(), found, after(at)));
            assert_eq!(!contention.contended(after(at)).is_empty(), reported, "after {at} s");
        }
        let contended = Contended { found, repaired: after(180), minutely_since: Some(after(60)) };
        assert_eq!(contention.contended(after(180)), [(key(), contended)].into());
        assert!(!contention.contended(after(254)).is_empty(), "the next sync may be late");
        assert!(contention.contended(after(255)).is_empty());
        assert!(contention.backed_off(after(180)).is_empty());
    }

    /// Only a writer whose last three repairs came a sync apart may be Cilium, and only if it writes a value.
    #[test]
    fn a_quick_writer_is_not_taken_for_the_sync() {
        let start = Instant::now();
        let found = Some(VtepValue::new([2; 6].into(), [10, 9, 9, 9].into()));
        let cases: [(&[u64], Option<VtepValue>, Option<u64>); 6] = [
            (&[0, 60, 120], found, Some(0)),
            (&[0, 60, 120], None, None),
            (&[0, 7, 14], found, None),
            (&[0, 60, 61], found, None),
            (&[0, 1, 46, 106], found, Some(1)),
            (&[0, 74, 148], found, Some(0)),
        ];
        for (at, found, since) in cases {
            let mut contention = Contention::default();
            at.iter().for_each(|at| _ = contention.on_repair(key(), found, start + Duration::from_secs(*at)));
            let now = start + Duration::from_secs(at[at.len() - 1]);
            let contended = contention.contended(now)[&key()];
            assert_eq!(contended.minutely_since, since.map(|at| start + Duration::from_secs(at)), "{at:?}");
        }
    }

    #[test]
    fn what_the_sync_writes_over_a_learned_mac_is_made_good() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        assert!([0, 60, 120, 165].into_iter().all(|at| contention.makes_good(key(), after(at))));
        assert!([166, 170, 209].into_iter().all(|at| !contention.makes_good(key(), after(at))), "somebody else");
        assert!(contention.contended(after(209)).is_empty());
        assert_eq!(contention.made_good(), [(key(), 4)].into());
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

    /// A back-off ends the contention only if the entry does not differ meanwhile.
    #[test]
    fn a_fight_is_over_when_the_entry_stays_right() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut contention = Contention::default();
        for _ in 0..=CONFLICT_REPAIRS {
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
