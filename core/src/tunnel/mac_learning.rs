//! Which MAC the entry of a VTEP has under `--mac learned`: the configured one, or the one that BIG-IP's tunnel answers ARP with. A function
//! of events and of `now`; what survives a restart has wall-clock times.
//!
//! After a failover, the same endpoint may answer with another MAC. The agent follows it only if nothing contradicts: otherwise a host on the
//! underlay that answers once would change the entry on every node. The configured MAC wins as soon as it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::owners::Owners;
use crate::{config::spec::Vtep, types::mac::Mac};

/// This many probes in a row must be answered with the new MAC.
const ANSWERS: u32 = 3;
/// The least time between two learned MACs.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The most learned MACs within an hour.
const MOST_IN_AN_HOUR: usize = 6;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// The tap records the MAC of the first frame in each tick of the kernel, so it may be this much older than the last frame.
const TICK: Duration = Duration::from_millis(20);

/// The VTEPs whose entries follow the MAC that answers: `--mac learned` and `--learn-mac`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnMacs {
    pub all: bool,
    pub cidrs: BTreeSet<Ipv4Net>,
}

impl LearnMacs {
    #[must_use]
    pub fn includes(&self, cidr: Ipv4Net) -> bool {
        self.all || self.cidrs.contains(&cidr)
    }
}

/// A MAC that takes the place of the configured one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedMac {
    pub endpoint: Ipv4Addr,
    /// The configured MAC whose place it takes. With another one in the configuration, it no longer applies.
    pub configured: Mac,
    pub mac: Mac,
    pub since: Timestamp,
}

/// VTEP CIDR → the MAC in the place of the configured one.
pub type LearnedMacs = BTreeMap<Ipv4Net, LearnedMac>;

impl LearnedMac {
    /// Whether it was learned for this VTEP as it is configured now.
    #[must_use]
    pub fn applies_to(&self, vtep: &Vtep) -> bool {
        (self.endpoint, self.configured) == (vtep.endpoint, vtep.mac)
    }
}

/// The MAC for the entry of this VTEP.
#[must_use]
pub fn mac_of(vtep: &Vtep, learned: &LearnedMacs) -> Mac {
    learned.get(&vtep.cidr).filter(|learned| learned.applies_to(vtep)).map_or(vtep.mac, |learned| learned.mac)
}

/// What a restarted agent must know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub learned: Option<LearnedMac>,
    /// When MACs were learned within the last hour, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<Timestamp>,
}

/// Why the entry does not follow a MAC that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotUnicast(Mac),
    /// A device of this node has it.
    Ours(Mac),
    /// BIG-IP's own frames come from another MAC than its ARP replies.
    OtherFrames {
        answered: Mac,
        seen: Mac,
    },
    /// Several MACs claim the self IP.
    Claimed(Mac),
    TooSoon(Mac),
    TooOften(Mac),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUnicast(mac) => write!(f, "{mac} is no unicast MAC"),
            Self::Ours(mac) => write!(f, "{mac} is the MAC of a device of this node"),
            Self::OtherFrames { answered, seen } => {
                write!(f, "ARP is answered with {answered}, but other frames of the tunnel come from {seen}")
            }
            Self::Claimed(mac) => write!(f, "not only {mac} claims the tunnel self IP"),
            Self::TooSoon(mac) => write!(f, "{mac} came less than {} s after the last change", PAUSE.as_secs()),
            Self::TooOften(mac) => {
                write!(
                    f,
                    "the MAC changed {MOST_IN_AN_HOUR} times within an hour: {mac} is not learned before the hour is over"
                )
            }
        }
    }
}

/// The MAC of one VTEP's entry over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacLearning {
    vtep: Vtep,
    /// `--mac learned`, for this VTEP.
    enabled: bool,
    record: Record,
    candidate: Option<Candidate>,
    refusal: Option<Refusal>,
}

/// Another MAC that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    mac: Mac,
    /// Answers in a row.
    answers: u32,
    since: Instant,
    last: Instant,
}

