//! The difference between two states, as an ordered list of operations. Applying them is not part of this module.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{
    abi::VtepValue,
    state::{HostRoute, HostRule, State, Table},
};

/// One change to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    ReplaceEntry {
        cidr: Ipv4Net,
        found: VtepValue,
        value: VtepValue,
    },
    AddEntry {
        cidr: Ipv4Net,
        value: VtepValue,
    },
    DeleteEntry {
        cidr: Ipv4Net,
        found: VtepValue,
    },
    PutIpcache {
        cidr: Ipv4Net,
        found: Option<Ipv4Addr>,
        endpoint: Ipv4Addr,
    },
    DeleteIpcache {
        cidr: Ipv4Net,
        found: Ipv4Addr,
    },
    /// `found`: our route that this one replaces.
    PutRoute {
        cidr: Ipv4Net,
        found: Option<HostRoute>,
        route: HostRoute,
    },
    AddRule(HostRule),
    DeleteRule(HostRule),
    DeleteRoute {
        cidr: Ipv4Net,
        route: HostRoute,
    },
}

impl Op {
    /// The CIDR of the map entry that the operation changes, if it changes one.
    #[must_use]
    pub const fn entry(&self) -> Option<Ipv4Net> {
        match self {
            Self::ReplaceEntry { cidr, .. }
            | Self::AddEntry { cidr, .. }
            | Self::DeleteEntry { cidr, .. }
            | Self::PutIpcache { cidr, .. }
            | Self::DeleteIpcache { cidr, .. } => Some(*cidr),
            Self::PutRoute { .. } | Self::DeleteRoute { .. } | Self::AddRule(_) | Self::DeleteRule(_) => None,
        }
    }

    /// The CIDR of the route or rule that the operation changes, if it changes one.
    #[must_use]
    pub const fn route(&self) -> Option<Ipv4Net> {
        match self {
            Self::PutRoute { cidr, .. }
            | Self::DeleteRoute { cidr, .. }
            | Self::AddRule(HostRule { cidr, .. })
            | Self::DeleteRule(HostRule { cidr, .. }) => Some(*cidr),
            Self::ReplaceEntry { .. }
            | Self::AddEntry { .. }
            | Self::DeleteEntry { .. }
            | Self::PutIpcache { .. }
            | Self::DeleteIpcache { .. } => None,
        }
    }

    /// Whether it changes an entry of the VTEP map.
    #[must_use]
    pub const fn is_of_vtep_map(&self) -> bool {
        match self {
            Self::ReplaceEntry { .. } | Self::AddEntry { .. } | Self::DeleteEntry { .. } => true,
            Self::PutIpcache { .. }
            | Self::DeleteIpcache { .. }
            | Self::PutRoute { .. }
            | Self::DeleteRoute { .. }
            | Self::AddRule(_)
            | Self::DeleteRule(_) => false,
        }
    }

    /// Whether it changes a route or a rule.
    #[must_use]
    pub const fn is_of_route(&self) -> bool {
        self.entry().is_none()
    }

    /// The CIDR of the route or rule that it adds, if it adds one.
    #[must_use]
    pub const fn adds_route(&self) -> Option<Ipv4Net> {
        match self {
            Self::PutRoute { cidr, .. } | Self::AddRule(HostRule { cidr, .. }) => Some(*cidr),
            Self::ReplaceEntry { .. }
            | Self::AddEntry { .. }
            | Self::DeleteEntry { .. }
            | Self::PutIpcache { .. }
            | Self::DeleteIpcache { .. }
            | Self::DeleteRoute { .. }
            | Self::DeleteRule(_) => None,
        }
    }

    /// The previous value of the VTEP map's entry; `None` if there was none, or if the operation does not change such an entry.
    #[must_use]
    pub const fn found(&self) -> Option<VtepValue> {
        match self {
            Self::ReplaceEntry { found, .. } | Self::DeleteEntry { found, .. } => Some(*found),
            Self::AddEntry { .. }
            | Self::PutIpcache { .. }
            | Self::DeleteIpcache { .. }
            | Self::PutRoute { .. }
            | Self::DeleteRoute { .. }
            | Self::AddRule(_)
            | Self::DeleteRule(_) => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplaceEntry { cidr, found, value } => {
                write!(f, "replace vtep entry {cidr}: {value} (found {found})")
            }
            Self::AddEntry { cidr, value } => write!(f, "add vtep entry {cidr}: {value}"),
            Self::DeleteEntry { cidr, found } => write!(f, "delete stale vtep entry {cidr}: {found}"),
            Self::PutIpcache { cidr, found: Some(found), endpoint } => {
                write!(f, "replace ipcache entry {cidr}: endpoint {endpoint} (found {found})")
            }
            Self::PutIpcache { cidr, found: None, endpoint } => {
                write!(f, "add ipcache entry {cidr}: endpoint {endpoint}")
            }
            Self::DeleteIpcache { cidr, found } => write!(f, "delete stale ipcache entry {cidr}: endpoint {found}"),
            Self::PutRoute { cidr, found: None, route } => write!(f, "add route {cidr} {route}"),
            Self::PutRoute { cidr, found: Some(found), route } => {
                write!(f, "replace route {cidr} {route} (found {found})")
            }
            Self::DeleteRoute { cidr, route } => write!(f, "delete route {cidr} table {}", route.table),
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::DeleteRule(rule) => write!(f, "delete rule {rule}"),
        }
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, mtu, table } = self;
        write!(f, "dev #{device} mtu {mtu} table {table}")
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} to {} lookup {}", self.table.priority(), self.cidr, self.table.id())
    }
}

