//! Causes on BIG-IP: port, VNI, source, MAC and self IP of its tunnel, and the return path. Pure.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{Evidence, RECENT, age::at_least, node::dropped_on_node, peer::Setting};
use crate::tunnel::{
    flow::{Flow, Sender, UnexpectedSource},
    frames::VTEP_VNI,
    mac_learning::MacLearning,
    owners::Owner,
    strays::LISTED,
    vtep_probes::{ProbeState, VtepProbes},
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
    let (peer, port) = (evidence.peer(), evidence.tunnel.port);
    let remedy = match evidence.name {
        None => format!("set `port {port}` in the tunnel profile of {peer}"),
        Some(_) => format!("let {peer} send to UDP port {port}"),
    };
    Some(format!("{remedy}: its frames arrive on UDP port {}", flow.port))
}

pub(super) fn wrong_vni(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    if !evidence.is_ping_unanswered() {
        return None;
    }
    let is_wrong = |flow: &&Flow| flow.port == evidence.tunnel.port && !flow.is_vtep_traffic();
    let vnis: BTreeSet<_> = evidence.recent_flows(now).filter(is_wrong).map(|flow| flow.vni).collect();
    if vnis.is_empty() {
        return None;
    }
    let vnis: Vec<_> = vnis.iter().map(ToString::to_string).collect();
    // If fewer are listed, the others do not persist.
    let others = evidence.probes.map_or(0, |probes| probes.other_streams);
    let others = if vnis.len() < LISTED || others == 0 {
        String::new()
    } else {
        format!(" and {} more", at_least(others as u64))
    };
    let peer = evidence.peer();
    let remedy = match evidence.name {
        None => format!("set `key {VTEP_VNI}` on the tunnel of {peer}"),
        Some(_) => format!("let {peer} send with VNI {VTEP_VNI}"),
    };
    Some(format!("{remedy}: its frames carry VNI {}{others}", vnis.join(", ")))
}

pub(super) fn wrong_source(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let probes = evidence.probes?;
    let unexpected = probes.unexpected.filter(|unexpected| now.duration_since(unexpected.last_seen) < RECENT)?;
    // If BIG-IP's own frames arrive as well, these may be flooded ones that another node forwards.
    let alone = evidence.comes_alone(unexpected, now);
    // An endpoint is no node. If it sends from the self IP, which does not answer at its own endpoint, the self IP has moved.
    let is_self_ip = probes.target.is_some_and(|target| target.address == unexpected.inner_source);
    let is_endpoint = unexpected.sender == Sender::Endpoint;
    let is_since = probes.unanswered_since().is_some_and(|since| unexpected.last_seen > since);
    let moved = is_endpoint && is_self_ip && is_since && evidence.is_tunnel_unanswered();
    (alone || moved).then(|| {
        let (endpoint, place) = (evidence.vtep.endpoint, evidence.place(Setting::Endpoint));
        let UnexpectedSource { source, inner_source, .. } = unexpected;
        if is_endpoint {
            return format!(
                "move {inner_source} back to {}, or set {place} to {source}: frames of {inner_source} come from {source}, the \
                 endpoint of another VTEP",
                evidence.peer()
            );
        }
        let remedy = match evidence.name {
            None => format!("set `local-address {endpoint}` on BIG-IP's tunnel, or {place}"),
            Some(name) => format!("let VTEP {name} send from {endpoint}, or set {place}"),
        };
        format!("{remedy} to {source}: frames of {inner_source} come from there")
    })
}

/// Two units have the same address at the same time: inside the tunnel, or on the underlay.
pub(super) fn self_ip_conflict(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let probes = evidence.probes?;
    let list = |owners: Vec<Owner>| {
        let owner = |Owner { mac, source }: &Owner| format!("{mac} from {source}");
        owners.iter().map(owner).collect::<Vec<_>>().join(" and ")
    };
    let (inside, outside) = (probes.self_ip_owners.in_conflict(), probes.endpoint_owners.in_conflict());
    let peer = evidence.peer();
    if !inside.is_empty() {
        let self_ip = probes.target.map(|target| format!(" {}", target.address)).unwrap_or_default();
        let address = if evidence.name.is_none() { "self IP" } else { "tunnel address" };
        return Some(format!(
            "take the {address}{self_ip} of {peer} away from all units but one: several send with it in turn, {}",
            list(inside)
        ));
    }
    let macs: Vec<_> = outside.iter().map(|owner| owner.mac.to_string()).collect();
    (!outside.is_empty()).then(|| {
        format!(
            "take the address {} of {peer} away from all hosts but one: frames with it come in turn from the MACs {}",
            evidence.vtep.endpoint,
            macs.join(" and ")
        )
    })
}

