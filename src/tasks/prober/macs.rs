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

/// The MACs of this node's devices that carry the tunnels' traffic: a frame that comes back to the node has one of them, and no BIG-IP has.
/// Other devices of the node do not matter, and a node with many pods has hundreds.
pub(super) fn own_macs(facts: &Facts) -> BTreeSet<Mac> {
    let underlay = facts.underlay.values().map(|underlay| &underlay.device);
    let devices = facts.cilium.tunnel.iter().chain(&facts.cilium.host).chain(underlay);
    devices.map(|device: &Device| device.mac).collect()
}

#[cfg(test)]
mod tests {
    use vtep_core::node::devices::{CiliumDevices, Underlay};

    use super::*;

    /// `SECURITY.md` promises these.
    #[test]
    fn the_devices_of_the_tunnels_have_the_own_macs() {
        let mac = |n: u8| Mac::from([2, 0, 0, 0, 0, n]);
        let device = |n: u8| Device { index: n.into(), name: format!("d{n}"), mac: mac(n), mtu: 1500, up: true };
        let underlay = |n: u8| {
            let next_hop = [10, 169, 72, n].into();
            (next_hop, Underlay { device: device(n), source: None, next_hop, unresolved: false })
        };
        let facts = Facts {
            cilium: CiliumDevices { tunnel: Some(device(1)), host: Some(device(2)), router: None },
            underlay: [3, 4].map(underlay).into(),
            ..Facts::default()
        };
        assert_eq!(own_macs(&facts), [1, 2, 3, 4].map(mac).into());
        assert!(own_macs(&Facts::default()).is_empty());
    }
}
