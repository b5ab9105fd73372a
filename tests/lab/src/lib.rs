//! One Kubernetes node with Cilium, one pod and two BIG-IPs, in network namespaces of this machine.
//!
//! ```text
//!   pod ── lxc… ┐                                      ┌ eth0  BIG-IP 1  flannel_vxlan
//!               ├ node ── eth0 ── underlay (switch) ──┤
//!   cilium_host ┘  cilium_vxlan                        └ eth0  BIG-IP 2  flannel_vxlan
//! ```
//!
//! On request there are two more networks, which the node must be able to reach whatever the agent does:
//!
//! ```text
//!   node ── eth0 ── underlay (router) ── eth0  API host, on a network behind the node's default gateway
//!     └──── eth1 ── eth0  second host, on a network of the node's own
//! ```
//!
//! And the cluster may have another node, with a tunnel to the same BIG-IPs, and the first BIG-IP a second unit, which takes over.
//!
//! The kernel, the maps, the tunnels and the packets are real. A small eBPF datapath (`ebpf/`) with the same pins, layouts and answers
//! replaces Cilium's programs, and [`Cilium`] replaces its agent.
//!
//! - [`Topology`]: the addresses, F5's by default, and the kind of [`Tunnel`].
//! - [`Builder`]: the options of a lab.
//! - [`Host`]: a namespace, and operations inside it.
//! - [`Cilium`], [`RunningConfig`], [`VtepModel`], [`Faults`]: the acts of Cilium that a test requests.
//! - [`Config`]: the mounted ConfigMap.
//! - [`ping()`], [`arp()`], [`proxy()`], [`vtep_entries()`]: observations from outside.
//!
//! Nothing remains after the process ends, in whatever way: namespaces have no names, mounts are private to the lab's thread, programs
//! are attached through descriptors, and child processes die with the thread that started them. The machine's own network gets no device
//! and no address, and no packet leaves through it.

use std::{marker::PhantomData, net::SocketAddr, path::Path, process::Command};

use anyhow::{Result, ensure};

mod agent_api;
mod arp;
mod builder;
mod cilium;
mod config;
mod datapath;
mod geneve;
mod host;
mod host_routes;
mod mac;
mod mounts;
mod namespace;
mod network;
mod packet;
mod pair;
mod ping;
mod proxy;
mod reconciler;
mod running;
mod topology;
mod vtep_map;

pub use crate::{
    arp::{ArpRequest, arp},
    builder::Builder,
    cilium::{Cilium, Faults},
    config::Config,
    host::{Host, Link},
    mac::Mac,
    mounts::{BPF_FS, CILIUM_RUN, CONFIG, FILES, PINS, STATE},
    network::{BIGIP_TUNNEL, POD_DEVICE},
    pair::Standby,
    ping::{PingResult, ping},
    proxy::{Proxy, proxy},
    running::RunningConfig,
    topology::{BigIpAddresses, Topology, Tunnel, Vtep},
    vtep_map::{VtepModel, vtep_entries},
};
use crate::{geneve::UserDevice, mounts::Mounts, network::Network};

/// The running lab. Dropping it removes everything.
///
/// It belongs to the thread that created it: only that thread, and threads and processes that it starts afterwards, see the lab's pins
/// and files. Other threads may have labs at the same time, and a thread may create another lab after the drop.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: programs first, mounts last.
    pub cilium: Cilium,
    pub node: Host,
    pub pod: Host,
    pub bigips: Vec<BigIp>,
    /// The other unit of the first BIG-IP. Only with [`Builder::standby`].
    pub standby: Option<BigIp>,
    /// The switch between them, with the router's address.
    pub underlay: Host,
    /// A host on a network behind the router: a place for an API server. Only with [`Builder::api_host`].
    pub api_host: Option<Host>,
    /// The host at the other end of the node's `eth1`. Only with [`Builder::second`].
    pub second: Option<Host>,
    /// Another node of the cluster. Only with [`Builder::other_node`].
    pub other_node: Option<Host>,
    pub config: Config,
    pub topology: Topology,
    _user_devices: Vec<UserDevice>,
    _mounts: Mounts,
    _not_send: PhantomData<*const ()>,
}

