//! The routes and rules that this agent added: it removes no others.
//!
//! A route or rule is ours when it carries the protocol number that is on record for it: a mark alone could be anybody's, and a record
//! alone would claim what somebody put there after ours was gone.

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

/// `rtm_protocol` and `FRA_PROTOCOL` of what this agent adds: a number that no routing daemon has in `linux/rtnetlink.h`.
pub const PROTOCOL: u8 = 113;
/// What routes of version 0.1.0 carry (`RTPROT_STATIC`), which kept no journal.
const PROTOCOL_0_1_0: u8 = 4;

/// What was added and not taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    routes: BTreeSet<RouteRecord>,
    rules: BTreeSet<RuleRecord>,
    /// What cut the node off when it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// What was added last, until it is known that the node can still be corrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A change of routes that is not proven yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub cidrs: BTreeSet<Ipv4Net>,
    /// Where the API server was before; empty where it is not the API server that is asked.
    pub sockets: Vec<SocketAddr>,
}

/// VTEPs whose routes and rules were taken back because they cut the node off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub cidrs: BTreeSet<Ipv4Net>,
    /// The configuration that it is about: another may have another reason.
    pub spec: Spec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct RouteRecord {
    cidr: Ipv4Net,
    table: u32,
    protocol: u8,
    /// Index of the device; `None` where it is not known, of 0.1.0.
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

    /// The MTU may have been changed since: that is mended. Another device is another route.
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

/// What the kernel holds of host routes, told apart by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    pub routes: BTreeMap<Ipv4Net, HostRoute>,
    pub rules: BTreeSet<HostRule>,
    /// Removes what is ours and not of the table in use: a rule before its route.
    pub elsewhere: Vec<Op>,
    /// Routes that are in our table and not ours.
    pub foreign_routes: Vec<Found>,
    /// Rules just like ours that are not on record, each with its protocol.
    pub foreign_rules: BTreeMap<HostRule, u8>,
    /// Rules to Cilium's table that this agent restored.
    pub restored: BTreeSet<HostRule>,
}

impl Records {
    /// What 0.1.0 had added for these CIDRs, where it left no journal.
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

    /// Tables of ours that hold, or held, something.
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

    /// Tells what is ours from what is not. `table` is the one in use.
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

    /// The protocols to delete a route with: two where one of 0.1.0 was to be replaced, and perhaps was not.
    #[must_use]
    pub fn route_protocols(&self, cidr: Ipv4Net, table: u32) -> BTreeSet<u8> {
        let of = |record: &&RouteRecord| (record.cidr, record.table) == (cidr, table);
        self.routes.iter().filter(of).map(|record| record.protocol).collect()
    }

    /// The protocol to delete a rule with: that of its record.
    #[must_use]
    pub fn rule_protocol(&self, rule: HostRule) -> Option<u8> {
        let of = |record: &&RuleRecord| **record == RuleRecord::new(rule, record.protocol);
        self.rules.iter().find(of).map(|record| record.protocol)
    }

    /// Before `op` is done: what it adds is ours from now on.
    pub fn claim(&mut self, op: &Op) {
        match op {
            Op::PutRoute { cidr, found, route } => {
                // What is not in the kernel any more went with its device; what is replaced may be of 0.1.0, until it is.
                let stays = |record: &RouteRecord| found.is_some() && record.protocol != PROTOCOL;
                self.routes.retain(|record| (record.cidr, record.table) != (*cidr, route.table) || stays(record));
                self.routes.insert(RouteRecord::new(*cidr, *route, PROTOCOL));
            }
            Op::AddRule(rule @ HostRule { table: Table::Ours(_), .. }) => {
                self.rules.insert(RuleRecord::new(*rule, PROTOCOL));
            }
            // It stays Cilium's, and as Cilium makes it: only where it cuts the node off is it taken back.
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

    /// After `op` was done: what it removed is nobody's.
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
