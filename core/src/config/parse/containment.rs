//! An endpoint inside a tunnel network: the outer packets would loop into the tunnel. One of the two values is wrong, and this module
//! decides which one.
//!
//! Either the tunnel self IP was written instead of the endpoint, or the underlay's network instead of the CIDR. The good line of the two
//! must take effect.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Line, lists::Lists};
use crate::config::finding::{Finding, Rule, Severity, ordinal};

/// Ignores a CIDR whose prefix length is not the mask's (`length`), because it does not show where endpoints may be. `findings` must
/// already contain the findings about connected networks.
pub(super) fn check(lists: &Lists<'_>, lines: &[Line], length: Option<u8>, findings: &mut Vec<Finding>) {
    let connected = connected(lines, findings);
    let wrong: BTreeSet<Ipv4Net> = cidrs(lines, length).filter(|cidr| is_wrong(*cidr, lines, &connected)).collect();
    for line in lines {
        if let Some(cidr) = line.cidr.filter(|cidr| wrong.contains(cidr)) {
            findings.push(lists.cidr.finding(
                Rule::VtepEndpointInVtepCidr,
                line.index,
                format!("{cidr} contains {}: the outer packets would loop into the tunnel", endpoints(cidr, lines)),
                "write the BIG-IP's tunnel network, not the underlay's".to_owned(),
            ));
        }
        let contains = |(endpoint, cidr): &(Ipv4Addr, Ipv4Net)| cidr.contains(endpoint) && !wrong.contains(cidr);
        let pairs =
            line.endpoint.into_iter().flat_map(|endpoint| cidrs(lines, length).map(move |cidr| (endpoint, cidr)));
        findings.extend(pairs.filter(contains).take(1).map(|(endpoint, cidr)| {
            lists.endpoint.finding(
                Rule::VtepEndpointInVtepCidr,
                line.index,
                format!(
                    "{endpoint} lies inside the tunnel network {cidr}: the outer packet would loop into the tunnel"
                ),
                "write the BIG-IP's self IP on the underlay (the tunnel's local-address), not the tunnel's self IP"
                    .to_owned(),
            )
        }));
    }
}

fn cidrs(lines: &[Line], length: Option<u8>) -> impl Iterator<Item = Ipv4Net> {
    let fits = move |cidr: &Ipv4Net| length.is_none_or(|length| cidr.prefix_len() == length);
    lines.iter().filter_map(|line| line.cidr).filter(fits)
}

fn connected(lines: &[Line], findings: &[Finding]) -> BTreeSet<Ipv4Net> {
    let is_connected = |line: &&Line| {
        findings.iter().any(|Finding { rule, severity, index, .. }| {
            (*rule, *severity, *index) == (Rule::VtepCidrOverlapsConnected, Severity::Error, Some(line.index))
        })
    };
    lines.iter().filter(is_connected).filter_map(|line| line.cidr).collect()
}

/// The network is wrong if it is connected to this node, if several endpoints lie in it, or if the endpoint in it has more leading bits in
/// common with the other endpoints than the network has with the other networks. An endpoint inside its own tunnel network is a self IP.
fn is_wrong(cidr: Ipv4Net, lines: &[Line], connected: &BTreeSet<Ipv4Net>) -> bool {
    let others: BTreeSet<Ipv4Addr> =
        lines.iter().filter_map(|line| line.endpoint).filter(|endpoint| !cidr.contains(endpoint)).collect();
    let inside: Vec<&Line> = inside(cidr, lines).collect();
    let distinct: BTreeSet<Ipv4Addr> = inside.iter().filter_map(|line| line.endpoint).collect();
    let Some(endpoint) = distinct.first() else { return false };
    if connected.contains(&cidr) || distinct.len() > 1 {
        return true;
    }
    let is_its_own = inside.iter().any(|line| line.cidr == Some(cidr));
    let networks = lines.iter().filter_map(|line| line.cidr).filter(|other| *other != cidr);
    let network_fits =
        networks.map(|other| common(other.network(), cidr.network()).min(other.prefix_len().into())).max();
    let endpoint_fits = others.iter().map(|other| common(*other, *endpoint)).max();
    !is_its_own && endpoint_fits.unwrap_or(0) > network_fits.unwrap_or(0)
}

/// The lines whose endpoints lie in the network.
fn inside(cidr: Ipv4Net, lines: &[Line]) -> impl Iterator<Item = &Line> {
    lines.iter().filter(move |line| line.endpoint.is_some_and(|endpoint| cidr.contains(&endpoint)))
}

/// How many leading bits two addresses have in common.
fn common(a: Ipv4Addr, b: Ipv4Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros()
}

/// The endpoints in the network in words, as `the endpoint 10.169.72.34 of the 1st VTEP`.
fn endpoints(cidr: Ipv4Net, lines: &[Line]) -> String {
    let named = inside(cidr, lines).filter_map(|line| Some((line.endpoint?, ordinal(line.index))));
    let named: Vec<_> =
        named.map(|(endpoint, nth)| format!("the endpoint {endpoint} of the {nth} VTEP")).take(8).collect();
    named.join(" and ")
}
