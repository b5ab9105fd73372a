//! The probe loop: sends probes when they are due, handles their answers, and publishes a report.

pub mod learned;
mod nodes;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::{info, warn};
use vtep_core::{
    config::{
        spec::{Spec, Tunnel, Vtep},
        view::View,
    },
    node::{devices::Underlay, facts::Facts, udp::UdpErrors},
    tunnel::{
        frames::Echo,
        report::ProbeReport,
        strays::Strays,
        sweep::Sweep,
        vtep_probes::{ProbeState, ProbeTiming, VtepProbes},
    },
    types::error_chain::chain,
};

use self::{
    learned::Memory,
    nodes::Nodes,
    sockets::{Sockets, record},
};
use crate::{
    bounded,
    kernel::{
        icmp::ORDINARY,
        tap::{Answer, Asker, Clocks, OwnReply, Tap},
    },
    liveness::Heartbeat,
};

/// The interval for opening missing sockets and reading the tap, even if probes are less frequent.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Answers arrive in groups: one report covers all answers within this time.
const REPORT_WITHIN: Duration = Duration::from_millis(20);
/// The capacity of the queue for ARP answers. Eight BIG-IPs send fewer in one turn of the loop.
const ANSWERS: usize = 64;
/// The maximum length of `/proc/net/snmp` in bytes; it usually has some 1500.
const MAX_SNMP: u64 = 1 << 14;

#[derive(Clone, Debug)]
pub struct Settings {
    pub timing: ProbeTiming,
    /// BIG-IP's own traffic replaces most probes.
    pub passive_first: bool,
    /// Where Cilium's maps are pinned.
    pub bpffs: PathBuf,
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
    /// The learned tunnel self IPs, including those of earlier runs.
    memory: Memory,
    /// Probe targets that belong to no VTEP, as last logged.
    idle_targets: BTreeSet<Ipv4Net>,
    tunnel: Tunnel,
    sockets: Sockets,
    tap: Option<Tap>,
    tap_load_error: Option<String>,
    /// The devices that the tap listens on.
    underlay: BTreeSet<u32>,
    tap_error: Option<String>,
    nodes: Nodes,
    /// Tunnel frames of the endpoints with other VNIs and on other ports.
    strays: Strays,
    tap_counters: [u64; vtep_agent_ebpf::COUNTERS as usize],
    /// The node's UDP errors before pings through a tunnel failed.
    udp_errors: UdpErrors,
    housekeeping_due: Instant,
    /// When to publish the changes since the last report.
    report_due: Option<Instant>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// Cilium's own ARP replies.
    replies: (mpsc::Sender<OwnReply>, mpsc::Receiver<OwnReply>),
    /// The tunnel device, if Cilium's own ARP replies on it need to be checked.
    suspect: Option<u32>,
    /// The largest inner packet that fits into the underlay's MTU.
    full_size: Option<u16>,
    sweep: Sweep,
}

