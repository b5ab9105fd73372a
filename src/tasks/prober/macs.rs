//! `--mac learned`: looks for another MAC in the frames of each BIG-IP, decides, and tells the reconciler.
//!
//! The core has the conditions (`tunnel::mac_learning`).

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tracing::{info, warn};
use vtep_core::{
    config::view::View,
    node::{devices::Device, facts::Facts},
    tunnel::mac_learning::{LearnedMac, LearnedMacs},
    types::mac::Mac,
};

use super::Prober;
use crate::kernel::tap::Clocks;

/// How often to look which MAC the frames of a BIG-IP come from. After a failover, traffic shows the new one before the next probe does.
const LOOK: Duration = Duration::from_millis(200);

impl Prober {
    /// Whether the entry of each VTEP may follow the MAC that answers.
    pub(super) fn enable_learning(&mut self, view: Option<&View>) {
        // Before the first configuration, the MACs from before a restart apply.
        let Some(view) = view else { return };
        let follows = view.may_learn_macs();
        for (cidr, probes) in &mut self.vteps {
            probes.learning.enable(follows && self.settings.learn_macs.includes(*cidr));
        }
        self.tell_macs();
    }

    /// When to look at the frames again, if a MAC may be learned.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.vteps.values().any(|probes| probes.learning.is_enabled()).then_some(self.macs_due)
    }

    pub(super) fn look_at_macs(&mut self, now: Instant) {
        if self.next_look().is_none_or(|due| now < due) {
            return;
        }
        self.macs_due = now + LOOK;
        let Some(tap) = &self.tap else { return };
        for probes in self.vteps.values_mut().filter(|probes| probes.learning.is_enabled()) {
            // If they cannot be read, `tend_tap` logs the error.
            let counts = tap.counts(probes.vtep.endpoint, Clocks::read()).ok().flatten();
            counts.iter().for_each(|counts| probes.on_counts(counts, self.tunnel, now));
        }
    }

    /// Decides after an answer, and notices failovers.
    pub(super) fn follow_units(&mut self, now: Instant) {
        let endpoints: BTreeSet<_> = self.vteps.values().map(|probes| probes.vtep.endpoint).collect();
        for (cidr, probes) in &mut self.vteps {
            probes.follow_owners(&endpoints, now);
            let before = probes.learning.refusal();
            if let Some(learned) = probes.decide_mac(&self.own_macs, Timestamp::now()) {
                let (configured, mac) = (learned.configured, learned.mac);
                info!(%cidr, %configured, %mac, "MAC learned: BIG-IP's tunnel answers with it");
            } else if let Some(refusal) = probes.learning.refusal().filter(|refusal| before != Some(*refusal)) {
                warn!(%cidr, reason = %refusal, "MAC not learned");
            }
        }
        self.tell_macs();
    }

    fn tell_macs(&self) {
        if self.vteps.is_empty() {
            return;
        }
        let learned: LearnedMacs =
            self.vteps.iter().filter_map(|(cidr, probes)| Some((*cidr, probes.learning.learned()?))).collect();
        self.macs.send_if_modified(|known| {
            let differs = **known != learned;
            if differs {
                let is_configured = |cidr: &Ipv4Net, before: &LearnedMac| {
                    let probes = self.vteps.get(cidr).filter(|_| !learned.contains_key(cidr));
                    probes.is_some_and(|probes| before.applies_to(&probes.vtep))
                };
                for (cidr, before) in known.iter().filter(|(cidr, before)| is_configured(cidr, before)) {
                    info!(%cidr, mac = %before.configured, "the configured MAC applies again");
                }
                *known = Arc::new(learned);
            }
            differs
        });
    }
}

/// The MACs of this node's devices: no BIG-IP has one of them.
pub(super) fn own_macs(facts: &Facts) -> BTreeSet<Mac> {
    let underlay = facts.underlay.values().map(|underlay| &underlay.device);
    let devices = facts.cilium.tunnel.iter().chain(&facts.cilium.host).chain(underlay);
    devices.map(|device: &Device| device.mac).collect()
}
