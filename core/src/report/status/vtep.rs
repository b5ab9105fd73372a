//! The part of the status about one VTEP: its verdict, its entry, its probes, and the frames of its endpoint.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    diagnosis::{Cause, Flapping, Verdict},
    tunnel::{
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
