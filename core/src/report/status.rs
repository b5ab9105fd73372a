//! What anyone may know of this agent: one serialisable type, the contract of `/status`.
//!
//! [`assembly`](vtep_agent::assembly) puts it together from what the loops published.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    bigip::FdbRecord,
    config::{finding::Finding, view::Truth},
    datapath::{
        ipcache::Version,
        layout::Model,
        report::{Mode, Reason},
    },
    diagnosis::{Cause, Verdict},
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

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    pub fitness: Arc<Fitness>,
    /// Where people find the runbook: a URL or a path.
    pub runbook: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    /// Of the whole: what `/healthz`, the page and exit statuses go by.
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
    /// Where the VTEPs of this node are decided. `none`: not known, so that nothing is written or deleted.
    #[serde(default)]
    pub truth: Truth,
    pub hash: Option<String>,
    pub observed_at: Option<Timestamp>,
    /// Why the source does not answer, if it does not.
    pub source_error: Option<String>,
    /// The document was seen, and has no error.
    pub valid: bool,
    /// Some of what is in force is an earlier value.
    pub stale: bool,
    /// VTEP is enabled in what is in force; `null` before the first valid configuration.
    pub enabled: Option<bool>,
    /// The object that set a key's value, for each key that the ConfigMap itself does not decide.
    #[serde(default)]
    pub overrides: BTreeMap<String, String>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cilium {
    /// Where it is known.
    #[serde(default)]
    pub version: Option<CiliumVersion>,
    /// Its devices are there.
    pub running: bool,
    pub tunnel_protocol: Option<String>,
    pub tunnel_port: Option<u16>,
    /// What its programs were loaded with, where it tells.
    pub vtep_mask: Option<Ipv4Addr>,
    pub router: Option<Ipv4Addr>,
    /// It was started with another configuration than the one in force.
    #[serde(default)]
    pub restart_required: bool,
    /// What differs, each a sentence that begins with the key.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Why what it was started with cannot be read now, if it cannot; what was known stays.
    #[serde(default)]
    pub config_error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datapath {
    pub model: Model,
    /// The ipcache's layout; `null` where there is none to read.
    #[serde(default)]
    pub ipcache: Option<Version>,
    /// What of the VTEP CIDRs Cilium's ipcache gives to something else.
    #[serde(default)]
    pub intruders: Vec<Intruder>,
    pub in_sync: bool,
    /// Operations still to do, in words.
    pub pending: Vec<String>,
    /// What could not be read or written, in words.
    pub problems: Vec<String>,
    pub last_pass: Option<LastPass>,
    /// Drift repaired since the start.
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
    /// The node that Cilium tunnels to.
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

/// Kubernetes Events, since the start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Events {
    pub enabled: bool,
    pub written: u64,
    /// Too many, or not taken by the API server.
    pub dropped: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VtepStatus {
    pub cidr: Ipv4Net,
    pub endpoint: Ipv4Addr,
    pub mac: Mac,
    pub verdict: Verdict,
    pub cause: Option<Cause>,
    pub also: Vec<Cause>,
    pub since: Option<Timestamp>,
    pub hint: Option<String>,
    /// What the hint, or another cause that holds, rests on, where that was seen longer than 15 s ago.
    #[serde(default)]
    pub evidence: Vec<Observation>,
    /// Where the runbook says more of the cause.
    #[serde(default)]
    pub runbook: Option<String>,
    pub datapath: VtepDatapath,
    pub probes: Probes,
    pub seen: Seen,
}

/// Something that was seen some time ago, and what follows from it.
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
    /// The kernel differs, and the difference could not be written or may not be.
    Pending,
    Contended,
    /// There is no map to look into.
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
    pub repairs: u64,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probes {
    pub underlay: Probe,
    pub arp: Probe,
    pub icmp: Probe,
    #[serde(default)]
    pub path_mtu: PathMtu,
    /// Rounds of probes left out because BIG-IP's own traffic showed that the tunnel lives.
    #[serde(default)]
    pub skipped: u64,
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
    pub sent: u64,
    pub received: u64,
    /// Not answered in time, or not sent.
    #[serde(default)]
    pub lost: u64,
    pub duplicates: u64,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
    /// Of all answers, for `/metrics` alone.
    #[serde(skip)]
    pub rtts: RttHistogram,
    /// Why the last probe could not be sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Tunnel frames that came from this endpoint, asked for or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    pub packets: u64,
    pub bytes: u64,
    pub last_seen_at: Option<Timestamp>,
    pub vnis: Vec<u32>,
    pub ports: Vec<u16>,
    pub macs: Vec<Mac>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bigip {
    /// The record that each BIG-IP needs for this node.
    pub fdb_record: Option<FdbRecord>,
}

impl Status {
    /// Every VTEP is healthy, and there is one unless VTEP is off.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.verdict == Verdict::Healthy
    }

    /// The worst of all VTEPs. None at all is well only where VTEP is off.
    #[must_use]
    pub fn overall(enabled: Option<bool>, vteps: &[VtepStatus]) -> Verdict {
        match enabled {
            Some(true) => Verdict::worst(vteps.iter().map(|vtep| vtep.verdict)).unwrap_or_else(Self::unknown),
            Some(false) => Verdict::Healthy,
            None => Self::unknown(),
        }
    }

    /// Where nothing is told.
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

    /// `/healthz`, the page, exit statuses: all by this.
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
