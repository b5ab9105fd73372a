//! What the tap matches: the endpoints, each with its place in the maps, the networks, and the sender of the probes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Range,
};

use ipnet::Ipv4Net;
use vtep_agent_ebpf::{NEIGHBOURS_EACH, Network, TARGETS_MAX, Targets};

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
    let in_network_order = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
    let mut targets = Targets {
        endpoints: places.map(|place| place.map_or(0, in_network_order)),
        networks: Default::default(),
        router: asker.address.map_or(0, in_network_order),
        echo_id: asker.echo_id.into(),
    };
    for (slot, (network, &endpoint)) in networks.iter().enumerate() {
        let (address, mask) = (in_network_order(network.network()), in_network_order(network.netmask()));
        *targets.networks.get_mut(slot)? = Network { address, mask, endpoint: in_network_order(endpoint) };
    }
    Some(targets)
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
}
