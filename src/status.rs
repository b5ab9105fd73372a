//! What anyone may know of this agent: one serialisable type, put together from what the loops published.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::{
        finding::Finding,
        mac::Mac,
        spec::{Tunnel, Vtep},
        view::View,
    },
    datapath::{abi::VtepKey, plan::Op, survey::Model},
    diagnose::{Cause, Diagnosis, Verdict},
    node::{facts::Facts, kernel::Kernel},
    probe::{
        health::{Health, ProbeState},
        lane::{Lane, Origin},
        prober,
        tap::Flow,
    },
    reconcile::{self, Mode, Reason},
};

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    pub kernel: Kernel,
}

/// What the loops published last.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub identity: &'a Identity,
    pub view: Option<Arc<View>>,
    pub facts: Option<Arc<Facts>>,
    pub datapath: reconcile::Report,
    pub probes: Arc<prober::Report>,
    pub diagnoses: Arc<BTreeMap<Ipv4Net, Diagnosis>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node: String,
    pub version: String,
    pub mode: Mode,
    pub started_at: Timestamp,
    pub config: Config,
    pub kernel: Kernel,
    pub cilium: Cilium,
    pub datapath: Datapath,
    pub tap: Tap,
    pub vteps: Vec<VtepStatus>,
    pub bigip: Bigip,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub source: String,
    pub hash: Option<String>,
    pub observed_at: Option<Timestamp>,
    /// The document was seen, and has no error.
    pub valid: bool,
    /// Some of what is in force is an earlier value.
    pub stale: bool,
    /// VTEP is enabled in what is in force; `null` before the first valid configuration.
    pub enabled: Option<bool>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cilium {
    /// Its devices are there.
    pub running: bool,
    pub tunnel_protocol: Option<String>,
    pub tunnel_port: Option<u16>,
    /// What its programs were loaded with, where it tells.
    pub vtep_mask: Option<Ipv4Addr>,
    pub router: Option<Ipv4Addr>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datapath {
    pub model: Model,
    pub in_sync: bool,
    /// Operations still to do, in words.
    pub pending: Vec<String>,
    /// What could not be read or written, in words.
    pub problems: Vec<String>,
    pub last_pass: Option<LastPass>,
    /// Drift repaired since the start.
    pub repairs_total: u64,
    /// Networks of entries that somebody keeps overwriting.
    pub contended: Vec<Ipv4Addr>,
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
    pub datapath: VtepDatapath,
    pub probes: Probes,
    pub seen: Seen,
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
    pub duplicates: u64,
    /// Share of the last probes that were lost, 0 to 1.
    pub loss: f64,
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

/// As F5's controller writes it: MAC `0a:0a:` and the four octets of the node's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbRecord {
    pub mac: Mac,
    pub endpoint: Ipv4Addr,
}

impl FdbRecord {
    #[must_use]
    pub fn of_node(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self { mac: [0x0a, 0x0a, a, b, c, d].into(), endpoint: address }
    }
}

impl Status {
    /// Puts the parts together as they are at `now`, which is `at` on the clock.
    #[must_use]
    pub fn assemble(parts: &Parts<'_>, now: Instant, at: Timestamp) -> Self {
        let Parts { identity, view, facts, datapath, probes, diagnoses } = parts;
        let Identity { node, mode, started_at, kernel } = identity;
        let spec = view.as_ref().and_then(|view| view.in_force.as_ref());
        let vteps = spec
            .iter()
            .flat_map(|spec| &spec.vteps)
            .map(|vtep| vtep_status(vtep, diagnoses.get(&vtep.cidr), probes.lanes.get(&vtep.cidr), datapath, now, at));
        Self {
            node: node.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            mode: *mode,
            started_at: *started_at,
            config: config(view.as_deref()),
            kernel: kernel.clone(),
            cilium: cilium(facts.as_deref(), spec.map(|spec| spec.tunnel)),
            datapath: self::datapath(datapath),
            tap: tap(probes),
            vteps: vteps.collect(),
            bigip: Bigip { fdb_record: node_address(facts.as_deref()).map(FdbRecord::of_node) },
        }
    }

    /// Every VTEP is healthy, and there is one unless VTEP is off.
    #[must_use]
    pub fn healthy(&self) -> bool {
        let all = self.vteps.iter().all(|vtep| vtep.verdict == Verdict::Healthy);
        match self.config.enabled {
            Some(true) => all && !self.vteps.is_empty(),
            Some(false) => true,
            None => false,
        }
    }
}

fn config(view: Option<&View>) -> Config {
    let Some(view) = view else {
        return Config {
            source: String::new(),
            hash: None,
            observed_at: None,
            valid: false,
            stale: false,
            enabled: None,
            findings: Vec::new(),
        };
    };
    Config {
        source: view.source.clone(),
        hash: (!view.hash.is_empty()).then(|| view.hash.clone()),
        observed_at: Some(view.observed_at),
        valid: view.valid(),
        stale: view.stale,
        enabled: view.in_force.as_ref().map(|spec| spec.enabled),
        findings: view.findings.clone(),
    }
}

fn cilium(facts: Option<&Facts>, tunnel: Option<Tunnel>) -> Cilium {
    let devices = facts.map(|facts| &facts.cilium);
    Cilium {
        running: devices.is_some_and(|devices| devices.tunnel.is_some() && devices.host.is_some()),
        tunnel_protocol: tunnel.map(|tunnel| tunnel.protocol.to_string()),
        tunnel_port: tunnel.map(|tunnel| tunnel.port),
        vtep_mask: facts.and_then(|facts| facts.running.as_ref()).and_then(|running| running.vtep_mask),
        router: devices.and_then(|devices| devices.router),
    }
}

fn datapath(report: &reconcile::Report) -> Datapath {
    Datapath {
        model: report.model,
        in_sync: report.in_sync(),
        pending: report.pending.iter().map(Op::to_string).collect(),
        problems: report.problems().cloned().collect(),
        last_pass: report.last_pass.as_ref().map(|pass| LastPass {
            at: pass.at,
            reason: pass.reason,
            took_us: micros(pass.took),
            applied: pass.applied,
            failed: pass.failed,
        }),
        repairs_total: report.repairs_total,
        contended: report.contended.iter().map(|key| key.network()).collect(),
    }
}

fn tap(probes: &prober::Report) -> Tap {
    let [overflows, fragments, malformed] = probes.tap_counters;
    Tap { loaded: probes.tap_loaded, error: probes.tap_error.clone(), overflows, fragments, malformed }
}

fn vtep_status(
    vtep: &Vtep,
    diagnosis: Option<&Diagnosis>,
    lane: Option<&Lane>,
    datapath: &reconcile::Report,
    now: Instant,
    at: Timestamp,
) -> VtepStatus {
    let key = VtepKey::new(vtep.cidr);
    VtepStatus {
        cidr: vtep.cidr,
        endpoint: vtep.endpoint,
        mac: vtep.mac,
        verdict: diagnosis.map_or(Verdict::Unknown, |diagnosis| diagnosis.verdict),
        cause: diagnosis.and_then(|diagnosis| diagnosis.cause),
        also: diagnosis.map(|diagnosis| diagnosis.also.clone()).unwrap_or_default(),
        since: diagnosis.map(|diagnosis| diagnosis.since),
        hint: diagnosis.and_then(|diagnosis| diagnosis.hint.clone()),
        datapath: VtepDatapath {
            state: entry_state(datapath, key),
            repairs: datapath.repairs.get(&key).copied().unwrap_or(0),
            error: datapath.entry_error(key).map(str::to_owned),
        },
        probes: probes(lane),
        seen: seen(lane.map(|lane| lane.flows.as_slice()).unwrap_or_default(), now, at),
    }
}

fn entry_state(datapath: &reconcile::Report, key: VtepKey) -> EntryState {
    let pending = datapath.pending.iter().any(|op| op.entry_key() == Some(key));
    match datapath.model {
        _ if datapath.contended.contains(&key) => EntryState::Contended,
        Model::VtepHash if datapath.last_pass.is_none() => EntryState::Unknown,
        Model::VtepHash if pending => EntryState::Pending,
        Model::VtepHash => EntryState::InSync,
        Model::None | Model::Unreadable | Model::Unsupported => EntryState::Unknown,
    }
}

fn probes(lane: Option<&Lane>) -> Probes {
    let target = lane.and_then(|lane| lane.target);
    let in_tunnel = |health: fn(&Lane) -> &Health| Probe {
        target: target.map(|target| target.address),
        target_origin: target.map(|target| target.origin),
        ..lane.map_or_else(Probe::none, |lane| Probe::new(lane.state_of(health(lane)), health(lane)))
    };
    Probes {
        underlay: lane.map_or_else(Probe::none, |lane| Probe {
            target: Some(lane.vtep.endpoint),
            ..Probe::new(lane.underlay.state(), &lane.underlay)
        }),
        arp: Probe { observed_mac: lane.and_then(|lane| lane.observed_mac), ..in_tunnel(|lane| &lane.arp) },
        icmp: in_tunnel(|lane| &lane.icmp),
    }
}

impl Probe {
    fn new(state: ProbeState, health: &Health) -> Self {
        Self {
            state,
            rtt_us: health.rtt.map(micros),
            target: None,
            target_origin: None,
            observed_mac: None,
            sent: health.sent,
            received: health.received,
            duplicates: health.duplicates,
            loss: health.loss(),
            error: health.send_error.clone(),
        }
    }

    fn none() -> Self {
        Self {
            state: ProbeState::Pending,
            rtt_us: None,
            target: None,
            target_origin: None,
            observed_mac: None,
            sent: 0,
            received: 0,
            duplicates: 0,
            loss: 0.0,
            error: None,
        }
    }
}

fn seen(flows: &[Flow], now: Instant, at: Timestamp) -> Seen {
    let newest = flows.iter().map(|flow| flow.last_seen).max();
    let mut vnis: Vec<_> = flows.iter().map(|flow| flow.vni).collect();
    let mut ports: Vec<_> = flows.iter().map(|flow| flow.port).collect();
    let mut macs: Vec<_> = flows.iter().map(|flow| flow.inner_mac).collect();
    vnis.sort_unstable();
    vnis.dedup();
    ports.sort_unstable();
    ports.dedup();
    macs.sort_unstable();
    macs.dedup();
    Seen {
        packets: flows.iter().map(|flow| flow.packets).sum(),
        bytes: flows.iter().map(|flow| flow.bytes).sum(),
        last_seen_at: newest.and_then(|newest| at.checked_sub(now.duration_since(newest)).ok()),
        vnis,
        ports,
        macs,
    }
}

/// The address that BIG-IP reaches this node at: the source towards it.
fn node_address(facts: Option<&Facts>) -> Option<Ipv4Addr> {
    facts?.underlay.values().find_map(|underlay| underlay.source)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
