//! The routes from BIG-IP to the pods.

use ipnet::Ipv4Net;

use super::{
    super::device::{Component, Route, Via},
    Comparison, Difference, Place, difference,
    pairing::Pair,
    some_of,
};
use crate::config::finding::Rule;

/// Halving a network stops at this many parts, so that a hostile table of routes costs nothing.
const MAX_PARTS: usize = 4096;

/// Where BIG-IP sends packets to a part of the pods.
#[derive(Clone, Copy)]
struct Entry<'a> {
    network: Ipv4Net,
    /// `None` for the network of a self IP.
    route: Option<&'a Route>,
    /// It leads into the tunnel.
    is_tunnel: bool,
}

/// A part of the pods that BIG-IP does not reach by the tunnel.
struct Astray<'a> {
    part: Ipv4Net,
    /// The entry that it takes instead.
    instead: Option<Entry<'a>>,
}

impl<'a> Astray<'a> {
    fn route(&self) -> Option<&'a Route> {
        self.instead.and_then(|entry| entry.route)
    }
}

pub(super) fn compare(pair: &Pair<'_>, comparison: &mut Comparison) {
    let entries = entries(pair);
    if pair.cilium.pods.is_empty() {
        without_pods(pair, &entries, comparison);
        return;
    }
    let device = pair.device;
    let mut number = (1..).filter(|n| device.routes.iter().all(|route| route.name.short() != name(pair, *n)));
    for &pods in &pair.cilium.pods {
        let mut astray = Vec::new();
        follow(pods, pods, &entries, &mut astray);
        if !device.covers(Component::Routes) && astray.iter().any(|astray| astray.instead.is_none()) {
            comparison.notes.push(not_shown(pair));
            astray.retain(|astray| astray.instead.is_some());
        }
        if !astray.is_empty() {
            let n = number.next().unwrap_or(1);
            comparison.differences.push(astray_difference(pair, pods, &astray, n));
        }
    }
}

fn not_shown(pair: &Pair<'_>) -> String {
    format!("{}: the input does not show all routes: some are not compared (tmsh list net route)", pair.device.name)
}

/// Without the networks of pods, the pools that they come from show whether any route leads to some of them.
fn without_pods(pair: &Pair<'_>, entries: &[Entry<'_>], comparison: &mut Comparison) {
    let into_tunnel = || entries.iter().filter(|entry| entry.is_tunnel && entry.route.is_some());
    let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    let pools = &pair.cilium.pools;
    let is_served = |pool: &Ipv4Net| into_tunnel().any(|entry| overlap(pool, &entry.network));
    let unserved: Vec<Ipv4Net> = pools.iter().copied().filter(|pool| !is_served(pool)).collect();
    if unserved.is_empty() && into_tunnel().next().is_some() {
        let name = &pair.device.name;
        comparison.notes.push(format!("{name}: pod networks are not known: routes are not compared (--pod-cidr)"));
        return;
    }
    if !pair.device.covers(Component::Routes) {
        comparison.notes.push(not_shown(pair));
        return;
    }
    let (problem, network) = match unserved.first() {
        Some(pool) => {
            (format!("no route leads into the tunnel to pods of the pool {}", some_of(&unserved)), pool.to_string())
        }
        None => ("no route leads into the tunnel, so BIG-IP does not reach pods".to_owned(), "<pod CIDR>".to_owned()),
    };
    let place = tunnel_place(pair);
    let difference = difference(pair, Rule::BigipRoute, &place, &problem, "create one for each pod network");
    comparison.differences.push(difference.mended_by([create(pair, 1, &network)]));
}

/// What decides about packets in the tunnel's route domain.
fn entries<'a>(pair: &Pair<'a>) -> Vec<Entry<'a>> {
    let (device, tunnel, domain) = (pair.device, pair.tunnel, pair.route_domain());
    let routes = device.routes.iter().filter(|route| route.route_domain == domain).map(|route| {
        // A gateway is wrong, also one inside the tunnel: BIG-IP has to ask for each pod itself.
        let is_tunnel = matches!(&route.via.value, Via::Interface(name) if *name == tunnel.name);
        Entry { network: route.network.value.trunc(), route: Some(route), is_tunnel }
    });
    let connected = device.self_ips.iter().filter(|own| own.route_domain == domain).map(|own| {
        let is_tunnel = own.vlan.value == tunnel.name;
        Entry { network: own.address.value.trunc(), route: None, is_tunnel }
    });
    // Of equal networks, the connected one counts: it comes first.
    connected.chain(routes).collect()
}

