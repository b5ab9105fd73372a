//! The record of the routes and rules that this agent added. The agent removes no others.
//!
//! A route or rule is ours if it is on record and carries the protocol number of its record. The number alone is not enough, because others
//! may use it. The record alone is not enough either: after our route is gone, it would claim a route that somebody else added.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    plan::Op,
    routes::Found,
    state::{HostRoute, HostRule, ROUTE_TABLE, Table},
};
use crate::config::spec::Spec;

/// `rtm_protocol` and `FRA_PROTOCOL` of our routes and rules: a number that `linux/rtnetlink.h` gives to no routing daemon.
pub const PROTOCOL: u8 = 113;
/// The protocol of routes of version 0.1.0 (`RTPROT_STATIC`), which wrote no journal.
const PROTOCOL_0_1_0: u8 = 4;

/// The routes and rules that were added and not removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    routes: BTreeSet<RouteRecord>,
    rules: BTreeSet<RuleRecord>,
    /// The VTEPs whose routes cut the node off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The last addition, until it is certain that the node can still be reached and corrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A change of routes that is not proven yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub cidrs: BTreeSet<Ipv4Net>,
    /// The addresses of the API server before the change; empty if something other than the API server is probed.
    pub sockets: Vec<SocketAddr>,
}

/// VTEPs whose routes and rules were withdrawn because they cut the node off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub cidrs: BTreeSet<Ipv4Net>,
    /// The configuration of the refusal: with another one, the agent tries again.
    pub spec: Spec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct RouteRecord {
    cidr: Ipv4Net,
    table: u32,
    protocol: u8,
    /// Index of the device; `None` if it is unknown, for routes of 0.1.0.
    device: Option<u32>,
    /// Bytes of the inner packet.
    mtu: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct RuleRecord {
    cidr: Ipv4Net,
    table: u32,
    priority: u32,
    protocol: u8,
}

impl RouteRecord {
    const fn new(cidr: Ipv4Net, route: HostRoute, protocol: u8) -> Self {
        let HostRoute { device, mtu, table } = route;
        Self { cidr, table, protocol, device: Some(device), mtu: Some(mtu) }
    }

    /// Whether the route found is the recorded one. Its MTU may differ, because a repair corrects that. A route with another device is
    /// another route.
    fn is_of(&self, found: &Found) -> bool {
        let Found { cidr, route, protocol, like_ours, in_the_way: _ } = found;
        let device = self.device.is_none_or(|device| device == route.device);
        *like_ours && device && (self.cidr, self.table, self.protocol) == (*cidr, route.table, *protocol)
    }
}

impl RuleRecord {
    const fn new(rule: HostRule, protocol: u8) -> Self {
        Self { cidr: rule.cidr, table: rule.table.id(), priority: rule.table.priority(), protocol }
    }
}

/// The host routes and rules of the kernel, sorted by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    pub routes: BTreeMap<Ipv4Net, HostRoute>,
    pub rules: BTreeSet<HostRule>,
    /// Operations that remove our routes and rules from tables that are no longer in use, each rule before its route.
    pub elsewhere: Vec<Op>,
    /// Routes in our table that are not ours.
    pub foreign_routes: Vec<Found>,
    /// Rules identical to ours that are not on record, each with its protocol.
    pub foreign_rules: BTreeMap<HostRule, u8>,
    /// Rules to Cilium's table that this agent restored.
    pub restored: BTreeSet<HostRule>,
}

impl Records {
    /// The routes and rules that 0.1.0 had added for these CIDRs, as it kept no journal.
    #[must_use]
    pub fn of_0_1_0(cidrs: impl IntoIterator<Item = Ipv4Net>) -> Self {
        let mut records = Self::default();
        for cidr in cidrs {
            let table = Table::Ours(ROUTE_TABLE);
            let protocol = PROTOCOL_0_1_0;
            records.routes.insert(RouteRecord { cidr, table: table.id(), protocol, device: None, mtu: None });
            records.rules.insert(RuleRecord::new(HostRule { cidr, table }, 0));
        }
        records
    }

    /// Our tables that contain, or contained, routes of ours.
    #[must_use]
    pub fn tables(&self) -> BTreeSet<u32> {
        let of_rules = self.rules.iter().filter(|rule| rule.table != Table::Cilium.id()).map(|rule| rule.table);
        self.routes.iter().map(|route| route.table).chain(of_rules).collect()
    }

