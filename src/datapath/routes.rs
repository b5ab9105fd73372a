//! Host routes over rtnetlink: our table and rules, and Cilium's where the plan has to know them.
//!
//! Writes only table 2021 with rules of priority 113, and Cilium's rule of priority 112 where it is missing. Never writes table 202.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    Error as NetlinkError, Handle, IpVersion, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType},
        rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
    },
};

use super::state::{CiliumRoutes, HostRoute, HostRule, Table};
use crate::node::netlink::{is_absent, is_present};

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("failed to list the routes of table {table}")]
    ListRoutes { table: u32, source: NetlinkError },
    #[error("failed to list the routing rules")]
    ListRules { source: NetlinkError },
    #[error("failed to add route {cidr} to table {}", Table::Ours.id())]
    AddRoute { cidr: Ipv4Net, source: NetlinkError },
    #[error("failed to delete route {cidr} from table {}", Table::Ours.id())]
    DeleteRoute { cidr: Ipv4Net, source: NetlinkError },
    #[error("failed to add rule {rule}")]
    AddRule { rule: HostRule, source: NetlinkError },
    #[error("failed to delete rule {rule}")]
    DeleteRule { rule: HostRule, source: NetlinkError },
}

/// What the kernel holds of host routes.
#[derive(Clone, Debug, Default)]
pub struct HostRoutes {
    pub ours: BTreeMap<Ipv4Net, HostRoute>,
    pub rules: BTreeSet<HostRule>,
    pub cilium: CiliumRoutes,
}

/// Reads our table and rules, and Cilium's.
///
/// # Errors
///
/// When the kernel does not answer a listing.
pub async fn read(netlink: &Handle) -> Result<HostRoutes, RouteError> {
    let ours = list(netlink, Table::Ours).await?.iter().filter_map(parse_route).collect();
    let cilium = list(netlink, Table::Cilium).await?;
    let in_table = |message: &&RouteMessage| table_of(message) == Table::Cilium.id();
    let cilium = cilium.iter().filter(in_table).filter_map(destination).collect();
    let rules: Vec<_> = netlink
        .rule()
        .get(IpVersion::V4)
        .execute()
        .try_collect()
        .await
        .map_err(|source| RouteError::ListRules { source })?;
    let rules = rules.iter().filter_map(parse_rule).collect();
    Ok(HostRoutes { ours, rules, cilium: CiliumRoutes { prefixes: cilium } })
}

/// Adds or replaces a route of ours.
///
/// # Errors
///
/// When the kernel refuses, e.g. because the device has just gone.
pub async fn put_route(netlink: &Handle, cidr: Ipv4Net, route: HostRoute) -> Result<(), RouteError> {
    let mut message = route_message(cidr);
    message.attributes.push(RouteAttribute::Oif(route.device));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(route.mtu)]));
    netlink.route().add(message).replace().execute().await.map_err(|source| RouteError::AddRoute { cidr, source })
}

/// Deletes a route of ours; one that is gone already is success.
///
/// # Errors
///
/// When the kernel refuses.
pub async fn delete_route(netlink: &Handle, cidr: Ipv4Net) -> Result<(), RouteError> {
    match netlink.route().del(route_message(cidr)).execute().await {
        Err(source) if !is_absent(&source) => Err(RouteError::DeleteRoute { cidr, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Adds a rule; one that is there already is success.
///
/// # Errors
///
/// When the kernel refuses.
pub async fn add_rule(netlink: &Handle, rule: HostRule) -> Result<(), RouteError> {
    let request = netlink
        .rule()
        .add()
        .v4()
        .destination_prefix(rule.cidr.network(), rule.cidr.prefix_len())
        .table_id(rule.table.id())
        .priority(rule.table.priority())
        .action(RuleAction::ToTable);
    match request.execute().await {
        Err(source) if !is_present(&source) => Err(RouteError::AddRule { rule, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Deletes a rule of ours; one that is gone already is success.
///
/// # Errors
///
/// When the kernel refuses.
pub async fn delete_rule(netlink: &Handle, rule: HostRule) -> Result<(), RouteError> {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.dst_len = rule.cidr.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Destination(rule.cidr.network().into()),
        RuleAttribute::Priority(rule.table.priority()),
        RuleAttribute::Table(rule.table.id()),
    ];
    match netlink.rule().del(message).execute().await {
        Err(source) if !is_absent(&source) => Err(RouteError::DeleteRule { rule, source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The socket checks strictly, so the kernel filters by table: a node may hold thousands of routes.
async fn list(netlink: &Handle, table: Table) -> Result<Vec<RouteMessage>, RouteError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = AddressFamily::Inet;
    filter.attributes.push(RouteAttribute::Table(table.id()));
    match netlink.route().get(filter).execute().try_collect().await {
        // A table without a route does not exist.
        Err(source) if is_absent(&source) => Ok(Vec::new()),
        Err(source) => Err(RouteError::ListRoutes { table: table.id(), source }),
        Ok(messages) => Ok(messages),
    }
}

fn route_message(cidr: Ipv4Net) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(cidr.network(), cidr.prefix_len())
        .table_id(Table::Ours.id())
        .scope(RouteScope::Link)
        .protocol(RouteProtocol::Static)
        .build()
}

fn destination(message: &RouteMessage) -> Option<Ipv4Net> {
    let address = message.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute { Some(*address) } else { None }
    });
    Ipv4Net::new(address?, message.header.destination_prefix_length).ok()
}

/// A route as we write it. One of another protocol, scope or metric is somebody else's, and no delete of ours would find it.
fn parse_route(message: &RouteMessage) -> Option<(Ipv4Net, HostRoute)> {
    let header = &message.header;
    let ours = header.protocol == RouteProtocol::Static
        && header.scope == RouteScope::Link
        && header.kind == RouteType::Unicast
        && header.tos == 0
        && table_of(message) == Table::Ours.id();
    let mut route = HostRoute { device: 0, mtu: 0 };
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
    (ours && !has_metric).then_some(())?;
    Some((destination(message)?, route))
}

fn table_of(message: &RouteMessage) -> u32 {
    let attribute =
        message.attributes.iter().find_map(|a| if let RouteAttribute::Table(id) = a { Some(*id) } else { None });
    attribute.unwrap_or_else(|| u32::from(message.header.table))
}

/// The rules `to CIDR lookup <table>` at the table's own priority, with nothing else to match; every other is somebody else's.
fn parse_rule(message: &RuleMessage) -> Option<HostRule> {
    let header = &message.header;
    let (mut destination, mut priority, mut table) = (None, 0, u32::from(header.table));
    for attribute in &message.attributes {
        if let RuleAttribute::Destination(IpAddr::V4(address)) = attribute {
            destination = Some(*address);
        } else if let RuleAttribute::Priority(value) = attribute {
            priority = *value;
        } else if let RuleAttribute::Table(value) = attribute {
            table = *value;
        } else if !matches!(attribute, RuleAttribute::Protocol(_) | RuleAttribute::SuppressPrefixLen(u32::MAX)) {
            // Those two the kernel adds to every rule; any other narrows it.
            return None;
        }
    }
    let plain = header.action == RuleAction::ToTable
        && header.src_len == 0
        && header.tos == 0
        && !header.flags.contains(RuleFlags::Invert);
    let table = [Table::Ours, Table::Cilium].into_iter().find(|t| t.id() == table && t.priority() == priority)?;
    let cidr = Ipv4Net::new(destination?, header.dst_len).ok()?;
    plain.then_some(HostRule { cidr, table })
}
