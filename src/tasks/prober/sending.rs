//! Sends probes, and the requests of a sweep.

use std::time::{Duration, Instant};

use tracing::info;
use vtep_core::tunnel::{
    frames::Echo,
    vtep_probes::{ProbeState, VtepProbes},
};

use super::{Prober, sockets::record};
use crate::kernel::icmp::ORDINARY;

impl Prober {
    pub(super) fn send(&mut self, probes: &mut VtepProbes, now: Instant) {
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
        if let Some(tcp) = &mut probes.tcp {
            let sent = self.sockets.syn_through_tunnel(self.echo_id, sequence, tcp.target);
            record(&mut tcp.window, sequence, now, sent);
        }
        if through_first {
            beside(self, probes);
        }
    }

    /// Sends a full-size echo, or during a search an echo of the size to try; also one that is due within `slack`.
    pub(super) fn send_large(&mut self, probes: &mut VtepProbes, slack: Duration, now: Instant) {
        let (Some(target), Some(full), Some(socket)) = (probes.target, self.full_size, self.sockets.through_tunnel())
        else {
            probes.path_mtu.suppress(now);
            return;
        };
        // Where ICMP is limited, it would take the answer of an ordinary echo.
        let is_limited = probes.pace.every() > 1 || probes.is_judging_pace(now);
        let alive = probes.icmp_state() == ProbeState::Ok && !is_limited;
        let Some(due) = probes.path_mtu.turn(full, alive, slack, now) else { return };
        self.sequence = self.sequence.wrapping_add(1);
        let echo = Echo { id: self.echo_id, sequence: self.sequence };
        match socket.send(echo, due.size, target.address) {
            Ok(()) => probes.path_mtu.on_sent(self.sequence, due, now),
            Err(error) => probes.path_mtu.on_send_error(&error, now),
        }
    }

    /// Searches for self IPs that are neither configured nor learned.
    pub(super) fn sweep(&mut self, now: Instant) {
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
}
