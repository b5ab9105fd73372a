//! The probe loop: sends what is due, takes in what comes back, and publishes what both say.

pub mod learned;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::warn;
use vtep_core::{
    config::{
        spec::{Spec, Tunnel, Vtep},
        view::View,
    },
    node::facts::Facts,
    tunnel::{
        frames::Echo,
        report::ProbeReport,
        sweep::Sweep,
        vtep_probes::{ProbeState, ProbeTiming, VtepProbes},
    },
    types::error_chain::chain,
};

use self::{
    learned::Memory,
    sockets::{Sockets, record},
};
use crate::{
    kernel::{
        icmp::ORDINARY,
        tap::{Answer, OwnReply, Tap, monotonic_ns},
    },
    liveness::Heartbeat,
};

/// How often sockets are looked after and the tap is read, however seldom BIG-IP is probed.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Answers come in flocks: one report tells of all that came within this time.
const REPORT_WITHIN: Duration = Duration::from_millis(20);
/// ARP answers that may wait: more than eight BIG-IPs can send in one turn of the loop.
const ANSWERS: usize = 64;

#[derive(Clone, Debug)]
pub struct Settings {
    pub timing: ProbeTiming,
    /// BIG-IP's own traffic takes the place of most probes.
    pub passive_first: bool,
    /// `--probe-target`: VTEP CIDR → tunnel self IP.
    pub targets: BTreeMap<Ipv4Net, Ipv4Addr>,
}

pub struct Prober {
    settings: Settings,
    config: watch::Receiver<Option<Arc<View>>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    report: watch::Sender<Arc<ProbeReport>>,
    /// Identifies this process's echoes among others'.
    echo_id: u16,
    sequence: u16,
    vteps: BTreeMap<Ipv4Net, VtepProbes>,
    /// Of this life and those before.
    memory: Memory,
    /// Probe targets that belong to no VTEP, as they were said last.
    idle_targets: BTreeSet<Ipv4Net>,
    tunnel: Tunnel,
    sockets: Sockets,
    tap: Option<Tap>,
    tap_load_error: Option<String>,
    /// The devices that the tap listens on.
    underlay: BTreeSet<u32>,
    tap_error: Option<String>,
    tap_counters: [u64; vtep_agent_ebpf::COUNTERS as usize],
    housekeeping_due: Instant,
    /// When to publish what changed.
    report_due: Option<Instant>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// Cilium's own ARP replies.
    replies: (mpsc::Sender<OwnReply>, mpsc::Receiver<OwnReply>),
    /// The tunnel device whose replies are worth a look.
    suspect: Option<u32>,
    /// The largest inner packet that the underlay leaves room for.
    full_size: Option<u16>,
    sweep: Sweep,
}

/// Why the loop turned.
enum Event {
    Rewire,
    Arp(Answer),
    OwnReply(OwnReply),
    ThroughTunnel(io::Result<(Ipv4Addr, Echo)>),
    BesideTunnel(io::Result<(Ipv4Addr, Echo)>),
    Time,
}

impl Prober {
    /// # Errors
    ///
    /// When the socket for ARP cannot be opened.
    pub async fn new(
        settings: Settings,
        memory: Memory,
        config: watch::Receiver<Option<Arc<View>>>,
        facts: watch::Receiver<Option<Arc<Facts>>>,
        report: watch::Sender<Arc<ProbeReport>>,
    ) -> io::Result<Self> {
        Ok(Self {
            settings,
            config,
            facts,
            report,
            echo_id: fastrand::u16(..),
            sequence: 0,
            vteps: BTreeMap::new(),
            memory,
            idle_targets: BTreeSet::new(),
            tunnel: Tunnel::default(),
            sockets: Sockets::new().await?,
            tap: None,
            tap_load_error: None,
            underlay: BTreeSet::new(),
            tap_error: None,
            tap_counters: Default::default(),
            housekeeping_due: Instant::now(),
            report_due: None,
            answers: mpsc::channel(ANSWERS),
            replies: mpsc::channel(ANSWERS),
            suspect: None,
            full_size: None,
            sweep: Sweep::default(),
        })
    }

