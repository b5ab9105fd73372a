//! How far a packet gets: to the endpoint, through the tunnel, and back. Pure.

use std::time::Instant;

use super::{
    Evidence,
    age::{FRESH, has_looked},
};
use crate::{
    config::spec::Vtep,
    tunnel::{
        frames::VTEP_VNI,
        vtep_probes::{Lane, ProbeState},
    },
};

impl Evidence<'_> {
    pub(super) fn endpoint_no_route(&self, now: Instant) -> Option<String> {
        let endpoint = self.vtep.endpoint;
        // Until the node's routes were read for this endpoint, their absence says nothing.
        let routed =
            self.facts.underlay.contains_key(&endpoint) || self.state(Lane::underlay_state) != ProbeState::Failed;
        if !routed {
            return Some(format!("give this node a route to {endpoint}: the kernel has none"));
        }
        // One that has answered was there: it is dead, not misplaced. Echoes through the tunnel may have gone to an earlier endpoint.
        let never = self.lane.is_some_and(|lane| {
            lane.underlay.received + lane.arp.received == 0 && lane.known.is_none_or(|known| known.mac.is_none())
        });
        self.unresolved().filter(|_| never && self.is_dead(now)).map(|unresolved| {
            format!("put {endpoint} and this node on one network, or correct vtep-endpoint: {unresolved}")
        })
    }

    /// The endpoint does not answer, neither beside the tunnel nor through it, and nothing has come by itself of late. Where there is
    /// nobody to ask through it, pings alone tell no filter from an outage, unless nobody answers ARP for it, or the sweep had its time.
    fn is_dead(&self, now: Instant) -> bool {
        let Some(lane) = self.lane else { return false };
        let is_known = lane.target.is_some() || self.unresolved().is_some();
        let is_told = is_known || has_looked(lane, now);
        let unanswered = self.no_answer() || lane.target.is_none();
        lane.underlay_state() == ProbeState::Failed && is_told && unanswered && !self.seen_since(now)
    }

    /// That the endpoint, or the gateway to it, is not on the link.
    fn unresolved(&self) -> Option<String> {
        let underlay = self.facts.underlay.get(&self.vtep.endpoint).filter(|underlay| underlay.unresolved)?;
        Some(format!("nobody on {} answers ARP for {}", underlay.device.name, underlay.next_hop))
    }

    pub(super) fn endpoint_unreachable(&self, now: Instant) -> Option<String> {
        let endpoint = self.vtep.endpoint;
        (self.is_dead(now) && self.endpoint_no_route(now).is_none()).then(|| {
            let unresolved = self.unresolved().map(|unresolved| format!(", and {unresolved}")).unwrap_or_default();
            let asked = self.lane.is_some_and(|lane| lane.target.is_some());
            let through = if asked {
                "neither ping nor through the tunnel"
            } else {
                "no ping, and nothing of its tunnel is seen"
            };
            format!("look at BIG-IP {endpoint} and the network to it: it answers {through}{unresolved}")
        })
    }

    pub(super) fn tunnel_silent(&self, now: Instant) -> Option<String> {
        let one_way = self.seen_since(now);
        let pings = self.state(Lane::underlay_state) == ProbeState::Ok;
        // A target that never answered may be the wrong one.
        if !self.no_answer() || !(pings || one_way) || (one_way && !self.has_answered()) {
            return None;
        }
        let what = match (pings, one_way) {
            (true, true) => "answers ping but nothing through the tunnel, though its own frames arrive",
            (true, false) => "answers ping but nothing through the tunnel",
            (false, _) => "answers nothing through the tunnel, though its own frames arrive",
        };
        let (endpoint, port) = (self.vtep.endpoint, self.tunnel.port);
        Some(format!(
            "BIG-IP {endpoint} {what}: check that UDP port {port} is not filtered, that its tunnel has key {VTEP_VNI} and local-address \
             {endpoint}, and its FDB record for {}{}",
            self.this_node(),
            self.unsent()
        ))
    }

    pub(super) fn no_return_path(&self, now: Instant) -> Option<String> {
        let one_way =
            self.state(Lane::arp_state) == ProbeState::Ok && self.state(Lane::icmp_state) == ProbeState::Failed;
        (one_way && !self.drops() && self.vtep_mac_mismatch(now).is_none()).then(|| {
            let fdb = self.this_node();
            let router = self.facts.cilium.router.map(|router| format!(" that covers {router}")).unwrap_or_default();
            format!(
                "the tunnel of BIG-IP {} answers ARP but not ping: check its route to the pod CIDR{router}, its FDB record for {fdb}, \
                 and that the self IP allows ICMP{}",
                self.vtep.endpoint,
                self.unsent()
            )
        })
    }

    pub(super) fn self_ip_unknown(&self, now: Instant) -> Option<String> {
        let Vtep { cidr, endpoint, .. } = self.vtep;
        match self.lane?.target {
            None => Some(format!(
                "set --probe-target {cidr}=<tunnel self IP>: none is known, BIG-IP has not sent anything from inside {cidr} yet, and none has answered so far"
            )),
            Some(target) if self.no_answer() && self.seen_since(now) && !self.has_answered() => Some(format!(
                "check --probe-target {cidr}={}: it does not answer while BIG-IP {endpoint} sends through the tunnel; if it is the \
                 tunnel self IP, look for a filter on UDP port {} towards BIG-IP",
                target.address, self.tunnel.port
            )),
            Some(_) => None,
        }
    }

    /// Nothing answers through the tunnel.
    pub(super) fn no_answer(&self) -> bool {
        let arp = matches!(self.state(Lane::arp_state), ProbeState::Failed | ProbeState::Unsupported);
        arp && self.state(Lane::icmp_state) == ProbeState::Failed
    }

    /// The probe target has answered once: it is the right one.
    fn has_answered(&self) -> bool {
        self.lane.is_some_and(Lane::has_answered)
    }

    /// Something has come by itself since, and not long ago.
    fn seen_since(&self, now: Instant) -> bool {
        let seen = self.lane.and_then(|lane| lane.seen_since_unanswered(self.tunnel));
        seen.is_some_and(|seen| now.saturating_duration_since(seen) < FRESH)
    }
}
