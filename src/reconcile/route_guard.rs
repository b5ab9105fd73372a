//! A dead man's switch: takes back routes and rules after which the API server cannot be reached any more. A function of `now`.
//!
//! Rules know the networks that a node needs; this is for those that nobody knew of. The API server is where a correction would come from:
//! a node that has lost it could not be helped.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;

use crate::{config::spec::Spec, datapath::journal::Refusal};

/// How long after a change the API server is watched.
const WINDOW: Duration = Duration::from_secs(30);
/// How often it is asked for meanwhile.
const INTERVAL: Duration = Duration::from_secs(1);
/// Losses in a row that take the change back.
const LOSSES: u32 = 3;
/// So many refusals count as one loss: an API server that restarts refuses for some seconds, and so may a BIG-IP that gets what was meant
/// for the API server.
const REFUSALS: u32 = 8;

/// What came of asking for the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Answered,
    /// Somebody at its address refused the connection.
    Refused,
    Lost,
}

/// What was added lately, and what is refused since.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteGuard {
    watched: Option<Watched>,
    refusal: Option<Refusal>,
}

#[derive(Clone, Debug)]
struct Watched {
    cidrs: BTreeSet<Ipv4Net>,
    until: Instant,
    due: Instant,
    /// In refusals.
    failures: u32,
}

impl RouteGuard {
    /// What was refused before a restart still is.
    pub(super) fn new(refusal: Option<Refusal>) -> Self {
        Self { watched: None, refusal }
    }

    /// Another configuration may have another reason: what was refused is tried again. Keys that VTEPs do not depend on change nothing.
    pub(super) fn on_config(&mut self, spec: &Spec) {
        self.refusal.take_if(|refusal| refusal.spec != *spec);
    }

    /// Routes or rules for these CIDRs were added while the API server could be reached: what was added before is not to blame for a loss
    /// from now on.
    pub(super) fn on_added(&mut self, cidrs: BTreeSet<Ipv4Net>, now: Instant) {
        self.watched = Some(Watched { cidrs, until: now + WINDOW, due: now + INTERVAL, failures: 0 });
    }

    /// When to ask for the API server next, if it is watched.
    #[must_use]
    pub(super) fn due(&self) -> Option<Instant> {
        self.watched.as_ref().map(|watched| watched.due)
    }

    /// True when what was added last is to be taken back now, of this configuration.
    pub(super) fn on_probe(&mut self, reach: Reach, spec: &Spec, now: Instant) -> bool {
        let Some(watched) = &mut self.watched else { return false };
        watched.due = now + INTERVAL;
        watched.failures = match reach {
            Reach::Answered => 0,
            Reach::Refused => watched.failures + 1,
            Reach::Lost => watched.failures + REFUSALS,
        };
        if watched.failures >= LOSSES * REFUSALS {
            let cidrs = std::mem::take(&mut watched.cidrs);
            let before = self.refusal.take().filter(|refusal| refusal.spec == *spec);
            let before = before.map(|refusal| refusal.cidrs).unwrap_or_default();
            self.refusal = Some(Refusal { cidrs: &before | &cidrs, spec: spec.clone() });
            self.watched = None;
            return true;
        }
        // A loss that began in time is looked at to its end.
        if now >= watched.until && watched.failures == 0 {
            self.watched = None;
        }
        false
    }

    /// VTEPs whose routes and rules were taken back, until the configuration changes.
    pub(super) fn refused(&self) -> BTreeSet<Ipv4Net> {
        self.refusal.as_ref().map(|refusal| refusal.cidrs.clone()).unwrap_or_default()
    }

    pub(super) fn refusal(&self) -> Option<&Refusal> {
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

    /// Asks when it is due; `+` answers, `r` refuses, `-` is lost. Whether the change was taken back.
    fn run(guard: &mut RouteGuard, script: &str) -> bool {
        script.chars().any(|answer| {
            let reach = match answer {
                '+' => Reach::Answered,
                'r' => Reach::Refused,
                _ => Reach::Lost,
            };
            guard.due().is_some_and(|due| guard.on_probe(reach, &spec(1), due))
        })
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
            (&format!("{}---", "+".repeat(31)), false),
        ];
        for (script, withdrawn) in table {
            let mut guard = RouteGuard::default();
            assert!(!run(&mut guard, "---"), "nothing was added");
            guard.on_added(cidrs(6), Instant::now());
            assert_eq!(run(&mut guard, script), withdrawn, "{script}");
            assert_eq!(guard.refused(), if withdrawn { cidrs(6) } else { BTreeSet::new() }, "{script}");
        }
    }

    #[test]
    fn a_refusal_lasts_until_the_configuration_changes() {
        let mut guard = RouteGuard::default();
        guard.on_added(cidrs(5), Instant::now());
        guard.on_added(cidrs(6), Instant::now());
        assert!(run(&mut guard, "---"));
        assert_eq!(guard.refused(), cidrs(6), "after the first the API server was there");
        let mut guard = RouteGuard::new(guard.refusal().cloned());
        guard.on_config(&spec(1));
        assert_eq!(guard.refused(), cidrs(6), "also after a restart");
        guard.on_config(&spec(2));
        assert!(guard.refused().is_empty());
    }
}