    /// Runs until the configuration's sender is gone.
    pub async fn run(mut self, heartbeat: Heartbeat) {
        self.rewire();
        loop {
            heartbeat.beat();
            let Some(event) = self.next_event().await else { return };
            let now = Instant::now();
            if !self.on_event(event, now) {
                continue;
            }
            if now >= *self.report_due.get_or_insert(now + REPORT_WITHIN) {
                self.report_due = None;
                self.publish();
            }
        }
    }

    /// Returns false if the event concerns no lane, so that there is nothing to report.
    fn on_event(&mut self, event: Event, now: Instant) -> bool {
        match event {
            Event::Rewire => self.rewire(),
            Event::Arp((at, reply)) => {
                let Some(address) = self.sockets.arp_address() else { return false };
                let vteps = self.vteps.values_mut().filter(|probes| probes.vtep.endpoint == reply.endpoint);
                vteps.for_each(|probes| probes.on_arp_reply(&reply, address, at));
            }
            Event::OwnReply((at, reply)) => {
                self.vteps.values_mut().for_each(|probes| probes.on_own_reply(&reply, at));
            }
            Event::ThroughTunnel(Ok((from, echo))) if echo.id == self.echo_id => {
                let probes = self.vteps.values_mut().find(|probes| probes.target.is_some_and(|t| t.address == from));
                probes.into_iter().for_each(|probes| probes.on_echo(echo.sequence, now));
            }
            Event::BesideTunnel(Ok((from, echo))) if echo.id == self.echo_id => {
                let vteps = self.vteps.values_mut().filter(|probes| probes.vtep.endpoint == from);
                vteps.for_each(|probes| probes.underlay.on_reply(echo.sequence, now));
            }
            // Another process sent the request.
            Event::ThroughTunnel(Ok(_)) | Event::BesideTunnel(Ok(_)) => return false,
            Event::ThroughTunnel(Err(error)) => self.sockets.close_through_tunnel(&error),
            Event::BesideTunnel(Err(error)) => self.sockets.close_beside_tunnel(&error),
            Event::Time => self.on_time(now),
        }
        true
    }

    async fn next_event(&mut self) -> Option<Event> {
        // With nothing to probe, the sockets, the tap and the heart beat still want a turn a second.
        let vteps = self.vteps.values().map(VtepProbes::deadline);
        let others = self.sweep.deadline().into_iter().chain(self.report_due);
        let deadline = vteps.chain(others).fold(self.housekeeping_due, Instant::min);
        tokio::select! {
            biased;
            changed = self.config.changed() => changed.ok().map(|()| Event::Rewire),
            Ok(()) = self.facts.changed() => Some(Event::Rewire),
            Some(answer) = self.answers.1.recv() => Some(Event::Arp(answer)),
            Some(reply) = self.replies.1.recv() => Some(Event::OwnReply(reply)),
            reply = self.sockets.receive_through_tunnel() => Some(Event::ThroughTunnel(reply)),
            reply = self.sockets.receive_beside_tunnel() => Some(Event::BesideTunnel(reply)),
            () = time::sleep_until(deadline.into()) => Some(Event::Time),
        }
    }

    /// Fits lanes, sockets and the tap to the configuration and the node as they are now.
    fn rewire(&mut self) {
        let view = self.config.borrow_and_update().clone();
        let facts = self.facts.borrow_and_update().clone().unwrap_or_default();
        let spec = view.as_ref().and_then(|view| view.effective.as_ref());
        self.tunnel = spec.map_or(self.tunnel, |spec| spec.tunnel);
        self.fit_vteps(spec);
        self.say_idle_targets();
        self.sockets.fit(&facts.cilium);
        self.open_sockets();
        self.fit_tap(&facts);
    }

