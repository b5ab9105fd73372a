//! The probes of one VTEP: targets, records, and what they say. A function of events and of `now`.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    flow::{Flow, Stray},
    frames::{Arp, TunnelArpReply, VTEP_VNI},
    passive::Passive,
    path_mtu::PathMtu,
    self_ip::Known,
    window::{Answers, Health, Thresholds},
};
use crate::{
    config::spec::{Tunnel, Vtep},
    types::mac::Mac,
};

/// So many times the pace where something was lost.
const HASTE: u32 = 4;
/// An interval is shorter or longer by up to this share of it, at random.
const JITTER: f64 = 0.05;
/// What is due within this share of the interval can go out with what is due now: one turn of the loop serves all.
const SLACK: u32 = 10;
/// One probe in so many has the full size.
const FULL_SIZE_EVERY: u32 = 2;

/// How often and how patiently to probe.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

/// How the address to probe became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `--probe-target`.
    Configured,
    /// From BIG-IP's own frames.
    Learned,
    /// It answered when every address was asked for.
    Swept,
    /// It answered this agent before it was restarted.
    Remembered,
}

/// The tunnel self IP of a BIG-IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: Ipv4Addr,
    pub origin: Origin,
}

/// How a probe stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeState {
    /// No answer is in yet, and not enough were missed to say more.
    Pending,
    Ok,
    Failed,
    /// No address to probe is known.
    NoTarget,
    /// It cannot run here; `tap.error` says why.
    Unsupported,
}

impl From<Answers> for ProbeState {
    fn from(answers: Answers) -> Self {
        match answers {
            Answers::Pending => Self::Pending,
            Answers::Ok => Self::Ok,
            Answers::Failed => Self::Failed,
        }
    }
}

/// The probes of one VTEP.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub vtep: Vtep,
    pub target: Option<Target>,
    /// What has answered last, in this life of the agent or one before.
    pub known: Option<Known>,
    /// Since when this VTEP is probed.
    pub began: Instant,
    /// Every address of its CIDR was asked for.
    pub swept: bool,
    pub underlay: Health,
    pub arp: Health,
    pub icmp: Health,
    pub path_mtu: PathMtu,
    pub passive: Passive,
    /// BIG-IP's own frames take the place of probes just now.
    pub rests: bool,
    /// Another VTEP has the same endpoint: its frames do not tell whose they are.
    pub shares_endpoint: bool,
    /// Frames that answered our probes, asked for or not.
    answers: u64,
    /// When the last of them came.
    last_answer: Option<Instant>,
    /// The tap hears this endpoint's answers to ARP.
    pub heard: bool,
    /// The MAC that answered ARP last.
    pub observed_mac: Option<Mac>,
    /// When that was.
    pub observed_at: Option<Instant>,
    /// Answers in a row with another MAC than the configured one.
    foreign_macs: u32,
    thresholds: Thresholds,
    /// Streams from this endpoint.
    pub flows: Vec<Flow>,
    /// Frames from inside this VTEP's CIDR that came from another address last.
    pub stray: Option<Stray>,
    /// When Cilium last answered this VTEP's ARP, and with which MAC.
    pub answered: Option<(Instant, Mac)>,
    /// When to probe next.
    pub due: Instant,
}

impl Lane {
    #[must_use]
    pub fn new(vtep: Vtep, configured: Option<Ipv4Addr>, pace: Pace, now: Instant) -> Self {
        let health = || Health::new(pace.thresholds, pace.timeout);
        Self {
            vtep,
            target: configured.map(|address| Target { address, origin: Origin::Configured }),
            known: None,
            began: now,
            swept: false,
            underlay: health(),
            arp: health(),
            icmp: health(),
            path_mtu: PathMtu::new(pace.thresholds, pace.interval * FULL_SIZE_EVERY, pace.timeout, now),
            passive: Passive::default(),
            rests: false,
            shares_endpoint: false,
            answers: 0,
            last_answer: None,
            heard: true,
            observed_mac: None,
            observed_at: None,
            foreign_macs: 0,
            thresholds: pace.thresholds,
            flows: Vec::new(),
            stray: None,
            answered: None,
            due: now,
        }
    }

    /// Takes in what was known of this VTEP before: a place to ask at, where no other was told.
    pub fn recall(&mut self, known: Known) {
        self.known = Some(known);
        self.target.get_or_insert(Target { address: known.self_ip, origin: Origin::Remembered });
    }

