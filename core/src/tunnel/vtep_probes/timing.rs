//! The timing of probes: when a round is due, which probes it has, and when to give up waiting for answers.

use std::time::{Duration, Instant};

use super::VtepProbes;
use crate::{
    config::spec::Tunnel,
    tunnel::{
        echo_pace::{Counts, Turn},
        tcp_probe::TcpProbe,
        window::{CERTAIN_LOSSES, ProbeWindow, Thresholds, WindowState},
    },
};

/// After a loss, probes are sent this many times as often.
const BURST: u32 = 4;
/// While another unit may have taken over, this many rounds follow each other quickly.
const HURRIED: u32 = 6;
/// The interval between them. It is longer than the time within which claims count once.
const HURRY: Duration = Duration::from_millis(120);
/// The least time between two such series: two units that answer in turn do not make the probes faster for long.
const HURRY_AGAIN: Duration = Duration::from_secs(10);
/// Each interval is randomly shorter or longer by up to this share.
const JITTER: f64 = 0.05;
/// Probes that are due within the interval divided by this are sent together with those due now, so that one turn of the loop serves all
/// VTEPs.
const SLACK: u32 = 10;

/// The timing of probes.
#[derive(Clone, Copy, Debug)]
pub struct ProbeTiming {
    pub interval: Duration,
    pub timeout: Duration,
    pub thresholds: Thresholds,
}

impl VtepProbes {
    /// Schedules the next probe. `random` (0 to 1) varies the interval, so that agents that started together drift apart.
    ///
    /// While some of the last probes are lost, the next ones come sooner, to distinguish loss from an outage quickly. During a known
    /// outage, the usual interval applies again.
    pub fn schedule(&mut self, timing: ProbeTiming, now: Instant, random: f64) {
        let short = || (timing.interval / BURST).max(timing.timeout.min(timing.interval) / 2);
        let interval = match self.hurry.checked_sub(1) {
            Some(left) => {
                self.hurry = left;
                HURRY.min(timing.interval)
            }
            None if self.is_lossy() => short(),
            None => timing.interval,
        };
        self.due = now + interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random);
    }

    /// Something has changed that a failover changes: the next probes come at once, and quickly.
    pub(super) fn hurry(&mut self, now: Instant) {
        if self.hurried_at.is_none_or(|at| now.saturating_duration_since(at) >= HURRY_AGAIN) {
            (self.hurry, self.hurried_at, self.due) = (HURRIED, Some(now), self.due.min(now));
        }
    }

    /// Whether to probe now, given that another VTEP is probed now.
    #[must_use]
    pub fn joins(&self, timing: ProbeTiming, now: Instant) -> bool {
        now + timing.interval / SLACK >= self.due
    }

    /// The echoes of the round that begins now. A loss of ARP has to be explained at once.
    pub fn turn(&mut self, now: Instant) -> Turn {
        let (echoes, arp) = self.counts();
        self.pace.on_round(echoes, arp, now);
        // Losses that are no chance come from no echo beside the tunnel.
        let missed = (1..CERTAIN_LOSSES).contains(&self.icmp.lost_in_a_row());
        if self.is_arp_answered() { self.pace.turn(self.is_judging_pace(now), missed) } else { Turn::BOTH }
    }

    fn is_arp_answered(&self) -> bool {
        self.arp.state() == WindowState::Ok && self.arp.lost_in_a_row() == 0
    }

    /// Losses of echoes that may come from a limit of ICMP.
    #[must_use]
    pub fn is_judging_pace(&self, now: Instant) -> bool {
        let (echoes, arp) = self.counts();
        self.pace.is_judging(echoes, arp, now)
    }

    fn counts(&self) -> (Counts, Counts) {
        let counts = |window: &ProbeWindow| Counts { answered: window.received, lost: window.lost_total };
        (counts(&self.icmp), counts(&self.arp))
    }

    /// Some of the last probes were lost, and it is not certain that none is answered. Where ICMP is limited, more probes show nothing.
    fn is_lossy(&self) -> bool {
        let is_limited = self.pace.every() > 1 || self.pace.is_limited();
        if is_limited && self.is_arp_answered() {
            return false;
        }
        match self.icmp.state() {
            WindowState::Ok => self.icmp.lost() > 0,
            WindowState::Failed => (1..CERTAIN_LOSSES).contains(&self.icmp.lost_in_a_row()),
            WindowState::Pending => false,
        }
    }

    /// Whether to skip the due probe because of BIG-IP's own frames. The result applies until the next probe is due.
    pub fn suppress(&mut self, tunnel: Tunnel) -> bool {
        let (mut seen, mut from_its_mac) = (0, true);
        for flow in self.flows_of(tunnel) {
            seen += flow.packets;
            from_its_mac &= flow.inner_mac == self.learning.mac();
        }
        let is_sound = |window: &ProbeWindow| window.state() == WindowState::Ok && window.lost() == 0;
        // While the full size is lost, probes are not skipped: they show when the loss ends.
        let sound = is_sound(&self.icmp)
            && self.tcp.as_ref().is_none_or(TcpProbe::is_steady)
            && is_sound(&self.arp)
            && !self.path_mtu.is_uncertain()
            && self.heard
            && from_its_mac
            && self.foreign_macs == 0
            && self.hurry == 0
            && self.self_ip_owners.is_one()
            && self.endpoint_owners.is_one()
            && !self.shares_endpoint;
        self.suppressed = self.passive.skips(seen, self.answers, sound);
        self.suppressed
    }

    pub fn on_time(&mut self, now: Instant) {
        let was_lossy = self.is_lossy();
        let tcp = self.tcp.as_mut().map(|tcp| &mut tcp.window);
        for window in [&mut self.underlay, &mut self.arp, &mut self.icmp].into_iter().chain(tcp) {
            window.on_time(now);
        }
        self.path_mtu.on_time(now);
        self.alive_since = self.is_alive().then(|| self.alive_since.unwrap_or(now));
        self.self_ip_owners.on_time(now);
        self.endpoint_owners.on_time(now);
        // After the first loss, the next probe is due at once.
        if self.is_lossy() && !was_lossy {
            self.due = self.due.min(now);
        }
    }

    /// The time of the next action for this VTEP.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let windows =
            [&self.underlay, &self.arp, &self.icmp].into_iter().chain(self.tcp.as_ref().map(|tcp| &tcp.window));
        let timeouts = windows.filter_map(ProbeWindow::deadline);
        let path_mtu = (self.target.is_some() && !self.suppressed).then(|| self.path_mtu.deadline());
        timeouts.chain(path_mtu).fold(self.due, Instant::min)
    }
}