    /// A VTEP that did not change keeps its records.
    fn fit_vteps(&mut self, spec: Option<&Spec>) {
        let now = Instant::now();
        let mut previous = std::mem::take(&mut self.vteps);
        for &vtep in spec.iter().flat_map(|spec| &spec.vteps) {
            let kept = previous.remove(&vtep.cidr).filter(|probes| probes.vtep == vtep);
            let configured = self.settings.targets.get(&vtep.cidr).copied();
            let begin = || {
                let mut probes = VtepProbes::new(vtep, configured, self.settings.timing, now);
                self.memory.recall(&vtep).into_iter().for_each(|known| probes.recall(known));
                probes
            };
            let mut probes = kept.unwrap_or_else(begin);
            let is_other = |other: &&Vtep| other.endpoint == vtep.endpoint && other.cidr != vtep.cidr;
            probes.shares_endpoint = spec.iter().flat_map(|spec| &spec.vteps).any(|other| is_other(&other));
            self.vteps.insert(vtep.cidr, probes);
        }
    }

    /// A slip in `--probe-target` would look as if none were set.
    fn say_idle_targets(&mut self) {
        let idle: BTreeSet<_> =
            self.settings.targets.keys().filter(|cidr| !self.vteps.contains_key(cidr)).copied().collect();
        if idle != self.idle_targets && !self.vteps.is_empty() {
            idle.iter().for_each(|cidr| warn!(%cidr, "--probe-target matches no active VTEP CIDR"));
            self.idle_targets = idle;
        }
    }

    fn open_sockets(&mut self) {
        if self.sockets.open() {
            // What could not be probed until now is probed at once.
            let now = Instant::now();
            self.vteps.values_mut().for_each(|probes| probes.due = now);
        }
    }

    fn fit_tap(&mut self, facts: &Facts) {
        if self.tap.as_ref().map(Tap::tunnel) != Some(self.tunnel) && !self.vteps.is_empty() {
            let loaded = Tap::load(self.tunnel);
            self.tap_load_error = loaded.as_ref().err().map(|error| chain(error).to_string());
            self.tap = loaded.ok();
        }
        // Every packet of the device is copied for whoever wants to see what goes out: only a Cilium that may be one of the broken
        // releases is worth that.
        let worth = facts.version.is_none_or(|version| version.broken().is_some());
        self.suspect = facts.cilium.tunnel.as_ref().map(|device| device.index).filter(|_| worth);
        self.full_size = facts.inner_mtu().and_then(|mtu| mtu.try_into().ok());
        self.underlay = facts.underlay.values().map(|underlay| underlay.device.index).collect();
        self.tend_tap(Instant::now());
    }

    /// Keeps the tap's ears where they belong, and reads what it counted. One line for each change of what ails it.
    fn tend_tap(&mut self, now: Instant) {
        let endpoints: BTreeSet<_> = self.vteps.values().map(|probes| probes.vtep.endpoint).collect();
        let networks: BTreeSet<_> = self.vteps.keys().copied().collect();
        let (suspect, replies) = (self.suspect, &self.replies.0);
        let tended = match &mut self.tap {
            // A socket ends when its device goes down: it is opened again as soon as that can be.
            Some(tap) => tap.look_at(&endpoints, &networks).and_then(|()| {
                let deaf = tap.listen_on(&self.underlay, &self.answers.0).into_iter().next();
                deaf.map_or(Ok(()), Err)?;
                tap.watch_replies(suspect, replies)?;
                let now_ns = monotonic_ns();
                Ok((tap.flows(now, now_ns)?, tap.unexpected_sources(now, now_ns)?, tap.counters()?))
            }),
            None => Ok((Vec::new(), Vec::new(), self.tap_counters)),
        };
        let (read, error) = match tended {
            Ok(read) => (Some(read), self.tap_load_error.clone()),
            Err(error) => (None, Some(chain(&error).to_string())),
        };
        if let Some((flows, unexpected_sources, counters)) = read {
            self.tap_counters = counters;
            for probes in self.vteps.values_mut() {
                probes.on_flows(&flows);
                probes.on_unexpected_sources(&unexpected_sources);
            }
        }
        if let (Some(error), true) = (&error, error != self.tap_error) {
            warn!(%error, "eBPF tap unavailable; ARP probes and passive diagnosis are off");
        }
        let heard = self.tap.is_some() && error.is_none();
        self.vteps.values_mut().for_each(|probes| probes.heard = heard);
        self.tap_error = error;
    }

