//! The kernel's neighbour entry (ARP cache) for one address, read over rtnetlink.

use std::net::Ipv4Addr;

use futures_util::StreamExt;
use rtnetlink::{
    Error as NetlinkError, Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    },
};

/// Whether ARP for this address on this device has failed or is incomplete. False if the kernel has no information.
///
/// # Errors
///
/// The netlink connection is closed.
pub async fn is_unresolved(netlink: &Handle, device: u32, address: Ipv4Addr) -> Result<bool, NetlinkError> {
    Ok(is_resolved(netlink, device, address).await? == Some(false))
}

/// Whether ARP for this address on this device was answered: false if the entry is INCOMPLETE or FAILED (`linux/neighbour.h`). `None` if
/// the kernel has no entry, because it has not sent a request yet, or is older than 5.0 and does not support reading a single entry.
///
/// # Errors
///
/// The netlink connection is closed.
pub async fn is_resolved(netlink: &Handle, device: u32, address: Ipv4Addr) -> Result<Option<bool>, NetlinkError> {
    let mut question = NeighbourMessage::default();
    question.header.family = AddressFamily::Inet;
    question.header.ifindex = device;
    question.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(question));
    // Request one entry instead of a listing, because a node of a large cluster has thousands.
    request.header.flags = NLM_F_REQUEST;
    let mut answers = netlink.clone().request(request)?;
    let Some(answer) = answers.next().await else { return Ok(None) };
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) = answer.payload else {
        return Ok(None);
    };
    Ok(Some(!matches!(entry.header.state, NeighbourState::Incomplete | NeighbourState::Failed)))
}
