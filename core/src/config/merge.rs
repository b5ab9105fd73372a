//! Merges the objects that the watches deliver into one observation of the source. It opens no connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    Keys,
    cached::{Cached, Unknown},
    document::{Document, NodeConfig},
    finding::Finding,
    selector::Labels,
    surroundings::{Fact, Surroundings},
    view::{Observed, SourceState},
    vtep_config::{Objects, VtepConfig},
};

/// The objects to read from the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Cilium's namespace.
    pub namespace: String,
    pub configmap: String,
    /// This node.
    pub node: String,
}

static NO_LABELS: Labels = Labels::new();

/// This node, as Kubernetes knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub labels: Labels,
    /// IPv4 only.
    pub pod_cidrs: BTreeSet<Ipv4Net>,
    /// IPv4 only.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// This node, as Cilium knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumNode {
    /// The networks from which Cilium gives its pods addresses, IPv4 only. With cluster-pool IPAM, Cilium does not use the networks of the
    /// Node.
    pub pod_cidrs: BTreeSet<Ipv4Net>,
    /// Addresses of the node and of Cilium's own device `cilium_host`, IPv4 only.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// The addresses of the API server, as far as this node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// IPv4 only.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Why the name that the client connects to could never be resolved.
    pub unresolved: Option<String>,
}

impl Located {
    /// No API server has more addresses at a time. Beyond this limit only the addresses of the newest look-up count.
    const MOST: usize = 64;

    /// Adds a newer look-up. Older addresses still count, because a name may change its addresses or resolve to them in turns.
    pub fn and(mut self, now: Self) -> Self {
        self.addresses.extend(&now.addresses);
        let addresses = if self.addresses.len() > Self::MOST { now.addresses } else { self.addresses };
        Self { addresses, unresolved: self.unresolved.and(now.unresolved) }
    }
}

/// The ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    pub keys: Keys,
    /// The three lists have not changed after this time; `None` if the object does not say.
    pub lists_changed: Option<Timestamp>,
}

/// Custom resources with VTEPs, as read, and when the API server delivered them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub objects: Vec<Result<VtepConfig, Box<Finding>>>,
    pub at: Instant,
}

#[derive(Clone, Default)]
pub struct ClusterState {
    pub configmap: Cached<Option<ConfigMap>>,
    pub node_configs: Cached<Vec<NodeConfig>>,
    /// The cluster's `CiliumVTEPConfig`s.
    pub vtep_configs: Cached<Delivered>,
    /// This node's `CiliumVTEPNodeConfig`, if there is one.
    pub vtep_node_config: Cached<Delivered>,
    pub node: Cached<Node>,
    pub cilium_node: Cached<CiliumNode>,
    /// The endpoints of the API server's Service.
    pub endpoints: Cached<BTreeSet<Ipv4Addr>>,
    /// The addresses by which this agent reaches the API server; `None` until the name was looked up.
    pub server: Option<Located>,
    /// Why the API server cannot be reached.
    pub trouble: Option<String>,
}

impl ClusterState {
    /// `None` until every answer or a reason for its absence is known: a partial answer may be the wrong configuration. `before` is the
    /// warning of the last observation. It persists until every watch that the configuration depends on is open again.
    pub fn observed(&self, names: &Names, given: &Surroundings, before: Option<&str>) -> Option<Observed> {
        let warning = self.warning(before);
        if self.is_pending() || (self.configmap.known.is_none() && warning.is_some()) {
            return warning.map(|warning| Observed::nothing(&warning));
        }
        let labels = match &self.node.known {
            Some(node) => Some(&node.labels),
            // Without overrides and without selectors, the node's labels do not matter.
            None => Some(&NO_LABELS).filter(|_| !self.needs_labels()),
        };
        let state = match (&self.configmap.known, &self.node_configs.known, labels) {
            (Some(None), _, _) => SourceState::Missing(missing(names)),
            (Some(Some(configmap)), Some(configs), Some(labels)) if self.vtep_trouble().is_none() => {
                let ConfigMap { keys, lists_changed } = configmap;
                let surroundings = given.and(&self.surroundings());
                let document = Document::effective(keys.clone(), configs, labels, surroundings).changed(*lists_changed);
                SourceState::Document(Document { objects: self.objects(names, labels), ..document })
            }
            (_, _, _) => SourceState::Nothing,
        };
        Some(Observed { state, warning })
    }

