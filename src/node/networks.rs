//! The networks that this node cannot do without: what it is connected to, and where it sends the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::Ipv4Net;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType, RouteVia},
    },
};

use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::{info, warn};

use super::netlink::{DumpError, dump};
use crate::{
    config::surroundings::{Fact, Surroundings},
    logging::chain,
    progress::Beat,
};

/// They are read at least this often, should a notice of a change be lost.
const REFRESH: Duration = Duration::from_secs(5);
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A node with many pods changes routes all the time: after one reading, wait this long before the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Routing tables that say nothing of what the node needs: Cilium's for VTEPs and proxied traffic (2004, 2005), and ours.
const IGNORED_TABLES: [u32; 3] = [202, 2004, 2005];

/// What the node needs, as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Connected networks and own addresses (as /32), each with its device; Cilium's own devices apart.
    pub connected: BTreeMap<Ipv4Net, String>,
    /// Next hops of all routes, those by Cilium's own devices apart.
    pub gateways: BTreeSet<Ipv4Addr>,
    /// Next hops of default routes, each with the index of its device.
    pub default_gateways: BTreeSet<(u32, Ipv4Addr)>,
    /// Cilium's router address (as /32), and the pod networks that are routed to it.
    pub pods: BTreeSet<Ipv4Net>,
}

#[derive(Debug, thiserror::Error)]
pub enum NetworksError {
    #[error("failed to list this node's addresses")]
    Addresses(#[source] DumpError),
    #[error("failed to list this node's routes")]
    Routes(#[source] DumpError),
    #[error("the kernel did not answer in time")]
    Timeout,
}

/// What of this node's networks vetoes VTEPs, read once.
pub async fn look(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Surroundings {
    surroundings(read(netlink, own_tables).await)
}

/// Keeps `out` current until its receivers are gone. Receivers are woken only by a difference.
pub async fn follow(
    netlink: Handle,
    own_tables: BTreeSet<u32>,
    mut changes: mpsc::Receiver<()>,
    out: watch::Sender<Option<Surroundings>>,
    beat: Beat,
) {
    let mut failing = false;
    while !out.is_closed() {
        beat.now();
        let read = read(&netlink, &own_tables).await;
        match &read {
            Err(reason) if !failing => {
                warn!(reason, "this node's networks cannot be read: no VTEP is added that is not in force");
            }
            Ok(_) if failing => info!("this node's networks can be read again"),
            Ok(_) | Err(_) => {}
        }
        failing = read.is_err();
        let read = surroundings(read);
        out.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&read);
            if differs {
                *known = Some(read);
            }
            differs
        });
        time::sleep(PAUSE).await;
        // Either way they are read again.
        let _ = time::timeout(REFRESH, changes.recv()).await;
    }
}

