//! The configuration from the API server: one watch each on the ConfigMap, on the `CiliumNodeConfig`s of its namespace, on the
//! `CiliumVTEPConfig`s and this node's `CiliumVTEPNodeConfig`, on this Node, on its `CiliumNode`, and on the API server's own endpoints.
//! Nothing is polled.
//!
//! If the API server is slow, unreachable or refuses, nothing changes in the kernel: the last configuration remains in effect.

use std::{collections::BTreeSet, future, net::Ipv4Addr, time::Duration};

use futures_util::future as futures;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    client::ClientBuilder,
    core::GroupVersionKind,
};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use vtep_core::config::{
    document::NodeConfig,
    merge::{CiliumNode, ClusterState, ConfigMap, Delivered, Located, Names, Node},
    surroundings::Surroundings,
    view::Observed,
    vtep_config::Kind,
};

use super::{
    bounded_body::Bounded, objects, retry_gate::RetryGate, server::Server, watch::Selection, watches::Watches,
};

/// The timeout of a connection to the API server, TLS included: less than a cycle of `retry_gate`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of look-ups of the API server's name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);
/// The interval until the first look-up succeeds.
const LOOKUP_RETRY: Duration = Duration::from_secs(5);

/// A client with the credentials of the pod's ServiceAccount, or of KUBECONFIG.
///
/// # Errors
///
/// There are no credentials.
pub async fn client() -> kube::Result<Client> {
    connect().await.map(|(client, _)| client)
}

/// Like [`client`], with the server that it connects to.
///
/// # Errors
///
/// There are no credentials.
pub async fn connect() -> kube::Result<(Client, Server)> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    // The client's own retries would hide the API server's answers, and come more often than once a second.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let server = Server::of(&config);
    Ok((ClientBuilder::try_from(config)?.with_layer(&Bounded).build(), server))
}

/// The API server as the source of one node's configuration.
#[derive(Clone)]
pub struct Source {
    pub client: Client,
    /// The server that the client connects to.
    pub server: Server,
    pub names: Names,
    /// Knowledge about the cluster from elsewhere, for example from flags.
    pub surroundings: Surroundings,
    /// Asks to read the custom resources with VTEPs again.
    pub recheck: watch::Receiver<()>,
}

impl Source {
    /// Reads everything once, without a watch.
    pub async fn read(&self) -> Observed {
        let (configmap, node_configs, node) = (self.configmap(), self.node_configs(), self.node());
        let (vtep_configs, vtep_node_config) = (self.vtep_configs(), self.vtep_node_config());
        let (cilium_node, endpoints) = (self.cilium_node(), self.endpoints());
        let lists = futures::join3(configmap.read_once(), node_configs.read_once(), node.read_once());
        let objects = futures::join(vtep_configs.read_once(), vtep_node_config.read_once());
        let optional = futures::join3(cilium_node.read_once(), endpoints.read_once(), self.server.locate());
        let (lists, objects, optional) = futures::join3(lists, objects, optional).await;
        let ((configmap, node_configs, node), (vtep_configs, vtep_node_config)) = (lists, objects);
        let (cilium_node, endpoints, server) = optional;
        let (server, trouble) = (Some(server), None);
        let seen = ClusterState {
            configmap,
            node_configs,
            vtep_configs,
            vtep_node_config,
            node,
            cilium_node,
            endpoints,
            server,
            trouble,
        };
        self.observed(&seen, None).unwrap_or_else(|| Observed::nothing("it was not asked"))
    }

    /// Sends the configuration now and after each change, until the receiver is dropped.
    pub async fn follow(self, updates: mpsc::Sender<Observed>) {
        let gate = RetryGate::new(&self.names.node, self.server.clone());
        let (senders, watches) = Watches::new(&gate);
        let (configmap, node_configs, node) = (self.configmap(), self.node_configs(), self.node());
        let (vtep_configs, vtep_node_config) = (self.vtep_configs(), self.vtep_node_config());
        let (cilium_node, endpoints) = (self.cilium_node(), self.endpoints());
        tokio::select! {
            biased;
            () = configmap.follow(&gate, senders.configmap) => {}
            () = node_configs.follow(&gate, senders.node_configs) => {}
            () = vtep_configs.follow(&gate, senders.vtep_configs) => {}
            () = vtep_node_config.follow(&gate, senders.vtep_node_config) => {}
            () = node.follow(&gate, senders.node) => {}
            () = cilium_node.follow(&gate, senders.cilium_node) => {}
            () = endpoints.follow(&gate, senders.endpoints) => {}
            () = self.look_up(senders.server) => {}
            () = self.join(watches, updates) => {}
        }
    }

    /// Merges the results of the watches, and sends the result if it differs from the last.
    async fn join(&self, mut watches: Watches, updates: mpsc::Sender<Observed>) {
        let mut last: Option<Observed> = None;
        loop {
            let before = last.as_ref().and_then(|last| last.warning.as_deref());
            let observed = self.observed(&watches.seen(), before);
            if observed.is_some() && observed != last {
                last.clone_from(&observed);
                if let Some(observed) = observed
                    && updates.send(observed).await.is_err()
                {
                    return;
                }
            }
            if !watches.changed().await {
                return;
            }
        }
    }

