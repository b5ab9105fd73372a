//! Rules between values and the cluster around them: networks and addresses that somebody else has.

use ipnet::Ipv4Net;

use super::{Line, lists::Lists};
use crate::config::{
    finding::{Finding, Rule},
    spec::overlaps,
    surroundings::Surroundings,
};

/// `pools`: what Cilium takes the nodes' pod networks from.
pub(super) fn check(
    lists: &Lists<'_>,
    lines: &[Line],
    pools: &[Ipv4Net],
    surroundings: &Surroundings,
    findings: &mut Vec<Finding>,
) {
    for line in lines {
        let pods = cidr_of_pods(lists, line, surroundings);
        // A network that is in use is no longer one that may be one day.
        let pool = pods.is_none().then(|| cidr_in_pod_pool(lists, line, pools)).flatten();
        let found = [
            pods,
            pool,
            cidr_of_services(lists, line, surroundings),
            cidr_with_node(lists, line, surroundings),
            endpoint_of_pod(lists, line, surroundings),
            endpoint_of_node(lists, line, surroundings),
        ];
        findings.extend(found.into_iter().flatten());
    }
}

fn cidr_of_pods(lists: &Lists<'_>, line: &Line, surroundings: &Surroundings) -> Option<Finding> {
    let cidr = line.cidr?;
    let pods = surroundings.pod_cidrs.iter().find(|pods| overlaps(**pods, cidr))?;
    let problem = format!(
        "{cidr} {} the pod network {pods}: what goes to these pods would go to the BIG-IP instead",
        relation(cidr, *pods)
    );
    let remedy = "give the BIG-IP's tunnel a network outside the pods'".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrOverlapsPodCidr, line.index, problem, remedy))
}

fn cidr_of_services(lists: &Lists<'_>, line: &Line, surroundings: &Surroundings) -> Option<Finding> {
    let cidr = line.cidr?;
    let services = surroundings.service_cidrs.iter().find(|services| overlaps(**services, cidr))?;
    let problem = format!("{cidr} {} the Service network {services}", relation(cidr, *services));
    let remedy = "give the BIG-IP's tunnel a network outside the Services'".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrOverlapsServiceCidr, line.index, problem, remedy))
}

fn cidr_with_node(lists: &Lists<'_>, line: &Line, surroundings: &Surroundings) -> Option<Finding> {
    let cidr = line.cidr?;
    let node = surroundings.node_addresses.iter().find(|node| cidr.contains(*node))?;
    let problem = format!("{cidr} contains {node}, a node's address: what goes to that node would go to the BIG-IP");
    let remedy = "write the BIG-IP's tunnel network, not the one that nodes and BIG-IP share".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrContainsNode, line.index, problem, remedy))
}

fn cidr_in_pod_pool(lists: &Lists<'_>, line: &Line, pools: &[Ipv4Net]) -> Option<Finding> {
    let cidr = line.cidr?;
    let pool = pools.iter().find(|pool| overlaps(**pool, cidr))?;
    let problem = format!(
        "{cidr} {} {pool}, the pool of pod networks: free today, but Cilium may give it to a node one day",
        relation(cidr, *pool)
    );
    let remedy = "move it, or narrow cluster-pool-ipv4-cidr where no node uses that part".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrInPodPool, line.index, problem, remedy))
}

fn endpoint_of_pod(lists: &Lists<'_>, line: &Line, surroundings: &Surroundings) -> Option<Finding> {
    let endpoint = line.endpoint?;
    let pods = surroundings.pod_cidrs.iter().find(|pods| pods.contains(&endpoint))?;
    let problem = format!("{endpoint} lies inside the pod network {pods}");
    let remedy = "write the BIG-IP's self IP on the underlay (the tunnel's local-address)".to_owned();
    Some(lists.endpoint.finding(Rule::VtepEndpointInPodCidr, line.index, problem, remedy))
}

fn endpoint_of_node(lists: &Lists<'_>, line: &Line, surroundings: &Surroundings) -> Option<Finding> {
    let endpoint = line.endpoint.filter(|endpoint| surroundings.node_addresses.contains(endpoint))?;
    let problem = format!("{endpoint} is a node's own address");
    let remedy = "write the BIG-IP's self IP on the underlay (the tunnel's local-address)".to_owned();
    Some(lists.endpoint.finding(Rule::VtepEndpointIsNode, line.index, problem, remedy))
}

fn relation(cidr: Ipv4Net, other: Ipv4Net) -> &'static str {
    if other.contains(&cidr) { "lies inside" } else { "overlaps" }
}
