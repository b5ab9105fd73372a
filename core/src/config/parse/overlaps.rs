//! Rules between a VTEP and its surroundings: networks and addresses that belong to others, or that this node needs.
//!
//! Each rule is a function of one CIDR or endpoint, so that lines of the document and retained values pass the same rules.

mod cluster;
mod node;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Line, lists::Lists, values::Complaint};
use crate::config::{
    finding::{Finding, Rule},
    surroundings::{Around, Surroundings},
};

/// `pools`: the pools from which Cilium takes the pod networks of nodes.
pub(super) fn check(
    lists: &Lists<'_>,
    lines: &[Line],
    pools: &[Ipv4Net],
    around: Around<'_>,
    findings: &mut Vec<Finding>,
) {
    for line in lines {
        if let Some(cidr) = line.cidr {
            let mut found = of_cidr(cidr, around);
            let known: Vec<Rule> = found.iter().map(|complaint| complaint.rule).collect();
            found.extend(unknown(cidr, around).filter(|complaint| !known.contains(&complaint.rule)));
            // If pods use the network already, the warning that they may use it later is superfluous.
            if !found.iter().any(|complaint| complaint.rule == Rule::VtepCidrOverlapsPodCidr) {
                found.extend(cluster::pod_pool(cidr, pools));
            }
            findings.extend(found.into_iter().map(|complaint| lists.cidr.complaint(line.index, complaint)));
        }
        if let Some(endpoint) = line.endpoint {
            let found = of_endpoint(endpoint, around.surroundings);
            findings.extend(found.into_iter().map(|complaint| lists.endpoint.complaint(line.index, complaint)));
        }
    }
}

/// The known objections to a CIDR.
pub(in crate::config) fn of_cidr(cidr: Ipv4Net, around: Around<'_>) -> Vec<Complaint> {
    let Around { surroundings, standing } = around;
    // Traffic of a VTEP that is in effect may itself have caused the entries in the ipcache. For such a VTEP, the diagnosis reports them as
    // `vtep-cidr-in-use`.
    let ipcache = (!standing.contains(&cidr)).then(|| node::ipcache(cidr, surroundings)).flatten();
    let found = [
        cluster::pods(cidr, surroundings),
        cluster::services(cidr, surroundings),
        cluster::nodes(cidr, surroundings),
        node::reserved(cidr),
        node::connected(cidr, surroundings),
        node::gateway(cidr, surroundings),
        node::api_server(cidr, surroundings),
        ipcache,
    ];
    found.into_iter().flatten().collect()
}

/// The facts that cannot be checked for a CIDR that is not in effect yet.
pub(in crate::config) fn unknown(cidr: Ipv4Net, around: Around<'_>) -> impl Iterator<Item = Complaint> {
    let Around { surroundings, standing } = around;
    let facts = (!standing.contains(&cidr)).then_some(&surroundings.unreadable);
    facts.into_iter().flatten().map(move |(fact, why)| node::unreadable(cidr, *fact, why, surroundings))
}

/// The known objections to an endpoint.
pub(in crate::config) fn of_endpoint(endpoint: Ipv4Addr, surroundings: &Surroundings) -> Vec<Complaint> {
    let found = [cluster::endpoint_of_pod(endpoint, surroundings), cluster::endpoint_of_node(endpoint, surroundings)];
    found.into_iter().flatten().collect()
}

fn relation(cidr: Ipv4Net, other: Ipv4Net) -> &'static str {
    if other.contains(&cidr) { "lies inside" } else { "overlaps" }
}
