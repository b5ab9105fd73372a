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

/// Whether nobody has answered ARP for this address on this device. Where the kernel does not tell, nothing is concluded.
///
/// # Errors
///
/// When the connection is gone.
pub async fn is_unresolved(netlink: &Handle, device: u32, address: Ipv4Addr) -> Result<bool, NetlinkError> {
    Ok(is_resolved(netlink, device, address).await? == Some(false))
}

/// Whether somebody has answered ARP for this address on this device; not so where its entry is INCOMPLETE or FAILED
/// (`linux/neighbour.h`). A kernel before 5.0 cannot be asked for a single entry, and one without an entry has not asked yet: `None`.
///
/// # Errors
///
/// When the connection is gone.
pub async fn is_resolved(netlink: &Handle, device: u32, address: Ipv4Addr) -> Result<Option<bool>, NetlinkError> {
    let mut question = NeighbourMessage::default();
    question.header.family = AddressFamily::Inet;
    question.header.ifindex = device;
    question.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(question));
    // One entry, not a listing: a node of a large cluster has thousands.
    request.header.flags = NLM_F_REQUEST;
    let mut answers = netlink.clone().request(request)?;
    let Some(answer) = answers.next().await else { return Ok(None) };
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) = answer.payload else {
        return Ok(None);
    };
    Ok(Some(!matches!(entry.header.state, NeighbourState::Incomplete | NeighbourState::Failed)))
}
