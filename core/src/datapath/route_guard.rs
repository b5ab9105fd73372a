//! The dead man's switch: decides when to withdraw a change of routes because the node lost the API server after it. A function of probe
//! results and of `now`; the caller connects to the API server.
//!
//! The rules protect the networks that are known to be needed. This module protects the unknown ones. Corrections arrive through the API
//! server, so nobody could help a node that has lost it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::records::Refusal;
use crate::config::spec::Spec;

/// The API server is watched for this long after a change.
const WINDOW: Duration = Duration::from_secs(30);
/// The delay before the first probe. It is short, because the first answer proves the most.
const FIRST: Duration = Duration::from_millis(100);
/// The interval of the probes after the first.
const INTERVAL: Duration = Duration::from_secs(1);
/// After this many losses in a row, the change is withdrawn.
const LOSSES: u32 = 3;
/// This many refused connections count as one loss. An API server that restarts refuses connections for some seconds. A BIG-IP that
/// receives the packets meant for the API server may refuse them, too, so refusals cannot be ignored.
const REFUSALS: u32 = 8;
/// If the API server stays lost for this long after the withdrawal, the change was not the reason.
const PROBATION: Duration = Duration::from_secs(30);

/// The result of probing the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Answered,
    /// A host at its address refused the connection.
    Refused,
    Lost,
}

/// The consequence of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// The last change must be withdrawn.
    Withdraw,
    /// The withdrawn change may be added again.
    Restore,
}

/// The recent additions, and the refused ones.
#[derive(Clone, Debug, Default)]
pub struct RouteGuard {
    watched: Option<Watched>,
    refusal: Option<Refusal>,
    probation: Option<Probation>,
}

#[derive(Clone, Debug)]
struct Watched {
    cidrs: BTreeSet<Ipv4Net>,
    until: Instant,
    due: Instant,
    /// Counted in refusals.
    failures: u32,
}

/// The time after a withdrawal.
#[derive(Clone, Debug)]
struct Probation {
    cidrs: BTreeSet<Ipv4Net>,
    since: Instant,
    due: Instant,
}

impl RouteGuard {
    /// A refusal from before a restart remains.
    pub fn new(refusal: Option<Refusal>) -> Self {
        Self { refusal, ..Self::default() }
    }

    /// Ends the refusal if the configuration differs, because its routes may be harmless. Changes to keys that VTEPs do not depend on have
    /// no effect.
    pub fn on_config(&mut self, good: &Spec) {
        self.refusal.take_if(|refusal| refusal.spec != *good);
    }

    /// Routes or rules for these CIDRs were added while the API server was reachable. Earlier additions are therefore not the reason for a
    /// later loss.
    pub fn on_added(&mut self, cidrs: BTreeSet<Ipv4Net>, now: Instant) {
        self.watched = Some(Watched { cidrs, until: now + WINDOW, due: now + FIRST, failures: 0 });
    }

    /// When to probe the API server next, if it is watched.
    pub fn due(&self) -> Option<Instant> {
        let watched = self.watched.as_ref().map(|watched| watched.due);
        watched.or(self.probation.as_ref().map(|probation| probation.due))
    }

    /// The additions that are not proven harmless yet.
    pub fn on_trial(&self) -> Option<&BTreeSet<Ipv4Net>> {
        self.watched.as_ref().map(|watched| &watched.cidrs)
    }

    /// Evaluates a probe. `good` is the configuration that a refusal would be recorded with.
    pub fn on_probe(&mut self, reach: Reach, good: &Spec, now: Instant) -> Outcome {
        let Some(watched) = &mut self.watched else { return self.on_probation(reach, now) };
        watched.due = now + INTERVAL;
        watched.failures = match reach {
            Reach::Answered => 0,
            Reach::Refused => watched.failures + 1,
            Reach::Lost => watched.failures + REFUSALS,
        };
        if watched.failures >= LOSSES * REFUSALS {
            self.withdraw(good, now);
            return Outcome::Withdraw;
        }
        // A loss that began within the window is watched to its end.
        if now >= watched.until && watched.failures == 0 {
            self.watched = None;
        }
        Outcome::Nothing
    }

    fn withdraw(&mut self, good: &Spec, now: Instant) {
        let cidrs = self.watched.take().map(|watched| watched.cidrs).unwrap_or_default();
        let before = self.refusal.take().filter(|refusal| refusal.spec == *good);
        let before = before.map(|refusal| refusal.cidrs).unwrap_or_default();
        self.refusal = Some(Refusal { cidrs: &before | &cidrs, spec: good.clone() });
        self.probation = Some(Probation { cidrs, since: now, due: now + INTERVAL });
    }