    fn on_time(&mut self, now: Instant) {
        if now >= self.housekeeping_due {
            self.housekeeping_due = now + HOUSEKEEPING;
            self.open_sockets();
            self.tend_tap(now);
            self.memory.follow(&self.vteps, now, Timestamp::now());
        }
        let mut vteps = std::mem::take(&mut self.vteps);
        vteps.values_mut().for_each(|probes| probes.on_time(now));
        let some_due = vteps.values().any(|probes| now >= probes.due);
        for probes in vteps.values_mut() {
            if some_due && probes.joins(self.settings.timing, now) {
                // What came since decides whether a probe is needed. Housekeeping says when it cannot be read.
                let tunnel = self.tap.as_ref().filter(|_| self.settings.passive_first);
                let flow = tunnel.and_then(|tap| tap.tunnel_flow(probes.vtep.endpoint, now, monotonic_ns()).ok());
                flow.flatten().into_iter().for_each(|flow| probes.on_flow(flow));
                if !(self.settings.passive_first && probes.suppress(self.tunnel)) {
                    self.send(probes, now);
                }
                probes.schedule(self.settings.timing, now, fastrand::f64());
            }
            if !probes.suppressed {
                self.send_large(probes, now);
            }
        }
        self.vteps = vteps;
        self.sweep(now);
    }

    /// Asks for a self IP that nothing else tells.
    fn sweep(&mut self, now: Instant) {
        let unknown = self.vteps.values().filter(|probes| probes.wants_target() && probes.heard);
        let unknown: Vec<_> = unknown.map(|probes| probes.vtep.cidr).collect();
        for probes in self.vteps.values_mut() {
            probes.swept = self.sweep.is_done(probes.vtep.cidr);
        }
        if self.sockets.arp_address().is_none() {
            return;
        }
        let Some((cidr, address)) = self.sweep.turn(&unknown, now) else { return };
        if let Some(probes) = self.vteps.get(&cidr) {
            // What cannot be asked now is asked in an hour.
            let _ = self.sockets.ask_arp(self.tunnel, probes.vtep.endpoint, address);
        }
    }

    fn send(&mut self, probes: &mut VtepProbes, now: Instant) {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let echo = Echo { id: self.echo_id, sequence };
        let endpoint = probes.vtep.endpoint;
        let beside = self.sockets.echo_beside_tunnel(echo, ORDINARY, endpoint);
        record(&mut probes.underlay, sequence, now, beside);
        let Some(target) = probes.target else { return };
        if probes.heard {
            let asked = self.sockets.ask_arp(self.tunnel, endpoint, target.address);
            record(&mut probes.arp, sequence, now, asked);
        }
        let through = self.sockets.echo_through_tunnel(echo, ORDINARY, target.address);
        record(&mut probes.icmp, sequence, now, through);
    }

    /// A full-size echo, or one that finds out how large they may be.
    fn send_large(&mut self, probes: &mut VtepProbes, now: Instant) {
        let (Some(target), Some(full), Some(socket)) = (probes.target, self.full_size, self.sockets.through_tunnel())
        else {
            probes.path_mtu.suppress(now);
            return;
        };
        let alive = probes.icmp_state() == ProbeState::Ok;
        let Some(due) = probes.path_mtu.turn(full, alive, now) else { return };
        self.sequence = self.sequence.wrapping_add(1);
        let echo = Echo { id: self.echo_id, sequence: self.sequence };
        match socket.send(echo, due.size, target.address) {
            Ok(()) => probes.path_mtu.on_sent(self.sequence, due, now),
            Err(error) => probes.path_mtu.on_send_error(&error, now),
        }
    }

    fn publish(&self) {
        let vteps = self.report.borrow().share(&self.vteps);
        self.report.send_replace(Arc::new(ProbeReport {
            vteps,
            tap_loaded: self.tap.is_some(),
            tap_error: self.tap_error.clone(),
            tap_counters: self.tap_counters,
        }));
    }
}
