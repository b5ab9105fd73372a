//! What the tap matches: the endpoints, each with its place in the maps, the networks, and the sender of the probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Range,
};

use ipnet::Ipv4Net;
use vtep_agent_ebpf::{Endpoint, NEIGHBOURS_EACH, Network, TARGETS_MAX, Targets};

/// The sender of the probes through the tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Cilium's router address, if it is known.
    pub address: Option<Ipv4Addr>,
    /// The identifier of its echoes.
    pub echo_id: u16,
}

/// Gives each endpoint a place: its own if it has one, or a free one. `None` if there are too many.
pub(super) fn assign_places(
    before: &[Option<Ipv4Addr>; TARGETS_MAX],
    endpoints: &BTreeSet<Ipv4Addr>,
) -> Option<[Option<Ipv4Addr>; TARGETS_MAX]> {
    let mut places = before.map(|known| known.filter(|known| endpoints.contains(known)));
    for endpoint in endpoints {
        if !places.contains(&Some(*endpoint)) {
            *places.iter_mut().find(|place| place.is_none())? = Some(*endpoint);
        }
    }
    Some(places)
}

/// Converts endpoints and networks for the filter's map; `None` if there are too many.
pub(super) fn targets(
    places: &[Option<Ipv4Addr>; TARGETS_MAX],
    networks: &BTreeMap<Ipv4Net, Ipv4Addr>,
    asker: Asker,
) -> Option<Targets> {
    let mut targets = Targets {
        router: asker.address.map_or(0, in_network_order),
        echo_id: asker.echo_id.into(),
        ..Targets::default()
    };
    for (slot, (network, &endpoint)) in networks.iter().enumerate() {
        *targets.networks.get_mut(slot)? = Network { endpoint: in_network_order(endpoint), ..of(*network) };
    }
    targets.around = around(networks.keys());
    for (place, (slot, &endpoint)) in (0..).zip(targets.endpoints.iter_mut().zip(places)) {
        let Some(address) = endpoint.map(in_network_order) else { continue };
        let home = targets.networks.iter().find(|network| network.endpoint == address);
        let Network { address: home_address, mask: home_mask, .. } = home.copied().unwrap_or_default();
        *slot = Endpoint { address, place, home_address, home_mask };
        targets.sieve |= 1 << Targets::sieve_place(address);
    }
    Some(targets)
}

fn in_network_order(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

fn of(network: Ipv4Net) -> Network {
    let (address, mask) = (in_network_order(network.network()), in_network_order(network.netmask()));
    Network { address, mask, endpoint: 0 }
}

/// The smallest network that contains all of these; the default if there are none.
fn around<'n>(mut networks: impl Iterator<Item = &'n Ipv4Net>) -> Network {
    let Some(&first) = networks.next() else { return Network::default() };
    let both = |a: Ipv4Net, b: &Ipv4Net| {
        let mut smallest = a;
        // The network of all addresses contains every other one, and has no larger one.
        while !smallest.contains(b) {
            smallest = smallest.supernet().unwrap_or(smallest);
        }
        smallest
    };
    of(networks.fold(first, both))
}

/// The places of an endpoint's hosts in their map.
pub(super) fn neighbour_places(place: u32) -> Range<u32> {
    place * NEIGHBOURS_EACH..(place + 1) * NEIGHBOURS_EACH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_keeps_its_place() {
        let [a, b, c] = [34, 36, 38].map(|n| Ipv4Addr::new(10, 169, 72, n));
        let before = assign_places(&[None; TARGETS_MAX], &[a, b].into()).expect("room");
        assert_eq!(before[..3], [Some(a), Some(b), None]);
        let places = assign_places(&before, &[b, c].into()).expect("room");
        assert_eq!(places[..3], [Some(c), Some(b), None]);
        let many = (0..17).map(|n| Ipv4Addr::new(10, 169, 73, n)).collect();
        assert_eq!(assign_places(&before, &many), None);
    }

    /// The tap compares inner sources with these first, so they must leave out no VTEP CIDR.
    #[test]
    fn each_network_is_in_the_network_around_them() {
        let around_all = |networks: &[&str]| {
            let networks: Vec<Ipv4Net> = networks.iter().map(|network| network.parse().expect("a network")).collect();
            around(networks.iter())
        };
        let address = |a, b, c, d| in_network_order(Ipv4Addr::new(a, b, c, d));
        assert_eq!(around_all(&[]), Network::default());
        assert_eq!(around_all(&["10.1.6.0/24"]), of("10.1.6.0/24".parse().expect("a network")));
        assert_eq!(around_all(&["10.1.5.0/24", "10.1.6.0/24"]), of("10.1.4.0/22".parse().expect("a network")));
        assert_eq!(around_all(&["10.1.0.0/16", "10.1.6.0/24"]), of("10.1.0.0/16".parse().expect("a network")));
        let far_apart = around_all(&["10.1.5.0/24", "192.168.6.0/24"]);
        assert!(far_apart.contains(address(10, 1, 5, 34)) && far_apart.contains(address(192, 168, 6, 1)));
    }

    #[test]
    fn an_endpoint_has_its_network_and_its_bit() {
        let [a, b] = [34, 36].map(|n| Ipv4Addr::new(10, 169, 72, n));
        let networks: BTreeMap<Ipv4Net, Ipv4Addr> = [("10.1.5.0/24", b), ("10.1.6.0/24", a), ("10.1.7.0/24", a)]
            .into_iter()
            .map(|(network, endpoint)| (network.parse().expect("a network"), endpoint))
            .collect();
        let places = assign_places(&[None; TARGETS_MAX], &[a, b].into()).expect("room");
        let asker = Asker { address: None, echo_id: 7 };
        let targets = targets(&places, &networks, asker).expect("room");
        let [first, second, third, ..] = targets.endpoints;
        assert!(first.is_home_of(in_network_order(Ipv4Addr::new(10, 1, 6, 34))));
        assert!(!first.is_home_of(in_network_order(Ipv4Addr::new(10, 1, 7, 34))), "only one of its networks");
        assert_eq!((first.place, second.place, second.address), (0, 1, in_network_order(b)));
        assert_eq!((third, targets.nobody), (Endpoint::NONE, Endpoint::NONE));
        assert_eq!(targets.sieve, 1 << 34 | 1 << 36);
    }
}
