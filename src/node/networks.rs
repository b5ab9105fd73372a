//! The networks that this node cannot do without: what it is connected to, and where it sends the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
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

use super::netlink::{DumpError, dump, fold};
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
        let began = Instant::now();
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
        // A node with very many routes spends a tenth of a processor on them at most.
        time::sleep(PAUSE.max(began.elapsed() * 9)).await;
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

/// Networks as they are put together.
struct Builder {
    networks: Networks,
    /// Names of devices by their index.
    names: BTreeMap<u32, String>,
    name: fn(u32) -> String,
    /// Cilium's own addresses.
    routers: BTreeSet<Ipv4Addr>,
}

impl Builder {
    fn new(addresses: &[Address], name: fn(u32) -> String) -> Self {
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

    fn add_route(&mut self, route: &Route) {
        let name = route.device.map(|device| self.name_of(device)).unwrap_or_default();
        let Networks { connected, gateways, default_gateways, pods } = &mut self.networks;
        if is_ciliums(&name) {
            // Without a next hop it may be a person's route to a VTEP, as documents tell to add.
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
        let addresses: Vec<_> = addresses.iter().filter_map(parse_address).collect();
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        let is_needed = |route: &Route| !IGNORED_TABLES.contains(&route.table) && !own_tables.contains(&route.table);
        // A node that speaks BGP may have a million routes: of each only what it adds is kept.
        let add = |networks: &mut Builder, message| {
            let route = parse_route(&message).filter(is_needed);
            route.into_iter().for_each(|route| networks.add_route(&route));
        };
        let start = || Builder::new(&addresses, device_name);
        let built = fold(netlink, &RouteNetlinkMessage::GetRoute(request), start, add).await;
        built.map(|built| built.networks).map_err(NetworksError::Routes)
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