/// State that is not stale although no effective VTEP needs it: the plan leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    pub entries: RetainEntries,
    /// CIDRs whose ipcache entries, routes and rules remain.
    pub cidrs: BTreeSet<Ipv4Net>,
}

impl Retain {
    /// Keeps every entry of the VTEP map. It names no CIDRs for the rest, because its callers compare nothing there.
    #[must_use]
    pub const fn all() -> Self {
        Self { entries: RetainEntries::All, cidrs: BTreeSet::new() }
    }
}

/// Entries of the VTEP map that remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetainEntries {
    All,
    /// Only the entries of these networks.
    Networks(BTreeSet<Ipv4Addr>),
    /// All but the entries of these networks.
    AllBut(BTreeSet<Ipv4Addr>),
}

impl Default for RetainEntries {
    fn default() -> Self {
        Self::Networks(BTreeSet::new())
    }
}

impl RetainEntries {
    #[must_use]
    pub fn contains(&self, cidr: Ipv4Net) -> bool {
        match self {
            Self::All => true,
            Self::Networks(networks) => networks.contains(&cidr.addr()),
            Self::AllBut(networks) => !networks.contains(&cidr.addr()),
        }
    }
}

/// The operations that turn `actual` into `desired`, in an order that leaves no gap in traffic: replace in place, add, delete. Deletions
/// come before additions only if the VTEP map with its `capacity` entries would overflow.
#[must_use]
pub fn plan(actual: &State, desired: &State, retain: &Retain, capacity: usize) -> Vec<Op> {
    let mut ops = entry_ops(actual, desired, &retain.entries, capacity);
    ops.extend(ipcache_ops(actual, desired, &retain.cidrs));
    ops.extend(route_ops(actual, desired, &retain.cidrs));
    ops
}

fn entry_ops(actual: &State, desired: &State, retain: &RetainEntries, capacity: usize) -> Vec<Op> {
    let mut replace = Vec::new();
    let mut add = Vec::new();
    for (&cidr, &value) in &desired.entries {
        match actual.entries.get(&cidr) {
            Some(&found) if found == value => {}
            Some(&found) => replace.push(Op::ReplaceEntry { cidr, found, value }),
            None => add.push(Op::AddEntry { cidr, value }),
        }
    }
    let stale =
        actual.entries.iter().filter(|(cidr, _)| !desired.entries.contains_key(cidr) && !retain.contains(**cidr));
    let delete = stale.map(|(&cidr, &found)| Op::DeleteEntry { cidr, found });
    let overflows = actual.entries.len() + add.len() > capacity;
    if overflows {
        replace.into_iter().chain(delete).chain(add).collect()
    } else {
        replace.into_iter().chain(add).chain(delete).collect()
    }
}

fn ipcache_ops(actual: &State, desired: &State, retain: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let (actual, desired) = (&actual.ipcache, &desired.ipcache);
    let put = desired.iter().filter(|(cidr, endpoint)| actual.get(cidr) != Some(endpoint));
    let put = put.map(|(&cidr, &endpoint)| Op::PutIpcache { cidr, found: actual.get(&cidr).copied(), endpoint });
    let stale = actual.iter().filter(|(cidr, _)| !desired.contains_key(cidr) && !retain.contains(cidr));
    put.chain(stale.map(|(&cidr, &found)| Op::DeleteIpcache { cidr, found })).collect()
}

/// Adds a rule after its route, and removes it before its route. A rule whose table is empty is harmless, and so is a route without a rule,
/// but in this order no packet meets a half-made path.
fn route_ops(actual: &State, desired: &State, retain: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let put = desired.routes.iter().filter(|(cidr, route)| actual.routes.get(cidr) != Some(route));
    let put = put.map(|(&cidr, &route)| Op::PutRoute { cidr, found: actual.routes.get(&cidr).copied(), route });
    let add_rules = desired.rules.difference(&actual.rules).map(|&rule| Op::AddRule(rule));
    let is_ours = |rule: &HostRule| matches!(rule.table, Table::Ours(_));
    let is_stale = |rule: &&HostRule| is_ours(rule) && !retain.contains(&rule.cidr);
    let delete_rules = actual.rules.difference(&desired.rules).filter(is_stale).map(|&rule| Op::DeleteRule(rule));
    let delete = actual.routes.iter().filter(|(cidr, _)| !desired.routes.contains_key(cidr) && !retain.contains(cidr));
    let delete = delete.map(|(&cidr, &route)| Op::DeleteRoute { cidr, route });
    put.chain(add_rules).chain(delete_rules).chain(delete).collect()
}

#[cfg(test)]
mod tests;