/// Collects the parts of `network`, which is in `pods`, that do not lead into the tunnel.
fn follow<'a>(network: Ipv4Net, pods: Ipv4Net, entries: &[Entry<'a>], astray: &mut Vec<Astray<'a>>) {
    let inner: Vec<Entry<'a>> =
        entries.iter().copied().filter(|entry| network != entry.network && network.contains(&entry.network)).collect();
    let best = longest(entries.iter().filter(|entry| entry.network.contains(&network)));
    if inner.is_empty() || astray.len() >= MAX_PARTS || network.prefix_len() == 32 {
        // A network of BIG-IP's own inside the pods' is a problem of its own: it may well be a part of a pool that pods never get.
        let is_own = |best: &Entry<'_>| best.route.is_none() && best.network.prefix_len() > pods.prefix_len();
        if !best.is_some_and(|best| best.is_tunnel || is_own(best)) {
            astray.push(Astray { part: network, instead: best.copied() });
        }
        return;
    }
    let mut relevant = inner;
    relevant.extend(best.copied());
    for half in halves(network) {
        follow(half, pods, &relevant, astray);
    }
}

/// The longest network; of equal ones, the first.
fn longest<'e, 'a>(entries: impl Iterator<Item = &'e Entry<'a>>) -> Option<&'e Entry<'a>> {
    entries.reduce(|best, next| if next.network.prefix_len() > best.network.prefix_len() { next } else { best })
}

fn halves(network: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    network.subnets(network.prefix_len().saturating_add(1)).into_iter().flatten()
}

fn astray_difference(pair: &Pair<'_>, pods: Ipv4Net, astray: &[Astray<'_>], number: usize) -> Difference {
    let parts: Vec<_> = Ipv4Net::aggregate(&astray.iter().map(|astray| astray.part).collect());
    let whole = parts == [pods];
    let instead = astray.iter().find_map(|astray| astray.instead);
    let which = if whole {
        format!("the pods in {pods}")
    } else {
        format!("the pods in {}, a part of {pods},", some_of(&parts))
    };
    let tunnel = &pair.tunnel.name;
    let (place, way) = match instead {
        Some(Entry { route: Some(route), .. }) => {
            let (name, network) = (&route.name, route.network.value);
            let by = match &route.via.value {
                Via::Interface(interface) => format!("the interface {interface}"),
                Via::Gateway(gateway) => format!("the gateway {gateway}"),
                Via::Other(other) => other.clone(),
            };
            let place = Place { key: format!("net route {name}"), value: Some(network.to_string()), at: &route.via.at };
            (place, format!("they follow the route {name} ({network}) by {by}"))
        }
        Some(Entry { network, .. }) => {
            (tunnel_place(pair), format!("they are in a network of BIG-IP's own, {network}"))
        }
        None => (tunnel_place(pair), "there is no route to them".to_owned()),
    };
    let problem = format!("BIG-IP does not reach {which} by the tunnel {tunnel}: {way}");
    let difference = difference(pair, Rule::BigipRoute, &place, &problem, &format!("route {pods} to the tunnel"));
    difference.mended_by(mend(pair, pods, astray, number))
}

/// The commands that lead `pods` into the tunnel: routes inside it that lead elsewhere are made again, and what no such route explains gets
/// a new one. tmsh has no change from a gateway to an interface.
fn mend(pair: &Pair<'_>, pods: Ipv4Net, astray: &[Astray<'_>], number: usize) -> Vec<String> {
    let tunnel = &pair.tunnel.name;
    let is_inside = |route: &&Route| pods.contains(&route.network.value.trunc());
    let mut commands = Vec::new();
    for route in astray.iter().filter_map(Astray::route).filter(is_inside) {
        let (name, network) = (&route.name, in_domain(route.network.value.trunc(), pair.route_domain()));
        let delete = format!("delete net route {name}");
        if !commands.contains(&delete) {
            commands.extend([delete, format!("create net route {name} network {network} interface {tunnel}")]);
        }
    }
    if astray.iter().any(|astray| !astray.route().is_some_and(|route| is_inside(&route))) {
        commands.push(create(pair, number, &in_domain(pods, pair.route_domain())));
    }
    commands
}

/// A network as tmsh writes it: `10.0.0.0%20/16` in route domain 20.
fn in_domain(network: Ipv4Net, domain: u16) -> String {
    let (address, length) = (network.network(), network.prefix_len());
    if domain == 0 { network.to_string() } else { format!("{address}%{domain}/{length}") }
}

fn tunnel_place<'a>(pair: &Pair<'a>) -> Place<'a> {
    Place { key: format!("net tunnels tunnel {}", pair.tunnel.name), value: None, at: &pair.tunnel.at }
}

fn name(pair: &Pair<'_>, number: usize) -> String {
    format!("{}_pods_{number}", pair.tunnel.name)
}

fn create(pair: &Pair<'_>, number: usize, network: &dyn std::fmt::Display) -> String {
    format!("create net route {} network {network} interface {}", name(pair, number), pair.tunnel.name)
}
