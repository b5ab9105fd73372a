//! Overlaps with the cluster: networks of pods and Services, addresses of nodes.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Complaint, relation};
use crate::config::{finding::Rule, spec::overlaps, surroundings::Surroundings};

const UNDERLAY: &str = "write the BIG-IP's self IP on the underlay (the tunnel's local-address)";

pub(super) fn pods(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let pods = surroundings.pod_cidrs.iter().find(|pods| overlaps(**pods, cidr))?;
    let problem = format!(
        "{cidr} {} the pod network {pods}: traffic to these pods would go to the BIG-IP instead",
        relation(cidr, *pods)
    );
    let remedy = "give the BIG-IP's tunnel a network outside the pods'";
    Some(Complaint::new(Rule::VtepCidrOverlapsPodCidr, problem, remedy))
}

pub(super) fn services(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let services = surroundings.service_cidrs.iter().find(|services| overlaps(**services, cidr))?;
    let problem = format!("{cidr} {} the Service network {services}", relation(cidr, *services));
    let remedy = "give the BIG-IP's tunnel a network outside the Services'";
    Some(Complaint::new(Rule::VtepCidrOverlapsServiceCidr, problem, remedy))
}

pub(super) fn nodes(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let node = surroundings.node_addresses.iter().find(|node| cidr.contains(*node))?;
    let problem = format!("{cidr} contains {node}, a node's address: traffic to that node would go to the BIG-IP");
    let remedy = "write the BIG-IP's tunnel network, not the one that nodes and BIG-IP share";
    Some(Complaint::new(Rule::VtepCidrContainsNode, problem, remedy))
}

pub(super) fn pod_pool(cidr: Ipv4Net, pools: &[Ipv4Net]) -> Option<Complaint> {
    let pool = pools.iter().find(|pool| overlaps(**pool, cidr))?;
    let problem = format!(
        "{cidr} {} {pool}, the pool of pod networks: it is free now, but Cilium may assign it to a node later",
        relation(cidr, *pool)
    );
    let remedy = "move it, or narrow cluster-pool-ipv4-cidr where no node uses that part";
    Some(Complaint::new(Rule::VtepCidrInPodPool, problem, remedy))
}

pub(super) fn endpoint_of_pod(endpoint: Ipv4Addr, surroundings: &Surroundings) -> Option<Complaint> {
    let pods = surroundings.pod_cidrs.iter().find(|pods| pods.contains(&endpoint))?;
    let problem = format!("{endpoint} lies inside the pod network {pods}");
    Some(Complaint::new(Rule::VtepEndpointInPodCidr, problem, UNDERLAY))
}

pub(super) fn endpoint_of_node(endpoint: Ipv4Addr, surroundings: &Surroundings) -> Option<Complaint> {
    let is_node = surroundings.node_addresses.contains(&endpoint);
    let problem = format!("{endpoint} is a node's own address");
    is_node.then(|| Complaint::new(Rule::VtepEndpointIsNode, problem, UNDERLAY))
}
