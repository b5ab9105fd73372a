//! The networks that this node cannot do without: what it is connected to, and where it sends the rest.

use std::{
    collections::BTreeSet,
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
use vtep_core::{
    config::surroundings::{Fact, Surroundings},
    node::networks::{Address, Builder, Networks, Route},
    types::error_chain::chain,
};

use crate::{
    kernel::netlink::{DumpError, dump, fold},
    liveness::Beat,
};

/// They are read at least this often, should a notice of a change be lost.
const REFRESH: Duration = Duration::from_secs(5);
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A node with many pods changes routes all the time: after one reading, wait this long before the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Routing tables that say nothing of what the node needs: Cilium's for VTEPs and proxied traffic (2004, 2005), and ours.
const IGNORED_TABLES: [u32; 3] = [202, 2004, 2005];

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
                warn!(reason, "cannot read this node's networks; no new VTEP takes effect");
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
    let read = time::timeout(READ_TIMEOUT, read_networks(netlink, own_tables)).await;
    read.unwrap_or(Err(NetworksError::Timeout)).map_err(|error| chain(&error).to_string())
}

fn surroundings(read: Result<Networks, String>) -> Surroundings {
    match read {
        Ok(networks) => networks.surroundings(),
        Err(reason) => Surroundings { unreadable: [(Fact::Networks, reason)].into(), ..Surroundings::default() },
    }
}

/// Reads addresses and routes; routes of `own_tables` are this agent's.
///
/// # Errors
///
/// When the kernel does not answer a listing.
pub async fn read_networks(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Result<Networks, NetworksError> {
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
