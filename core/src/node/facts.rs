//! What is known of this node at one moment.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    devices::{CiliumDevices, TUNNEL_OVERHEAD, Underlay},
    drift::{Difference, differences},
    running::Running,
    version::CiliumVersion,
};
use crate::config::spec::{Spec, Tunnel};

/// The node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The tunnel that these facts are about.
    pub tunnel: Tunnel,
    pub cilium: CiliumDevices,
    /// How each VTEP endpoint is reached; one without a route is missing.
    pub underlay: BTreeMap<Ipv4Addr, Underlay>,
    /// What Cilium was started with.
    pub running: Running,
    /// Why that cannot be read now, if it cannot.
    pub running_problem: Option<String>,
    /// Cilium's version, where it is known.
    pub version: Option<CiliumVersion>,
}

impl Facts {
    /// Where the running Cilium differs from what is in force, as far as it tells.
    #[must_use]
    pub fn differences(&self, spec: &Spec) -> Vec<Difference> {
        self.running.config().map(|running| differences(spec, running)).unwrap_or_default()
    }

    /// Bytes of the largest inner packet: what the smallest underlay leaves room for, and the tunnel device takes.
    #[must_use]
    pub fn inner_mtu(&self) -> Option<u32> {
        let underlay =
            self.underlay.values().map(|underlay| underlay.device.mtu.saturating_sub(TUNNEL_OVERHEAD)).min()?;
        self.cilium.tunnel.as_ref().map(|tunnel| underlay.min(tunnel.mtu))
    }
}