impl Lab {
    /// Starts the lab of F5's document, with Cilium running and an empty VTEP map.
    ///
    /// # Errors
    ///
    /// The process is not root, or the kernel or a tool lacks something that the lab needs.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// A lab with options.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn build(builder: Builder) -> Result<Self> {
        let Builder {
            topology,
            mut running,
            faults,
            model,
            vteps,
            fill_map,
            cilium_running,
            api_host,
            second,
            standby,
        } = builder;
        ensure!(nix::unistd::geteuid().is_root(), "the lab needs root: it makes namespaces, mounts and eBPF programs");
        let mounts = Mounts::new()?;
        let Network { underlay, node, pod, bigips, user_devices } = Network::new(&topology)?;
        let api_host = api_host.then(|| network::api_host(&underlay, &topology)).transpose()?;
        let second = second.then(|| network::second(&node, &topology)).transpose()?;
        let other_node =
            topology.other_node_ip.map(|ip| network::other_node(&underlay, &node, ip, &topology)).transpose()?;
        running.vteps = vteps.unwrap_or_else(|| topology.vteps());
        running.tunnel = topology.tunnel;
        running.tunnel_port = topology.tunnel_port;
        let mut cilium = Cilium::new(node.clone(), pod.clone(), topology.clone(), running, faults, model, fill_map);
        if cilium_running {
            cilium.start()?;
        }
        let bigips = bigips
            .into_iter()
            .zip(&topology.bigips)
            .map(|((host, port), addresses)| BigIp {
                host,
                addresses: addresses.clone(),
                underlay: underlay.clone(),
                port,
                topology: topology.clone(),
            })
            .collect::<Vec<_>>();
        let standby = match (standby, bigips.first()) {
            (Some(standby), Some(active)) => Some(standby.start(&underlay, active, &topology)?),
            (None, _) | (_, None) => None,
        };
        let (config, _not_send) = (Config::new(), PhantomData);
        Ok(Self {
            cilium,
            node,
            pod,
            bigips,
            standby,
            underlay,
            api_host,
            second,
            other_node,
            config,
            topology,
            _user_devices: user_devices,
            _mounts: mounts,
            _not_send,
        })
    }

    /// The agent's command line for this lab. Run it inside the node.
    #[must_use]
    pub fn agent_command(&self, agent: &Path, listen: SocketAddr) -> Command {
        let mut command = self.node.command(agent);
        command.args(["run", "--config-source", "dir", "--config-dir", CONFIG, "--cilium-run", CILIUM_RUN]);
        command.args(["--state-dir", STATE, "--node-name", "worker-1", "--listen", &listen.to_string()]);
        for BigIpAddresses { self_ip, .. } in &self.topology.bigips {
            command.args(["--probe-target", &format!("{}={}", self_ip.trunc(), self_ip.addr())]);
        }
        command
    }
}

/// A BIG-IP: a Linux tunnel device that behaves like BIG-IP's tunnel.
#[derive(Debug)]
pub struct BigIp {
    pub host: Host,
    pub addresses: BigIpAddresses,
    underlay: Host,
    port: String,
    topology: Topology,
}

impl BigIp {
    /// Cuts its link to the underlay.
    ///
    /// # Errors
    ///
    /// The switch refused.
    pub fn down(&self) -> Result<()> {
        self.underlay.ip(&format!("link set {} down", self.port)).map(drop)
    }

    /// Restores its link to the underlay.
    ///
    /// # Errors
    ///
    /// The switch refused.
    pub fn up(&self) -> Result<()> {
        self.underlay.ip(&format!("link set {} up", self.port)).map(drop)
    }
}
