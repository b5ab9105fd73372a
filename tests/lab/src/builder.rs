//! The options of a lab.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::{
    Lab,
    cilium::Faults,
    pair::Standby,
    running::RunningConfig,
    topology::{Topology, Tunnel, Vtep},
    vtep_map::VtepModel,
};

const OTHER_NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 169, 72, 233);

/// A lab that has not started yet. See [`Lab::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    pub(crate) topology: Topology,
    pub(crate) running: RunningConfig,
    pub(crate) faults: Faults,
    pub(crate) model: VtepModel,
    pub(crate) vteps: Option<Vec<Vtep>>,
    pub(crate) fill_map: bool,
    pub(crate) cilium_running: bool,
    pub(crate) api_host: bool,
    pub(crate) second: bool,
    pub(crate) standby: Option<Standby>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            running: RunningConfig::default(),
            faults: Faults::default(),
            model: VtepModel::default(),
            vteps: None,
            fill_map: false,
            cilium_running: true,
            api_host: false,
            second: false,
            standby: None,
        }
    }
}

impl Builder {
    /// Uses other addresses than F5's.
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Uses another tunnel than VXLAN, on its usual port.
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.topology.tunnel = tunnel;
        self.topology.tunnel_port = tunnel.port();
        self
    }

    /// Whether Cilium has started; with `false`, the node has no pins, programs and running configuration. On by default.
    pub fn cilium_running(mut self, running: bool) -> Self {
        self.cilium_running = running;
        self
    }

    /// Whether Cilium adds its host routes for VTEP CIDRs, as it does with `enable-l7-proxy`. Off by default, like in F5's guide.
    pub fn l7_proxy(mut self, enabled: bool) -> Self {
        self.running.enable_l7_proxy = enabled;
        self
    }

    /// The VTEPs of Cilium's *running* configuration. All BIG-IPs of the topology by default.
    pub fn vteps(mut self, vteps: &[Vtep]) -> Self {
        self.vteps = Some(vteps.to_vec());
        self
    }

    /// Whether Cilium's configuration has lists of VTEPs. On by default; without them, the VTEPs come from custom resources, with
    /// [`Cilium::reconcile`](crate::Cilium::reconcile).
    pub fn vtep_lists(mut self, exist: bool) -> Self {
        self.running.vtep_lists = exist;
        self
    }

    /// The type of Cilium's VTEP map. A hash by default.
    pub fn vtep_model(mut self, model: VtepModel) -> Self {
        self.model = model;
        self
    }

    /// Whether Cilium writes its entries when it starts. Off by default: the map stays empty until another program fills it.
    pub fn fill_map(mut self, fill: bool) -> Self {
        self.fill_map = fill;
        self
    }

    /// Whether the underlay's router, the node's default gateway, leads to a host on another network: [`Lab::api_host`]. Off by default.
    pub fn api_host(mut self, exists: bool) -> Self {
        self.api_host = exists;
        self
    }

    /// Whether the node has a second interface, `eth1`, with a host at its other end: [`Lab::second`]. Off by default.
    pub fn second(mut self, exists: bool) -> Self {
        self.second = exists;
        self
    }

    /// Makes the first BIG-IP a pair, whose other unit is [`Lab::standby`]. One unit by default.
    pub fn standby(mut self, standby: Standby) -> Self {
        self.standby = Some(standby);
        self
    }

    /// Whether the cluster has another node, which forwards frames for this one over its overlay: [`Lab::other_node`]. Off by default.
    pub fn other_node(mut self, exists: bool) -> Self {
        self.topology.other_node_ip = exists.then_some(OTHER_NODE_IP);
        self
    }

    /// The faults of Cilium's programs. None by default.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Starts the lab on the calling thread, which owns it from then on.
    ///
    /// # Errors
    ///
    /// The process is not root, or the kernel or a tool lacks something that the lab needs.
    pub fn start(self) -> Result<Lab> {
        Lab::build(self)
    }
}
