//! The probe loop: sends probes when they are due, handles their answers, and publishes a report.
//!
//! `wiring` adapts it to the configuration and the node, `sending` sends, `tap` passes on what the tap has recorded, and `macs` follows a MAC
//! that changes.

pub mod learned;
mod macs;
mod nodes;
mod sending;
mod sockets;
mod tap;
mod wiring;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task, time,
};
use vtep_core::{
    config::{spec::Tunnel, view::View},
    node::{facts::Facts, udp::UdpErrors},
    tunnel::{
        frames::Echo,
        mac_learning::{LearnMacs, LearnedMacs},
        report::ProbeReport,
        strays::Strays,
        sweep::Sweep,
        tcp_probe,
        vtep_probes::{ProbeState, ProbeTiming, VtepProbes},
    },
    types::mac::Mac,
};

use self::{learned::Memory, nodes::Nodes, sockets::Sockets};
use crate::{
    bounded,
    kernel::tap::{Answer, Clocks, OwnReply, Tap},
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
    /// `--probe-tcp`: VTEP CIDR → tunnel self IP and port.
    pub tcp_targets: BTreeMap<Ipv4Net, SocketAddrV4>,
    pub learn_macs: LearnMacs,
}

impl Settings {
    /// The flags that name a CIDR which is not active, each with that CIDR.
    fn idle(&self, is_active: impl Fn(&Ipv4Net) -> bool) -> BTreeSet<(&'static str, Ipv4Net)> {
        let targets = self.targets.keys().map(|cidr| ("--probe-target", *cidr));
        let tcp_targets = self.tcp_targets.keys().map(|cidr| ("--probe-tcp", *cidr));
        let learn_macs = self.learn_macs.cidrs.iter().map(|cidr| ("--learn-mac", *cidr));
        targets.chain(tcp_targets).chain(learn_macs).filter(|(_, cidr)| !is_active(cidr)).collect()
    }
}

/// Where the prober publishes what it finds.
pub struct Outputs {
    pub report: watch::Sender<Arc<ProbeReport>>,
    /// For the reconciler: the MACs in the place of configured ones.
    pub macs: watch::Sender<Arc<LearnedMacs>>,
}

pub struct Prober {
    settings: Settings,
    config: watch::Receiver<Option<Arc<View>>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    report: watch::Sender<Arc<ProbeReport>>,
    macs: watch::Sender<Arc<LearnedMacs>>,
    /// When to look at the MACs of frames again.
    macs_due: Instant,
    /// The MACs of this node's devices that carry the tunnels' traffic.
    own_macs: BTreeSet<Mac>,
    /// Identifies this process's echoes among others'.
    echo_id: u16,
    sequence: u16,
    vteps: BTreeMap<Ipv4Net, VtepProbes>,
    /// The learned tunnel self IPs, including those of earlier runs.
    memory: Memory,
    /// Settings whose CIDR belongs to no VTEP, as last logged.
    idle_settings: BTreeSet<(&'static str, Ipv4Net)>,
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
    Tcp(io::Result<tcp_probe::Answer>),
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
        Outputs { report, macs }: Outputs,
    ) -> io::Result<Self> {
        let has_tcp = !settings.tcp_targets.is_empty();
        Ok(Self {
            settings,
            config,
            facts,
            report,
            macs,
            macs_due: Instant::now(),
            own_macs: BTreeSet::new(),
            echo_id: fastrand::u16(..),
            sequence: 0,
            vteps: BTreeMap::new(),
            memory,
            idle_settings: BTreeSet::new(),
            tunnel: Tunnel::default(),
            sockets: Sockets::new(has_tcp).await?,
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
            if matches!(event, Event::Rewire) {
                // The reconciler goes first: to load the tap takes as long as many passes.
                task::yield_now().await;
            }
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
                self.follow_units(now);
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
            Event::Tcp(Ok(answer)) => {
                let probes = self.vteps.values_mut().filter_map(|probes| probes.tcp.as_mut());
                probes.for_each(|tcp| tcp.on_answer(&answer, self.echo_id, now));
            }
            Event::Tcp(Err(error)) => self.sockets.close_tcp(&error),
            Event::ThroughTunnel(Err(error)) => self.sockets.close_through_tunnel(&error),
            Event::BesideTunnel(Err(error)) => self.sockets.close_beside_tunnel(&error),
            Event::Time => self.on_time(now),
        }
        true
    }

    async fn next_event(&mut self) -> Option<Event> {
        // Even with nothing to probe, the sockets, the tap and the heartbeat need a turn every second.
        let vteps = self.vteps.values().map(VtepProbes::deadline);
        let others = self.sweep.deadline().into_iter().chain(self.report_due).chain(self.next_look());
        let deadline = vteps.chain(others).fold(self.housekeeping_due, Instant::min);
        tokio::select! {
            biased;
            changed = self.config.changed() => changed.ok().map(|()| Event::Rewire),
            Ok(()) = self.facts.changed() => Some(Event::Rewire),
            Some(answer) = self.answers.1.recv() => Some(Event::Arp(answer)),
            Some(reply) = self.replies.1.recv() => Some(Event::OwnReply(reply)),
            reply = self.sockets.receive_through_tunnel() => Some(Event::ThroughTunnel(reply)),
            reply = self.sockets.receive_beside_tunnel() => Some(Event::BesideTunnel(reply)),
            answer = self.sockets.receive_tcp() => Some(Event::Tcp(answer)),
            () = time::sleep_until(deadline.into()) => Some(Event::Time),
        }
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
        // Whatever is due soon takes place together with a round of probes, because each wake-up costs more than the work.
        let is_round = self.vteps.values().any(|probes| now >= probes.due);
        if now >= self.housekeeping_due || (is_round && now + HOUSEKEEPING / 2 >= self.housekeeping_due) {
            self.housekeeping_due = now + HOUSEKEEPING;
            self.open_sockets();
            self.tend_tap(now);
            self.read_udp_errors();
            self.memory.follow(&self.vteps, now, Timestamp::now());
            self.follow_units(now);
        }
        self.look_at_macs(now);
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
                let slack = if some_due { self.settings.timing.interval / 2 } else { Duration::ZERO };
                self.send_large(probes, slack, now);
            }
        }
        self.vteps = vteps;
        self.sweep(now);
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

#[cfg(test)]
mod tests {
    use vtep_core::tunnel::window::Thresholds;

    use super::*;

    /// Each setting that names a CIDR is checked, and only against that CIDR.
    #[test]
    fn settings_for_no_active_cidr_are_idle() {
        let net = |third: u8| -> Ipv4Net { format!("10.1.{third}.0/24").parse().expect("a CIDR") };
        let thresholds = Thresholds { raise: 3, clear: 3 };
        let settings = Settings {
            timing: ProbeTiming { interval: HOUSEKEEPING, timeout: HOUSEKEEPING, thresholds },
            passive_first: true,
            bpffs: PathBuf::new(),
            targets: [1, 6].map(|third| (net(third), [10, 1, third, 34].into())).into(),
            tcp_targets: [2, 6].map(|third| (net(third), SocketAddrV4::new([10, 1, third, 34].into(), 443))).into(),
            learn_macs: LearnMacs { all: true, cidrs: [net(3), net(6)].into() },
        };
        let idle = settings.idle(|cidr| *cidr == net(6));
        assert_eq!(idle, [("--probe-target", net(1)), ("--probe-tcp", net(2)), ("--learn-mac", net(3))].into());
    }
}
