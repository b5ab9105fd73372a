//! Who claims an address: one owner, or two that send in turn. A function of events and of `now`.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::types::mac::Mac;

/// Older claims do not count.
const WINDOW: Duration = Duration::from_secs(15);
/// Claims of one owner this close to each other are one.
const SPACING: Duration = Duration::from_millis(100);
/// Two owners claim the address at the same time if the MAC changes this often within the window. A failover changes it once, and one that is
/// taken back twice.
const MIN_CHANGES: usize = 4;
/// Changes closer to each other are one: around a failover, the order of claims may be known wrongly.
const APART: Duration = Duration::from_millis(800);
/// How many claims are kept: enough for several rounds at the fastest pace.
const LIMIT: usize = 32;

/// A sender that claims the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub mac: Mac,
    /// The outer source of its frames.
    pub source: Ipv4Addr,
}

/// The claims within the window, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    claims: Vec<(Instant, Owner)>,
}

impl Owners {
    /// `owner` sent a frame in which the address is its own. Frames that the tap reports come a second late.
    pub fn on_claim(&mut self, owner: Owner, at: Instant) {
        let is_known = |(known_at, known): &(Instant, Owner)| {
            *known == owner && known_at.max(&at).saturating_duration_since(*known_at.min(&at)) < SPACING
        };
        if self.claims.iter().any(is_known) {
            return;
        }
        let place = self.claims.partition_point(|(known_at, _)| *known_at <= at);
        self.claims.insert(place, (at, owner));
        if self.claims.len() > LIMIT {
            self.claims.remove(self.dispensable());
        }
    }

    /// The place of the claim that tells least: the oldest between two of its own MAC, and otherwise the oldest of all. A flood of claims with
    /// one MAC, from whatever sources, is thus kept as its first and its last, and pushes out no claim of another MAC.
    fn dispensable(&self) -> usize {
        let is_between = |claims: &[(Instant, Owner)]| match claims {
            [(_, before), (_, claim), (_, after)] => before.mac == claim.mac && claim.mac == after.mac,
            _ => false,
        };
        self.claims.windows(3).position(is_between).map_or(0, |before| before + 1)
    }

    pub fn on_time(&mut self, now: Instant) {
        self.claims.retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
    }

