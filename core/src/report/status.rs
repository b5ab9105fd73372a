//! The status of this agent as one serialisable type: the contract of `/status`. Fields are added, but never renamed.
//!
//! [`assembly`](super::assembly) fills it from the values that the loops publish.

mod vtep;

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    bigip::FdbRecord,
    config::{finding::Finding, truth::Truth, vtep_config::ObjectStatus},
    datapath::{
        ipcache::Version,
        layout::Layout,
        report::{Mode, Reason},
    },
    diagnosis::Verdict,
    node::{
        compatibility::Compatibility,
        fitness::{Fitness, Kernel},
        version::CiliumVersion,
    },
};

pub use self::vtep::{
    EntryState, Failover, MacLearning, Observation, PathMtu, Probe, Probes, Seen, SeenKinds, SeenPods, Stream,
    VtepDatapath, VtepStatus,
};

/// Values that do not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    pub fitness: Arc<Fitness>,
    /// The place of the runbook: a URL or a path.
    pub runbook: String,
    /// The agent runs in a pod, so a hint about a setting also names the chart's value.
    pub in_pod: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    /// The verdict of the node: `/healthz`, the page and exit statuses use it.
    #[serde(default = "Status::unknown")]
    pub verdict: Verdict,
    pub config: Config,
    pub kernel: Kernel,
    pub cilium: Cilium,
    pub datapath: Datapath,
    pub tap: Tap,
    pub vteps: Vec<VtepStatus>,
    pub bigip: Bigip,
    #[serde(default)]
    pub events: Events,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub source: String,
    /// The place that decides the VTEPs of this node. `none`: unknown, so the agent writes and deletes nothing.
    #[serde(default)]
    pub truth: Truth,
    /// Why it is there, in words.
    #[serde(default)]
    pub truth_reason: String,
    /// The custom resources with VTEPs, also those for other nodes.
    #[serde(default)]
    pub objects: Vec<ObjectStatus>,
    pub hash: Option<String>,
    pub observed_at: Option<Timestamp>,
    /// Why the source does not answer, if it does not.
    pub source_error: Option<String>,
    /// The document is known and has no error.
    pub valid: bool,
    /// Some effective values are earlier ones.
    pub stale: bool,
    /// VTEP is enabled in the effective configuration; `null` before the first valid configuration.
    pub enabled: Option<bool>,
    /// The object that set a key's value, for each key that the ConfigMap itself does not set.
    #[serde(default)]
    pub overrides: BTreeMap<String, String>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cilium {
    /// `null` while it is unknown.
    #[serde(default)]
    pub version: Option<CiliumVersion>,
    /// How much is known of this release; `null` while the version is unknown.
    #[serde(default)]
    pub compatibility: Option<Compatibility>,
    /// Cilium's devices exist, and its agent is not known to be stopped.
    pub running: bool,
    /// Cilium's devices exist.
    #[serde(default)]
    pub devices: bool,
    /// Since when Cilium's agent does not run, although its programs and maps may work on; `null` if it runs, or nothing shows it.
    #[serde(default)]
    pub agent_stopped_at: Option<Timestamp>,
    pub tunnel_protocol: Option<String>,
    pub tunnel_port: Option<u16>,
    /// The mask with which its programs were loaded, if Cilium discloses it.
    pub vtep_mask: Option<Ipv4Addr>,
    pub router: Option<Ipv4Addr>,
    /// Cilium was started with another configuration than the effective one.
    #[serde(default)]
    pub restart_required: bool,
    /// The differences, each a sentence that begins with the key.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Why the configuration that Cilium was started with is unreadable now, if it is. The last known values remain valid.
    #[serde(default)]
    pub config_error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datapath {
    pub model: Layout,
    /// The ipcache's layout; `null` if no ipcache is readable.
    #[serde(default)]
    pub ipcache: Option<Version>,
    /// The parts of VTEP CIDRs that Cilium's ipcache maps to something else.
    #[serde(default)]
    pub intruders: Vec<Intruder>,
    pub in_sync: bool,
    /// Operations that are not applied, in words.
    pub pending: Vec<String>,
    /// Problems of reading and writing, in words.
    pub problems: Vec<String>,
    pub last_pass: Option<LastPass>,
    /// Repairs since the start.
    pub repairs_total: u64,
    /// Entries that somebody keeps overwriting.
    pub contended: Vec<Ipv4Net>,
}

/// A pod or node of Cilium's inside a VTEP CIDR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intruder {
    /// The VTEP's CIDR.
    pub vtep: Ipv4Net,
    pub prefix: Ipv4Net,
    pub identity: u32,
    /// The node that Cilium tunnels packets to.
    pub endpoint: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastPass {
    pub at: Timestamp,
    pub reason: Reason,
    pub took_us: u64,
    pub applied: usize,
    pub failed: usize,
}

/// The eBPF socket filter on the underlay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tap {
    pub loaded: bool,
    pub error: Option<String>,
    pub overflows: u64,
    pub fragments: u64,
    pub malformed: u64,
}

/// Counts of Kubernetes Events since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Events {
    pub enabled: bool,
    pub written: u64,
    /// Events over the limit, or refused by the API server.
    pub dropped: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bigip {
    /// The record that each BIG-IP needs for this node.
    pub fdb_record: Option<FdbRecord>,
}

impl Status {
    /// Whether every VTEP is healthy, and at least one exists unless VTEP is off.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.verdict == Verdict::Healthy
    }

    /// The worst verdict of all VTEPs. Without any VTEP, the node is healthy only if VTEP is off.
    #[must_use]
    pub fn overall(enabled: Option<bool>, vteps: &[VtepStatus]) -> Verdict {
        match enabled {
            Some(true) => Verdict::worst(vteps.iter().map(|vtep| vtep.verdict)).unwrap_or_else(Self::unknown),
            Some(false) => Verdict::Healthy,
            None => Self::unknown(),
        }
    }

    /// The verdict if a status lacks one.
    fn unknown() -> Verdict {
        Verdict::Unknown
    }

    /// One VTEP that works and one that does not, with an error in the configuration.
    #[cfg(any(test, feature = "testing"))]
    pub fn sample() -> Self {
        serde_json::from_str(include_str!("../../../tests/fixtures/status.json")).expect("a status")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/healthz`, the page and exit statuses all depend on this.
    #[test]
    fn the_worst_vtep_decides_for_all() {
        use Verdict::{Degraded, Healthy, Misconfigured, Unknown, Unreachable};
        let sample = Status::sample();
        let table: [(Option<bool>, &[Verdict], Verdict); 8] = [
            (Some(true), &[Healthy, Healthy], Healthy),
            (Some(true), &[Healthy, Degraded], Degraded),
            (Some(true), &[Unreachable, Degraded], Unreachable),
            (Some(true), &[Unknown, Misconfigured], Misconfigured),
            (Some(true), &[Unknown, Healthy], Unknown),
            (Some(true), &[], Unknown),
            (Some(false), &[], Healthy),
            (None, &[], Unknown),
        ];
        for (enabled, verdicts, expected) in table {
            let vteps: Vec<_> =
                verdicts.iter().map(|&verdict| VtepStatus { verdict, ..sample.vteps[0].clone() }).collect();
            assert_eq!(Status::overall(enabled, &vteps), expected, "{enabled:?} {verdicts:?}");
        }
        assert_eq!(sample.verdict, Status::overall(sample.config.enabled, &sample.vteps));
    }
}