pub(super) fn vtep_mac_mismatch(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let (configured, place, peer) = (evidence.vtep.mac, evidence.place(Setting::Mac), evidence.peer_name());
    let at = evidence.probes.and_then(|probes| probes.observed_at);
    let is_gone = evidence.is_tunnel_unanswered() && at.is_none_or(|at| now.saturating_duration_since(at) >= SILENT);
    let learning = evidence.probes.map(|probes| &probes.learning);
    let learned = learning.and_then(MacLearning::learned).map(|learned| learned.mac);
    // A learned MAC counts once it is in the map.
    let is_in_place = learned.is_some() && evidence.pending_entry().is_none();
    let seen = evidence.probes.and_then(VtepProbes::foreign_mac).or(learned.filter(|_| !is_in_place));
    let seen = seen.filter(|_| !is_gone);
    if configured.is_multicast() && !is_in_place {
        let seen = seen.map(|mac| format!("; {peer}'s tunnel answers with {mac}")).unwrap_or_default();
        return Some(format!(
            "set {place} to the MAC of {peer}'s tunnel: {configured} is a group address, ping may pass and TCP does not{seen}"
        ));
    }
    let refusal =
        learning.and_then(MacLearning::refusal).map(|refusal| format!("; the entry does not follow: {refusal}"));
    let refusal = refusal.unwrap_or_default();
    seen.map(|seen| {
        format!("set {place} to {seen}, which {peer}'s tunnel answers with, instead of {configured}{refusal}")
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
    let (peer, cidr) = (evidence.peer(), evidence.vtep.cidr);
    let (remedy, networks) = match evidence.name {
        None => (
            format!("let {peer} use its self IP in {cidr} as the source (a SNAT pool instead of automap)"),
            "vtep-cidr",
        ),
        Some(_) => (format!("let {peer} use an address in {cidr} as the source"), "CIDR of a VTEP"),
    };
    Some(format!(
        "{remedy}: it sends from {address}, which is in no {networks}, so that the answers do not come back to it"
    ))
}

pub(super) fn no_return_path(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    if let Some(forwarder) = evidence.forwarder(now) {
        let (peer, node) = (evidence.peer(), evidence.this_node());
        return (!evidence.is_tunnel_unanswered()).then(|| {
            let remedy = match evidence.name {
                None => format!("add the FDB record for {node} on {peer}"),
                Some(_) => format!("let {peer} send what is for the pods of {node} to it"),
            };
            format!("{remedy}: {}", forwarded_by(forwarder))
        });
    }
    let one_way = evidence.state(VtepProbes::arp_state) == ProbeState::Ok
        && evidence.state(VtepProbes::icmp_state) == ProbeState::Failed;
    let explained = evidence.drops_probes()
        || dropped_on_node(evidence, now).is_some()
        || vtep_mac_mismatch(evidence, now).is_some();
    (one_way && !explained).then(|| {
        let (peer, node) = (evidence.peer(), evidence.this_node());
        let router = evidence.facts.cilium.router.map(|router| format!(" that covers {router}")).unwrap_or_default();
        let (record, address) = match evidence.name {
            None => (format!("its FDB record for {node}"), "the self IP"),
            Some(_) => (format!("that it sends their packets to {node}"), "its tunnel address"),
        };
        format!(
            "the tunnel of {peer} answers ARP but not ping: check its route to the pod CIDR{router}, {record}, and that {address} \
             allows ICMP{}",
            evidence.send_error()
        )
    })
}

/// TCP was answered through the tunnel, and is not any more, while ping passes.
pub(super) fn tcp_broken(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let probes = evidence.probes?;
    let tcp = probes.tcp.as_ref().filter(|tcp| tcp.is_broken())?;
    let passes = evidence.state(VtepProbes::icmp_state) == ProbeState::Ok;
    (passes && vtep_mac_mismatch(evidence, now).is_none()).then(|| {
        format!(
            "look for what stops TCP to {}, which {} answered before, and does not any more though ping passes: wrong checksums (checksum \
             offload of this node's underlay device, or of {}), a group address as its MAC, a network policy, or the port's own filter",
            tcp.target,
            evidence.peer(),
            evidence.peer_name()
        )
    })
}

/// Says by which way frames arrive that another node forwards.
pub(super) fn forwarded_by(forwarder: Ipv4Addr) -> String {
    format!(
        "its frames for this node come only by way of the node {forwarder}, to which it floods what it has no record for"
    )
}

impl Evidence<'_> {
    /// The node of the cluster by way of which this BIG-IP's frames arrive, if none come directly: BIG-IP has no FDB record for this node, so
    /// it floods the frames to other nodes, and one that does not have the pod forwards them over its overlay.
    pub(super) fn forwarder(&self, now: Instant) -> Option<Ipv4Addr> {
        let forwarded = self.probes?.forwarded.filter(|forwarded| now.duration_since(forwarded.last_seen) < RECENT)?;
        self.comes_alone(forwarded, now).then_some(forwarded.source)
    }

    /// For a while before this frame, none came from the endpoint.
    fn comes_alone(&self, frame: UnexpectedSource, now: Instant) -> bool {
        let is_right = |flow: &&Flow| flow.belongs_to(self.tunnel);
        let right = self.recent_flows(now).filter(is_right).map(|flow| flow.last_seen).max();
        right.is_none_or(|right| frame.last_seen.saturating_duration_since(right) >= SOLE_SOURCE_AFTER)
    }
}

pub(super) fn self_ip_unknown(evidence: &Evidence<'_>, now: Instant) -> Option<String> {
    let (cidr, peer) = (evidence.vtep.cidr, evidence.peer_name());
    let address = if evidence.name.is_none() { "tunnel self IP" } else { "tunnel address" };
    // Whoever installed the agent with the chart has no command line to change.
    let setting = if evidence.in_pod { "the chart's probe.targets (--probe-target)" } else { "--probe-target" };
    match evidence.probes?.target {
        None => Some(format!(
            "set {setting} {cidr}=<{address}>: none is known, {peer} has not sent anything from inside {cidr} yet, and none \
             has answered so far"
        )),
        Some(target)
            if evidence.is_tunnel_unanswered() && evidence.has_own_frames(now) && !evidence.has_target_answered() =>
        {
            Some(format!(
                "check {setting} {cidr}={}: it does not answer while {} sends through the tunnel; if it is the {address}, look \
                 for a filter on UDP port {} towards {peer}",
                target.address,
                evidence.peer(),
                evidence.tunnel.port
            ))
        }
        Some(_) => None,
    }
}
