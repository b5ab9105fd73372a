//! The probes of one VTEP: their results, and the evidence from them. A function of events and of `now`; the prober owns the sockets.
//!
//! `target` finds the address to probe, `timing` decides when to probe and which probes a round has, and `state` is for reports.

mod state;
mod target;
mod timing;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    delivery::Delivery,
    echo_pace::EchoPace,
    failover::Failovers,
    flow::{EndpointCounts, Flow, PodTraffic, Sender, UnexpectedSource},
    frames::{Arp, TunnelArpReply, VTEP_VNI},
    mac_learning::{LearnedMac, MacLearning, Record},
    owners::{Owner, Owners},
    passive::Passive,
    path_mtu::PathMtu,
    self_ip::Known,
    tcp_probe::TcpProbe,
    window::{CERTAIN_LOSSES, ProbeWindow, Thresholds, WindowState},
};
use crate::{
    config::spec::{Tunnel, Vtep},
    node::udp::UdpErrors,
    types::mac::Mac,
};

pub use self::{
    state::ProbeState,
    target::{Origin, Target},
    timing::ProbeTiming,
};

/// After another gateway has taken over, frames of the one before it may arrive for this time.
const HANDOVER: Duration = Duration::from_secs(15);
/// One probe in this many has the full size.
const FULL_SIZE_EVERY: u32 = 2;

/// The probes of one VTEP.
#[derive(Clone, Debug, PartialEq)]
pub struct VtepProbes {
    pub vtep: Vtep,
    pub target: Option<Target>,
    /// The self IP that answered last, before or after a restart of the agent.
    pub known: Option<Known>,
    /// When the agent began to probe this VTEP.
    pub began: Instant,
    /// Its endpoint until then.
    pub predecessor: Option<Ipv4Addr>,
    /// Since when the endpoint has been alive.
    alive_since: Option<Instant>,
    /// A sweep of its CIDR is complete.
    pub swept: bool,
    pub underlay: ProbeWindow,
    pub arp: ProbeWindow,
    pub icmp: ProbeWindow,
    /// `--probe-tcp`.
    pub tcp: Option<TcpProbe>,
    pub pace: EchoPace,
    pub path_mtu: PathMtu,
    pub passive: Passive,
    /// BIG-IP's own frames replace probes at the moment.
    pub suppressed: bool,
    /// Another VTEP has the same endpoint: a frame does not show to which of them it belongs.
    pub shares_endpoint: bool,
    /// Answers from this endpoint, solicited or not.
    answers: u64,
    /// When the last of these answers came.
    last_answer: Option<Instant>,
    /// The tap receives this endpoint's answers to ARP.
    pub heard: bool,
    /// The MAC that last answered ARP.
    pub observed_mac: Option<Mac>,
    /// When it answered.
    pub observed_at: Option<Instant>,
    /// Answers in a row with another MAC than the entry's.
    foreign_macs: u32,
    /// Which MAC the entry has.
    pub learning: MacLearning,
    pub failovers: Failovers,
    /// Rounds of probes that follow each other quickly, because another unit may have taken over.
    hurry: u32,
    /// When they began.
    hurried_at: Option<Instant>,
    /// The inner source MAC of the tunnel's newest frames.
    inner_mac: Option<Mac>,
    /// Answers within this time of each other are in a row: no probe between them was lost.
    row: Duration,
    thresholds: Thresholds,
    /// The streams from this endpoint: its VTEP traffic, and at most five others that persist.
    pub flows: Vec<Flow>,
    /// How many other streams it has sent lately that are not among them.
    pub other_streams: usize,
    /// All tunnel frames from this endpoint, and their bytes.
    pub packets: u64,
    pub bytes: u64,
    /// Its traffic with pods.
    pub pods: PodTraffic,
    /// Whether its answers reach this node's stack.
    pub delivery: Delivery,
    /// The UDP errors of this node since the probes began to go unanswered.
    pub udp_errors: UdpErrors,
    /// Who claims the self IP inside the tunnel.
    pub self_ip_owners: Owners,
    /// Who claims the endpoint's address on the underlay; only for an endpoint on the node's own network.
    pub endpoint_owners: Owners,
    /// The endpoint is on the node's own network, so that the MAC of its frames is its own.
    pub is_neighbour: bool,
    /// The last frames with an inner source in this VTEP's CIDR but an outer source that is another address.
    pub unexpected: Option<UnexpectedSource>,
    /// The last such frames that another node of the cluster forwarded.
    pub forwarded: Option<UnexpectedSource>,
    /// When Cilium last answered an ARP request from this VTEP, and with which MAC.
    pub answered: Option<(Instant, Mac)>,
    /// When to probe next.
    pub due: Instant,
}

