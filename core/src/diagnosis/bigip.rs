//! Causes on BIG-IP: port, VNI, source, MAC and self IP of its tunnel, and the return path. Pure.

use std::time::{Duration, Instant};

use super::{Evidence, RECENT};
use crate::{
    config::spec::Vtep,
    tunnel::{
        flow::Flow,
        frames::VTEP_VNI,
        vtep_probes::{ProbeState, VtepProbes},
    },
};

/// A source is the only sender if no correct frame arrived within this time before it.
const SOLE_SOURCE_AFTER: Duration = Duration::from_secs(2);
/// The MAC of a tunnel that has been silent for this time is no longer reported.
const SILENT: Duration = Duration::from_secs(60);

pub(super) fn wrong_udp_port(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    if !evidence.is_ping_unanswered() {
        return None;
    }
    let flow = evidence.recent_flows(now).find(|flow| flow.port != evidence.tunnel.port)?;
    Some(format!(
        "set `port {}` in the tunnel profile of BIG-IP {}: its frames arrive on UDP port {}",
        evidence.tunnel.port, evidence.vtep.endpoint, flow.port
    ))
}

pub(super) fn wrong_vni(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    if !evidence.is_ping_unanswered() {
        return None;
    }
    let flow = evidence.recent_flows(now).find(|flow| flow.port == evidence.tunnel.port && !flow.is_vtep_traffic())?;
    Some(format!(
        "set `key {VTEP_VNI}` on the tunnel of BIG-IP {}: its frames carry VNI {}",
        evidence.vtep.endpoint, flow.vni
    ))
}

pub(super) fn wrong_source(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let unexpected =
        evidence.probes?.unexpected.filter(|unexpected| now.duration_since(unexpected.last_seen) < RECENT)?;
    // Another node may forward frames that BIG-IP floods. Then BIG-IP's own frames arrive as well.
    let is_right = |flow: &&Flow| flow.belongs_to(evidence.tunnel);
    let right = evidence.recent_flows(now).filter(is_right).map(|flow| flow.last_seen).max();
    let alone = right.is_none_or(|right| unexpected.last_seen.saturating_duration_since(right) >= SOLE_SOURCE_AFTER);
    alone.then(|| {
        format!(
            "set `local-address {}` on BIG-IP's tunnel, or vtep-endpoint to {}: frames of {} come from there",
            evidence.vtep.endpoint, unexpected.source, unexpected.inner_source
        )
    })
}

pub(super) fn vtep_mac_mismatch(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let (configured, cidr) = (evidence.vtep.mac, evidence.vtep.cidr);
    let at = evidence.probes.and_then(|probes| probes.observed_at);
    let is_gone = evidence.is_tunnel_unanswered() && at.is_none_or(|at| now.saturating_duration_since(at) >= SILENT);
    let seen = evidence.probes.and_then(VtepProbes::foreign_mac).filter(|_| !is_gone);
    if configured.is_multicast() {
        let seen = seen.map(|mac| format!("; BIG-IP's tunnel answers with {mac}")).unwrap_or_default();
        return Some(format!(
            "set vtep-mac for {cidr} to the MAC of BIG-IP's tunnel: {configured} is a group address, ping may pass and TCP \
             does not{seen}"
        ));
    }
    seen.map(|seen| {
        format!("set vtep-mac for {cidr} to {seen}, which BIG-IP's tunnel answers with, instead of {configured}")
    })
}

/// A group address is wrong whatever BIG-IP answers, so it is a present state.
pub(super) fn last_arp_answer(evidence: &Evidence<'_>) -> Option<(&'static str, Instant)> {
    let probes = evidence.probes.filter(|_| !evidence.vtep.mac.is_multicast())?;
    Some(("ARP was answered with another MAC", probes.observed_at?))
}

pub(super) fn foreign_inner_source(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let foreign = evidence.recent_flows(now).filter(|flow| flow.is_vtep_traffic()).find_map(|flow| flow.foreign);
    let (_, address) = foreign.filter(|(at, _)| now.duration_since(*at) < RECENT / 2)?;
    Some(format!(
        "let BIG-IP {} use its self IP in {} as the source (a SNAT pool instead of automap): it sends from {address}, which is in no \
         vtep-cidr, so that the answers do not come back to it",
        evidence.vtep.endpoint, evidence.vtep.cidr
    ))
}

pub(super) fn no_return_path(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let one_way = evidence.state(VtepProbes::arp_state) == ProbeState::Ok
        && evidence.state(VtepProbes::icmp_state) == ProbeState::Failed;
    (one_way && !evidence.drops_probes() && vtep_mac_mismatch(evidence, now).is_none()).then(|| {
        let fdb = evidence.this_node();
        let router = evidence.facts.cilium.router.map(|router| format!(" that covers {router}")).unwrap_or_default();
        format!(
            "the tunnel of BIG-IP {} answers ARP but not ping: check its route to the pod CIDR{router}, its FDB record for {fdb}, \
             and that the self IP allows ICMP{}",
            evidence.vtep.endpoint,
            evidence.send_error()
        )
    })
}

pub(super) fn self_ip_unknown(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let Vtep { cidr, endpoint, .. } = evidence.vtep;
    match evidence.probes?.target {
        None => Some(format!(
            "set --probe-target {cidr}=<tunnel self IP>: none is known, BIG-IP has not sent anything from inside {cidr} yet, \
             and none has answered so far"
        )),
        Some(target)
            if evidence.is_tunnel_unanswered() && evidence.has_own_frames(now) && !evidence.has_target_answered() =>
        {
            Some(format!(
                "check --probe-target {cidr}={}: it does not answer while BIG-IP {endpoint} sends through the tunnel; if it is the \
             tunnel self IP, look for a filter on UDP port {} towards BIG-IP",
                target.address, evidence.tunnel.port
            ))
        }
        Some(_) => None,
    }
}

impl Evidence<'_> {
    /// This node, with the address that BIG-IP sends to.
    pub(super) fn this_node(&self) -> String {
        let node = self.facts.underlay.get(&self.vtep.endpoint).and_then(|underlay| underlay.source);
        node.map_or_else(|| "this node".to_owned(), |node| format!("this node ({node})"))
    }
}
