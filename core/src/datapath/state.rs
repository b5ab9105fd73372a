//! The actual or desired state of the kernel. Both have one type, so that a plan is their difference, and planning again verifies it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::abi::VtepValue;
use crate::config::spec::Vtep;

/// Everything this agent programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// All of `cilium_vtep_map`: every entry in it comes from a configuration. A hash has no prefix lengths: its entries get the length of
    /// the mask, and a key with host bits keeps them.
    pub entries: BTreeMap<Ipv4Net, VtepValue>,
    /// Our entries of the ipcache: prefix → tunnel endpoint. The identity is always the world.
    pub ipcache: BTreeMap<Ipv4Net, Ipv4Addr>,
    /// Our routes: VTEP CIDR → its route.
    pub routes: BTreeMap<Ipv4Net, HostRoute>,
    /// Routing rules that send a VTEP CIDR to our table or to Cilium's. Of the rules to our table, only ours are included.
    pub rules: BTreeSet<HostRule>,
}

/// A route `CIDR dev <cilium_host> scope link mtu <mtu>` in our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Interface index of `cilium_host`.
    pub device: u32,
    /// Bytes of the inner packet.
    pub mtu: u32,
    /// The routing table that contains it.
    pub table: u32,
}

/// A rule `to CIDR lookup <table>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRule {
    pub cidr: Ipv4Net,
    pub table: Table,
}

/// Our routing table, unless `--route-table` names another.
pub const ROUTE_TABLE: u32 = 2021;

/// The owner of the routing table that a rule points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// A table of ours, by its number; its rules have priority 113. We remove only routes and rules that we added.
    Ours(u32),
    /// Cilium's table 202; its rules have priority 112. A missing rule is restored if Cilium's route exists.
    /// The agent removes none, unless a rule that it restored cut the node off.
    Cilium,
}

impl Table {
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Ours(id) => id,
            Self::Cilium => 202,
        }
    }

    /// Priority of the rules that point to it.
    #[must_use]
    pub const fn priority(self) -> u32 {
        match self {
            Self::Ours(_) => 113,
            Self::Cilium => 112,
        }
    }
}

/// Cilium's own host routes: the agent reads them and never plans them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumRoutes {
    /// Prefixes routed in Cilium's table 202.
    pub prefixes: BTreeSet<Ipv4Net>,
}

/// The map entries that these VTEPs need.
#[must_use]
pub fn entries(vteps: &[Vtep]) -> BTreeMap<Ipv4Net, VtepValue> {
    vteps.iter().map(|vtep| (vtep.cidr, VtepValue::new(vtep.mac, vtep.endpoint))).collect()
}

/// Splits `wanted` into the entries that fit into the map beside `reserved` other entries, and the CIDRs over capacity. Entries that are
/// `known` fit first: they are in the map already, or Cilium writes them anyway.
#[must_use]
pub fn fit(
    wanted: BTreeMap<Ipv4Net, VtepValue>,
    known: impl Fn(Ipv4Net) -> bool,
    reserved: usize,
    capacity: usize,
) -> (BTreeMap<Ipv4Net, VtepValue>, BTreeSet<Ipv4Net>) {
    let room = capacity.saturating_sub(reserved);
    let mut order: Vec<_> = wanted.keys().copied().collect();
    order.sort_by_key(|&cidr| !known(cidr));
    let over_capacity: BTreeSet<_> = order.into_iter().skip(room).collect();
    (wanted.into_iter().filter(|(cidr, _)| !over_capacity.contains(cidr)).collect(), over_capacity)
}

/// The routes and rules that these VTEPs need, given the routes that Cilium has.
///
/// A CIDR with a route of Cilium's needs only Cilium's rule. Any other needs a route and a rule of ours.
#[must_use]
pub fn host_routes(
    vteps: &[Vtep],
    cilium: &CiliumRoutes,
    route: HostRoute,
) -> (BTreeMap<Ipv4Net, HostRoute>, BTreeSet<HostRule>) {
    let mut routes = BTreeMap::new();
    let mut rules = BTreeSet::new();
    for &Vtep { cidr, .. } in vteps {
        if cilium.prefixes.contains(&cidr) {
            rules.insert(HostRule { cidr, table: Table::Cilium });
        } else {
            routes.insert(cidr, route);
            rules.insert(HostRule { cidr, table: Table::Ours(route.table) });
        }
    }
    (routes, rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_over_capacity_are_excluded() {
        let cidr = |n: u8| Ipv4Net::new([10, 1, n, 0].into(), 24).expect("24 is a prefix length");
        let value = VtepValue::new([2; 6].into(), [10, 169, 72, 34].into());
        let wanted: BTreeMap<_, _> = (1..=6).map(|n| (cidr(n), value)).collect();
        let over_capacity = |known: &[u8], reserved| {
            let known: BTreeSet<_> = known.iter().map(|&n| cidr(n)).collect();
            let (fitting, over_capacity) = fit(wanted.clone(), |cidr| known.contains(&cidr), reserved, 8);
            assert_eq!(fitting.len() + over_capacity.len(), wanted.len());
            over_capacity
        };
        assert!(over_capacity(&[], 2).is_empty());
        assert_eq!(over_capacity(&[], 3), [cidr(6)].into());
        assert_eq!(over_capacity(&[5, 6], 4), [cidr(3), cidr(4)].into());
        assert_eq!(over_capacity(&[], 9).len(), 6);
    }
}