    /// Publishes the addresses under which this node reaches the API server.
    async fn look_up(&self, out: watch::Sender<Option<Located>>) {
        loop {
            let found = self.server.locate().await;
            let all = match out.borrow().clone() {
                Some(known) => known.and(found),
                None => found,
            };
            let interval = if all.unresolved.is_some() { LOOKUP_RETRY } else { LOOKUP_INTERVAL };
            out.send_if_modified(|known| known.replace(all.clone()).as_ref() != Some(&all));
            if !self.server.is_named() {
                future::pending::<()>().await;
            }
            time::sleep(interval).await;
        }
    }

    fn observed(&self, seen: &ClusterState, before: Option<&str>) -> Option<Observed> {
        seen.observed(&self.names, &self.surroundings, before)
    }

    fn configmap(&self) -> Selection<k8s_openapi::api::core::v1::ConfigMap, Option<ConfigMap>> {
        let Names { namespace, configmap, .. } = &self.names;
        Selection {
            apis: vec![Api::namespaced(self.client.clone(), namespace)],
            resource: "configmaps",
            namespace: Some(namespace.clone()),
            name: Some(configmap.clone()),
            label: None,
            optional: false,
            server: self.server.clone(),
            read: objects::configmap,
            recheck: None,
        }
    }

    fn node_configs(&self) -> Selection<DynamicObject, Vec<NodeConfig>> {
        let Names { namespace, .. } = &self.names;
        // Cilium serves v2 since 1.16.
        let apis = ["v2", "v2alpha1"].map(|version| {
            let kind = GroupVersionKind::gvk("cilium.io", version, "CiliumNodeConfig");
            let resource = ApiResource::from_gvk_with_plural(&kind, "ciliumnodeconfigs");
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        });
        Selection {
            apis: apis.into(),
            resource: "ciliumnodeconfigs.cilium.io",
            namespace: Some(namespace.clone()),
            name: None,
            label: None,
            optional: false,
            server: self.server.clone(),
            read: objects::node_configs,
            recheck: None,
        }
    }

    fn node(&self) -> Selection<k8s_openapi::api::core::v1::Node, Node> {
        Selection {
            apis: vec![Api::all(self.client.clone())],
            resource: "nodes",
            namespace: None,
            name: Some(self.names.node.clone()),
            label: None,
            optional: false,
            server: self.server.clone(),
            read: objects::node,
            recheck: None,
        }
    }

    fn vtep_configs(&self) -> Selection<DynamicObject, Delivered> {
        let kind = |version| GroupVersionKind::gvk("cilium.io", version, Kind::Config.name());
        // EKS's builds of Cilium serve v2, upstream serves v2alpha1.
        let apis = ["v2", "v2alpha1"].map(|version| {
            let resource = ApiResource::from_gvk_with_plural(&kind(version), "ciliumvtepconfigs");
            Api::all_with(self.client.clone(), &resource)
        });
        Selection {
            apis: apis.into(),
            resource: "ciliumvtepconfigs.cilium.io",
            namespace: None,
            name: None,
            label: None,
            optional: true,
            server: self.server.clone(),
            read: objects::vtep_configs,
            recheck: Some(self.recheck.clone()),
        }
    }

    fn vtep_node_config(&self) -> Selection<DynamicObject, Delivered> {
        let kind = GroupVersionKind::gvk("cilium.io", "v2alpha1", Kind::NodeConfig.name());
        let resource = ApiResource::from_gvk_with_plural(&kind, "ciliumvtepnodeconfigs");
        Selection {
            apis: vec![Api::all_with(self.client.clone(), &resource)],
            resource: "ciliumvtepnodeconfigs.cilium.io",
            namespace: None,
            name: Some(self.names.node.clone()),
            label: None,
            optional: true,
            server: self.server.clone(),
            read: objects::vtep_node_config,
            recheck: Some(self.recheck.clone()),
        }
    }

    fn cilium_node(&self) -> Selection<DynamicObject, CiliumNode> {
        let kind = GroupVersionKind::gvk("cilium.io", "v2", "CiliumNode");
        let resource = ApiResource::from_gvk_with_plural(&kind, "ciliumnodes");
        Selection {
            apis: vec![Api::all_with(self.client.clone(), &resource)],
            resource: "ciliumnodes.cilium.io",
            namespace: None,
            name: Some(self.names.node.clone()),
            label: None,
            optional: true,
            server: self.server.clone(),
            read: objects::cilium_node,
            recheck: None,
        }
    }

    /// The API server publishes its own endpoints, for the Service through which pods reach it.
    fn endpoints(&self) -> Selection<EndpointSlice, BTreeSet<Ipv4Addr>> {
        Selection {
            apis: vec![Api::namespaced(self.client.clone(), "default")],
            resource: "endpointslices.discovery.k8s.io",
            namespace: Some("default".to_owned()),
            name: None,
            label: Some("kubernetes.io/service-name=kubernetes"),
            optional: true,
            server: self.server.clone(),
            read: objects::endpoints,
            recheck: None,
        }
    }
}

#[cfg(test)]
mod tests;
