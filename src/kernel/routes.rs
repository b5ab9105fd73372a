//! Lists, adds and removes host routes and rules over rtnetlink. This module does not know their owners: the records in `journal` do.
//!
//! It writes only the agent's tables, rules of priority 113, and Cilium's rule of priority 112. It never writes table 202. Without
//! `replaces`, the kernel refuses a route if another one to the same network exists.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use rtnetlink::{
    Error as NetlinkError, Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
    },
};
use vtep_core::datapath::{
    records::PROTOCOL,
    routes::{Found, HostRoutes},
    state::{HostRoute, HostRule, Table},
};

use super::netlink::{DumpError, dump, is_absent, is_present};

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("failed to list the routes of table {table}")]
    ListRoutes { table: u32, source: DumpError },
    #[error("failed to list the routing rules")]
    ListRules { source: DumpError },
    #[error("failed to add route {cidr} to table {table}")]
    AddRoute { cidr: Ipv4Net, table: u32, source: NetlinkError },
    #[error("failed to delete route {cidr} from table {table}")]
    DeleteRoute { cidr: Ipv4Net, table: u32, source: NetlinkError },
    #[error("failed to add rule {rule}")]
    AddRule { rule: HostRule, source: NetlinkError },
    #[error("failed to delete rule {rule}")]
    DeleteRule { rule: HostRule, source: NetlinkError },
}

/// Reads these tables and Cilium's, with their rules.
///
/// # Errors
///
/// The kernel does not answer a listing.
pub async fn read(netlink: &Handle, tables: &BTreeSet<u32>) -> Result<HostRoutes, RouteError> {
    let mut found = HostRoutes::default();
    for &table in tables {
        found.routes.extend(list(netlink, table).await?.iter().filter_map(|message| parse_route(message, table)));
    }
    let in_table = |message: &&RouteMessage| table_of(message) == Table::Cilium.id();
    let cilium = list(netlink, Table::Cilium.id()).await?;
    found.cilium.prefixes = cilium.iter().filter(in_table).filter_map(destination).collect();
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let rules = dump(netlink, &RouteNetlinkMessage::GetRule(request)).await;
    let rules = rules.map_err(|source| RouteError::ListRules { source })?;
    found.rules = rules.iter().filter_map(|message| parse_rule(message, tables)).collect();
    Ok(found)
}

/// Adds a route of the agent, or with `replaces` replaces one. It never replaces a route of another owner.
///
/// # Errors
///
/// The kernel refuses, for example because the device has disappeared, or because another owner's route to the same network exists.
pub async fn put_route(netlink: &Handle, cidr: Ipv4Net, route: HostRoute, replaces: bool) -> Result<(), RouteError> {
    let mut message = route_message(cidr, route.table, PROTOCOL);
    message.attributes.push(RouteAttribute::Oif(route.device));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(route.mtu)]));
    let request = netlink.route().add(message);
    // Without `replace` the request is exclusive: the kernel refuses it if a route to the same network exists.
    let request = if replaces { request.replace() } else { request };
    request.execute().await.map_err(|source| RouteError::AddRoute { cidr, table: route.table, source })
}