    /// An object selects nodes by their labels.
    fn needs_labels(&self) -> bool {
        let has_selector = |object: &Result<VtepConfig, _>| match object {
            Ok(VtepConfig { selector: Ok(selector), .. }) => selector.is_some(),
            Ok(_) | Err(_) => false,
        };
        let vtep_configs = self.vtep_configs.known.iter().flat_map(|delivered| &delivered.objects);
        self.node_configs.known.as_ref().is_some_and(|configs| !configs.is_empty())
            || vtep_configs.clone().any(has_selector)
    }

    /// Why custom resources may exist that were never read. Those that the API server withholds do not count.
    fn vtep_trouble(&self) -> Option<&str> {
        self.vtep_configs.unreadable().or_else(|| self.vtep_node_config.unreadable())
    }

    /// The custom resources; `None` if the API server withholds all of them. The older delivery counts.
    fn objects(&self, names: &Names, labels: &Labels) -> Option<Objects> {
        let both = [&self.vtep_configs.known, &self.vtep_node_config.known];
        let delivered = both.into_iter().flatten().map(|delivered| delivered.at).min()?;
        let all = both.into_iter().flatten().flat_map(|delivered| delivered.objects.clone()).collect();
        Some(Objects { all, node: names.node.clone(), labels: labels.clone(), delivered: Some(delivered) })
    }

    /// Why the known data may be out of date. Only objects that the configuration depends on cause a warning. For the others, the last
    /// known data remains valid; if such data was never read, the effect is limited to new VTEPs ([`Surroundings::unreadable`]).
    fn warning(&self, before: Option<&str>) -> Option<String> {
        let Self { configmap, node_configs, node, trouble, .. } = self;
        let has_failed = |unknown: &&Unknown| matches!(unknown, Unknown::Failed(_));
        let optional = [&self.vtep_configs.error, &self.vtep_node_config.error];
        let optional = optional.into_iter().flatten().find(has_failed);
        let error =
            [&configmap.error, &node_configs.error, &node.error].into_iter().flatten().next().or(optional).cloned();
        let is_whole = configmap.open && node_configs.open && node.open;
        let trouble = trouble.as_deref().or(before).filter(|_| !is_whole);
        error.map(|unknown| unknown.reason().to_owned()).or_else(|| trouble.map(str::to_owned))
    }

    fn is_pending(&self) -> bool {
        let Self {
            configmap, node_configs, vtep_configs, vtep_node_config, node, cilium_node, endpoints, server, ..
        } = self;
        let pending = [
            configmap.is_pending(),
            node_configs.is_pending(),
            vtep_configs.is_pending(),
            vtep_node_config.is_pending(),
            node.is_pending(),
            cilium_node.is_pending(),
            endpoints.is_pending(),
            server.is_none(),
        ];
        pending.contains(&true)
    }

    /// The facts that the cluster has about this node and the API server. Networks of the Node and of the CiliumNode both count: the IPAM
    /// mode decides which of them Cilium uses, and a network too many only refuses a VTEP, while a network too few would cut pods off.
    fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::default();
        if let Some(Node { pod_cidrs, addresses, .. }) = &self.node.known {
            surroundings.pod_cidrs.extend(pod_cidrs);
            surroundings.node_addresses.extend(addresses);
        }
        if let Some(CiliumNode { pod_cidrs, addresses }) = &self.cilium_node.known {
            surroundings.pod_cidrs.extend(pod_cidrs);
            surroundings.node_addresses.extend(addresses);
        }
        let servers = self.server.as_ref().map(|server| &server.addresses);
        surroundings.api_servers.extend(servers.into_iter().chain(&self.endpoints.known).flatten());
        surroundings.unreadable = self.unreadable();
        surroundings
    }

    /// Facts that the API server may have but has never delivered. Facts that it withholds from this agent ([`super::cached::Unknown`]) do
    /// not count.
    fn unreadable(&self) -> BTreeMap<Fact, String> {
        let Self { node, cilium_node, endpoints, server, .. } = self;
        let pods = node.unreadable().or_else(|| cilium_node.unreadable());
        let servers =
            endpoints.unreadable().or_else(|| server.as_ref().and_then(|server| server.unresolved.as_deref()));
        let facts = [(Fact::PodNetworks, pods), (Fact::ApiServer, servers)];
        facts.into_iter().filter_map(|(fact, why)| Some((fact, why?.to_owned()))).collect()
    }
}

fn missing(Names { namespace, configmap, .. }: &Names) -> String {
    format!("there is no ConfigMap {configmap} in namespace {namespace}: is Cilium installed there?")
}

#[cfg(test)]
mod tests;
