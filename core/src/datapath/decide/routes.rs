//! The desired routes and rules.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{Inputs, retained};
use crate::{
    config::truth::Truth,
    datapath::{
        plan::{Op, Retain, plan},
        records::{Owned, PROTOCOL, Records},
        routes::{Found, HostRoutes},
        state::{self, HostRoute, HostRule, State},
    },
    node::{devices::TUNNEL_OVERHEAD, facts::Facts},
};

/// The operations for routes and rules, and the obstacles.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub plan: Vec<Op>,
    /// The state that the plan leads to, and the routes and rules that it leaves alone.
    pub desired: State,
    pub retain: Retain,
    pub conflict: Option<RouteConflict>,
    /// Routes and rules that are exactly as desired and carry our protocol, but are not on record, because the journal was lost.
    pub adopt: Vec<Op>,
    /// Foreign routes in our table.
    pub foreign: Vec<Found>,
}

/// Why a host route cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteConflict {
    #[error("no host routes: the device cilium_host does not exist")]
    NoCiliumHost,
    #[error("no host route: a foreign route is in the way: {}; remove it, or choose another table with --route-table", .0.join(", "))]
    Foreign(Vec<String>),
}

/// The earlier changes of this agent to routes and rules.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// The routes and rules that it added.
    pub records: &'a Records,
    /// VTEPs whose routes and rules were withdrawn after the loss of the API server: none of them is added again.
    pub refused: &'a BTreeSet<Ipv4Net>,
}

/// The operations that bring routes and rules to the configured state, as far as they are permitted. `ipcache_seen`: an ipcache exists,
/// readable or not.
#[must_use]
pub fn decide(inputs: Inputs<'_>, past: Past<'_>, found: &HostRoutes, ipcache_seen: bool) -> Decision {
    let Inputs { view, facts, settings, .. } = inputs;
    let Past { records, refused } = past;
    let table = settings.route_table;
    if view.truth == Truth::None {
        // Somebody else decides the VTEPs here, but our routes that cut the node off must go all the same.
        let plan = withdraw(records, found, table, &(&view.vetoed | refused));
        return Decision { retain: Retain::all(), plan, ..Decision::default() };
    }
    let mut decision = Decision { retain: retained(view, facts), ..Decision::default() };
    let owned = records.sort(&found.routes, &found.rules, table);
    let Owned { routes, rules, mut elsewhere, foreign_routes, foreign_rules, restored } = owned;
    elsewhere.extend(restored.into_iter().filter(|rule| refused.contains(&rule.cidr)).map(Op::DeleteRule));
    let actual = State { routes, rules, ..State::default() };
    decision.foreign = foreign_routes;
    let mut wanted = inputs.vteps(ipcache_seen);
    // The routes of a VTEP that is only observed stay as they are: its CIDR is retained.
    wanted.retain(|vtep| !refused.contains(&vtep.cidr) && !view.observed_only.contains(&vtep.cidr));
    decision.retain.cidrs = &decision.retain.cidrs - refused;
    if !wanted.is_empty() {
        let Some(route) = host_route(facts, table) else {
            // The kernel removes routes together with their device: nothing is left to compare with, so nothing is changed.
            return Decision { conflict: Some(RouteConflict::NoCiliumHost), ..decision };
        };
        let (routes, rules) = state::host_routes(&wanted, &found.cilium, route);
        decision.adopt = adoptable(&routes, &rules, &decision.foreign, &foreign_rules);
        (decision.desired.routes, decision.desired.rules) = (routes, rules);
        // A foreign rule that is identical to ours has the same effect. It remains, and remains foreign.
        decision.desired.rules.retain(|rule| !foreign_rules.contains_key(rule));
        decision.give_way();
    }
    decision.plan = plan(&actual, &decision.desired, &decision.retain, 0);
    decision.plan.extend(elsewhere);
    decision
}

impl Decision {
    /// Drops desired routes that foreign routes prevent.
    fn give_way(&mut self) {
        let mut conflicts = BTreeMap::new();
        for foreign in self.foreign.iter().filter(|foreign| foreign.in_the_way) {
            if self.desired.routes.remove(&foreign.cidr).is_some_and(|wanted| wanted != foreign.route) {
                conflicts.insert(foreign.cidr, foreign.to_string());
            }
        }
        // No rule of ours may lead to a foreign route.
        self.desired.rules.retain(|rule| !conflicts.contains_key(&rule.cidr));
        self.retain.cidrs.retain(|cidr| !conflicts.contains_key(cidr));
        if !conflicts.is_empty() {
            self.conflict = Some(RouteConflict::Foreign(conflicts.into_values().collect()));
        }
    }
}

/// Removes our routes and rules to these CIDRs.
fn withdraw(records: &Records, found: &HostRoutes, table: u32, cidrs: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let Owned { routes, rules, .. } = records.sort(&found.routes, &found.rules, table);
    let actual = State {
        routes: routes.into_iter().filter(|(cidr, _)| cidrs.contains(cidr)).collect(),
        rules: rules.into_iter().filter(|rule| cidrs.contains(&rule.cidr)).collect(),
        ..State::default()
    };
    plan(&actual, &State::default(), &Retain::default(), 0)
}

/// The routes and rules that an agent adopts after the journal was lost: they carry our protocol and are exactly as it would make them.
fn adoptable(
    routes: &BTreeMap<Ipv4Net, HostRoute>,
    rules: &BTreeSet<HostRule>,
    foreign_routes: &[Found],
    foreign_rules: &BTreeMap<HostRule, u8>,
) -> Vec<Op> {
    let route =
        |found: &&Found| found.like_ours && found.protocol == PROTOCOL && routes.get(&found.cidr) == Some(&found.route);
    let routes = foreign_routes.iter().filter(route);
    let routes = routes.map(|found| Op::PutRoute { cidr: found.cidr, found: None, route: found.route });
    let rules = rules.iter().filter(|rule| foreign_rules.get(rule) == Some(&PROTOCOL)).map(|rule| Op::AddRule(*rule));
    routes.chain(rules).collect()
}

/// Our route. The smallest MTU of all underlay devices limits the inner packet.
fn host_route(facts: &Facts, table: u32) -> Option<HostRoute> {
    let host = facts.cilium.host.as_ref()?;
    let underlay = facts.underlay.values().map(|underlay| underlay.device.mtu).min().unwrap_or(host.mtu);
    Some(HostRoute { device: host.index, mtu: underlay.saturating_sub(TUNNEL_OVERHEAD), table })
}
