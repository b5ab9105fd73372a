//! The tunnel self IP to probe: how the agent learns it, and whether it has answered.

use std::{net::Ipv4Addr, time::Instant};

use super::VtepProbes;
use crate::tunnel::{self_ip::Known, window::WindowState};

/// How the agent learned the address to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `--probe-target`.
    Configured,
    /// From BIG-IP's own frames.
    Learned,
    /// It answered during a sweep.
    Swept,
    /// It answered before the agent was restarted.
    Remembered,
}

/// The tunnel self IP of a BIG-IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: Ipv4Addr,
    pub origin: Origin,
}

impl VtepProbes {
    /// Restores the knowledge from before a restart. The remembered self IP becomes the target only if there is no other.
    pub fn recall(&mut self, known: Known) {
        self.known = Some(known);
        self.target.get_or_insert(Target { address: known.self_ip, origin: Origin::Remembered });
    }

    /// Whether the target has ever answered, before or after a restart: then it is the right one.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.arp.received + self.icmp.received > 0 || self.known_target().is_some()
    }

    /// Whether the target has ever answered an echo.
    #[must_use]
    pub fn has_echoed(&self) -> bool {
        self.icmp.received > 0 || self.known_target().is_some_and(|known| known.echo)
    }

    fn known_target(&self) -> Option<&Known> {
        self.known.as_ref().filter(|known| self.target.is_some_and(|target| target.address == known.self_ip))
    }

    /// Whether a sweep is needed: no target is known, or the remembered one does not answer.
    #[must_use]
    pub fn wants_target(&self) -> bool {
        self.target.is_none() || (self.is_unconfirmed() && self.arp.state() == WindowState::Failed)
    }

    /// Since when there is something to learn about this VTEP: since its start, or without a target, since its endpoint came alive.
    #[must_use]
    pub fn learnable_since(&self) -> Instant {
        self.alive_since.filter(|_| self.target.is_none()).map_or(self.began, |alive| alive.max(self.began))
    }

    /// Whether the target is from before the restart and has not answered since.
    pub(super) fn is_unconfirmed(&self) -> bool {
        let is_remembered = self.target.is_some_and(|target| target.origin == Origin::Remembered);
        is_remembered && self.observed_at.is_none() && self.icmp.received == 0
    }

    /// Remembers that the target has answered.
    pub(super) fn note_answer(&mut self, echo: bool) {
        let Some(Target { address: self_ip, .. }) = self.target else { return };
        let before = self.known_target().copied().unwrap_or(Known { self_ip, mac: None, echo: false });
        self.known = Some(Known { self_ip, mac: self.observed_mac.or(before.mac), echo: echo || before.echo });
    }

    /// Follows the self IP that frames show, unless it is configured.
    pub(super) fn learn(&mut self) {
        // Answers to our own requests contain nothing new.
        let known = self.target.map(|target| target.address);
        if self.target.is_none_or(|target| target.origin != Origin::Configured) {
            self.target = self.shown().filter(|learned| Some(learned.address) != known).or(self.target);
        }
    }

    /// The target that frames show. The sender of an ARP packet is a self IP. The source of another packet may be a client behind BIG-IP,
    /// so it never replaces a target that has answered.
    fn shown(&self) -> Option<Target> {
        let inside = |address: &Ipv4Addr| self.vtep.cidr.contains(address);
        let flows = || self.flows.iter().filter(|flow| flow.is_vtep_traffic());
        let arp = flows().filter_map(|flow| flow.arp_sender).find(inside);
        let is_proven = self.target.is_some() && self.arp.received + self.icmp.received > 0;
        let ip = || flows().filter_map(|flow| flow.inner_source).find(inside).filter(|_| !is_proven);
        arp.or_else(ip).map(|address| Target { address, origin: Origin::Learned })
    }
}
