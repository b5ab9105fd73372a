//! Rules between a VTEP and what is around it: networks and addresses that somebody else has, or that this node needs.
//!
//! Each rule is a function of one CIDR or endpoint, so that lines of the document and values held over pass the same ones.

mod cluster;
mod node;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Line, lists::Lists, values::Complaint};
use crate::config::{
    finding::{Finding, Rule},
    surroundings::{Around, Surroundings},
};

/// `pools`: what Cilium takes the nodes' pod networks from.
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
            // A network that is in use is no longer one that may be one day.
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

/// What is known to speak against a CIDR.
pub(in crate::config) fn of_cidr(cidr: Ipv4Net, around: Around<'_>) -> Vec<Complaint> {
    let Around { surroundings, standing } = around;
    // Packets of what is in force already may be why the ipcache is asked: there the diagnosis tells it, `vtep-cidr-in-use`.
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

/// What cannot be known about a CIDR that is not in force yet.
pub(in crate::config) fn unknown(cidr: Ipv4Net, around: Around<'_>) -> impl Iterator<Item = Complaint> {
    let Around { surroundings, standing } = around;
    let facts = (!standing.contains(&cidr)).then_some(&surroundings.unreadable);
    facts.into_iter().flatten().map(move |(fact, why)| node::unreadable(cidr, *fact, why, surroundings))
}

/// What is known to speak against an endpoint.
pub(in crate::config) fn of_endpoint(endpoint: Ipv4Addr, surroundings: &Surroundings) -> Vec<Complaint> {
    let found = [cluster::endpoint_of_pod(endpoint, surroundings), cluster::endpoint_of_node(endpoint, surroundings)];
    found.into_iter().flatten().collect()
}

fn relation(cidr: Ipv4Net, other: Ipv4Net) -> &'static str {
    if other.contains(&cidr) { "lies inside" } else { "overlaps" }
}