/// Deletes a route of the agent with this protocol. A route that no longer exists counts as success.
///
/// # Errors
///
/// The kernel refuses.
pub async fn delete_route(netlink: &Handle, cidr: Ipv4Net, table: u32, protocol: u8) -> Result<(), RouteError> {
    match netlink.route().del(route_message(cidr, table, protocol)).execute().await {
        Err(source) if !is_absent(&source) => Err(RouteError::DeleteRoute { cidr, table, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Adds a rule. A rule that exists already counts as success.
///
/// # Errors
///
/// The kernel refuses.
pub async fn add_rule(netlink: &Handle, rule: HostRule) -> Result<(), RouteError> {
    let request = netlink
        .rule()
        .add()
        .v4()
        .destination_prefix(rule.cidr.network(), rule.cidr.prefix_len())
        .table_id(rule.table.id())
        .priority(rule.table.priority())
        .action(RuleAction::ToTable);
    let mut request = request;
    if let Table::Ours(_) = rule.table {
        request.message_mut().attributes.push(RuleAttribute::Protocol(PROTOCOL.into()));
    }
    match request.execute().await {
        Err(source) if !is_present(&source) => Err(RouteError::AddRule { rule, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Deletes a rule of the agent with this protocol. A rule that no longer exists counts as success.
///
/// # Errors
///
/// The kernel refuses.
pub async fn delete_rule(netlink: &Handle, rule: HostRule, protocol: u8) -> Result<(), RouteError> {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.dst_len = rule.cidr.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Destination(rule.cidr.network().into()),
        RuleAttribute::Priority(rule.table.priority()),
        RuleAttribute::Table(rule.table.id()),
        RuleAttribute::Protocol(protocol.into()),
    ];
    match netlink.rule().del(message).execute().await {
        Err(source) if !is_absent(&source) => Err(RouteError::DeleteRule { rule, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lists the routes of one table. Because of the socket's strict checking, the kernel filters: a node may have thousands of routes.
async fn list(netlink: &Handle, table: u32) -> Result<Vec<RouteMessage>, RouteError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = AddressFamily::Inet;
    filter.attributes.push(RouteAttribute::Table(table));
    let listed = match dump(netlink, &RouteNetlinkMessage::GetRoute(filter)).await {
        // For the kernel, a table without routes does not exist.
        Err(DumpError::Netlink(source)) if is_absent(&source) => Vec::new(),
        listed => listed.map_err(|source| RouteError::ListRoutes { table, source })?,
    };
    let route = |message| if let RouteNetlinkMessage::NewRoute(route) = message { Some(route) } else { None };
    Ok(listed.into_iter().filter_map(route).collect())
}

fn route_message(cidr: Ipv4Net, table: u32, protocol: u8) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(cidr.network(), cidr.prefix_len())
        .table_id(table)
        .scope(RouteScope::Link)
        .protocol(RouteProtocol::from(protocol))
        .build()
}

fn destination(message: &RouteMessage) -> Option<Ipv4Net> {
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute { Some(*address) } else { None }
    });
    Ipv4Net::new(address?, message.header.destination_prefix_length).ok()
}

fn parse_route(message: &RouteMessage, table: u32) -> Option<Found> {
    let header = &message.header;
    let mut route = HostRoute { device: 0, mtu: 0, table };
    let mut has_metric = false;
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(device) = attribute {
            route.device = *device;
        } else if let RouteAttribute::Metrics(metrics) = attribute {
            let mtu =
                metrics.iter().find_map(|metric| if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None });
            route.mtu = mtu.unwrap_or(0);
        } else if let RouteAttribute::Priority(_) = attribute {
            has_metric = true;
        }
    }
    let in_the_way = header.tos == 0 && !has_metric;
    let like_ours = in_the_way && header.scope == RouteScope::Link && header.kind == RouteType::Unicast;
    // A route without a destination is the default route.
    let cidr = destination(message).unwrap_or_default();
    (table_of(message) == table).then_some(Found {
        cidr,
        route,
        protocol: header.protocol.into(),
        like_ours,
        in_the_way,
    })
}

fn table_of(message: &RouteMessage) -> u32 {
    let attribute =
        message.attributes.iter().find_map(|a| if let RouteAttribute::Table(id) = a { Some(*id) } else { None });
    attribute.unwrap_or_else(|| u32::from(message.header.table))
}

/// Recognizes rules `to CIDR lookup <table>` of the table's own priority without further conditions. All others have another owner.
fn parse_rule(message: &RouteNetlinkMessage, tables: &BTreeSet<u32>) -> Option<(HostRule, u8)> {
    let RouteNetlinkMessage::NewRule(message) = message else { return None };
    let header = &message.header;
    let (mut destination, mut priority, mut table, mut protocol) = (None, 0, u32::from(header.table), 0);
    for attribute in &message.attributes {
        if let RuleAttribute::Destination(IpAddr::V4(address)) = attribute {
            destination = Some(*address);
        } else if let RuleAttribute::Priority(value) = attribute {
            priority = *value;
        } else if let RuleAttribute::Table(value) = attribute {
            table = *value;
        } else if let RuleAttribute::Protocol(value) = attribute {
            protocol = (*value).into();
        } else if !matches!(attribute, RuleAttribute::SuppressPrefixLen(u32::MAX)) {
            // The kernel adds this suppress attribute to every rule. Any other attribute is a further condition.
            return None;
        }
    }
    let plain = header.action == RuleAction::ToTable
        && header.src_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    let known = tables.iter().map(|&id| Table::Ours(id)).chain([Table::Cilium]);
    let table = known.into_iter().find(|known| known.id() == table && known.priority() == priority)?;
    let cidr = Ipv4Net::new(destination?, header.dst_len).ok()?;
    plain.then_some((HostRule { cidr, table }, protocol))
}
