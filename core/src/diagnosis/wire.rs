//! Causes between this node and BIG-IP: no route, no answer, a filter, packet size, loss. Pure.

use std::time::Instant;

use super::{Evidence, age::has_had_time, bigip, peer::Setting};
use crate::tunnel::{
    frames::VTEP_VNI,
    vtep_probes::{ProbeState, VtepProbes},
};

/// A larger share of lost probes is packet loss.
const MAX_LOSS: f64 = 0.05;
/// Fewer lost probes than this are no evidence, as for every other cause.
const MIN_LOST: usize = 3;
/// Losses in a row count once here.
const MIN_RUNS: usize = 2;

pub(super) fn endpoint_no_route(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let endpoint = evidence.vtep.endpoint;
    let target = evidence.endpoint();
    // The node's routes may not have been read for this endpoint yet.
    let routed = evidence.facts.underlay.contains_key(&endpoint) || evidence.beside() != ProbeState::Failed;
    if !routed {
        return Some(format!("give this node a route to {target}: the kernel has none"));
    }
    // An endpoint that once answered is dead, not misplaced. Echoes do not count: an earlier endpoint may have answered them.
    let never = evidence.probes.is_some_and(|probes| {
        probes.underlay.received + probes.arp.received == 0 && probes.known.is_none_or(|known| known.mac.is_none())
    });
    evidence.unresolved_neighbour().filter(|_| never && evidence.is_endpoint_dead(now)).map(|unresolved| {
        let place = evidence.place(Setting::Endpoint);
        format!("put {target} and this node on one network, or correct {place}: {unresolved}")
    })
}

pub(super) fn endpoint_unreachable(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    (evidence.is_endpoint_dead(now) && endpoint_no_route(evidence, now).is_none()).then(|| {
        let unresolved =
            evidence.unresolved_neighbour().map(|unresolved| format!(", and {unresolved}")).unwrap_or_default();
        let asked = evidence.probes.is_some_and(|probes| probes.target.is_some());
        let through =
            if asked { "neither ping nor through the tunnel" } else { "no ping, and nothing of its tunnel is seen" };
        format!("look at {} and the network to it: it answers {through}{unresolved}", evidence.peer())
    })
}

pub(super) fn tunnel_silent(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let one_way = evidence.has_own_frames(now);
    let beside = evidence.beside();
    let pings = beside == ProbeState::Ok;
    // A target that never answered may be the wrong address.
    if !evidence.is_tunnel_unanswered()
        || (beside == ProbeState::Failed && !one_way)
        || (one_way && !evidence.has_target_answered())
    {
        return None;
    }
    let what = match (pings, one_way) {
        (true, true) => "answers ping but nothing through the tunnel, though its own frames arrive",
        (true, false) => "answers ping but nothing through the tunnel",
        (false, true) => "answers nothing through the tunnel, though its own frames arrive",
        (false, false) => "answers nothing through the tunnel",
    };
    let (peer, node, error) = (evidence.peer(), evidence.this_node(), evidence.send_error());
    let (endpoint, port) = (evidence.vtep.endpoint, evidence.tunnel.port);
    let tunnel = match evidence.name {
        None => format!("has key {VTEP_VNI} and local-address {endpoint}, and its FDB record for {node}"),
        Some(_) => format!("has VNI {VTEP_VNI} and sends from {endpoint}, and that it sends frames to {node}"),
    };
    if let Some(forwarder) = evidence.forwarder(now) {
        let remedy = match evidence.name {
            None => format!("add the FDB record for {node} on it"),
            Some(_) => format!("let it send what is for the pods of {node} to it"),
        };
        return Some(format!("{peer} {what}: {remedy}; {}{error}", bigip::forwarded_by(forwarder)));
    }
    let address = if evidence.name.is_none() { "self IP" } else { "tunnel address" };
    Some(format!(
        "{peer} {what}: check that UDP port {port} is not filtered, that its tunnel {tunnel}; or no device has the {address} \
         now{error}"
    ))
}

