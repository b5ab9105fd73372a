//! The probes of one VTEP: targets, records, and what they say. A function of events and of `now`.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    frames::VTEP_VNI,
    health::{Health, ProbeState, Thresholds},
    tap::Flow,
};
use crate::config::{mac::Mac, spec::Vtep};

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
}

/// The tunnel self IP of a BIG-IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: Ipv4Addr,
    pub origin: Origin,
}

/// The probes of one VTEP.
#[derive(Clone, Debug)]
pub struct Lane {
    pub vtep: Vtep,
    pub target: Option<Target>,
    pub underlay: Health,
    pub arp: Health,
    pub icmp: Health,
    /// The MAC that answered ARP last.
    pub observed_mac: Option<Mac>,
    /// Streams from this endpoint.
    pub flows: Vec<Flow>,
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
            underlay: health(),
            arp: health(),
            icmp: health(),
            observed_mac: None,
            flows: Vec::new(),
            due: now,
        }
    }

    /// Plans the next probe: a fleet of agents that started together drifts apart by a tenth of the interval at random.
    pub fn schedule(&mut self, pace: Pace, now: Instant, random: f64) {
        self.due = now + pace.interval.mul_f64(0.9 + 0.2 * random);
    }

    /// An ARP answer came from this lane's endpoint.
    pub fn on_arp_reply(&mut self, sender: Ipv4Addr, mac: Mac, now: Instant) {
        if self.target.is_some_and(|target| target.address == sender) {
            self.observed_mac = Some(mac);
            self.arp.on_reply_to_newest(now);
        }
    }

    /// What the tap has counted so far.
    pub fn on_flows(&mut self, flows: &[Flow]) {
        self.flows = flows.iter().filter(|flow| flow.source == self.vtep.endpoint).cloned().collect();
        if self.target.is_none_or(|target| target.origin == Origin::Learned) {
            self.target = self.learn().or(self.target);
        }
    }

    /// An ARP request's sender is a self IP; the source of other packets may be a client behind BIG-IP.
    fn learn(&self) -> Option<Target> {
        let inside = |address: &Ipv4Addr| self.vtep.cidr.contains(address);
        let flows = || self.flows.iter().filter(|flow| flow.vni == VTEP_VNI);
        let arp = flows().filter_map(|flow| flow.arp_sender).find(inside);
        let ip = || flows().filter_map(|flow| flow.inner_source).find(inside);
        arp.or_else(ip).map(|address| Target { address, origin: Origin::Learned })
    }

    pub fn on_time(&mut self, now: Instant) {
        for health in [&mut self.underlay, &mut self.arp, &mut self.icmp] {
            health.on_time(now);
        }
    }

    /// When this lane has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let timeouts = [&self.underlay, &self.arp, &self.icmp].into_iter().filter_map(Health::deadline);
        timeouts.fold(self.due, Instant::min)
    }

    /// The state of a probe that needs a target.
    #[must_use]
    pub fn state_of(&self, health: &Health) -> ProbeState {
        if self.target.is_some() { health.state() } else { ProbeState::NoTarget }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        thresholds: Thresholds { raise: 3, clear: 3 },
    };

    fn vtep() -> Vtep {
        Vtep {
            cidr: "10.1.6.0/24".parse().expect("a CIDR"),
            endpoint: [10, 169, 72, 34].into(),
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, 0xd8].into(),
        }
    }

    fn flow(source: [u8; 4], vni: u32, inner_source: Option<[u8; 4]>, arp_sender: Option<[u8; 4]>) -> Flow {
        Flow {
            source: source.into(),
            port: 8472,
            vni,
            packets: 1,
            bytes: 100,
            last_seen: Instant::now(),
            inner_mac: Mac::default(),
            inner_source: inner_source.map(Ipv4Addr::from),
            arp_sender: arp_sender.map(Ipv4Addr::from),
        }
    }

    #[test]
    fn learns_the_self_ip_from_its_own_endpoint_and_vni_only() {
        const HERE: [u8; 4] = [10, 169, 72, 34];
        let self_ip = [10, 1, 6, 34];
        let table = [
            ("an ARP request", flow(HERE, 2, None, Some(self_ip)), Some(self_ip)),
            ("a packet", flow(HERE, 2, Some(self_ip), None), Some(self_ip)),
            ("ARP before IP", flow(HERE, 2, Some([10, 1, 6, 99]), Some(self_ip)), Some(self_ip)),
            ("outside the CIDR", flow(HERE, 2, Some([10, 9, 9, 9]), None), None),
            ("another endpoint", flow([10, 169, 72, 36], 2, None, Some(self_ip)), None),
            ("another VNI", flow(HERE, 3, None, Some(self_ip)), None),
        ];
        for (what, flow, expected) in table {
            let mut lane = Lane::new(vtep(), None, PACE, Instant::now());
            lane.on_flows(&[flow]);
            assert_eq!(lane.target.map(|target| target.address), expected.map(Ipv4Addr::from), "{what}");
        }
    }

    #[test]
    fn a_configured_target_stays_and_a_learned_one_follows() {
        let now = Instant::now();
        let mut lane = Lane::new(vtep(), Some([10, 1, 6, 1].into()), PACE, now);
        lane.on_flows(&[flow([10, 169, 72, 34], 2, None, Some([10, 1, 6, 34]))]);
        assert_eq!(lane.target.map(|target| target.origin), Some(Origin::Configured));

        let mut lane = Lane::new(vtep(), None, PACE, now);
        assert_eq!(lane.state_of(&lane.arp), ProbeState::NoTarget);
        for self_ip in [[10, 1, 6, 34], [10, 1, 6, 35]] {
            lane.on_flows(&[flow([10, 169, 72, 34], 2, None, Some(self_ip))]);
            assert_eq!(lane.target.map(|target| target.address), Some(self_ip.into()));
        }
        lane.on_flows(&[]);
        assert!(lane.target.is_some(), "silence does not make forget");
    }

    #[test]
    fn an_arp_answer_counts_only_from_the_target() {
        let now = Instant::now();
        let mac: Mac = [2; 6].into();
        let mut lane = Lane::new(vtep(), Some([10, 1, 6, 34].into()), PACE, now);
        lane.arp.on_sent(1, now);
        lane.on_arp_reply([10, 1, 6, 35].into(), mac, now);
        assert_eq!((lane.arp.received, lane.observed_mac), (0, None));
        lane.on_arp_reply([10, 1, 6, 34].into(), mac, now);
        assert_eq!((lane.arp.received, lane.observed_mac), (1, Some(mac)));
    }
}
