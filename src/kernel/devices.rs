//! Reads over rtnetlink the devices, addresses and routes of this node that tunnels depend on.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::{
    Error as NetlinkError, Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
};
use vtep_core::{
    config::spec::TunnelProtocol,
    node::devices::{CiliumDevices, Device, Underlay},
    types::mac::Mac,
};

use super::{
    neighbour,
    netlink::{DumpError, dump, has_errno, is_absent},
};

/// The device that carries Cilium's router address.
pub const CILIUM_HOST: &str = "cilium_host";

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("failed to read device {name}")]
    Link { name: String, source: NetlinkError },
    #[error("failed to read the addresses of {CILIUM_HOST}")]
    Address { source: DumpError },
    #[error("the kernel did not answer in time")]
    Timeout,
    #[error("failed to read the route to {address}")]
    Route { address: Ipv4Addr, source: NetlinkError },
}

/// Cilium's own devices; one that does not exist is `None`.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn cilium_devices(netlink: &Handle, protocol: TunnelProtocol) -> Result<CiliumDevices, DeviceError> {
    let tunnel = device(netlink, protocol.device()).await?;
    let host = device(netlink, CILIUM_HOST).await?;
    let router = match &host {
        Some(host) => first_address(netlink, host.index).await?,
        None => None,
    };
    Ok(CiliumDevices { tunnel, host, router })
}

/// Asks the kernel for its route to `address`; `None` when it has none.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn underlay(netlink: &Handle, address: Ipv4Addr) -> Result<Option<Underlay>, DeviceError> {
    let fail = |source| DeviceError::Route { address, source };
    let mut query = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
    // For a look-up of one route, strict checking accepts only family and length in the header, and refuses the builder's other values.
    query.header.protocol = 0.into();
    query.header.scope = 0.into();
    query.header.kind = 0.into();
    query.header.table = 0;
    let route: Option<RouteMessage> = match netlink.route().get(query).execute().try_next().await {
        Ok(route) => route,
        Err(error) if is_unroutable(&error) => None,
        Err(error) => return Err(fail(error)),
    };
    let Some(route) = route else { return Ok(None) };
    let index =
        route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None });
    let source = route.attributes.iter().find_map(|a| {
        if let RouteAttribute::PrefSource(RouteAddress::Inet(source)) = a { Some(*source) } else { None }
    });
    let next_hop = route
        .attributes
        .iter()
        .find_map(|a| if let RouteAttribute::Gateway(RouteAddress::Inet(gateway)) = a { Some(*gateway) } else { None });
    let next_hop = next_hop.unwrap_or(address);
    let Some(index) = index else { return Ok(None) };
    let link = match netlink.link().get().match_index(index).execute().try_next().await {
        Ok(link) => link,
        // The device disappeared between the two requests.
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(fail(error)),
    };
    let unresolved = neighbour::is_unresolved(netlink, index, next_hop).await.map_err(fail)?;
    Ok(link.and_then(|link| parse_link(&link)).map(|device| Underlay { device, source, next_hop, unresolved }))
}

/// Whether there is no route, or one of type unreachable, blackhole or prohibit.
fn is_unroutable(error: &NetlinkError) -> bool {
    use nix::errno::Errno;
    const NO_WAY: [Errno; 4] = [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EINVAL, Errno::EACCES];
    is_absent(error) || NO_WAY.into_iter().any(|errno| has_errno(error, errno))
}

async fn device(netlink: &Handle, name: &str) -> Result<Option<Device>, DeviceError> {
    match netlink.link().get().match_name(name).execute().try_next().await {
        Ok(link) => Ok(link.and_then(|link| parse_link(&link))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(DeviceError::Link { name: name.into(), source }),
    }
}

async fn first_address(netlink: &Handle, index: u32) -> Result<Option<Ipv4Addr>, DeviceError> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    request.header.index = index;
    let listed = dump(netlink, &RouteNetlinkMessage::GetAddress(request)).await;
    let listed = listed.map_err(|source| DeviceError::Address { source })?;
    let addresses = listed.iter().filter_map(|message| {
        if let RouteNetlinkMessage::NewAddress(message) = message { Some(&message.attributes) } else { None }
    });
    Ok(addresses.flatten().find_map(|attribute| {
        if let AddressAttribute::Local(IpAddr::V4(address)) = attribute { Some(*address) } else { None }
    }))
}

fn parse_link(message: &LinkMessage) -> Option<Device> {
    let (mut name, mut mac, mut mtu) = (None, Mac::default(), 0);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(value) = attribute {
            name = Some(value.clone());
        } else if let LinkAttribute::Address(value) = attribute {
            // An address of another length belongs to a device without Ethernet addresses.
            mac = <[u8; 6]>::try_from(value.as_slice()).map(Mac::from).unwrap_or_default();
        } else if let LinkAttribute::Mtu(value) = attribute {
            mtu = *value;
        }
    }
    let up = message.header.flags.contains(LinkFlags::Up);
    Some(Device { index: message.header.index, name: name?, mac, mtu, up })
}