impl VtepProbes {
    #[must_use]
    pub fn new(vtep: Vtep, configured: Option<Ipv4Addr>, timing: ProbeTiming, now: Instant) -> Self {
        let window = || ProbeWindow::new(timing.thresholds, timing.timeout);
        Self {
            vtep,
            target: configured.map(|address| Target { address, origin: Origin::Configured }),
            known: None,
            began: now,
            predecessor: None,
            alive_since: None,
            swept: false,
            underlay: window(),
            arp: window(),
            icmp: window(),
            tcp: None,
            pace: EchoPace::default(),
            path_mtu: PathMtu::new(timing.thresholds, timing.interval * FULL_SIZE_EVERY, timing.timeout, now),
            passive: Passive::default(),
            suppressed: false,
            shares_endpoint: false,
            answers: 0,
            last_answer: None,
            heard: true,
            observed_mac: None,
            observed_at: None,
            foreign_macs: 0,
            learning: MacLearning::new(vtep, false, Record::default()),
            failovers: Failovers::default(),
            hurry: 0,
            hurried_at: None,
            inner_mac: None,
            row: timing.interval * 3 / 2,
            thresholds: timing.thresholds,
            flows: Vec::new(),
            other_streams: 0,
            packets: 0,
            bytes: 0,
            pods: PodTraffic::default(),
            delivery: Delivery::default(),
            udp_errors: UdpErrors::default(),
            self_ip_owners: Owners::default(),
            endpoint_owners: Owners::default(),
            is_neighbour: false,
            unexpected: None,
            forwarded: None,
            answered: None,
            due: now,
        }
    }