    /// The target has answered once, in this life of the agent or one before: it is the right one.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.arp.received + self.icmp.received > 0 || self.known_target().is_some()
    }

    /// Echoes to the target were answered once.
    #[must_use]
    pub fn has_echoed(&self) -> bool {
        self.icmp.received > 0 || self.known_target().is_some_and(|known| known.echo)
    }

    fn known_target(&self) -> Option<&Known> {
        self.known.as_ref().filter(|known| self.target.is_some_and(|target| target.address == known.self_ip))
    }

    /// Nobody told where to ask, or what is remembered does not answer.
    #[must_use]
    pub fn wants_target(&self) -> bool {
        self.target.is_none() || (self.is_doubted() && self.arp.state() == Answers::Failed)
    }

    /// The target is from before, and has not answered in this life.
    fn is_doubted(&self) -> bool {
        let is_remembered = self.target.is_some_and(|target| target.origin == Origin::Remembered);
        is_remembered && self.observed_at.is_none() && self.icmp.received == 0
    }

    /// The target has answered.
    fn note_answer(&mut self, echo: bool) {
        let Some(Target { address: self_ip, .. }) = self.target else { return };
        let before = self.known_target().copied().unwrap_or(Known { self_ip, mac: None, echo: false });
        self.known = Some(Known { self_ip, mac: self.observed_mac.or(before.mac), echo: echo || before.echo });
    }

    /// Plans the next probe: a fleet of agents that started together drifts apart.
    ///
    /// While some of the last are lost, the next come sooner: they tell loss from an outage, and both soon. An outage that is known
    /// brings the usual pace back.
    pub fn schedule(&mut self, pace: Pace, now: Instant, random: f64) {
        let hasty = || (pace.interval / HASTE).max(pace.timeout.min(pace.interval) / 2);
        let interval = if self.is_doubtful() { hasty() } else { pace.interval };
        self.due = now + interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
    }

    /// Whether to probe now, given that some lane is probed now.
    #[must_use]
    pub fn joins(&self, pace: Pace, now: Instant) -> bool {
        now + pace.interval / SLACK >= self.due
    }

    /// Some of the last were lost, and not all.
    fn is_doubtful(&self) -> bool {
        self.icmp.state() == Answers::Ok && self.icmp.lost() > 0
    }

    /// Whether BIG-IP's own frames make the probe that is due superfluous. It rests until the next is due.
    pub fn rest(&mut self, tunnel: Tunnel) -> bool {
        let (mut seen, mut from_its_mac) = (0, true);
        for flow in self.flows_of(tunnel) {
            seen += flow.packets;
            from_its_mac &= flow.inner_mac == self.vtep.mac;
        }
        let is_sound = |health: &Health| health.state() == Answers::Ok && health.lost() == 0;
        // Where the full size is lost, the next ones tell when that is over.
        let sound = is_sound(&self.icmp)
            && is_sound(&self.arp)
            && !self.path_mtu.is_in_doubt()
            && self.heard
            && from_its_mac
            && self.foreign_macs == 0
            && !self.shares_endpoint;
        self.rests = self.passive.skips(seen, self.answers, sound);
        self.rests
    }

    /// An ARP answer came from this lane's endpoint. It counts when it answers what `asker` asked, inside the right tunnel:
    /// BIG-IP also announces itself unasked.
    pub fn on_arp_reply(&mut self, reply: &TunnelArpReply, asker: Ipv4Addr, now: Instant) {
        self.answers += 1;
        self.last_answer = Some(now);
        let answers_us = reply.vni == VTEP_VNI && reply.arp.target == asker;
        let is_known = self.target.is_some_and(|target| target.address == reply.arp.sender);
        let is_wanted = self.target.is_none() || (self.is_doubted() && !is_known);
        if is_wanted && answers_us && self.vtep.cidr.contains(&reply.arp.sender) {
            self.target = Some(Target { address: reply.arp.sender, origin: Origin::Swept });
        }
        let asked = self.target.is_some_and(|target| target.address == reply.arp.sender);
        if !asked || !answers_us {
            return;
        }
        let mac = reply.arp.sender_mac;
        (self.observed_mac, self.observed_at) = (Some(mac), Some(now));
        self.note_answer(false);
        self.foreign_macs = if mac == self.vtep.mac { 0 } else { self.foreign_macs.saturating_add(1) };
        self.arp.on_reply_to_newest(now);
    }

    /// The MAC that BIG-IP's tunnel answers with, where it is not the configured one: after as many answers as any cause takes.
    #[must_use]
    pub fn foreign_mac(&self) -> Option<Mac> {
        self.observed_mac.filter(|_| self.foreign_macs >= self.thresholds.raise)
    }

    /// When the last frame of this endpoint's tunnel came in, if that was after the probes through it began to be unanswered; where there
    /// is nobody to probe through it, those beside it. The first answers after an outage are its end, and no frames of BIG-IP's own.
    #[must_use]
    pub fn seen_since_unanswered(&self, tunnel: Tunnel) -> Option<Instant> {
        let through = self.arp.unanswered_since().max(self.icmp.unanswered_since());
        let since = through.or_else(|| self.underlay.unanswered_since())?;
        let since = self.last_answer.map_or(since, |answer| since.max(answer));
        let newest = self.flows_of(tunnel).map(|flow| flow.last_seen).max();
        newest.filter(|newest| *newest > since)
    }

    /// The streams of this endpoint that belong to this tunnel.
    fn flows_of(&self, tunnel: Tunnel) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| flow.belongs_to(tunnel))
    }

    /// What the tap has counted so far.
    pub fn on_flows(&mut self, flows: &[Flow]) {
        self.flows = flows.iter().filter(|flow| flow.source == self.vtep.endpoint).cloned().collect();
        // Its answers to our own questions teach nothing new.
        let known = self.target.map(|target| target.address);
        if self.target.is_none_or(|target| target.origin != Origin::Configured) {
            self.target = self.learn().filter(|learned| Some(learned.address) != known).or(self.target);
        }
    }

    /// What the tap has counted so far of one stream.
    pub fn on_flow(&mut self, flow: Flow) {
        let is_same = |other: &&mut Flow| (other.vni, other.port) == (flow.vni, flow.port);
        match self.flows.iter_mut().find(is_same) {
            Some(known) => *known = flow,
            None => self.flows.push(flow),
        }
    }

    /// What came from elsewhere as if it were this VTEP's.
    pub fn on_strays(&mut self, strays: &[Stray]) {
        let mine = strays.iter().filter(|stray| self.vtep.cidr.contains(&stray.inner_source));
        self.stray = mine.max_by_key(|stray| stray.last_seen).copied();
    }

    /// Cilium answered an ARP request that came through the tunnel.
    pub fn on_own_reply(&mut self, reply: &Arp, now: Instant) {
        if self.vtep.cidr.contains(&reply.target) {
            self.answered = Some((now, reply.sender_mac));
        }
    }

    /// Who speaks ARP is a self IP; the source of other packets may be a client behind BIG-IP, and takes no place that has answered.
    fn learn(&self) -> Option<Target> {
        let inside = |address: &Ipv4Addr| self.vtep.cidr.contains(address);
        let flows = || self.flows.iter().filter(|flow| flow.is_vtep_traffic());
        let arp = flows().filter_map(|flow| flow.arp_sender).find(inside);
        let is_proven = self.target.is_some() && self.arp.received + self.icmp.received > 0;
        let ip = || flows().filter_map(|flow| flow.inner_source).find(inside).filter(|_| !is_proven);
        arp.or_else(ip).map(|address| Target { address, origin: Origin::Learned })
    }

    pub fn on_time(&mut self, now: Instant) {
        let doubted = self.is_doubtful();
        for health in [&mut self.underlay, &mut self.arp, &mut self.icmp] {
            health.on_time(now);
        }
        self.path_mtu.on_time(now);
        // The first loss is looked into at once.
        if self.is_doubtful() && !doubted {
            self.due = self.due.min(now);
        }
    }

    /// When this lane has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let timeouts = [&self.underlay, &self.arp, &self.icmp].into_iter().filter_map(Health::deadline);
        let path_mtu = (self.target.is_some() && !self.rests).then(|| self.path_mtu.deadline());
        timeouts.chain(path_mtu).fold(self.due, Instant::min)
    }

    #[must_use]
    pub fn underlay_state(&self) -> ProbeState {
        self.underlay.state().into()
    }

    #[must_use]
    pub fn arp_state(&self) -> ProbeState {
        match self.target {
            _ if !self.heard => ProbeState::Unsupported,
            Some(_) => self.arp.state().into(),
            None => ProbeState::NoTarget,
        }
    }

    /// An echo came back through the tunnel.
    pub fn on_echo(&mut self, sequence: u16, now: Instant) {
        self.answers += 1;
        self.last_answer = Some(now);
        if !self.path_mtu.on_reply(sequence, now) {
            self.icmp.on_reply(sequence, now);
        }
        self.note_answer(true);
    }

    #[must_use]
    pub fn path_mtu_state(&self) -> ProbeState {
        if self.target.is_some() { self.path_mtu.state().into() } else { ProbeState::NoTarget }
    }

    #[must_use]
    pub fn icmp_state(&self) -> ProbeState {
        if self.target.is_some() { self.icmp.state().into() } else { ProbeState::NoTarget }
    }
}

#[cfg(test)]
mod tests;