async fn read(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Result<Networks, String> {
    let read = time::timeout(READ_TIMEOUT, Networks::read(netlink, own_tables)).await;
    read.unwrap_or(Err(NetworksError::Timeout)).map_err(|error| chain(&error).to_string())
}

fn surroundings(read: Result<Networks, String>) -> Surroundings {
    match read {
        Ok(networks) => networks.surroundings(),
        Err(reason) => Surroundings { unreadable: [(Fact::Networks, reason)].into(), ..Surroundings::default() },
    }
}

/// An address of this node.
struct Address {
    device: u32,
    local: Ipv4Addr,
    network: Ipv4Net,
}

/// A way out of this node.
struct Route {
    device: Option<u32>,
    table: u32,
    is_link: bool,
    /// `None`: the default route.
    destination: Option<Ipv4Net>,
    gateways: Vec<(Option<u32>, Ipv4Addr)>,
}

impl Networks {
    /// Reads addresses and routes; routes of `own_tables` are this agent's.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer a listing.
    pub async fn read(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Result<Self, NetworksError> {
        let mut request = AddressMessage::default();
        request.header.family = AddressFamily::Inet;
        let addresses = dump(netlink, &RouteNetlinkMessage::GetAddress(request)).await;
        let addresses = addresses.map_err(NetworksError::Addresses)?;
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let routes = dump(netlink, &RouteNetlinkMessage::GetRoute(request)).await.map_err(NetworksError::Routes)?;
        let addresses: Vec<_> = addresses.iter().filter_map(parse_address).collect();
        let is_needed = |route: &Route| !IGNORED_TABLES.contains(&route.table) && !own_tables.contains(&route.table);
        let routes: Vec<_> = routes.iter().filter_map(parse_route).filter(is_needed).collect();
        Ok(Self::of(&addresses, &routes, device_name))
    }

    fn of(addresses: &[Address], routes: &[Route], name: impl Fn(u32) -> String) -> Self {
        let mut names = BTreeMap::new();
        let mut name_of = |device: u32| names.entry(device).or_insert_with(|| name(device)).clone();
        let mut networks = Self::default();
        for &Address { device, local, network } in addresses {
            let name = name_of(device);
            if is_ciliums(&name) {
                networks.pods.insert(local.into());
            } else {
                networks.connected.entry(local.into()).or_insert_with(|| name.clone());
                networks.connected.entry(network).or_insert(name);
            }
        }
        let routers: BTreeSet<_> = networks.pods.iter().map(Ipv4Net::addr).collect();
        for route in routes {
            let name = route.device.map(&mut name_of).unwrap_or_default();
            match route.destination {
                _ if is_ciliums(&name) => {
                    // Without a next hop it may be a person's route to a VTEP, as documents tell to add.
                    let to_router = route.gateways.iter().any(|(_, gateway)| routers.contains(gateway));
                    networks.pods.extend(route.destination.filter(|_| to_router));
                    continue;
                }
                Some(destination) if route.is_link => {
                    networks.connected.entry(destination).or_insert(name);
                }
                Some(_) | None => {}
            }
            networks.gateways.extend(route.gateways.iter().map(|(_, gateway)| *gateway));
            if route.destination.is_none() {
                let with_device = |(device, gateway): &(Option<u32>, _)| Some(((*device).or(route.device)?, *gateway));
                networks.default_gateways.extend(route.gateways.iter().filter_map(with_device));
            }
        }
        networks
    }

    /// What of it vetoes VTEPs.
    fn surroundings(self) -> Surroundings {
        let Self { connected, gateways, default_gateways: _, pods } = self;
        Surroundings { connected, gateways, pod_cidrs: pods, ..Surroundings::default() }
    }
}

/// `cilium_host`, `cilium_vxlan`, …, and the pods' ends: `lxc_health`, or `lxc` and digits. `lxcbr0` is the bridge of LXC.
fn is_ciliums(device: &str) -> bool {
    let of_pod = |end: &str| end == "_health" || (!end.is_empty() && end.bytes().all(|byte| byte.is_ascii_hexdigit()));
    device.starts_with("cilium_") || device.strip_prefix("lxc").is_some_and(of_pod)
}

/// A device that is gone has no name, and is nobody's.
fn device_name(index: u32) -> String {
    nix::net::if_::if_indextoname(index)
        .map_or_else(|_| format!("#{index}"), |name| name.to_string_lossy().into_owned())
}

fn parse_address(message: &RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute {
            local = Some(*address);
        } else if let AddressAttribute::Address(IpAddr::V4(address)) = attribute {
            peer = Some(*address);
        }
    }
    // The prefix length belongs to the peer's address, which is the own one but on point-to-point links.
    let peer = peer.or(local)?;
    let network = Ipv4Net::new(peer, message.header.prefix_len).ok()?.trunc();
    Some(Address { device: message.header.index, local: local.unwrap_or(peer), network })
}

fn parse_route(message: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = Route {
        device: None,
        table: u32::from(header.table),
        is_link: header.scope == RouteScope::Link,
        destination: None,
        gateways: Vec::new(),
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            route.device = Some(*index);
        } else if let RouteAttribute::Table(table) = attribute {
            route.table = *table;
        } else if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
            route.destination = Ipv4Net::new(*address, header.destination_prefix_length).ok();
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            for hop in hops {
                let gateways = hop.attributes.iter().filter_map(gateway);
                route.gateways.extend(gateways.map(|gateway| (Some(hop.interface_index), gateway)));
            }
        } else if let Some(gateway) = gateway(attribute) {
            route.gateways.push((None, gateway));
        }
    }
    // A next hop over IPv6 is no address that a VTEP could cover.
    Some(route)
}

fn gateway(attribute: &RouteAttribute) -> Option<Ipv4Addr> {
    if let RouteAttribute::Gateway(RouteAddress::Inet(gateway)) | RouteAttribute::Via(RouteVia::Inet(gateway)) =
        attribute
    {
        Some(*gateway)
    } else {
        None
    }
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
            // As F5's document tells to add: a way to a VTEP, and none to pods.
            route(CILIUM_HOST, "10.1.6.0/24", None),
            route(LXC, "10.0.0.130/32", None),
        ];
        let Networks { connected, gateways, default_gateways, pods } = Networks::of(&addresses, &routes, name);
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