    /// Whether the endpoint answers beside the tunnel, or sends frames.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.underlay.state() == WindowState::Ok || !self.flows.is_empty()
    }

    /// Processes an ARP reply from this VTEP's endpoint. It counts only if it answers a request of `arp_sender` and carries the right VNI,
    /// because BIG-IP also announces itself unasked.
    pub fn on_arp_reply(&mut self, reply: &TunnelArpReply, arp_sender: Ipv4Addr, now: Instant) {
        self.answers += 1;
        self.last_answer = Some(now);
        let answers_us = reply.vni == VTEP_VNI && reply.arp.target == arp_sender;
        let is_known = self.target.is_some_and(|target| target.address == reply.arp.sender);
        let is_wanted = self.target.is_none() || (self.is_unconfirmed() && !is_known);
        if is_wanted && answers_us && self.vtep.cidr.contains(&reply.arp.sender) {
            self.target = Some(Target { address: reply.arp.sender, origin: Origin::Swept });
        }
        let asked = self.target.is_some_and(|target| target.address == reply.arp.sender);
        if !asked || !answers_us {
            return;
        }
        let mac = reply.arp.sender_mac;
        self.self_ip_owners.on_claim(Owner { mac, source: reply.endpoint }, now);
        if self.observed_mac.is_some_and(|before| before != mac) {
            self.hurry(now);
        }
        (self.observed_mac, self.observed_at) = (Some(mac), Some(now));
        self.note_answer(false);
        let answered = self.arp.received;
        self.arp.on_reply_to_newest(now);
        // Two units may answer the same probe.
        if self.arp.received > answered {
            self.learning.on_answer(mac, self.row, now);
        }
        self.foreign_macs = if mac == self.learning.mac() { 0 } else { self.foreign_macs.saturating_add(1) };
    }

    /// Processes an ARP reply from another outer source. Whoever sends one for the self IP claims it, asked or not.
    pub fn on_other_arp_reply(&mut self, reply: &TunnelArpReply, now: Instant) {
        if reply.vni == VTEP_VNI && self.target.is_some_and(|target| target.address == reply.arp.sender) {
            self.self_ip_owners.on_claim(Owner { mac: reply.arp.sender_mac, source: reply.endpoint }, now);
        }
    }

    /// Decides whether the entry follows the MAC that answers; `ours` are the MACs of this node's devices. Returns the MAC that was learned now.
    pub fn decide_mac(&mut self, ours: &BTreeSet<Mac>, at: Timestamp) -> Option<LearnedMac> {
        let learned = self.learning.decide(ours, &self.self_ip_owners, at)?;
        self.foreign_macs = 0;
        Some(learned)
    }

    /// Notices that another unit has taken over; `endpoints` are those of all VTEPs.
    pub fn follow_owners(&mut self, endpoints: &BTreeSet<Ipv4Addr>, now: Instant) {
        let self_ip = self.target.map(|target| target.address);
        let (inside, outside) = (&self.self_ip_owners, &self.endpoint_owners);
        if self.failovers.follow(self_ip, inside, outside, endpoints, now) {
            self.hurry(now);
        }
    }

    /// The MAC of BIG-IP's tunnel, if it is not the entry's. It needs as many answers in a row as a failure needs losses.
    #[must_use]
    pub fn foreign_mac(&self) -> Option<Mac> {
        self.observed_mac.filter(|_| self.foreign_macs >= self.thresholds.raise)
    }

    /// When the last frame of this endpoint's tunnel came, if that was after the probes through the tunnel began to go unanswered. Without
    /// such probes, the probes on the underlay count. The first answers after an outage show its end, so they do not count as frames that
    /// BIG-IP sent by itself.
    #[must_use]
    pub fn seen_since_unanswered(&self, tunnel: Tunnel) -> Option<Instant> {
        let since = self.unanswered_since()?;
        let newest = self.flows_of(tunnel).map(|flow| flow.last_seen).max();
        newest.filter(|newest| *newest > since)
    }

    /// Since when probes go unanswered: through the tunnel, or else beside it.
    #[must_use]
    pub fn unanswered_since(&self) -> Option<Instant> {
        let through = self.arp.unanswered_since().max(self.icmp.unanswered_since());
        let since = through.or_else(|| self.underlay.unanswered_since())?;
        Some(self.last_answer.map_or(since, |answer| since.max(answer)))
    }

    /// Whether the endpoint answers ping beside the tunnel: also if most of the pings are lost, by a limit of ICMP or by chance, but some
    /// were answered since the tunnel has been silent.
    #[must_use]
    pub fn is_underlay_answered(&self) -> bool {
        let is_certain = self.underlay.lost_in_a_row() >= CERTAIN_LOSSES;
        let through = [&self.arp, &self.icmp];
        let silent_since =
            through.into_iter().flat_map(|window| [window.unanswered_since(), window.answered_at()]).max();
        // The endpoint may have died between its answer to a ping and the one through the tunnel.
        let outlived = silent_since.flatten().zip(self.underlay.answered_at());
        let has_outlived = outlived.is_some_and(|(silent, answered)| answered > silent + self.underlay.timeout());
        self.underlay.state() == WindowState::Ok || (has_outlived && !is_certain)
    }

    /// The streams of this endpoint that belong to this tunnel.
    fn flows_of(&self, tunnel: Tunnel) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| flow.belongs_to(tunnel))
    }

    /// Replaces the streams of this endpoint that are not the configured tunnel: those that persist, and the number of others.
    pub fn on_strays(&mut self, listed: Vec<Flow>, others: usize, tunnel: Tunnel) {
        self.flows.retain(|flow| flow.belongs_to(tunnel));
        self.flows.extend(listed);
        self.other_streams = others;
        self.learn();
    }

    /// Updates the counts of this endpoint.
    pub fn on_counts(&mut self, counts: &EndpointCounts, tunnel: Tunnel, now: Instant) {
        let EndpointCounts { source: _, tunnel: flow, packets, bytes, kinds, pods } = counts;
        (self.packets, self.bytes, self.pods) = (*packets, *bytes, *pods);
        self.delivery.on_kinds(*kinds, self.icmp.unanswered_since().is_none(), now);
        if let Some(flow) = flow {
            self.learning.on_frames(flow.inner_mac, flow.last_seen);
            if self.inner_mac.replace(flow.inner_mac).is_some_and(|before| before != flow.inner_mac) {
                self.hurry(now);
            }
        }
        // The tunnel's own stream comes first: it shows the self IP.
        self.flows.retain(|flow| !flow.belongs_to(tunnel));
        self.flows.splice(0..0, flow.clone());
        self.learn();
    }

    /// Processes the MACs of the outer frames, each with the time of the last one.
    pub fn on_neighbours(&mut self, neighbours: &[(Mac, Instant)], now: Instant) {
        let before = self.endpoint_owners.newest();
        for &(mac, at) in neighbours.iter().filter(|_| self.is_neighbour) {
            self.endpoint_owners.on_claim(Owner { mac, source: self.vtep.endpoint }, at);
        }
        if before.is_some() && before != self.endpoint_owners.newest() {
            self.hurry(now);
        }
    }

    /// Processes frames from unexpected sources. A failover is none: the endpoint may have sent before it was the endpoint, and the one before
    /// it may still send.
    pub fn on_unexpected_sources(&mut self, unexpected_sources: &[UnexpectedSource]) {
        let hands_over = |unexpected: &UnexpectedSource| {
            let is_predecessor = Some(unexpected.source) == self.predecessor;
            unexpected.source == self.vtep.endpoint || (is_predecessor && unexpected.last_seen < self.began + HANDOVER)
        };
        let mine = unexpected_sources.iter().filter(|unexpected| self.vtep.cidr.contains(&unexpected.inner_source));
        let mine = mine.filter(|unexpected| !hands_over(unexpected));
        for &UnexpectedSource { source, sender, inner_source, inner_mac: mac, last_seen } in mine.clone() {
            // A node that forwards a frame may put a MAC of its own into it.
            if sender != Sender::Node && self.target.is_some_and(|target| target.address == inner_source) {
                self.self_ip_owners.on_claim(Owner { mac, source }, last_seen);
            }
        }
        let newest = |by_node: bool| {
            let are = mine.clone().filter(|unexpected| (unexpected.sender == Sender::Node) == by_node);
            are.max_by_key(|unexpected| unexpected.last_seen).copied()
        };
        // The tap keeps the last frame of each source, and that may belong to another VTEP: then the one before it stays.
        self.unexpected = newest(false).or(self.unexpected);
        self.forwarded = newest(true).or(self.forwarded);
    }

    /// Processes Cilium's answer to an ARP request that came through the tunnel.
    pub fn on_own_reply(&mut self, reply: &Arp, now: Instant) {
        if self.vtep.cidr.contains(&reply.target) {
            self.answered = Some((now, reply.sender_mac));
        }
    }

    /// Processes an echo reply that came through the tunnel.
    pub fn on_echo(&mut self, sequence: u16, now: Instant) {
        self.answers += 1;
        self.last_answer = Some(now);
        if !self.path_mtu.on_reply(sequence, now) {
            self.icmp.on_reply(sequence, now);
            self.failovers.on_echo(self.icmp.lost_total, now);
        }
        self.delivery.on_delivered();
        self.note_answer(true);
    }
}

#[cfg(test)]
mod tests;
