//! Cilium's end, from its configuration.

use std::collections::BTreeSet;

use super::{CiliumEnd, CiliumVtep, ClusterNode};
use crate::config::{
    Keys,
    parse::{self, Line, Parsed},
    surroundings::Surroundings,
    vtep_config::NamedVtep,
};

impl CiliumEnd {
    /// The end that the lists of a configuration describe.
    #[must_use]
    pub fn of_lists(keys: &Keys, parsed: &Parsed) -> Self {
        let vtep = |line: &Line| Some(CiliumVtep { cidr: line.cidr?, endpoint: line.endpoint?, mac: line.mac });
        let mtu = keys.get("mtu").and_then(|mtu| mtu.trim().parse().ok()).filter(|mtu| *mtu > 0);
        let vteps = parsed.lines.iter().filter_map(vtep).collect();
        let pools = parse::pod_pools(keys).into_iter().collect();
        Self { tunnel: parsed.tunnel, vteps, pods: BTreeSet::new(), pools, nodes: None, mtu }
    }

    /// The same with the VTEPs of custom resources.
    #[must_use]
    pub fn with_objects(mut self, vteps: &[NamedVtep]) -> Self {
        let vtep = |NamedVtep { vtep, .. }: &NamedVtep| CiliumVtep {
            cidr: vtep.cidr,
            endpoint: vtep.endpoint,
            mac: Some(vtep.mac),
        };
        self.vteps = vteps.iter().map(vtep).collect();
        self
    }

    /// Adds what is known about the cluster: pod networks and nodes.
    #[must_use]
    pub fn within(mut self, surroundings: &Surroundings, nodes: Option<Vec<ClusterNode>>, keys: &Keys) -> Self {
        let of_flag = |&address| ClusterNode { address: Some(address), ..ClusterNode::default() };
        let mut all: Vec<_> = surroundings.node_addresses.iter().map(of_flag).collect();
        let knows_nodes = nodes.is_some() || !all.is_empty();
        all.extend(nodes.into_iter().flatten());
        let mut seen = BTreeSet::new();
        all.retain(|node| node.address.is_none_or(|address| seen.insert(address)));
        self.pods = surroundings.pod_cidrs.clone();
        // With another IPAM mode, the pods' networks are not those that Kubernetes gives to the nodes.
        if self.pods.is_empty() && keys.get("ipam").is_some_and(|mode| mode.trim() == "kubernetes") {
            self.pods = all.iter().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        }
        self.nodes = knows_nodes.then_some(all);
        self
    }
}
