//! The configuration from the API server: one watch each on the ConfigMap, on the `CiliumNodeConfig`s beside it and on this Node, and
//! no polling.
//!
//! An API server that is slow, gone or refuses changes nothing in the kernel: what was seen last stays in force.

mod follow;
mod objects;
mod seen;

use futures_util::future;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use tokio::sync::{mpsc, watch};

use self::{
    follow::{Gate, PATIENCE, Part, Selection},
    objects::Node,
    seen::Seen,
};
use super::{Keys, document::NodeConfig, surroundings::Surroundings, view::Observed};

/// What to read of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Cilium's.
    pub namespace: String,
    pub configmap: String,
    /// This node.
    pub node: String,
}

/// A client by the pod's ServiceAccount, or by KUBECONFIG.
///
/// # Errors
///
/// When there are no credentials.
pub async fn client() -> kube::Result<Client> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    // The client's own retries would hide what the API server says, and are faster than once a second.
    config.default_retry = false;
    config.connect_timeout = Some(PATIENCE);
    Client::try_from(config)
}

/// The API server as the source of one node's configuration.
#[derive(Clone)]
pub struct Source {
    pub client: Client,
    pub names: Names,
    /// What is known of the cluster without the API server.
    pub surroundings: Surroundings,
}

impl Source {
    /// Where the client connects to.
    #[must_use]
    pub fn api_addresses(&self) -> Vec<std::net::SocketAddr> {
        Vec::new()
    }

    /// One look.
    pub async fn read(&self) -> Observed {
        let (configmap, node_configs, node) =
            future::join3(self.configmap().read_once(), self.node_configs().read_once(), self.node().read_once()).await;
        self.observed(&Seen { configmap, node_configs, node }).unwrap_or_else(|| Observed::nothing("it was not asked"))
    }

    /// Sends what is there, now and after each change, until the receiver is gone.
    pub async fn follow(self, updates: mpsc::Sender<Observed>) {
        let gate = Gate::new(&self.names.node);
        let (configmap, configmap_rx) = watch::channel(Part::default());
        let (node_configs, node_configs_rx) = watch::channel(Part::default());
        let (node, node_rx) = watch::channel(Part::default());
        let (configmaps, configs, nodes) = (self.configmap(), self.node_configs(), self.node());
        tokio::select! {
            biased;
            () = configmaps.follow(&gate, configmap) => {}
            () = configs.follow(&gate, node_configs) => {}
            () = nodes.follow(&gate, node) => {}
            () = self.join(configmap_rx, node_configs_rx, node_rx, updates) => {}
        }
    }

    /// Puts together what the three watches see.
    async fn join(
        &self,
        mut configmap: watch::Receiver<Part<Option<Keys>>>,
        mut node_configs: watch::Receiver<Part<Vec<NodeConfig>>>,
        mut node: watch::Receiver<Part<Node>>,
        updates: mpsc::Sender<Observed>,
    ) {
        let mut last = None;
        loop {
            let observed = self.observed(&Seen {
                configmap: configmap.borrow_and_update().clone(),
                node_configs: node_configs.borrow_and_update().clone(),
                node: node.borrow_and_update().clone(),
            });
            if observed != last {
                last.clone_from(&observed);
                if let Some(observed) = observed
                    && updates.send(observed).await.is_err()
                {
                    return;
                }
            }
            let changed = tokio::select! {
                changed = configmap.changed() => changed,
                changed = node_configs.changed() => changed,
                changed = node.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn observed(&self, seen: &Seen) -> Option<Observed> {
        seen.observed(&self.names, &self.surroundings)
    }

    fn configmap(&self) -> Selection<k8s_openapi::api::core::v1::ConfigMap, Option<Keys>> {
        let Names { namespace, configmap, .. } = &self.names;
        Selection {
            apis: vec![Api::namespaced(self.client.clone(), namespace)],
            resource: "configmaps",
            namespace: Some(namespace.clone()),
            name: Some(configmap.clone()),
            read: objects::keys,
        }
    }

    fn node_configs(&self) -> Selection<DynamicObject, Vec<NodeConfig>> {
        let Names { namespace, .. } = &self.names;
        // v2 since Cilium 1.16.
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
            read: objects::node_configs,
        }
    }

    fn node(&self) -> Selection<k8s_openapi::api::core::v1::Node, Node> {
        Selection {
            apis: vec![Api::all(self.client.clone())],
            resource: "nodes",
            namespace: None,
            name: Some(self.names.node.clone()),
            read: objects::node,
        }
    }
}
