//! The registry of causes, and the verdicts: their ids are promises to scripts, dashboards and runbooks.
//!
//! A new cause is a row of the table below and a hint function in the file of its stretch of the way. Everything else follows from the row:
//! where the page shows it, the metric, the Event's reason, the alert. A test compares the runbook and the schema of the status with the table.

use std::time::Instant;

use self::{
    Hop::{Bigip, Device, Map, Pod, SelfIp, Underlay},
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

    /// The alert of the chart that fires for it; none for health.
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

    /// The one that decides where there are several: what is known to fail before what works in part, and that before what is not known.
    #[must_use]
    pub fn worst(of: impl IntoIterator<Item = Self>) -> Option<Self> {
        of.into_iter().max_by_key(|verdict| match verdict {
            Self::Healthy => 0,
            Self::Unknown => 1,
            Self::Degraded => 2,
            Self::Misconfigured => 3,
            Self::Unreachable => 4,
        })
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

/// Where the runbook lies in this project.
pub const RUNBOOK: &str = "docs/runbook.md";

/// A station on the way of a packet from a pod to the tunnel self IP, as the page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    Pod,
    /// The VTEP map, and whatever keeps an entry from working.
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

/// Whether a cause holds: if so, what a person should do next, with the values seen.
type Hint = fn(&Evidence<'_>, Instant) -> Option<String>;
/// What a cause rests on, and when that was seen last; `None` while the cause is a state of now.
type Basis = fn(&Evidence<'_>) -> Option<(&'static str, Instant)>;

/// What the table says of a cause.
#[derive(Clone, Copy)]
struct Entry {
    verdict: Verdict,
    hop: Hop,
    hint: Hint,
    basis: Basis,
}

impl Entry {
    const fn new(verdict: Verdict, hop: Hop, hint: Hint) -> Self {
        Self { verdict, hop, hint, basis: |_| None }
    }

    /// The evidence for this cause may be old.
    const fn based_on(self, basis: Basis) -> Self {
        Self { basis, ..self }
    }
}

registry! {
    /// The causes, nearest to the node first: the first that holds is the verdict's.
    pub enum Cause: Entry;

    NodeKernelUnsupported "node-kernel-unsupported" = Entry::new(Misconfigured, Map, node::kernel_unsupported);
    CiliumNotRunning "cilium-not-running" = Entry::new(Unknown, Device, node::cilium_not_running);
    CiliumBrokenRelease "cilium-broken-release" = Entry::new(Misconfigured, Device, node::cilium_broken_release);
    CiliumArpZeroMac "cilium-arp-zero-mac" = Entry::new(Misconfigured, Device, node::cilium_arp_zero_mac);
    CiliumVtepDisabled "cilium-vtep-disabled" = Entry::new(Misconfigured, Map, node::cilium_vtep_disabled);
    CiliumRestartRequired "cilium-restart-required" = Entry::new(Misconfigured, Map, node::cilium_restart_required);
    DatapathMissing "datapath-missing" = Entry::new(Misconfigured, Map, map::datapath_missing);
    DatapathContended "datapath-contended" = Entry::new(Degraded, Map, map::datapath_contended).based_on(map::last_repair);
    VtepCidrInUse "vtep-cidr-in-use" = Entry::new(Degraded, Pod, map::vtep_cidr_in_use);
    EndpointNoRoute "endpoint-no-route" = Entry::new(Unreachable, Underlay, wire::endpoint_no_route);
    WrongUdpPort "wrong-udp-port" = Entry::new(Misconfigured, Bigip, bigip::wrong_udp_port);
    WrongVni "wrong-vni" = Entry::new(Misconfigured, Bigip, bigip::wrong_vni);
    WrongSource "wrong-source" = Entry::new(Misconfigured, Bigip, bigip::wrong_source);
    VtepMacMismatch "vtep-mac-mismatch" = Entry::new(Misconfigured, Bigip, bigip::vtep_mac_mismatch).based_on(bigip::last_arp_answer);
    EndpointUnreachable "endpoint-unreachable" = Entry::new(Unreachable, Underlay, wire::endpoint_unreachable);
    TunnelSilent "tunnel-silent" = Entry::new(Unreachable, Underlay, wire::tunnel_silent);
    ForeignInnerSource "foreign-inner-source" = Entry::new(Degraded, Bigip, bigip::foreign_inner_source);
    NoReturnPath "no-return-path" = Entry::new(Degraded, SelfIp, bigip::no_return_path);
    PathMtu "path-mtu" = Entry::new(Degraded, Underlay, wire::path_mtu);
    PacketLoss "packet-loss" = Entry::new(Degraded, Underlay, wire::packet_loss).based_on(wire::last_loss);
    SelfIpUnknown "self-ip-unknown" = Entry::new(Unknown, SelfIp, bigip::self_ip_unknown);
}

impl Cause {
    /// The verdict on a VTEP with this cause, unless the evidence makes it another.
    #[must_use]
    pub const fn verdict(self) -> Verdict {
        self.entry().verdict
    }

    /// Where the page shows it.
    #[must_use]
    pub const fn hop(self) -> Hop {
        self.entry().hop
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
