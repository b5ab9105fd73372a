//! The registry of causes, and the verdicts: their ids are promises to scripts, dashboards and runbooks.
//!
//! A new cause is a row of the table below and a hint function in the file for its part of the path. Everything else follows from the row:
//! its place on the page, the metric, the Event's reason, the alert. A test compares the runbook and the schema of the status with the
//! table.

use std::time::Instant;

use self::{
    Hop::{Bigip, Device, Map, Pod, SelfIp, Underlay},
    ProbeKind::{Arp, Beside, Ping},
    Verdict::{Degraded, Misconfigured, Unknown, Unreachable},
};
use super::{Evidence, bigip, map, node, wire};
use crate::registry::registry;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    Degraded,
    Unreachable,
    Misconfigured,
    Unknown,
}

impl Verdict {
    pub const ALL: &'static [Self] =
        &[Self::Healthy, Self::Degraded, Self::Unreachable, Self::Misconfigured, Self::Unknown];

    /// The chart's alert for this verdict with a cause that is not on the node itself; `None` for health.
    #[must_use]
    pub const fn alert(self) -> Option<&'static str> {
        match self {
            Self::Healthy => None,
            Self::Degraded => Some("VtepDegraded"),
            Self::Unreachable => Some("VtepUnreachable"),
            Self::Misconfigured => Some("VtepMisconfigured"),
            Self::Unknown => Some("VtepUnknown"),
        }
    }

    /// How urgent it is: a known failure before a degraded VTEP, and that before an unknown one.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Unknown => 1,
            Self::Degraded => 2,
            Self::Misconfigured => 3,
            Self::Unreachable => 4,
        }
    }

    /// The most severe verdict.
    #[must_use]
    pub fn worst(of: impl IntoIterator<Item = Self>) -> Option<Self> {
        of.into_iter().max_by_key(|verdict| verdict.severity())
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Misconfigured => "misconfigured",
            Self::Unknown => "unknown",
        })
    }
}

/// The path of the runbook in this project.
pub const RUNBOOK: &str = "docs/runbook.md";

/// A place on the path of a packet from a pod to the tunnel self IP, as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    Pod,
    /// The VTEP map, and everything that prevents its entries from working.
    Map,
    /// Cilium's tunnel device.
    Device,
    Underlay,
    Bigip,
    SelfIp,
}

impl Hop {
    pub const ALL: &'static [Self] = &[Self::Pod, Self::Map, Self::Device, Self::Underlay, Self::Bigip, Self::SelfIp];

    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Map => "map",
            Self::Device => "device",
            Self::Underlay => "underlay",
            Self::Bigip => "bigip",
            Self::SelfIp => "self-ip",
        }
    }
}

/// A kind of probe; the value is its place among the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeKind {
    /// Ping of the endpoint, beside the tunnel.
    Beside,
    /// ARP through the tunnel.
    Arp,
    /// Ping through the tunnel.
    Ping,
}

