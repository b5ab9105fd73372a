//! The part of the status about one VTEP: its verdict, its entry, its probes, and the frames of its endpoint.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    diagnosis::{Cause, Flapping, Verdict},
    tunnel::{
        failover::Takeover,
        rtt::RttHistogram,
        vtep_probes::{Origin, ProbeState},
    },
    types::mac::Mac,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VtepStatus {
    pub cidr: Ipv4Net,
    /// Its name in a custom resource; absent if it comes from the lists in `cilium-config`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    pub endpoint: Ipv4Addr,
    /// The MAC of the entry: the configured one, unless another is learned.
    pub mac: Mac,
    #[serde(default)]
    pub mac_configured: Mac,
    /// The MAC in the place of the configured one.
    #[serde(default)]
    pub mac_learned: Option<Mac>,
    /// Present if the entry may follow the MAC that answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac_learning: Option<MacLearning>,
    /// The last failovers, oldest first.
    #[serde(default)]
    pub failovers: Vec<Failover>,
    /// Since the agent's start.
    #[serde(default)]
    pub failovers_total: u64,
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

/// What the agent does about another MAC than the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacLearning {
    /// When the MAC was learned that the entry has now.
    pub since: Option<Timestamp>,
    /// How often the agent put it back after somebody had written the configured one, as Cilium's sync does every minute.
    pub made_good: u64,
    /// The line for `cilium-config` that makes the learned MAC the configured one.
    pub config_line: Option<String>,
    /// Why the entry does not follow the MAC that answers now.
    pub refused: Option<String>,
}

/// Another unit has taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    pub at: Timestamp,
    pub changes: Vec<Takeover>,
    /// How long the pings through the tunnel were unanswered; `null` while they still are.
    pub lost_ms: Option<u64>,
}

impl Failover {
    /// Whether both began at the same time. Wall-clock times are computed anew for each status, so they may differ a little.
    #[must_use]
    pub fn is_of_time(&self, other: &Self) -> bool {
        self.at.duration_since(other.at).abs() < SignedDuration::from_secs(1)
    }

    /// The changes and the loss, in words.
    #[must_use]
    pub fn words(&self) -> String {
        let changes: Vec<_> = self.changes.iter().map(ToString::to_string).collect();
        let lost = match self.lost_ms {
            Some(0) => "no ping was lost".to_owned(),
            Some(ms) => format!("pings were unanswered for {:.1} s", ms as f64 / 1e3),
            None => "pings are unanswered since".to_owned(),
        };
        format!("{}; {lost}", changes.join(", "))
    }
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
    /// Present with `--probe-tcp`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tcp: Option<Probe>,
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
    /// Of the probe `tcp`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
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