    #[must_use]
    pub fn has_route(&self, found: &Found) -> bool {
        self.routes.iter().any(|record| record.is_of(found))
    }

    #[must_use]
    pub fn has_rule(&self, rule: HostRule, protocol: u8) -> bool {
        self.rules.contains(&RuleRecord::new(rule, protocol))
    }

    /// Sorts routes and rules by owner. `table` is the one in use.
    #[must_use]
    pub fn sort(&self, routes: &[Found], rules: &[(HostRule, u8)], table: u32) -> Owned {
        let mut owned = Owned::default();
        for &(rule, protocol) in rules {
            match rule.table {
                Table::Cilium => {
                    owned.rules.insert(rule);
                    if self.rule_protocol(rule).is_some() {
                        owned.restored.insert(rule);
                    }
                }
                Table::Ours(_) if !self.has_rule(rule, protocol) => drop(owned.foreign_rules.insert(rule, protocol)),
                Table::Ours(id) if id == table => drop(owned.rules.insert(rule)),
                Table::Ours(_) => owned.elsewhere.push(Op::DeleteRule(rule)),
            }
        }
        for found in routes {
            let Found { cidr, route, .. } = *found;
            match (self.has_route(found), route.table == table) {
                (true, true) => drop(owned.routes.insert(cidr, route)),
                (true, false) => owned.elsewhere.push(Op::DeleteRoute { cidr, route }),
                (false, true) => owned.foreign_routes.push(*found),
                (false, false) => {}
            }
        }
        owned
    }

    /// The protocols with which to delete a route: two, if a route of 0.1.0 may or may not have been replaced.
    #[must_use]
    pub fn route_protocols(&self, cidr: Ipv4Net, table: u32) -> BTreeSet<u8> {
        let of = |record: &&RouteRecord| (record.cidr, record.table) == (cidr, table);
        self.routes.iter().filter(of).map(|record| record.protocol).collect()
    }

    /// The protocol with which to delete a rule: that of its record.
    #[must_use]
    pub fn rule_protocol(&self, rule: HostRule) -> Option<u8> {
        let of = |record: &&RuleRecord| **record == RuleRecord::new(rule, record.protocol);
        self.rules.iter().find(of).map(|record| record.protocol)
    }

    /// Records the addition of `op`. This comes before the change: after a crash in between, a record too many does no harm, while a route
    /// without a record would never be removed.
    pub fn claim(&mut self, op: &Op) {
        match op {
            Op::PutRoute { cidr, found, route } => {
                // If no route was found, the recorded one went with its device. If a route of 0.1.0 is being replaced, its record remains,
                // because the replacement may fail.
                let stays = |record: &RouteRecord| found.is_some() && record.protocol != PROTOCOL;
                self.routes.retain(|record| (record.cidr, record.table) != (*cidr, route.table) || stays(record));
                self.routes.insert(RouteRecord::new(*cidr, *route, PROTOCOL));
            }
            Op::AddRule(rule @ HostRule { table: Table::Ours(_), .. }) => {
                self.rules.insert(RuleRecord::new(*rule, PROTOCOL));
            }
            // The rule remains Cilium's and looks like Cilium's own. The agent removes it only if it cuts the node off.
            Op::AddRule(rule @ HostRule { table: Table::Cilium, .. }) => {
                self.rules.insert(RuleRecord::new(*rule, 0));
            }
            Op::ReplaceEntry { .. }
            | Op::AddEntry { .. }
            | Op::DeleteEntry { .. }
            | Op::PutIpcache { .. }
            | Op::DeleteIpcache { .. }
            | Op::DeleteRoute { .. }
            | Op::DeleteRule(_) => {}
        }
    }

    /// Removes the record of a deletion. This comes after the change: until then, the route or rule is still ours.
    pub fn release(&mut self, op: &Op) {
        match op {
            Op::DeleteRoute { cidr, route } => {
                self.routes.retain(|record| (record.cidr, record.table) != (*cidr, route.table));
            }
            Op::DeleteRule(rule) => self.rules.retain(|record| *record != RuleRecord::new(*rule, record.protocol)),
            Op::ReplaceEntry { .. }
            | Op::AddEntry { .. }
            | Op::DeleteEntry { .. }
            | Op::PutIpcache { .. }
            | Op::DeleteIpcache { .. }
            | Op::PutRoute { .. }
            | Op::AddRule(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
