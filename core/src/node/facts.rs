//! The known facts about this node at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use super::{
    cilium_agent::AgentState,
    devices::{CiliumDevices, TUNNEL_OVERHEAD, Underlay},
    drift::{Difference, differences},
    running::Running,
    undisclosed::{Traces, undisclosed},
    version::CiliumVersion,
};
use crate::config::{
    spec::{Spec, Tunnel},
    truth::Truth,
};

/// The node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The tunnel that these facts apply to.
    pub tunnel: Tunnel,
    pub cilium: CiliumDevices,
    /// The path to each VTEP endpoint; an endpoint without a route is absent.
    pub underlay: BTreeMap<Ipv4Addr, Underlay>,
    /// The devices among these whose `rp_filter` is strict: they drop packets from an address to which another device has the route.
    pub strict_devices: BTreeSet<String>,
    /// The configuration that Cilium was started with.
    pub running: Running,
    /// Why that configuration is unreadable now, if it is.
    pub running_problem: Option<String>,
    /// Cilium's version, if it is known.
    pub version: Option<CiliumVersion>,
    /// Whether Cilium's agent runs.
    pub agent: AgentState,
}

impl Facts {
    /// The differences between the running Cilium and the effective configuration, as far as Cilium discloses its values or `traces` show
    /// them.
    #[must_use]
    pub fn differences(&self, spec: &Spec, traces: &Traces<'_>) -> Vec<Difference> {
        let of = |running| differences(spec, running).into_iter().chain(undisclosed(spec, running, traces));
        let differences = self.running.config().into_iter().flat_map(of);
        // Cilium reconciles custom resources while it runs, and does not use the lists beside them.
        differences.filter(|found| traces.truth != Truth::Crd || !found.is_of_lists()).collect()
    }

    /// Bytes of the largest inner packet: the smallest underlay and the tunnel device both limit it.
    #[must_use]
    pub fn inner_mtu(&self) -> Option<u32> {
        let underlay =
            self.underlay.values().map(|underlay| underlay.device.mtu.saturating_sub(TUNNEL_OVERHEAD)).min()?;
        self.cilium.tunnel.as_ref().map(|tunnel| underlay.min(tunnel.mtu))
    }
}