    /// At most one owner is known.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.claims.windows(2).all(|pair| matches!(pair, [(_, a), (_, b)] if a.mac == b.mac))
    }

    /// The owner of the last claim.
    #[must_use]
    pub fn newest(&self) -> Option<Owner> {
        self.claims.last().map(|(_, owner)| *owner)
    }

    /// Another MAC has claimed the address since then.
    #[must_use]
    pub fn others_since(&self, mac: Mac, since: Instant) -> bool {
        self.claims.iter().any(|(at, owner)| *at >= since && owner.mac != mac)
    }

    /// The owner of the last claims, if `count` in a row are its own.
    #[must_use]
    pub fn of_last(&self, count: usize) -> Option<Owner> {
        let owner = self.newest()?;
        let own = self.claims.iter().rev().take_while(|(_, claimed)| *claimed == owner).count();
        (own >= count).then_some(owner)
    }

    fn changes(&self) -> usize {
        let (mut changes, mut last) = (0, None);
        for pair in self.claims.windows(2) {
            let [(_, before), (at, after)] = pair else { continue };
            let is_apart = last.is_none_or(|last| at.saturating_duration_since(last) >= APART);
            if before.mac != after.mac && is_apart {
                (changes, last) = (changes + 1, Some(*at));
            }
        }
        changes
    }

    /// The owners with different MACs that claim the address in turn, one for each MAC; empty if there is no conflict.
    #[must_use]
    pub fn in_conflict(&self) -> Vec<Owner> {
        if self.changes() < MIN_CHANGES {
            return Vec::new();
        }
        // Another node may forward frames of one owner: its own source is the one seen most.
        let owners: BTreeSet<_> = self.claims.iter().map(|(_, owner)| *owner).collect();
        let count = |owner: &Owner| self.claims.iter().filter(|(_, known)| known == owner).count();
        let macs: BTreeSet<_> = owners.iter().map(|owner| owner.mac).collect();
        let of = |mac: Mac| owners.iter().filter(|owner| owner.mac == mac).max_by_key(|owner| count(owner)).copied();
        macs.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(n: u8) -> Owner {
        Owner { mac: [2, 0, 0, 0, 0, n].into(), source: [10, 169, 72, n].into() }
    }

    /// One claim a second. Letters are owners.
    fn claims(script: &str) -> Owners {
        let start = Instant::now();
        let mut owners = Owners::default();
        for (second, letter) in (0..).zip(script.bytes()) {
            owners.on_claim(owner(letter), start + Duration::from_secs(second));
        }
        owners
    }

    #[test]
    fn two_owners_send_in_turn() {
        for (script, conflict) in [
            ("", false),
            ("aaaaaa", false),
            ("aaabbb", false),
            ("aabbbaab", false),
            ("ababa", true),
            ("aaaabaaaabaa", true),
        ] {
            let found = claims(script).in_conflict();
            assert_eq!(found, if conflict { vec![owner(b'a'), owner(b'b')] } else { vec![] }, "{script}");
        }
        assert!(claims("aaa").is_one() && claims("").is_one() && !claims("aab").is_one());
    }

    /// A busy node learns of claims late, and in the wrong order.
    #[test]
    fn a_failover_with_claims_out_of_order_is_no_conflict() {
        let start = Instant::now();
        let mut owners = Owners::default();
        for (ms, n) in [(0, 1), (1000, 1), (1900, 2), (2000, 1), (2200, 2), (3200, 2), (5000, 1), (5300, 2), (5500, 1)]
        {
            owners.on_claim(owner(n), start + Duration::from_millis(ms));
        }
        assert!(owners.in_conflict().is_empty(), "{owners:?}");
    }

    #[test]
    fn frames_that_another_node_forwards_are_no_conflict() {
        let start = Instant::now();
        let mut owners = Owners::default();
        for second in 0..10 {
            let at = start + Duration::from_secs(second);
            owners.on_claim(owner(1), at);
            owners.on_claim(Owner { source: [10, 169, 72, 240].into(), ..owner(1) }, at);
        }
        assert!(owners.in_conflict().is_empty() && owners.is_one());
    }

    /// Whoever sends forged frames chooses their outer sources.
    #[test]
    fn a_flood_from_many_sources_pushes_out_no_claim_of_another_mac() {
        let start = Instant::now();
        let mut owners = Owners::default();
        for second in 0..10 {
            let at = start + Duration::from_secs(second);
            owners.on_claim(owner(1), at);
            (0..100).for_each(|n| owners.on_claim(Owner { source: [192, 0, 2, n].into(), ..owner(2) }, at));
            assert!(owners.others_since(owner(2).mac, at), "{second}: {owners:?}");
            assert!(owners.claims.len() <= LIMIT);
        }
        let macs: Vec<_> = owners.in_conflict().iter().map(|owner| owner.mac).collect();
        assert_eq!(macs, [owner(1).mac, owner(2).mac]);
    }

    #[test]
    fn a_claim_counts_once_at_its_time_and_for_a_while() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut owners = Owners::default();
        [0, 1000, 2000, 3000, 4000].into_iter().for_each(|ms| owners.on_claim(owner(1), at(ms)));
        // The tap reports these late, and each of them twice, with another rounding.
        [500, 501, 1500, 1499, 2500, 3500].into_iter().for_each(|ms| owners.on_claim(owner(2), at(ms)));
        assert_eq!(owners.claims.len(), 9);
        assert_eq!(owners.in_conflict(), [owner(1), owner(2)]);
        owners.on_time(at(3500) + WINDOW);
        assert!(owners.in_conflict().is_empty());
        (0..1000).for_each(|ms| owners.on_claim(owner(1), at(1000 * ms)));
        assert_eq!(owners.claims.len(), LIMIT);
    }
}
