//! The results of all probes, as the prober publishes them.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::Ipv4Net;

use super::vtep_probes::Lane;
use crate::config::spec::Vtep;

/// The number of the tap's counters, in the order of `vtep_agent_ebpf::Counter`.
pub const COUNTERS: usize = 3;

/// The results of all probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    pub lanes: BTreeMap<Ipv4Net, Arc<Lane>>,
    pub tap_loaded: bool,
    /// Why the tap is unavailable, if it should be loaded.
    pub tap_error: Option<String>,
    /// Streams that did not fit into the tap's map, fragments, and malformed frames.
    pub tap_counters: [u64; COUNTERS],
}

impl ProbeReport {
    /// The probes of this VTEP. Probes with another endpoint or MAC belong to an earlier configuration and are ignored.
    #[must_use]
    pub fn lane(&self, vtep: &Vtep) -> Option<&Lane> {
        self.lanes.get(&vtep.cidr).filter(|lane| lane.vtep == *vtep).map(Arc::as_ref)
    }

    /// The lanes for the next report. A lane that did not change shares its copy with this report, since reports follow each other within
    /// 20 ms.
    #[must_use]
    pub fn share(&self, lanes: &BTreeMap<Ipv4Net, Lane>) -> BTreeMap<Ipv4Net, Arc<Lane>> {
        let share = |(cidr, lane): (&Ipv4Net, &Lane)| {
            let known = self.lanes.get(cidr).filter(|known| ***known == *lane);
            (*cidr, known.map_or_else(|| Arc::new(lane.clone()), Arc::clone))
        };
        lanes.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::tunnel::{vtep_probes::Pace, window::Thresholds};

    #[test]
    fn a_lane_is_copied_only_if_it_changed() {
        let pace = Pace {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            thresholds: Thresholds { raise: 3, clear: 3 },
        };
        let now = Instant::now();
        let lane = |n: u8| {
            let vtep = Vtep {
                cidr: format!("10.1.{n}.0/24").parse().expect("a CIDR"),
                endpoint: [10, 169, 72, n].into(),
                mac: [2, 0, 0, 0, 0, n].into(),
            };
            (vtep.cidr, Lane::new(vtep, Some([10, 1, n, 34].into()), pace, now))
        };
        let mut lanes = BTreeMap::from([lane(5), lane(6)]);
        let before = ProbeReport { lanes: ProbeReport::default().share(&lanes), ..ProbeReport::default() };
        let (cidr, _) = lane(6);
        let changed = lanes.get_mut(&cidr).expect("it is there");
        changed.icmp.on_sent(1, now);
        let next = before.share(&lanes);
        for (cidr, lane) in &next {
            assert_eq!(
                Arc::ptr_eq(lane, &before.lanes[cidr]),
                *cidr == "10.1.5.0/24".parse().expect("a CIDR"),
                "{cidr}"
            );
            assert_eq!(**lane, lanes[cidr]);
        }

        // When the next full-size echo is due changes all the time, and no reader of a report needs it.
        let before = ProbeReport { lanes: next, ..ProbeReport::default() };
        lanes.values_mut().for_each(|lane| lane.path_mtu.rest(now + Duration::from_secs(5)));
        let next = before.share(&lanes);
        assert!(next.iter().all(|(cidr, lane)| Arc::ptr_eq(lane, &before.lanes[cidr])));
    }
}