/// The reason for a turn of the loop.
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
    /// The socket for ARP cannot be opened.
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
            nodes: Nodes::default(),
            strays: Strays::default(),
            tap_counters: Default::default(),
            udp_errors: UdpErrors::default(),
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

    /// Returns false if the event concerns no VTEP, so that there is nothing to report.
    fn on_event(&mut self, event: Event, now: Instant) -> bool {
        match event {
            Event::Rewire => self.rewire(),
            Event::Arp((at, reply)) => {
                let Some(address) = self.sockets.arp_address() else { return false };
                // The answer is one of the frames that the tap has counted, so a report that has it also has the count.
                let tap = self.tap.as_ref();
                let counts = tap.and_then(|tap| tap.counts(reply.endpoint, Clocks::read()).ok()).flatten();
                let tunnel = self.tunnel;
                for probes in self.vteps.values_mut() {
                    if probes.vtep.endpoint == reply.endpoint {
                        probes.on_arp_reply(&reply, address, at);
                        counts.iter().for_each(|counts| probes.on_counts(counts, tunnel, now));
                    } else {
                        probes.on_other_arp_reply(&reply, at);
                    }
                }
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
        // Even with nothing to probe, the sockets, the tap and the heartbeat need a turn every second.
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

    /// Adapts the probes of each VTEP, the sockets and the tap to the current configuration and node.
    fn rewire(&mut self) {
        let view = self.config.borrow_and_update().clone();
        let facts = self.facts.borrow_and_update().clone().unwrap_or_default();
        let spec = view.as_ref().and_then(|view| view.effective.as_ref());
        self.tunnel = spec.map_or(self.tunnel, |spec| spec.tunnel);
        self.fit_probes(spec);
        self.log_idle_targets();
        self.sockets.fit(&facts.cilium);
        self.open_sockets();
        self.fit_tap(&facts);
    }

    /// Adapts the probes to the configuration. An unchanged VTEP keeps its records; one with another endpoint or MAC begins anew, at once.
    fn fit_probes(&mut self, spec: Option<&Spec>) {
        let now = Instant::now();
        let mut previous = std::mem::take(&mut self.vteps);
        for &vtep in spec.iter().flat_map(|spec| &spec.vteps) {
            let before = previous.remove(&vtep.cidr);
            let predecessor = before.as_ref().map(|probes| probes.vtep.endpoint).filter(|&at| at != vtep.endpoint);
            let kept = before.filter(|probes| probes.vtep == vtep);
            let configured = self.settings.targets.get(&vtep.cidr).copied();
            let begin = || {
                let mut probes = VtepProbes::new(vtep, configured, self.settings.timing, now);
                probes.predecessor = predecessor;
                self.memory.recall(&vtep).into_iter().for_each(|known| probes.recall(known));
                probes
            };
            let mut probes = kept.unwrap_or_else(begin);
            let is_other = |other: &&Vtep| other.endpoint == vtep.endpoint && other.cidr != vtep.cidr;
            probes.shares_endpoint = spec.iter().flat_map(|spec| &spec.vteps).any(|other| is_other(&other));
            self.vteps.insert(vtep.cidr, probes);
        }
    }

    /// Logs targets without effect: otherwise a typing error in `--probe-target` would go unnoticed.
    fn log_idle_targets(&mut self) {
        let idle: BTreeSet<_> =
            self.settings.targets.keys().filter(|cidr| !self.vteps.contains_key(cidr)).copied().collect();
        if idle != self.idle_targets && !self.vteps.is_empty() {
            idle.iter().for_each(|cidr| warn!(%cidr, "--probe-target matches no active VTEP CIDR"));
            self.idle_targets = idle;
        }
    }

    fn open_sockets(&mut self) {
        if self.sockets.open() {
            // VTEPs that could not be probed so far are probed now.
            let now = Instant::now();
            self.vteps.values_mut().for_each(|probes| probes.due = now);
        }
    }

    fn fit_tap(&mut self, facts: &Facts) {
        if self.tap.as_ref().map(Tap::tunnel) != Some(self.tunnel) && !self.vteps.is_empty() {
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

    /// Makes the tap listen on the current devices, and reads its counters. Logs each new error once.
    fn tend_tap(&mut self, now: Instant) {
        let endpoints: BTreeSet<_> = self.vteps.values().map(|probes| probes.vtep.endpoint).collect();
        let networks: BTreeMap<_, _> = self.vteps.iter().map(|(cidr, probes)| (*cidr, probes.vtep.endpoint)).collect();
        let (suspect, replies) = (self.suspect, &self.replies.0);
        let asker = Asker { address: self.sockets.arp_address(), echo_id: self.echo_id };
        let tended = match &mut self.tap {
            // A socket ends when its device goes down. Each call tries to open it again.
            Some(tap) => tap.look_at(&endpoints, &networks, asker).and_then(|()| {
                let failed = tap.listen_on(&self.underlay, &self.answers.0).into_iter().next();
                failed.map_or(Ok(()), Err)?;
                tap.watch_replies(suspect, replies)?;
                let clocks = Clocks::read();
                let mut counts = Vec::new();
                for &endpoint in &endpoints {
                    let neighbours = tap.neighbours(endpoint, clocks)?;
                    counts.extend(tap.counts(endpoint, clocks)?.map(|counts| (counts, neighbours)));
                }
                Ok((counts, tap.strays(clocks)?, tap.unexpected_sources(clocks)?, tap.counters()?))
            }),
            None => Ok((Vec::new(), Vec::new(), Vec::new(), self.tap_counters)),
        };
        let (read, error) = match tended {
            Ok(read) => (Some(read), self.tap_load_error.clone()),
            Err(error) => (None, Some(chain(&error).to_string())),
        };
        if let Some((counts, strays, mut unexpected_sources, counters)) = read {
            self.nodes.name(&mut unexpected_sources, &self.settings.bpffs, now);
            self.tap_counters = counters;
            self.strays.on_flows(strays, now);
            for probes in self.vteps.values_mut() {
                let endpoint = probes.vtep.endpoint;
                for (counts, neighbours) in counts.iter().filter(|(counts, _)| counts.source == endpoint) {
                    probes.on_counts(counts, self.tunnel, now);
                    probes.on_neighbours(neighbours);
                }
                let (listed, others) = self.strays.of(endpoint);
                probes.on_strays(listed, others, self.tunnel);
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

    /// While pings through the tunnel fail, a growing count of UDP errors shows that the kernel cannot deliver frames.
    fn read_udp_errors(&mut self) {
        // The kernel writes this file, and it is short. Without it, there is no such evidence.
        let text = bounded::read_text(Path::new("/proc/self/net/snmp"), MAX_SNMP).unwrap_or_default();
        let Some(errors) = UdpErrors::parse(&text) else { return };
        if self.vteps.values().all(|probes| probes.icmp_state() != ProbeState::Failed) {
            self.udp_errors = errors;
        }
        let grown = errors.since(self.udp_errors);
        self.vteps.values_mut().for_each(|probes| probes.udp_errors = grown);
    }

    fn on_time(&mut self, now: Instant) {
        if now >= self.housekeeping_due {
            self.housekeeping_due = now + HOUSEKEEPING;
            self.open_sockets();
            self.tend_tap(now);
            self.read_udp_errors();
            self.memory.follow(&self.vteps, now, Timestamp::now());
        }
        let mut vteps = std::mem::take(&mut self.vteps);
        vteps.values_mut().for_each(|probes| probes.on_time(now));
        let some_due = vteps.values().any(|probes| now >= probes.due);
        for probes in vteps.values_mut() {
            if some_due && probes.joins(self.settings.timing, now) {
                // The frames since the last round decide whether a probe is needed, and show which answers the node has dropped. If they
                // cannot be read, `tend_tap` logs the error.
                let counts = self.tap.as_ref().and_then(|tap| tap.counts(probes.vtep.endpoint, Clocks::read()).ok());
                counts.flatten().into_iter().for_each(|counts| probes.on_counts(&counts, self.tunnel, now));
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

    /// Searches for self IPs that are neither configured nor learned.
    fn sweep(&mut self, now: Instant) {
        let unknown = self.vteps.values().filter(|probes| probes.wants_target() && probes.heard);
        let unknown: Vec<_> = unknown.map(|probes| (probes.vtep.cidr, probes.is_alive())).collect();
        for probes in self.vteps.values_mut() {
            probes.swept = self.sweep.is_done(probes.vtep.cidr);
        }
        if self.sockets.arp_address().is_none() {
            return;
        }
        let Some((cidr, address)) = self.sweep.turn(&unknown, now) else { return };
        if let Some(probes) = self.vteps.get(&cidr) {
            // If this request fails, the next sweep asks again.
            let _ = self.sockets.ask_arp(self.tunnel, probes.vtep.endpoint, address);
        }
    }

    fn send(&mut self, probes: &mut VtepProbes, now: Instant) {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let echo = Echo { id: self.echo_id, sequence };
        let endpoint = probes.vtep.endpoint;
        let before = probes.pace.every();
        let turn = probes.turn(now);
        let every = probes.pace.every();
        let cidr = probes.vtep.cidr;
        if every > before {
            info!(%cidr, every, "pings are answered at a lower rate than asked; asking less often");
        } else if every < before {
            info!(%cidr, every, "asking for pings more often again");
        }
        // Where ICMP is limited, the first echo takes the answer that the second one waits for: the tunnel's matters more.
        let through_first = probes.icmp.last_lost();
        let beside = |this: &Self, probes: &mut VtepProbes| {
            if turn.beside {
                let sent = this.sockets.echo_beside_tunnel(echo, ORDINARY, endpoint);
                record(&mut probes.underlay, sequence, now, sent);
            }
        };
        if !through_first {
            beside(self, probes);
        }
        if let Some(target) = probes.target {
            if probes.heard {
                let asked = self.sockets.ask_arp(self.tunnel, endpoint, target.address);
                record(&mut probes.arp, sequence, now, asked);
            }
            if turn.through {
                let through = self.sockets.echo_through_tunnel(echo, ORDINARY, target.address);
                record(&mut probes.icmp, sequence, now, through);
            }
        }
        if through_first {
            beside(self, probes);
        }
    }

    /// Sends a full-size echo, or during a search an echo of the size to try.
    fn send_large(&mut self, probes: &mut VtepProbes, now: Instant) {
        let (Some(target), Some(full), Some(socket)) = (probes.target, self.full_size, self.sockets.through_tunnel())
        else {
            probes.path_mtu.suppress(now);
            return;
        };
        // Where ICMP is limited, it would take the answer of an ordinary echo.
        let is_limited = probes.pace.every() > 1 || probes.is_judging_pace(now);
        let alive = probes.icmp_state() == ProbeState::Ok && !is_limited;
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
