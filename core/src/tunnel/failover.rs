//! Failovers: another unit has taken over the addresses of a BIG-IP. A function of claims, answers and `now`.
//!
//! A failover is an event and no cause: what is wrong afterwards has a cause of its own. It shows by up to three changes within seconds: the
//! MAC of the tunnel, the MAC of the endpoint on the underlay, and the endpoint that the self IP is behind.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::owners::{Owner, Owners};
use crate::types::mac::Mac;

/// Another owner has taken over once this many claims in a row are its own. Two units that answer in turn never have as many.
const CLAIMS: usize = 3;
/// Changes within this time are one failover. It is reported once this time is over, when the probes have shown how long they were lost.
pub const GROUP: Duration = Duration::from_secs(5);
/// A loss that ended within this time before the change belongs to the failover.
const LOSS_BEFORE: Duration = Duration::from_secs(10);
/// The last failovers that are kept.
const KEPT: usize = 8;

/// What another unit has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Takeover {
    /// The tunnel answers with another MAC.
    TunnelMac { from: Mac, to: Mac },
    /// The frames of the endpoint come from another MAC on the underlay.
    UnderlayMac { from: Mac, to: Mac },
    /// The self IP is behind the endpoint of another VTEP.
    SelfIp { self_ip: Ipv4Addr, from: Ipv4Addr, to: Ipv4Addr },
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TunnelMac { from, to } => write!(f, "tunnel MAC {from} → {to}"),
            Self::UnderlayMac { from, to } => write!(f, "underlay MAC {from} → {to}"),
            Self::SelfIp { self_ip, from, to } => write!(
                f,
                "self IP {self_ip} moved from {from} to {to}, the endpoint of another VTEP: a CIDR has one endpoint, so each BIG-IP needs a \
                 CIDR of its own, or the pair one floating endpoint"
            ),
        }
    }
}

/// One failover of a BIG-IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// When the first change was noticed.
    pub at: Instant,
    pub changes: Vec<Takeover>,
    /// How long the pings through the tunnel were unanswered; zero if none was lost. `None` while they still are.
    pub lost: Option<Duration>,
}

impl Failover {
    /// The changes, in words.
    #[must_use]
    pub fn what(&self) -> String {
        self.changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The failovers of one VTEP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failovers {
    /// Since the agent's start.
    pub total: u64,
    /// The last ones, oldest first.
    pub recent: VecDeque<Failover>,
    self_ip_owner: Option<Owner>,
    endpoint_owner: Option<Owner>,
    answers: Answers,
}

/// The answers to pings through the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    /// The last one, and the count of losses at that time.
    last: Option<(Instant, u64)>,
    /// The end and the length of the last loss.
    loss: Option<(Instant, Duration)>,
}

impl Failovers {
    /// The failovers of a VTEP whose configuration has changed: what is known of the units begins anew.
    #[must_use]
    pub fn carried_over(self) -> Self {
        Self { total: self.total, recent: self.recent, ..Self::default() }
    }

    /// A ping through the tunnel was answered; since the start, `lost` were not.
    pub fn on_echo(&mut self, lost: u64, now: Instant) {
        if let Some((last, lost_before)) = self.answers.last.replace((now, lost))
            && lost > lost_before
        {
            self.answers.loss = Some((now, now.saturating_duration_since(last)));
        }
        let loss = self.answers.loss;
        // Pings that were lost in the time before the change was noticed, or after.
        let belongs = |at: Instant| loss.filter(|(end, _)| *end + LOSS_BEFORE >= at).map(|(_, length)| length);
        if let Some(open) = self.recent.back_mut().filter(|failover| failover.lost.is_none()) {
            open.lost = Some(belongs(open.at).unwrap_or_default());
        } else if let Some(last) = self.recent.back_mut().filter(|last| now < last.at + GROUP) {
            last.lost = last.lost.max(belongs(last.at));
        }
    }

