//! Wires the prober to the configuration and the node: which VTEPs it probes, and over which sockets and devices.

use std::time::Instant;

use tracing::warn;
use vtep_core::{
    config::spec::{Spec, Vtep},
    node::{devices::Underlay, facts::Facts},
    tunnel::{mac_learning::MacLearning, strays::Strays, tcp_probe::TcpProbe, vtep_probes::VtepProbes},
    types::error_chain::chain,
};

use super::{Prober, macs};
use crate::kernel::tap::Tap;

impl Prober {
    /// Adapts the probes of each VTEP, the sockets and the tap to the current configuration and node.
    pub(super) fn rewire(&mut self) {
        let view = self.config.borrow_and_update().clone();
        let facts = self.facts.borrow_and_update().clone().unwrap_or_default();
        let spec = view.as_ref().and_then(|view| view.effective.as_ref());
        self.tunnel = spec.map_or(self.tunnel, |spec| spec.tunnel);
        self.fit_probes(spec);
        self.own_macs = macs::own_macs(&facts);
        self.enable_learning(view.as_deref());
        self.log_idle_settings();
        self.sockets.fit(&facts.cilium);
        self.open_sockets();
        self.fit_tap(&facts);
    }

    /// Adapts the probes to the configuration. An unchanged VTEP keeps its records; one with another endpoint or MAC begins anew, at once.
    fn fit_probes(&mut self, spec: Option<&Spec>) {
        let (now, timing) = (Instant::now(), self.settings.timing);
        let mut previous = std::mem::take(&mut self.vteps);
        for &vtep in spec.iter().flat_map(|spec| &spec.vteps) {
            let before = previous.remove(&vtep.cidr);
            let predecessor = before.as_ref().map(|probes| probes.vtep.endpoint).filter(|&at| at != vtep.endpoint);
            let failovers = before.as_ref().map(|probes| probes.failovers.clone().carried_over());
            let kept = before.filter(|probes| probes.vtep == vtep);
            let configured = self.settings.targets.get(&vtep.cidr).copied();
            let begin = || {
                let mut probes = VtepProbes::new(vtep, configured, timing, now);
                probes.predecessor = predecessor;
                let tcp = self.settings.tcp_targets.get(&vtep.cidr);
                probes.tcp = tcp.map(|target| TcpProbe::new(*target, timing.thresholds, timing.timeout));
                probes.failovers = failovers.unwrap_or_default();
                let learns = self.settings.learn_macs.includes(vtep.cidr);
                probes.learning = MacLearning::new(vtep, learns, self.memory.mac_record(&vtep));
                self.memory.recall(&vtep).into_iter().for_each(|known| probes.recall(known));
                probes
            };
            let mut probes = kept.unwrap_or_else(begin);
            let is_other = |other: &&Vtep| other.endpoint == vtep.endpoint && other.cidr != vtep.cidr;
            probes.shares_endpoint = spec.iter().flat_map(|spec| &spec.vteps).any(|other| is_other(&other));
            self.vteps.insert(vtep.cidr, probes);
        }
    }

    /// Logs settings without effect: otherwise a typing error in their CIDR would go unnoticed.
    fn log_idle_settings(&mut self) {
        let idle = self.settings.idle(|cidr| self.vteps.contains_key(cidr));
        if idle != self.idle_settings && !self.vteps.is_empty() {
            idle.iter().for_each(|(setting, cidr)| warn!(setting, %cidr, "setting matches no active VTEP CIDR"));
            self.idle_settings = idle;
        }
    }

    pub(super) fn open_sockets(&mut self) {
        if self.sockets.open() {
            // VTEPs that could not be probed so far are probed now.
            let now = Instant::now();
            self.vteps.values_mut().for_each(|probes| probes.due = now);
        }
    }

    fn fit_tap(&mut self, facts: &Facts) {
        // Before the facts are known, the first entries are not yet written.
        let is_ready = !self.vteps.is_empty() && self.facts.borrow().is_some();
        if self.tap.as_ref().map(Tap::tunnel) != Some(self.tunnel) && is_ready {
            let loaded = Tap::load(self.tunnel);
            self.tap_load_error = loaded.as_ref().err().map(|error| chain(error).to_string());
            self.tap = loaded.ok();
            self.strays = Strays::default();
        }
        // Watching replies makes the kernel copy every outgoing packet of the device. That is worth its cost only if Cilium may be one of
        // the broken releases.
        let worth = facts.version.is_none_or(|version| version.broken().is_some());
        self.suspect = facts.cilium.tunnel.as_ref().map(|device| device.index).filter(|_| worth);
        self.full_size = facts.inner_mtu().and_then(|mtu| mtu.try_into().ok());
        for probes in self.vteps.values_mut() {
            let underlay = facts.underlay.get(&probes.vtep.endpoint);
            // A device without Ethernet addresses has the zero MAC.
            let is_neighbour =
                |underlay: &Underlay| underlay.next_hop == probes.vtep.endpoint && !underlay.device.mac.is_zero();
            probes.is_neighbour = underlay.is_some_and(is_neighbour);
        }
        self.underlay = facts.underlay.values().map(|underlay| underlay.device.index).collect();
        self.tend_tap(Instant::now());
    }
}