/// If a cause holds, returns what a person should do next, with the values seen.
type Hint = fn(&Evidence<'_>, Instant) -> Option<String>;
/// The observation behind a cause, and the time when it was last made; `None` if the cause is a present state.
type Basis = fn(&Evidence<'_>) -> Option<(&'static str, Instant)>;

/// A row of the table.
#[derive(Clone, Copy)]
struct Entry {
    verdict: Verdict,
    hop: Hop,
    hint: Hint,
    basis: Basis,
    silent: Option<&'static [ProbeKind]>,
}

impl Entry {
    const fn new(verdict: Verdict, hop: Hop, hint: Hint) -> Self {
        Self { verdict, hop, hint, basis: |_| None, silent: None }
    }

    /// The answers of probes show this cause, and its end. It says that none of the `silent` ones is answered.
    const fn probed(self, silent: &'static [ProbeKind]) -> Self {
        Self { silent: Some(silent), ..self }
    }

    /// The evidence for this cause may be old.
    const fn based_on(self, basis: Basis) -> Self {
        Self { basis, ..self }
    }
}

registry! {
    /// The causes, nearest to the node first: the first one that holds decides the verdict.
    pub enum Cause: Entry;

    NodeKernelUnsupported "node-kernel-unsupported" = Entry::new(Misconfigured, Map, node::kernel_unsupported);
    CiliumNotRunning "cilium-not-running" = Entry::new(Unknown, Device, node::cilium_not_running);
    CiliumDeviceDown "cilium-device-down" = Entry::new(Misconfigured, Device, node::cilium_device_down);
    CiliumBrokenRelease "cilium-broken-release" = Entry::new(Misconfigured, Device, node::cilium_broken_release);
    CiliumArpZeroMac "cilium-arp-zero-mac" = Entry::new(Misconfigured, Device, node::cilium_arp_zero_mac);
    CiliumVtepDisabled "cilium-vtep-disabled" = Entry::new(Misconfigured, Map, node::cilium_vtep_disabled);
    CiliumRestartRequired "cilium-restart-required" = Entry::new(Misconfigured, Map, node::cilium_restart_required);
    DatapathMissing "datapath-missing" = Entry::new(Misconfigured, Map, map::datapath_missing);
    DatapathContended "datapath-contended" = Entry::new(Degraded, Map, map::datapath_contended).based_on(map::last_repair);
    VtepCidrInUse "vtep-cidr-in-use" = Entry::new(Degraded, Pod, map::vtep_cidr_in_use);
    DroppedOnNode "dropped-on-node" = Entry::new(Misconfigured, Device, node::dropped_on_node).probed(&[Ping]);
    EndpointNoRoute "endpoint-no-route" = Entry::new(Unreachable, Underlay, wire::endpoint_no_route).probed(&[Beside, Arp, Ping]);
    WrongUdpPort "wrong-udp-port" = Entry::new(Misconfigured, Bigip, bigip::wrong_udp_port).probed(&[Ping]);
    WrongVni "wrong-vni" = Entry::new(Misconfigured, Bigip, bigip::wrong_vni).probed(&[Ping]);
    WrongSource "wrong-source" = Entry::new(Misconfigured, Bigip, bigip::wrong_source).probed(&[]);
    SelfIpConflict "self-ip-conflict" = Entry::new(Misconfigured, SelfIp, bigip::self_ip_conflict).probed(&[]);
    VtepMacMismatch "vtep-mac-mismatch" = Entry::new(Misconfigured, Bigip, bigip::vtep_mac_mismatch).probed(&[]).based_on(bigip::last_arp_answer);
    EndpointUnreachable "endpoint-unreachable" = Entry::new(Unreachable, Underlay, wire::endpoint_unreachable).probed(&[Beside, Arp, Ping]);
    TunnelSilent "tunnel-silent" = Entry::new(Unreachable, Bigip, wire::tunnel_silent).probed(&[Arp, Ping]);
    ForeignInnerSource "foreign-inner-source" = Entry::new(Degraded, Bigip, bigip::foreign_inner_source).probed(&[]);
    NoReturnPath "no-return-path" = Entry::new(Degraded, SelfIp, bigip::no_return_path).probed(&[Ping]);
    TcpBroken "tcp-broken" = Entry::new(Degraded, SelfIp, bigip::tcp_broken).probed(&[]);
    PathMtu "path-mtu" = Entry::new(Degraded, Underlay, wire::path_mtu).probed(&[]);
    PacketLoss "packet-loss" = Entry::new(Degraded, SelfIp, wire::packet_loss).probed(&[]).based_on(wire::last_loss);
    SelfIpUnknown "self-ip-unknown" = Entry::new(Unknown, SelfIp, bigip::self_ip_unknown).probed(&[]);
    IcmpRateLimited "icmp-rate-limited" = Entry::new(Verdict::Healthy, SelfIp, wire::icmp_rate_limited);
    CiliumAgentNotRunning "cilium-agent-not-running" = Entry::new(Verdict::Healthy, Device, node::cilium_agent_not_running);
}

impl Cause {
    /// The verdict on a VTEP with this cause, unless `Evidence::verdict` overrides it.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        self.entry().verdict
    }

    /// The hop at which the page shows it: the one whose evidence is bad.
    #[must_use]
    pub const fn hop(self) -> Hop {
        self.entry().hop
    }

    /// Whether it changes no verdict: packets pass in spite of it.
    #[must_use]
    pub const fn is_remark(self) -> bool {
        matches!(self.entry().verdict, Verdict::Healthy)
    }

    /// Whether the answers of probes show it, and its end.
    #[must_use]
    pub(super) const fn is_probed(self) -> bool {
        self.entry().silent.is_some()
    }

    /// The probes of which it says that none is answered.
    #[must_use]
    pub(super) fn silent(self) -> &'static [ProbeKind] {
        self.entry().silent.unwrap_or_default()
    }

    /// The chart's alert for this cause. A cause on the node itself concerns every VTEP of the node, so it has one alert for all of them.
    #[must_use]
    pub const fn alert(self) -> Option<&'static str> {
        match (self.entry().hop, self.entry().verdict) {
            (Map | Device, Misconfigured | Unknown) => Some("VtepNodeProblem"),
            (_, verdict) => verdict.alert(),
        }
    }

    pub(super) fn hint(self, evidence: &Evidence<'_>, now: Instant) -> Option<String> {
        (self.entry().hint)(evidence, now)
    }

    pub(super) fn basis(self, evidence: &Evidence<'_>) -> Option<(&'static str, Instant)> {
        (self.entry().basis)(evidence)
    }

    /// Its section of the runbook.
    #[must_use]
    pub fn section(self, runbook: &str) -> String {
        format!("{runbook}#{self}")
    }
}
