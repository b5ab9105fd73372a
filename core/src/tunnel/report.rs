//! What the probes know.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::vtep_probes::Lane;
use crate::config::spec::Vtep;

/// Counters of the tap, in the order of `vtep_agent_ebpf::Counter`.
pub const COUNTERS: usize = 3;

/// What the probes know.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport {
    pub lanes: BTreeMap<Ipv4Net, Lane>,
    pub tap_loaded: bool,
    /// Why the tap is not there, if it should be.
    pub tap_error: Option<String>,
    /// Streams that did not fit into the tap's map, fragments, malformed frames.
    pub tap_counters: [u64; COUNTERS],
}

impl ProbeReport {
    /// The record of this VTEP; one with other values is of an earlier configuration, and says nothing of this one.
    #[must_use]
    pub fn lane(&self, vtep: &Vtep) -> Option<&Lane> {
        self.lanes.get(&vtep.cidr).filter(|lane| lane.vtep == *vtep)
    }
}