pub(super) fn path_mtu(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let probes = evidence.probes?;
    let large_lost = probes.icmp_state() == ProbeState::Ok && probes.path_mtu_state() == ProbeState::Failed;
    // If small packets are lost as well, size is not the reason.
    let (full, found) = (probes.path_mtu.full_size(), probes.path_mtu.inner_mtu());
    let found = found.filter(|found| *found < full)?;
    large_lost.then(|| {
        format!(
            "raise the MTU between this node and {}, or lower Cilium's and {}'s tunnel MTU: inner packets of {found} bytes pass, \
             those of {full} do not",
            evidence.peer(),
            evidence.peer_name()
        )
    })
}

pub(super) fn packet_loss(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    // Under a limit, some echoes are lost at any pace. It is none once ARP is lost as well.
    let probes = evidence.probes.filter(|probes| !probes.is_judging_pace(now) && !probes.pace.is_limited())?;
    // Before the last change of their pace, echoes were lost because there were too many.
    let since = evidence.recovered.max(probes.pace.changed());
    let (lost, loss) = (probes.icmp.lost_since(since), probes.icmp.loss_since(since));
    // One interruption is over, and no loss that goes on.
    let goes_on = probes.icmp.lost_runs_since(since) >= MIN_RUNS;
    (probes.icmp_state() == ProbeState::Ok && lost >= MIN_LOST && goes_on && loss > MAX_LOSS).then(|| {
        format!("{:.1} % of the probes to {} are lost: look for drops on the way", loss * 100.0, evidence.endpoint())
    })
}

/// A remark: the tunnel works, and only pings are limited.
pub(super) fn icmp_rate_limited(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let pace = evidence.probes.map(|probes| &probes.pace).filter(|pace| pace.is_limited())?;
    Some(format!(
        "raise the limit of ICMP on {}, or on the way to it, if the agent is to ask more often: it answers every ARP request, and pings only \
         since one round in {} has them",
        evidence.peer(),
        pace.every()
    ))
}

pub(super) fn last_loss(evidence: &Evidence<'_>) -> Option<(&'static str, Instant)> {
    Some(("a probe was lost", evidence.probes?.icmp.lost_at()?))
}

impl Evidence<'_> {
    /// The endpoint answers neither beside the tunnel nor through it, and sends nothing of its own. Without a target inside the tunnel,
    /// lost pings may be a filter: they count only if nobody answers ARP for the endpoint, or once the sweep has had its time.
    fn is_endpoint_dead(&self, now: Instant) -> bool {
        let Some(probes) = self.probes else { return false };
        let is_conclusive =
            probes.target.is_some() || self.unresolved_neighbour().is_some() || has_had_time(probes, now);
        let unanswered = self.is_tunnel_unanswered() || probes.target.is_none();
        self.beside() == ProbeState::Failed && is_conclusive && unanswered && !self.has_own_frames(now)
    }

    /// Whether the endpoint answers ping beside the tunnel.
    fn beside(&self) -> ProbeState {
        let is_answered = self.probes.is_some_and(VtepProbes::is_underlay_answered);
        if is_answered { ProbeState::Ok } else { self.state(VtepProbes::underlay_state) }
    }

    /// Says that the endpoint, or the gateway to it, does not answer ARP on the link.
    fn unresolved_neighbour(&self) -> Option<String> {
        let underlay = self.facts.underlay.get(&self.vtep.endpoint).filter(|underlay| underlay.unresolved)?;
        Some(format!("nobody on {} answers ARP for {}", underlay.device.name, underlay.next_hop))
    }

    /// The reason why the last probe could not be sent, for the end of a hint; empty if it was sent.
    pub(super) fn send_error(&self) -> String {
        let error = self.probes.and_then(|probes| probes.icmp.send_error.as_ref());
        error.map(|error| format!(" (the last probe could not be sent: {error})")).unwrap_or_default()
    }
}
