//! When a change of routes is taken back because the node lost its API server by it. A function of `now`.
//!
//! Rules know the networks that a node needs; this is for those that nobody knew of. The API server is where a correction would come from:
//! a node that has lost it could not be helped.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use super::records::Refusal;
use crate::config::spec::Spec;

/// How long after a change the API server is watched.
const WINDOW: Duration = Duration::from_secs(30);
/// The first answer proves most: it is asked for at once.
const FIRST: Duration = Duration::from_millis(100);
/// How often it is asked for then.
const INTERVAL: Duration = Duration::from_secs(1);
/// Losses in a row that take the change back.
const LOSSES: u32 = 3;
/// So many refusals count as one loss: an API server that restarts refuses for some seconds, and so may a BIG-IP that gets what was meant
/// for the API server.
const REFUSALS: u32 = 8;
/// An API server that stays lost for so long after the change was taken back was not lost by it.
const PROBATION: Duration = Duration::from_secs(30);

/// What came of asking for the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Answered,
    /// Somebody at its address refused the connection.
    Refused,
    Lost,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// What was added last is to be taken back.
    Withdraw,
    /// What was taken back may be added again.
    Restore,
}

/// What was added lately, and what is refused since.
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
    /// In refusals.
    failures: u32,
}

/// The time after a change was taken back.
#[derive(Clone, Debug)]
struct Probation {
    cidrs: BTreeSet<Ipv4Net>,
    since: Instant,
    due: Instant,
}

impl RouteGuard {
    /// What was refused before a restart still is.
    pub fn new(refusal: Option<Refusal>) -> Self {
        Self { refusal, ..Self::default() }
    }

    /// Another configuration may have another reason: what was refused is tried again. Keys that VTEPs do not depend on change nothing.
    pub fn on_config(&mut self, good: &Spec) {
        self.refusal.take_if(|refusal| refusal.spec != *good);
    }

    /// Routes or rules for these CIDRs were added while the API server could be reached: what was added before is not to blame for a loss
    /// from now on.
    pub fn on_added(&mut self, cidrs: BTreeSet<Ipv4Net>, now: Instant) {
        self.watched = Some(Watched { cidrs, until: now + WINDOW, due: now + FIRST, failures: 0 });
    }

    /// When to ask for the API server next, if it is watched.
    pub fn due(&self) -> Option<Instant> {
        let watched = self.watched.as_ref().map(|watched| watched.due);
        watched.or(self.probation.as_ref().map(|probation| probation.due))
    }

    /// What was added and is not proven yet.
    pub fn on_trial(&self) -> Option<&BTreeSet<Ipv4Net>> {
        self.watched.as_ref().map(|watched| &watched.cidrs)
    }

    /// `good` is the configuration that a refusal is about.
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
        // A loss that began in time is looked at to its end.
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

    /// An API server that comes back with the routes' end was lost by them; one that stays away has a reason of its own.
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

    /// VTEPs whose routes and rules were taken back, until the configuration changes.
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
        let mask = [255, 255, 255, n].into();
        Spec { enabled: true, vteps: Vec::new(), mask, tunnel: Default::default() }
    }

    fn cidrs(n: u8) -> BTreeSet<Ipv4Net> {
        [Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length")].into()
    }

    /// Asks when it is due; `+` answers, `r` refuses, `-` is lost. What followed, but for nothing.
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
            // A restart of the server, and one that does not end.
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
