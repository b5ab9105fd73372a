//! The networks that a node needs: its connected networks, and the next hops of its routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::config::surroundings::Surroundings;

/// The needs of the node, as the kernel lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Connected networks and own addresses (as /32), each with its device; without Cilium's own devices.
    pub connected: BTreeMap<Ipv4Net, String>,
    /// Next hops of all routes, except those through Cilium's own devices.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// Next hops of default routes, each with the index of its device.
    pub default_gateways: BTreeSet<(u32, Ipv4Addr)>,
    /// Cilium's router address (as /32), and the pod networks that are routed to it.
    pub pods: BTreeSet<Ipv4Net>,
}

/// Builds [`Networks`] from addresses and routes.
pub struct Builder {
    pub networks: Networks,
    /// Names of devices by their index.
    names: BTreeMap<u32, String>,
    name: fn(u32) -> String,
    /// Cilium's own addresses.
    routers: BTreeSet<Ipv4Addr>,
}

impl Builder {
    /// `name` returns the name of a device by its index.
    #[must_use]
    pub fn new(addresses: &[Address], name: fn(u32) -> String) -> Self {
        let mut built = Self { networks: Networks::default(), names: BTreeMap::new(), name, routers: BTreeSet::new() };
        for &Address { device, local, network } in addresses {
            let name = built.name_of(device);
            if is_ciliums(&name) {
                built.routers.insert(local);
                built.networks.pods.insert(local.into());
            } else {
                let connected = &mut built.networks.connected;
                connected.entry(local.into()).or_insert_with(|| name.clone());
                connected.entry(network).or_insert(name);
            }
        }
        built
    }

    fn name_of(&mut self, device: u32) -> String {
        self.names.entry(device).or_insert_with(|| (self.name)(device)).clone()
    }

    pub fn add_route(&mut self, route: &Route) {
        let name = route.device.map(|device| self.name_of(device)).unwrap_or_default();
        let Networks { connected, gateways, default_gateways, pods } = &mut self.networks;
        if is_ciliums(&name) {
            // A route without a next hop may be a person's route to a VTEP, which some documents recommend.
            let to_router = route.gateways.iter().any(|(_, gateway)| self.routers.contains(gateway));
            pods.extend(route.destination.filter(|_| to_router));
            return;
        }
        if let Some(destination) = route.destination.filter(|_| route.is_link) {
            connected.entry(destination).or_insert(name);
        }
        gateways.extend(route.gateways.iter().map(|(_, gateway)| *gateway));
        if route.destination.is_none() {
            let with_device = |(device, gateway): &(Option<u32>, _)| Some(((*device).or(route.device)?, *gateway));
            default_gateways.extend(route.gateways.iter().filter_map(with_device));
        }
    }
}

/// An address of this node.
pub struct Address {
    pub device: u32,
    pub local: Ipv4Addr,
    pub network: Ipv4Net,
}

/// A route of this node.
pub struct Route {
    pub device: Option<u32>,
    pub table: u32,
    pub is_link: bool,
    /// `None`: the default route.
    pub destination: Option<Ipv4Net>,
    pub gateways: Vec<(Option<u32>, Ipv4Addr)>,
}

impl Networks {
    /// The facts that can veto VTEPs.
    #[must_use]
    pub fn surroundings(self) -> Surroundings {
        let Self { connected, gateways, default_gateways: _, pods } = self;
        Surroundings { connected, gateways, pod_cidrs: pods, ..Surroundings::default() }
    }
}

/// Whether the device is Cilium's: `cilium_host`, `cilium_vxlan`, …, or a pod's end, which is `lxc_health`, or `lxc` and hexadecimal
/// digits. `lxcbr0` is the bridge of LXC.
fn is_ciliums(device: &str) -> bool {
    let of_pod = |end: &str| end == "_health" || (!end.is_empty() && end.bytes().all(|byte| byte.is_ascii_hexdigit()));
    device.starts_with("cilium_") || device.strip_prefix("lxc").is_some_and(of_pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LO: u32 = 1;
    const ETH0: u32 = 2;
    const CILIUM_HOST: u32 = 3;
    const LXC: u32 = 4;
    const LXCBR0: u32 = 5;

    fn name(device: u32) -> String {
        match device {
            LO => "lo",
            ETH0 => "eth0",
            CILIUM_HOST => "cilium_host",
            LXC => "lxc12",
            LXCBR0 => "lxcbr0",
            _ => "docker0",
        }
        .to_owned()
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a network")
    }

    fn address(device: u32, text: &str) -> Address {
        Address { device, local: net(text).addr(), network: net(text).trunc() }
    }

    fn route(device: u32, destination: &str, gateway: Option<[u8; 4]>) -> Route {
        Route {
            device: Some(device),
            table: 254,
            is_link: gateway.is_none(),
            destination: (destination != "default").then(|| net(destination)),
            gateways: gateway.into_iter().map(|gateway| (None, gateway.into())).collect(),
        }
    }

    #[test]
    fn what_a_node_needs() {
        let addresses = [
            address(LO, "127.0.0.1/8"),
            address(LO, "192.0.2.1/32"),
            address(ETH0, "10.169.72.239/24"),
            address(CILIUM_HOST, "10.0.0.126/32"),
            address(9, "172.17.0.1/16"),
            address(LXCBR0, "10.0.3.1/24"),
        ];
        let routes = [
            route(ETH0, "default", Some([10, 169, 72, 10])),
            route(ETH0, "10.50.0.0/16", Some([10, 169, 72, 11])),
            route(ETH0, "169.254.1.1/32", None),
            route(CILIUM_HOST, "10.0.0.0/24", Some([10, 0, 0, 126])),
            route(CILIUM_HOST, "10.0.0.126/32", None),
            // F5's document recommends this route: it leads to a VTEP, and not to pods.
            route(CILIUM_HOST, "10.1.6.0/24", None),
            route(LXC, "10.0.0.130/32", None),
        ];
        let mut built = Builder::new(&addresses, name);
        routes.iter().for_each(|route| built.add_route(route));
        let Networks { connected, gateways, default_gateways, pods } = built.networks;
        let shown: Vec<_> = connected.iter().map(|(net, device)| format!("{net} {device}")).collect();
        let expected = [
            "10.0.3.0/24 lxcbr0",
            "10.0.3.1/32 lxcbr0",
            "10.169.72.0/24 eth0",
            "10.169.72.239/32 eth0",
            "127.0.0.0/8 lo",
            "127.0.0.1/32 lo",
            "169.254.1.1/32 eth0",
            "172.17.0.0/16 docker0",
            "172.17.0.1/32 docker0",
            "192.0.2.1/32 lo",
        ];
        assert_eq!(shown, expected);
        assert_eq!(gateways, [[10, 169, 72, 10].into(), [10, 169, 72, 11].into()].into());
        assert_eq!(default_gateways, [(ETH0, [10, 169, 72, 10].into())].into());
        assert_eq!(pods, [net("10.0.0.0/24"), net("10.0.0.126/32")].into());
    }
}
