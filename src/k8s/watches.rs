//! The channels of a source's watches, and a snapshot of the latest values of all of them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use tokio::sync::watch::{self, Receiver, Sender};
use vtep_core::config::{
    cached::Cached,
    document::NodeConfig,
    merge::{CiliumNode, ClusterState, ConfigMap, Delivered, Located, Node},
};

use super::retry_gate::RetryGate;

/// The sending ends, one for each watch.
pub(super) struct Senders {
    pub(super) configmap: Sender<Cached<Option<ConfigMap>>>,
    pub(super) node_configs: Sender<Cached<Vec<NodeConfig>>>,
    pub(super) vtep_configs: Sender<Cached<Delivered>>,
    pub(super) vtep_node_config: Sender<Cached<Delivered>>,
    pub(super) node: Sender<Cached<Node>>,
    pub(super) cilium_node: Sender<Cached<CiliumNode>>,
    pub(super) endpoints: Sender<Cached<BTreeSet<Ipv4Addr>>>,
    pub(super) server: Sender<Option<Located>>,
}

/// The receiving ends.
pub(super) struct Watches {
    configmap: Receiver<Cached<Option<ConfigMap>>>,
    node_configs: Receiver<Cached<Vec<NodeConfig>>>,
    vtep_configs: Receiver<Cached<Delivered>>,
    vtep_node_config: Receiver<Cached<Delivered>>,
    node: Receiver<Cached<Node>>,
    cilium_node: Receiver<Cached<CiliumNode>>,
    endpoints: Receiver<Cached<BTreeSet<Ipv4Addr>>>,
    server: Receiver<Option<Located>>,
    trouble: Receiver<Option<String>>,
}

impl Watches {
    pub(super) fn new(gate: &RetryGate) -> (Senders, Self) {
        let (configmap, configmap_rx) = watch::channel(Cached::default());
        let (node_configs, node_configs_rx) = watch::channel(Cached::default());
        let (vtep_configs, vtep_configs_rx) = watch::channel(Cached::default());
        let (vtep_node_config, vtep_node_config_rx) = watch::channel(Cached::default());
        let (node, node_rx) = watch::channel(Cached::default());
        let (cilium_node, cilium_node_rx) = watch::channel(Cached::default());
        let (endpoints, endpoints_rx) = watch::channel(Cached::default());
        let (server, server_rx) = watch::channel(None);
        let watches = Self {
            configmap: configmap_rx,
            node_configs: node_configs_rx,
            vtep_configs: vtep_configs_rx,
            vtep_node_config: vtep_node_config_rx,
            node: node_rx,
            cilium_node: cilium_node_rx,
            endpoints: endpoints_rx,
            server: server_rx,
            trouble: gate.trouble(),
        };
        let senders =
            Senders { configmap, node_configs, vtep_configs, vtep_node_config, node, cilium_node, endpoints, server };
        (senders, watches)
    }

    /// The latest value of each watch.
    pub(super) fn seen(&mut self) -> ClusterState {
        let Self {
            configmap,
            node_configs,
            vtep_configs,
            vtep_node_config,
            node,
            cilium_node,
            endpoints,
            server,
            trouble,
        } = self;
        ClusterState {
            configmap: configmap.borrow_and_update().clone(),
            node_configs: node_configs.borrow_and_update().clone(),
            vtep_configs: vtep_configs.borrow_and_update().clone(),
            vtep_node_config: vtep_node_config.borrow_and_update().clone(),
            node: node.borrow_and_update().clone(),
            cilium_node: cilium_node.borrow_and_update().clone(),
            endpoints: endpoints.borrow_and_update().clone(),
            server: server.borrow_and_update().clone(),
            trouble: trouble.borrow_and_update().clone(),
        }
    }

    /// Waits until one of them changes; false if a sender was dropped.
    pub(super) async fn changed(&mut self) -> bool {
        let Self {
            configmap,
            node_configs,
            vtep_configs,
            vtep_node_config,
            node,
            cilium_node,
            endpoints,
            server,
            trouble,
        } = self;
        let changed = tokio::select! {
            changed = configmap.changed() => changed,
            changed = node_configs.changed() => changed,
            changed = vtep_configs.changed() => changed,
            changed = vtep_node_config.changed() => changed,
            changed = node.changed() => changed,
            changed = cilium_node.changed() => changed,
            changed = endpoints.changed() => changed,
            changed = server.changed() => changed,
            changed = trouble.changed() => changed,
        };
        changed.is_ok()
    }
}