    /// If the API server comes back soon after the withdrawal, the routes had cut it off. If it stays lost for longer, the loss has another
    /// reason.
    fn on_probation(&mut self, reach: Reach, now: Instant) -> Outcome {
        let Some(probation) = &mut self.probation else { return Outcome::Nothing };
        probation.due = now + INTERVAL;
        if reach != Reach::Answered {
            return Outcome::Nothing;
        }
        let innocent = now.duration_since(probation.since) >= PROBATION;
        let cidrs = self.probation.take().map(|probation| probation.cidrs).unwrap_or_default();
        if !innocent {
            return Outcome::Nothing;
        }
        if let Some(refusal) = &mut self.refusal {
            refusal.cidrs = &refusal.cidrs - &cidrs;
        }
        self.refusal.take_if(|refusal| refusal.cidrs.is_empty());
        Outcome::Restore
    }

    /// VTEPs whose routes and rules were withdrawn, until the configuration changes.
    pub fn refused(&self) -> BTreeSet<Ipv4Net> {
        self.refusal.as_ref().map(|refusal| refusal.cidrs.clone()).unwrap_or_default()
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(n: u8) -> Spec {
        let mask = Some([255, 255, 255, n].into());
        Spec { enabled: true, vteps: Vec::new(), mask, tunnel: Default::default() }
    }

    fn cidrs(n: u8) -> BTreeSet<Ipv4Net> {
        [Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length")].into()
    }

    /// Probes when due; `+` answers, `r` refuses, `-` is lost. Returns all outcomes other than nothing.
    fn run(guard: &mut RouteGuard, script: &str) -> Vec<Outcome> {
        let outcome = |answer| {
            let reach = match answer {
                '+' => Reach::Answered,
                'r' => Reach::Refused,
                _ => Reach::Lost,
            };
            guard.due().map_or(Outcome::Nothing, |due| guard.on_probe(reach, &spec(1), due))
        };
        script.chars().map(outcome).filter(|outcome| *outcome != Outcome::Nothing).collect()
    }

    #[test]
    fn a_lost_api_server_takes_the_change_back() {
        let table = [
            ("+++", false),
            ("---", true),
            ("--+--+--", false),
            ("++++++++++---", true),
            // First a server that restarts, then one that never comes back.
            (&format!("{}++", "r".repeat(20)), false),
            (&"r".repeat(24), true),
            // The loss begins in the 29th second.
            (&format!("{}---", "+".repeat(28)), true),
            (&format!("{}---", "+".repeat(32)), false),
        ];
        for (script, withdrawn) in table {
            let mut guard = RouteGuard::default();
            assert!(run(&mut guard, "---").is_empty(), "nothing was added");
            guard.on_added(cidrs(6), Instant::now());
            assert_eq!(run(&mut guard, script) == [Outcome::Withdraw], withdrawn, "{script}");
            assert_eq!(guard.refused(), if withdrawn { cidrs(6) } else { BTreeSet::new() }, "{script}");
        }
    }

    #[test]
    fn a_refusal_lasts_until_the_configuration_changes() {
        let mut guard = RouteGuard::default();
        guard.on_added(cidrs(5), Instant::now());
        guard.on_added(cidrs(6), Instant::now());
        assert_eq!(run(&mut guard, "---++"), [Outcome::Withdraw]);
        assert_eq!(guard.refused(), cidrs(6), "after the first the API server was there");
        let mut guard = RouteGuard::new(guard.refusal().cloned());
        guard.on_config(&spec(1));
        assert_eq!(guard.refused(), cidrs(6), "also after a restart");
        guard.on_config(&spec(2));
        assert!(guard.refused().is_empty());
    }

    #[test]
    fn an_api_server_that_stays_lost_was_not_lost_by_the_change() {
        for (away, restored) in [(5, false), (28, false), (29, true), (300, true)] {
            let mut guard = RouteGuard::default();
            guard.on_added(cidrs(6), Instant::now());
            let outcomes = run(&mut guard, &format!("---{}+", "-".repeat(away)));
            let expected = [Outcome::Withdraw, Outcome::Restore];
            assert_eq!(outcomes, &expected[..1 + usize::from(restored)], "away for {away} s more");
            assert_eq!(guard.refused().is_empty(), restored);
            assert_eq!(guard.due(), None);
        }
    }
}