    /// Follows the owners of the self IP and of the endpoint's address. `endpoints`: the endpoints of all VTEPs. Returns true if there is a
    /// change.
    pub fn follow(
        &mut self,
        self_ip: Option<Ipv4Addr>,
        self_ip_owners: &Owners,
        endpoint_owners: &Owners,
        endpoints: &BTreeSet<Ipv4Addr>,
        now: Instant,
    ) -> bool {
        let is_known = |owner: &Owner| endpoints.contains(&owner.source);
        let inside = changed(&mut self.self_ip_owner, self_ip_owners, is_known).and_then(|(from, to)| {
            if from.source == to.source {
                return Some(Takeover::TunnelMac { from: from.mac, to: to.mac });
            }
            self_ip.map(|self_ip| Takeover::SelfIp { self_ip, from: from.source, to: to.source })
        });
        let outside = changed(&mut self.endpoint_owner, endpoint_owners, is_known)
            .map(|(from, to)| Takeover::UnderlayMac { from: from.mac, to: to.mac });
        let changes: Vec<_> = [inside, outside].into_iter().flatten().collect();
        if changes.is_empty() {
            return false;
        }
        match self.recent.back_mut().filter(|last| now < last.at + GROUP) {
            Some(last) => last.changes.extend(changes),
            None => {
                if self.recent.len() == KEPT {
                    self.recent.pop_front();
                }
                self.recent.push_back(Failover { at: now, changes, lost: None });
                self.total += 1;
            }
        }
        true
    }
}

/// The owner before and the owner now, if another one has taken over.
fn changed(known: &mut Option<Owner>, owners: &Owners, is_known: impl Fn(&Owner) -> bool) -> Option<(Owner, Owner)> {
    if !owners.in_conflict().is_empty() {
        return None;
    }
    let Some(before) = *known else {
        *known = owners.newest().filter(is_known);
        return None;
    };
    let owner = owners.of_last(CLAIMS).filter(|owner| is_known(owner) && *owner != before)?;
    *known = Some(owner);
    Some((before, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 34);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 36);
    const SELF_IP: Ipv4Addr = Ipv4Addr::new(10, 1, 6, 34);

    fn mac(n: u8) -> Mac {
        [2, 0, 0, 0, 0, n].into()
    }

    /// The claims of the self IP, one a second: a letter is a MAC, and an upper-case one comes from the endpoint of another VTEP, a digit from a
    /// source that is none. Returns the failovers in words.
    fn run(script: &str) -> Vec<String> {
        let start = Instant::now();
        let (mut failovers, mut owners) = (Failovers::default(), Owners::default());
        for (second, claim) in (0..).zip(script.bytes()) {
            let now = start + Duration::from_secs(second);
            let source = match claim {
                b'A'..=b'Z' => OTHER,
                b'0'..=b'9' => [192, 0, 2, 1].into(),
                _ => ENDPOINT,
            };
            if claim != b'.' {
                owners.on_claim(Owner { mac: mac(claim.to_ascii_lowercase()), source }, now);
            }
            owners.on_time(now);
            failovers.follow(Some(SELF_IP), &owners, &Owners::default(), &[ENDPOINT, OTHER].into(), now);
        }
        assert_eq!(failovers.total as usize, failovers.recent.len());
        failovers.recent.iter().map(Failover::what).collect()
    }

    #[test]
    fn three_claims_in_a_row_are_a_failover() {
        let (a, b) = (mac(b'a'), mac(b'b'));
        let there = format!("tunnel MAC {a} → {b}");
        let back = format!("tunnel MAC {b} → {a}");
        for (script, expected) in [
            ("aaaaaaaaaaaa", vec![]),
            ("aaab", vec![]),
            ("aaabb", vec![]),
            ("aaabbb", vec![there.clone()]),
            ("aaabaaa", vec![]),
            ("aaa................bbb", vec![there.clone()]),
            ("aaabbbbbbbbbbaaa", vec![there, back]),
            ("abababababababababab", vec![]),
            ("aaa111111", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(run(script), expected, "{script}");
        }
    }

    #[test]
    fn a_self_ip_that_moves_is_told_with_both_endpoints() {
        let [told] = run("aaaaBBBB").try_into().expect("one failover");
        assert!(told.starts_with(&format!("self IP {SELF_IP} moved from {ENDPOINT} to {OTHER}")), "{told}");
    }

    #[test]
    fn changes_on_both_networks_are_one_failover_with_its_loss() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut failovers = Failovers::default();
        let (mut inside, mut outside) = (Owners::default(), Owners::default());
        let mut follow = |failovers: &mut Failovers, ms: u64, n: u8, is_inside: bool| {
            let owner = Owner { mac: mac(n), source: ENDPOINT };
            if is_inside { &mut inside } else { &mut outside }.on_claim(owner, at(ms));
            failovers.follow(Some(SELF_IP), &inside, &outside, &[ENDPOINT].into(), at(ms))
        };
        failovers.on_echo(0, at(0));
        assert!(!follow(&mut failovers, 0, 1, true) && !follow(&mut failovers, 0, 11, false));
        for ms in [1000, 1200] {
            assert!(!follow(&mut failovers, ms, 2, true));
        }
        assert!(follow(&mut failovers, 1400, 2, true));
        assert_eq!(failovers.recent[0].lost, None, "no ping was answered since");
        failovers.on_echo(1, at(1500));
        assert_eq!(failovers.recent[0].lost, Some(Duration::from_millis(1500)));
        let changes = [2000, 3000, 4000].map(|ms| follow(&mut failovers, ms, 12, false));
        assert_eq!((changes, failovers.total), ([false, false, true], 1));
        let what = format!("tunnel MAC {} → {}, underlay MAC {} → {}", mac(1), mac(2), mac(11), mac(12));
        assert_eq!(failovers.recent[0].what(), what);
        failovers.on_echo(1, at(5000));
        assert_eq!(failovers.recent[0].lost, Some(Duration::from_millis(1500)), "nothing more was lost");
    }

    #[test]
    fn without_a_lost_ping_there_is_no_loss() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut failovers, mut owners) = (Failovers::default(), Owners::default());
        for (n, ms) in [(1, 0), (2, 1000), (2, 1200), (2, 1400)] {
            owners.on_claim(Owner { mac: mac(n), source: ENDPOINT }, at(ms));
            failovers.on_echo(7, at(ms));
            failovers.follow(Some(SELF_IP), &owners, &Owners::default(), &[ENDPOINT].into(), at(ms));
        }
        failovers.on_echo(7, at(2000));
        assert_eq!((failovers.total, failovers.recent[0].lost), (1, Some(Duration::ZERO)));
        assert_eq!(failovers.clone().carried_over().recent, failovers.recent);
    }
}