impl MacLearning {
    #[must_use]
    pub fn new(vtep: Vtep, enabled: bool, record: Record) -> Self {
        let is_for_this = record.learned.is_none_or(|learned| learned.applies_to(&vtep));
        let record = if enabled && is_for_this { record } else { Record::default() };
        Self { vtep, enabled, record, candidate: None, refusal: None }
    }

    /// The MAC for the entry.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.learned().map_or(self.vtep.mac, |learned| learned.mac)
    }

    #[must_use]
    pub fn learned(&self) -> Option<LearnedMac> {
        self.record.learned
    }

    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Why the entry does not follow the MAC that answers now.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// Switches learning on or off. Without it, the entry has the configured MAC.
    pub fn enable(&mut self, enabled: bool) {
        if self.enabled != enabled {
            *self = Self::new(self.vtep, enabled, Record::default());
        }
    }

    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The endpoint answered a probe with this MAC, through its tunnel and with VNI 2. Answers are in a row if each comes within `row` of the one
    /// before: otherwise a probe between them was lost.
    pub fn on_answer(&mut self, mac: Mac, row: Duration, now: Instant) {
        if !self.enabled {
            return;
        }
        if mac == self.vtep.mac {
            self.record.learned = None;
        }
        if mac == self.mac() {
            (self.candidate, self.refusal) = (None, None);
            return;
        }
        let is_next =
            |candidate: &Candidate| candidate.mac == mac && now.saturating_duration_since(candidate.last) <= row;
        let known = self.candidate.filter(is_next);
        let candidate = known.unwrap_or(Candidate { mac, answers: 0, since: now, last: now });
        self.candidate = Some(Candidate { answers: candidate.answers.saturating_add(1), last: now, ..candidate });
    }

    /// The newest frames of the endpoint's tunnel come from this MAC.
    pub fn on_frames(&mut self, mac: Mac, last_seen: Instant) {
        let Some(candidate) = self.candidate else { return };
        if candidate.mac != mac && last_seen > candidate.since + TICK {
            self.refusal = Some(Refusal::OtherFrames { answered: candidate.mac, seen: mac });
            self.candidate = None;
        }
    }

    /// Decides whether the entry follows the candidate. `ours`: the MACs of this node's devices. `claims`: who claims the self IP. Returns the
    /// MAC that was learned now.
    pub fn decide(&mut self, ours: &BTreeSet<Mac>, claims: &Owners, at: Timestamp) -> Option<LearnedMac> {
        let candidate = self.candidate.filter(|candidate| candidate.answers >= ANSWERS)?;
        self.record.changes.retain(|change| {
            let age = at.duration_since(*change);
            !age.is_negative() && age < HOUR
        });
        self.refusal = self.refuse(candidate, ours, claims, at);
        if self.refusal.is_some() {
            return None;
        }
        let Vtep { endpoint, mac: configured, .. } = self.vtep;
        let learned = LearnedMac { endpoint, configured, mac: candidate.mac, since: at };
        (self.record.learned, self.candidate) = (Some(learned), None);
        self.record.changes.push(at);
        Some(learned)
    }

    fn refuse(&self, candidate: Candidate, ours: &BTreeSet<Mac>, claims: &Owners, at: Timestamp) -> Option<Refusal> {
        let Candidate { mac, since, .. } = candidate;
        let is_claimed = claims.others_since(mac, since) || !claims.in_conflict().is_empty();
        let changes = &self.record.changes;
        let refusals = [
            (!mac.is_unicast(), Refusal::NotUnicast(mac)),
            (ours.contains(&mac), Refusal::Ours(mac)),
            (is_claimed, Refusal::Claimed(mac)),
            (changes.len() >= MOST_IN_AN_HOUR, Refusal::TooOften(mac)),
            (changes.last().is_some_and(|last| at.duration_since(*last) < PAUSE), Refusal::TooSoon(mac)),
        ];
        refusals.into_iter().find_map(|(holds, refusal)| holds.then_some(refusal))
    }
}

#[cfg(test)]
mod tests;
