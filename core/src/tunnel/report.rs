//! The results of all probes, as the prober publishes them.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::Ipv4Net;
use vtep_agent_ebpf::COUNTERS;

use super::vtep_probes::VtepProbes;
use crate::config::spec::Vtep;

/// The results of all probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    pub vteps: BTreeMap<Ipv4Net, Arc<VtepProbes>>,
    pub tap_loaded: bool,
    /// Why the tap is unavailable, if it should be loaded.
    pub tap_error: Option<String>,
    /// In the order of `vtep_agent_ebpf::Counter`: streams that did not fit into the tap's map, fragments, and malformed frames.
    pub tap_counters: [u64; COUNTERS as usize],
}

impl ProbeReport {
    /// The probes of this VTEP. Probes with another endpoint or MAC belong to an earlier configuration and are ignored.
    #[must_use]
    pub fn probes(&self, vtep: &Vtep) -> Option<&VtepProbes> {
        self.vteps.get(&vtep.cidr).filter(|probes| probes.vtep == *vtep).map(Arc::as_ref)
    }

    /// The probes for the next report. Unchanged probes share their copy with this report, because reports follow each other within 20 ms.
    #[must_use]
    pub fn share(&self, vteps: &BTreeMap<Ipv4Net, VtepProbes>) -> BTreeMap<Ipv4Net, Arc<VtepProbes>> {
        let share = |(cidr, probes): (&Ipv4Net, &VtepProbes)| {
            let known = self.vteps.get(cidr).filter(|known| ***known == *probes);
            (*cidr, known.map_or_else(|| Arc::new(probes.clone()), Arc::clone))
        };
        vteps.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::tunnel::{vtep_probes::ProbeTiming, window::Thresholds};

    #[test]
    fn probes_are_copied_only_if_they_changed() {
        let timing = ProbeTiming {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            thresholds: Thresholds { raise: 3, clear: 3 },
        };
        let now = Instant::now();
        let probes = |n: u8| {
            let vtep = Vtep {
                cidr: format!("10.1.{n}.0/24").parse().expect("a CIDR"),
                endpoint: [10, 169, 72, n].into(),
                mac: [2, 0, 0, 0, 0, n].into(),
            };
            (vtep.cidr, VtepProbes::new(vtep, Some([10, 1, n, 34].into()), timing, now))
        };
        let mut vteps = BTreeMap::from([probes(5), probes(6)]);
        let before = ProbeReport { vteps: ProbeReport::default().share(&vteps), ..ProbeReport::default() };
        let (cidr, _) = probes(6);
        let changed = vteps.get_mut(&cidr).expect("it is there");
        changed.icmp.on_sent(1, now);
        let next = before.share(&vteps);
        for (cidr, probes) in &next {
            assert_eq!(
                Arc::ptr_eq(probes, &before.vteps[cidr]),
                *cidr == "10.1.5.0/24".parse().expect("a CIDR"),
                "{cidr}"
            );
            assert_eq!(**probes, vteps[cidr]);
        }

        // When the next full-size echo is due changes all the time, and no reader of a report needs it.
        let before = ProbeReport { vteps: next, ..ProbeReport::default() };
        vteps.values_mut().for_each(|probes| probes.path_mtu.suppress(now + Duration::from_secs(5)));
        let next = before.share(&vteps);
        assert!(next.iter().all(|(cidr, probes)| Arc::ptr_eq(probes, &before.vteps[cidr])));
    }
}
