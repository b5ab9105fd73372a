//! Overlaps with the needs of this node: its own networks and addresses, its gateways, the API server, and the prefixes in its ipcache.

use ipnet::Ipv4Net;

use super::{Complaint, relation};
use crate::config::{
    finding::Rule,
    spec::overlaps,
    surroundings::{Fact, Surroundings},
};

/// Networks that no VTEP can use: "this network", loopback, link-local (RFC 3927), multicast, and class E with broadcast.
const RESERVED: [(Ipv4Net, &str); 5] = [
    (net([0, 0, 0, 0], 8), "\"this network\""),
    (net([127, 0, 0, 0], 8), "loopback"),
    (net([169, 254, 0, 0], 16), "link-local"),
    (net([224, 0, 0, 0], 4), "multicast"),
    (net([240, 0, 0, 0], 4), "reserved"),
];

const fn net([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), length)
}

const OWN_NETWORK: &str = "give the BIG-IP's tunnel a network that nothing else uses";

pub(super) fn reserved(cidr: Ipv4Net) -> Option<Complaint> {
    let (reserved, use_) = RESERVED.into_iter().find(|(reserved, _)| overlaps(*reserved, cidr))?;
    let problem = format!("{cidr} {} {reserved}, which is {use_}", relation(cidr, reserved));
    let remedy = "write the BIG-IP's tunnel network, e.g. 10.1.6.0/24";
    Some(Complaint::new(Rule::VtepCidrReserved, problem, remedy))
}

pub(super) fn connected(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let (network, device) = surroundings.connected.iter().find(|(network, _)| overlaps(**network, cidr))?;
    let problem = if network.prefix_len() == 32 {
        format!("{cidr} contains {}, this node's own address on {device}", network.addr())
    } else {
        let relation = relation(cidr, *network);
        format!(
            "{cidr} {relation} {network}, which is connected to this node on {device}: the node could no longer reach it"
        )
    };
    let remedy = format!(
        "{OWN_NETWORK}; if that network is unused (like docker0 on many nodes), the agent's --allow-overlap {cidr} (in the chart: allowOverlap) allows it"
    );
    Some(allowed(Complaint::new(Rule::VtepCidrOverlapsConnected, problem, remedy), cidr, surroundings))
}

pub(super) fn gateway(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let gateway = surroundings.gateways.iter().find(|gateway| cidr.contains(*gateway))?;
    let problem = format!("{cidr} contains {gateway}, a gateway of this node: traffic through it would be lost");
    let remedy = "write the BIG-IP's tunnel network, not the one that nodes and BIG-IP share";
    Some(Complaint::new(Rule::VtepCidrContainsGateway, problem, remedy))
}

pub(super) fn api_server(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    let server = surroundings.api_servers.iter().find(|server| cidr.contains(*server))?;
    let problem = format!(
        "{cidr} contains {server}, an address of the API server: this node could not reach it any more, and would get no correction"
    );
    Some(Complaint::new(Rule::VtepCidrContainsApiserver, problem, OWN_NETWORK))
}

pub(super) fn ipcache(cidr: Ipv4Net, surroundings: &Surroundings) -> Option<Complaint> {
    const SHOWN: usize = 3;
    let entries = surroundings.ipcache.get(&cidr).filter(|entries| !entries.is_empty())?;
    let shown = entries.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = entries.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let problem = format!(
        "{cidr} is in use: Cilium's ipcache has {shown}{more}, and their traffic would go to the BIG-IP instead"
    );
    let remedy = format!(
        "{OWN_NETWORK}; if you know that the entry is stale, the agent's --allow-overlap {cidr} (in the chart: allowOverlap) allows the overlap"
    );
    Some(allowed(Complaint::new(Rule::VtepCidrOverlapsIpcache, problem, remedy), cidr, surroundings))
}

/// A VTEP that is not in effect yet waits until the fact is known. `--allow-overlap` helps only if it would also allow the overlap itself.
/// That excludes gateways, which are part of the networks, the API server, and pods.
pub(super) fn unreadable(cidr: Ipv4Net, fact: Fact, why: &str, surroundings: &Surroundings) -> Complaint {
    let (rule, question) = match fact {
        Fact::Networks => (Rule::VtepCidrOverlapsConnected, "overlaps a network or gateway of this node"),
        Fact::Ipcache => (Rule::VtepCidrOverlapsIpcache, "overlaps what Cilium's ipcache has"),
        Fact::ApiServer => (Rule::VtepCidrContainsApiserver, "contains an address of the API server"),
        Fact::PodNetworks => (Rule::VtepCidrOverlapsPodCidr, "overlaps a pod network of this node"),
    };
    let problem = format!("it cannot be known whether {cidr} {question}: {why}");
    let remedy =
        "the configuration needs no change: find out why the agent cannot read this; the VTEP takes effect once it can";
    let complaint = Complaint::new(rule, problem, remedy);
    match fact {
        Fact::Networks | Fact::ApiServer | Fact::PodNetworks => complaint,
        Fact::Ipcache => allowed(complaint, cidr, surroundings),
    }
}

/// Turns the complaint into a warning if a person has allowed the overlap.
fn allowed(complaint: Complaint, cidr: Ipv4Net, surroundings: &Surroundings) -> Complaint {
    match surroundings.allow_overlap.iter().find(|allowed| allowed.contains(&cidr)) {
        Some(allowed) => complaint.softened(&format!("only a warning, because --allow-overlap {allowed} allows it")),
        None => complaint,
    }
}
