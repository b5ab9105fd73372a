//! The status of this agent as one serialisable type: the contract of `/status`. Fields are added, but never renamed.
//!
//! [`assembly`](super::assembly) fills it from the values that the loops publish.

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
    diagnosis::{Cause, Flapping, Verdict},
    node::{
        fitness::{Fitness, Kernel},
        version::CiliumVersion,
    },
    tunnel::{
        rtt::RttHistogram,
        vtep_probes::{Origin, ProbeState},
    },
    types::mac::Mac,
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
pub struct VtepStatus {
    pub cidr: Ipv4Net,
    /// Its name in a custom resource; absent if it comes from the lists in `cilium-config`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    pub endpoint: Ipv4Addr,
    pub mac: Mac,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    pub also: Vec<Cause>,
    pub since: Option<Timestamp>,
    pub hint: Option<String>,
    /// The observations behind the hint, or behind another cause, that are older than 15 s.
    #[serde(default)]
    pub evidence: Vec<Observation>,
    /// The section of the runbook about the cause.
    #[serde(default)]
    pub runbook: Option<String>,
    /// The outages, if the VTEP flaps; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flapping: Option<Flapping>,
    /// Nothing is known yet, because the probes need more time; only for `/history`.
    #[serde(skip)]
    pub early: bool,
    pub datapath: VtepDatapath,
    pub probes: Probes,
    pub seen: Seen,
}

/// Something that the agent saw some time ago, and the cause that follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observation {
    pub cause: Cause,
    /// In words.
    pub what: String,
    /// When it was seen last.
    pub seen_at: Option<Timestamp>,
    pub age_s: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    InSync,
    /// The kernel differs, and the write failed or is not permitted.
    Pending,
    Contended,
    /// No map is readable.
    Unknown,
}

impl std::fmt::Display for EntryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InSync => "in-sync",
            Self::Pending => "pending",
            Self::Contended => "contended",
            Self::Unknown => "unknown",
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VtepDatapath {
    pub state: EntryState,
    /// Of the map entry, since the start.
    pub repairs: u64,
    /// Of its routes and rules, since the start.
    #[serde(default)]
    pub route_repairs: u64,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probes {
    pub underlay: Probe,
    pub arp: Probe,
    pub icmp: Probe,
    #[serde(default)]
    pub path_mtu: PathMtu,
    /// One round of probes in this many has pings; above 1, because BIG-IP answers no more.
    #[serde(default = "one")]
    pub echo_every: u32,
    /// Rounds of probes skipped because BIG-IP's own traffic showed that the tunnel works.
    #[serde(default)]
    pub skipped: u64,
}

const fn one() -> u32 {
    1
}

/// The largest inner packet that passes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PathMtu {
    pub state: ProbeState,
    /// Bytes; `null` until it is found.
    pub inner_mtu: Option<u16>,
}

impl Default for PathMtu {
    fn default() -> Self {
        Self { state: ProbeState::Pending, inner_mtu: None }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    pub state: ProbeState,
    pub rtt_us: Option<u64>,
    pub target: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target_origin: Option<Origin>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed_mac: Option<Mac>,
    /// When that MAC was seen last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed_at: Option<Timestamp>,
    /// When the last answer came; absent if none ever did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub answered_at: Option<Timestamp>,
    pub sent: u64,
    pub received: u64,
    /// Not answered in time, or not sent.
    #[serde(default)]
    pub lost: u64,
    pub duplicates: u64,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
    /// Of the last `recent` probes, `recent_lost` were lost.
    #[serde(default)]
    pub recent: u64,
    #[serde(default)]
    pub recent_lost: u64,
    /// Round-trip times of all answers, only for `/metrics`.
    #[serde(skip)]
    pub rtts: RttHistogram,
    /// Why the last probe could not be sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Tunnel frames from this endpoint, answers to probes included.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub packets: u64,
    pub bytes: u64,
    pub last_seen_at: Option<Timestamp>,
    /// Of the VTEP traffic, and of at most five other streams that persist.
    pub vnis: Vec<u32>,
    pub ports: Vec<u16>,
    pub macs: Vec<Mac>,
    /// The same per port and VNI, newest first, at most eight.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// Streams of other VNIs and ports in the last ten seconds that are not among them.
    #[serde(default)]
    pub other_streams: usize,
    #[serde(default)]
    pub kinds: SeenKinds,
    #[serde(default)]
    pub pods: SeenPods,
}

/// TCP between BIG-IP and the pods of this node: the only look at pods that costs nothing.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SeenPods {
    /// When BIG-IP last opened a connection to a pod.
    pub asked_at: Option<Timestamp>,
    /// When BIG-IP last acknowledged what a pod had sent, to within a second.
    pub answered_at: Option<Timestamp>,
}

/// Tunnel frames with the same port and VNI.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stream {
    pub port: u16,
    pub vni: u32,
    /// Source MAC of the last inner frame.
    pub mac: Mac,
    pub packets: u64,
    pub last_seen_at: Option<Timestamp>,
}

/// The VTEP traffic through the configured tunnel, by the kind of the inner frame.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct SeenKinds {
    pub arp_requests: u64,
    /// The ARP requests among them that ask for this node's address inside the tunnel.
    pub arp_requests_for_node: u64,
    pub arp_replies: u64,
    /// Answers to the agent's own echoes.
    pub echo_replies: u64,
    pub other: u64,
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
