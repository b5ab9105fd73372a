//! What the kernel holds, or should hold: one type for both, so that a plan is a difference and verifying is planning again.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::abi::{VtepKey, VtepValue};
use crate::config::spec::Vtep;

/// Everything this agent programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// `cilium_vtep_map`, whole: everything in it comes from a configuration.
    pub entries: BTreeMap<VtepKey, VtepValue>,
    /// Our routing table: VTEP CIDR → how it leaves the node.
    pub routes: BTreeMap<Ipv4Net, HostRoute>,
    /// Routing rules that send a VTEP CIDR to our table or to Cilium's.
    pub rules: BTreeSet<HostRule>,
}

/// A route `CIDR dev <cilium_host> scope link mtu <mtu>` in our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Interface index of `cilium_host`.
    pub device: u32,
    /// Bytes of the inner packet.
    pub mtu: u32,
}

/// A rule `to CIDR lookup <table>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRule {
    pub cidr: Ipv4Net,
    pub table: Table,
}

/// Whose routing table a rule points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Table 2021, priority 113: ours to add and to remove.
    Ours,
    /// Table 202, priority 112: Cilium's. A missing rule is restored where Cilium's route is there; nothing is ever removed.
    Cilium,
}

impl Table {
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Ours => 2021,
            Self::Cilium => 202,
        }
    }

    /// Priority of the rules that point to it.
    #[must_use]
    pub const fn priority(self) -> u32 {
        match self {
            Self::Ours => 113,
            Self::Cilium => 112,
        }
    }
}

/// What Cilium itself holds about host routes; read, never planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumRoutes {
    /// Prefixes routed in Cilium's table 202.
    pub prefixes: BTreeSet<Ipv4Net>,
}

/// The map entries that these VTEPs need.
#[must_use]
pub fn entries(vteps: &[Vtep]) -> BTreeMap<VtepKey, VtepValue> {
    vteps.iter().map(|vtep| (VtepKey::new(vtep.cidr), VtepValue::new(vtep.mac, vtep.endpoint))).collect()
}

/// The routes and rules that these VTEPs need, given what Cilium has routed itself.
///
/// A CIDR that Cilium routes needs Cilium's rule and nothing of ours; any other needs a route and a rule of ours.
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
            rules.insert(HostRule { cidr, table: Table::Ours });
        }
    }
    (routes, rules)
}
