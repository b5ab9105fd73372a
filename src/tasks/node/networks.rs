//! Reads the networks that this node needs: its connected networks, and the gateways of its routes.

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
    liveness::Heartbeat,
    together,
};

/// The maximum time between two reads, in case a notification is lost.
const REFRESH: Duration = Duration::from_secs(5);
/// The timeout of one read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The minimum pause between two reads: a node with many pods changes routes all the time.
const PAUSE: Duration = Duration::from_millis(100);

/// Cilium's routing tables for VTEPs (202) and proxied traffic (2004, 2005): their routes are not networks that the node needs.
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

/// Reads once the networks of this node that no VTEP may overlap.
pub async fn read_once(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Surroundings {
    surroundings(read(netlink, own_tables).await)
}

/// Keeps `out` current until its receivers are dropped. Only a difference wakes the receivers.
pub async fn follow(
    netlink: Handle,
    own_tables: BTreeSet<u32>,
    mut changes: mpsc::Receiver<()>,
    out: watch::Sender<Option<Surroundings>>,
    heartbeat: Heartbeat,
) {
    let mut failing = false;
    while !out.is_closed() {
        heartbeat.beat();
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
        // The pause grows with the read's duration, so that a node with very many routes spends at most a tenth of a CPU on them.
        pause(PAUSE.max(began.elapsed() * 9), &heartbeat).await;
        // A notification and a timeout have the same effect: the next read.
        let _ = time::timeout_at(together::next(REFRESH).into(), changes.recv()).await;
    }
}

/// A long pause is no hang: the loop turns meanwhile.
async fn pause(duration: Duration, heartbeat: &Heartbeat) {
    let end = Instant::now() + duration;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        time::sleep(left.min(REFRESH)).await;
        heartbeat.beat();
        if left <= REFRESH {
            return;
        }
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

/// Reads addresses and routes. Routes in `own_tables` belong to this agent and do not count.
///
/// # Errors
///
/// The kernel does not answer a listing.
pub async fn read_networks(netlink: &Handle, own_tables: &BTreeSet<u32>) -> Result<Networks, NetworksError> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    let addresses = dump(netlink, &RouteNetlinkMessage::GetAddress(request)).await;
    let addresses = addresses.map_err(NetworksError::Addresses)?;
    let addresses: Vec<_> = addresses.iter().filter_map(parse_address).collect();
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    let is_needed = |route: &Route| !IGNORED_TABLES.contains(&route.table) && !own_tables.contains(&route.table);
    // A node with BGP may have a million routes, so only the needed part of each is retained.
    let add = |networks: &mut Builder, message| {
        let route = parse_route(&message).filter(is_needed);
        route.into_iter().for_each(|route| networks.add_route(&route));
    };
    let start = || Builder::new(&addresses, device_name);
    let built = fold(netlink, &RouteNetlinkMessage::GetRoute(request), start, add).await;
    built.map(|built| built.networks).map_err(NetworksError::Routes)
}

/// The device's name; `#<index>` if the device no longer exists.
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
    // The prefix length belongs to the peer's address. Except on point-to-point links, that is the node's own address.
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
    // An IPv6 next hop is skipped, because no VTEP can contain it.
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
