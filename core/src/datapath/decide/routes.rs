//! What routes and rules there should be.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{Inputs, kept};
use crate::{
    config::view::Truth,
    datapath::{
        plan::{Keep, Op, plan},
        records::{Owned, PROTOCOL, Records},
        routes::{Found, HostRoutes},
        state::{self, HostRoute, HostRule, State},
    },
    node::{devices::TUNNEL_OVERHEAD, facts::Facts},
};

/// What to do about routes and rules, and what cannot be done.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub plan: Vec<Op>,
    /// The state that the plan leads to, and what it spares.
    pub desired: State,
    pub keep: Keep,
    pub conflict: Option<RouteConflict>,
    /// Routes and rules that are just as wanted and carry our mark, but are not on record: the journal was lost.
    pub adopt: Vec<Op>,
    /// Routes in our table that are somebody else's.
    pub foreign: Vec<Found>,
}

/// Why a host route cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteConflict {
    #[error("no host routes: the device cilium_host is not there")]
    NoCiliumHost,
    #[error("no host route: not this agent's and in the way: {}; remove it, or choose another table with --route-table", .0.join(", "))]
    Foreign(Vec<String>),
}

/// What this agent did to routes and rules before.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// What it added.
    pub records: &'a Records,
    /// VTEPs whose routes and rules were taken back after the API server was lost: none is added again.
    pub refused: &'a BTreeSet<Ipv4Net>,
}

/// The operations that bring routes and rules to what the configuration says, as far as they may be carried out. `ipcache_seen`: there is
/// an ipcache, readable or not.
#[must_use]
pub fn decide(inputs: Inputs<'_>, past: Past<'_>, found: &HostRoutes, ipcache_seen: bool) -> Decision {
    let Inputs { view, facts, settings } = inputs;
    let Past { records, refused } = past;
    let table = settings.route_table;
    if view.truth == Truth::None {
        // Somebody else decides about VTEPs here; a route of ours that cuts the node off goes all the same.
        let plan = withdraw(records, found, table, &(&view.vetoed | refused));
        return Decision { keep: Keep::all(), plan, ..Decision::default() };
    }
    let mut decision = Decision { keep: kept(view, facts), ..Decision::default() };
    let owned = records.sort(&found.routes, &found.rules, table);
    let Owned { routes, rules, mut elsewhere, foreign_routes, foreign_rules, restored } = owned;
    elsewhere.extend(restored.into_iter().filter(|rule| refused.contains(&rule.cidr)).map(Op::DeleteRule));
    let actual = State { routes, rules, ..State::default() };
    decision.foreign = foreign_routes;
    let mut wanted = inputs.vteps(ipcache_seen);
    wanted.retain(|vtep| !refused.contains(&vtep.cidr));
    decision.keep.cidrs = &decision.keep.cidrs - refused;
    if !wanted.is_empty() {
        let Some(route) = host_route(facts, table) else {
            // The kernel removes routes with their device: there is nothing to compare with, so nothing is changed.
            return Decision { conflict: Some(RouteConflict::NoCiliumHost), ..decision };
        };
        let (routes, rules) = state::host_routes(&wanted, &found.cilium, route);
        decision.adopt = adoptable(&routes, &rules, &decision.foreign, &foreign_rules);
        (decision.desired.routes, decision.desired.rules) = (routes, rules);
        // A rule just like ours does the same, and stays whose it is.
        decision.desired.rules.retain(|rule| !foreign_rules.contains_key(rule));
        decision.give_way();
    }
    decision.plan = plan(&actual, &decision.desired, &decision.keep, 0);
    decision.plan.extend(elsewhere);
    decision
}

impl Decision {
    /// Takes out what somebody else's routes keep out.
    fn give_way(&mut self) {
        let mut conflicts = BTreeMap::new();
        for foreign in self.foreign.iter().filter(|foreign| foreign.in_the_way) {
            if self.desired.routes.remove(&foreign.cidr).is_some_and(|wanted| wanted != foreign.route) {
                conflicts.insert(foreign.cidr, foreign.to_string());
            }
        }
        // No rule of ours leads to somebody else's route.
        self.desired.rules.retain(|rule| !conflicts.contains_key(&rule.cidr));
        self.keep.cidrs.retain(|cidr| !conflicts.contains_key(cidr));
        if !conflicts.is_empty() {
            self.conflict = Some(RouteConflict::Foreign(conflicts.into_values().collect()));
        }
    }
}

/// Takes back what is ours and leads to these CIDRs.
fn withdraw(records: &Records, found: &HostRoutes, table: u32, cidrs: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let Owned { routes, rules, .. } = records.sort(&found.routes, &found.rules, table);
    let actual = State {
        routes: routes.into_iter().filter(|(cidr, _)| cidrs.contains(cidr)).collect(),
        rules: rules.into_iter().filter(|rule| cidrs.contains(&rule.cidr)).collect(),
        ..State::default()
    };
    plan(&actual, &State::default(), &Keep::default(), 0)
}

/// What an agent whose journal was lost takes for its own: with our mark, and just as it would make it.
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

/// The smallest underlay decides how large an inner packet may be.
fn host_route(facts: &Facts, table: u32) -> Option<HostRoute> {
    let host = facts.cilium.host.as_ref()?;
    let underlay = facts.underlay.values().map(|underlay| underlay.device.mtu).min().unwrap_or(host.mtu);
    Some(HostRoute { device: host.index, mtu: underlay.saturating_sub(TUNNEL_OVERHEAD), table })
}
