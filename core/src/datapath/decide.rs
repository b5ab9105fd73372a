//! What the kernel should hold, and what to do about the difference. A function of values.
//!
//! The configuration says what is wanted; the node's facts, the layout of the map and the journal say what of it may be written, and
//! what may be removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{
    abi::{IpcacheEntry, VtepValue},
    ipcache::Owned,
    layout::Model,
    plan::{Keep, KeepEntries, Op, plan},
    records::{Owned as OwnedRoutes, PROTOCOL, Records},
    routes::{Found, HostRoutes as FoundRoutes},
    settings::{HostRoutes, IpcacheMode, Settings},
    state::{self, HostRoute, HostRule, State},
};
use crate::{
    config::{
        spec::Vtep,
        view::{Truth, View},
    },
    node::{
        devices::TUNNEL_OVERHEAD,
        facts::Facts,
        running::{Running, RunningConfig},
        version::CiliumVersion,
    },
};

/// What a pass is about.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub settings: &'a Settings,
    pub view: &'a View,
    pub facts: &'a Facts,
    /// What this agent put into the ipcache.
    pub owned: &'a Owned,
    /// What this agent added to routes and rules.
    pub records: &'a Records,
    /// VTEPs whose routes and rules were taken back after the API server was lost: none is added again.
    pub refused: &'a BTreeSet<Ipv4Net>,
}

/// What the kernel holds.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub model: Model,
    /// Entries that the VTEP map can hold.
    pub capacity: usize,
    pub entries: BTreeMap<Ipv4Net, VtepValue>,
    /// `None` where there is no ipcache to read.
    pub ipcache: Option<IpcacheFound>,
    /// There is one, and this process may not open it.
    pub ipcache_denied: bool,
    /// `None` where they were not looked at.
    pub routes: Option<FoundRoutes>,
}

/// What of the ipcache concerns VTEPs.
#[derive(Clone, Debug, Default)]
pub struct IpcacheFound {
    /// VTEP CIDR → what it resolves to as a whole.
    pub resolved: BTreeMap<Ipv4Net, IpcacheEntry>,
    /// Those of our entries that are still as we put them.
    pub ours: BTreeMap<Ipv4Net, Ipv4Addr>,
}

/// What to do, and what cannot be done.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub plan: Vec<Op>,
    /// What the plan aims at, and what it spares.
    pub desired: State,
    pub keep: Keep,
    /// Operations on the VTEP map are only told: the map is somebody else's.
    pub verify_only: bool,
    /// VTEPs that the map has no room for.
    pub left_out: BTreeSet<Ipv4Net>,
    /// VTEPs whose CIDR the ipcache gives to something else, and to what.
    pub taken: BTreeMap<Ipv4Net, IpcacheEntry>,
    pub route_problem: Option<RouteConflict>,
    /// Routes and rules that are just as wanted and carry our mark, but are not on record: the journal was lost.
    pub adopt: Vec<Op>,
    /// Routes in our table that are somebody else's.
    pub foreign_routes: Vec<Found>,
}

/// Why a host route cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteConflict {
    #[error("no host routes: the device cilium_host is not there")]
    NoCiliumHost,
    #[error("no host route: not this agent's and in the way: {}; remove it, or choose another table with --route-table", .0.join(", "))]
    Foreign(Vec<String>),
}

/// The operations that bring the kernel to what the configuration says, as far as they may be done.
#[must_use]
pub fn decide(inputs: Inputs<'_>, kernel: &Kernel) -> Decision {
    let Inputs { view, facts, .. } = inputs;
    let mut decision = Decision { verify_only: kernel.model == Model::VtepLpm, ..Decision::default() };
    if view.truth == Truth::None {
        // Whoever decides about VTEPs here, it is not us; a route of ours that cuts the node off goes all the same.
        decision.keep = Keep::all();
        decision.plan = withdraw(inputs, kernel, &(&view.vetoed | inputs.refused));
        return decision;
    }
    let mut vteps = view.in_force.as_ref().map(|spec| spec.vteps.clone()).unwrap_or_default();
    if kernel.ipcache.is_some() || kernel.ipcache_denied {
        // It came after the configuration: what it has inside is known in a moment, or not at all.
        vteps.retain(|vtep| !view.unlooked.contains(&vtep.cidr));
    }
    let vteps = vteps.as_slice();
    decision.keep = kept(view, facts);
    let mut actual = State { entries: kernel.entries.clone(), ..State::default() };
    if decision.verify_only {
        decision.keep.entries = KeepEntries::All;
    }
    if matches!(kernel.model, Model::VtepHash | Model::VtepLpm) {
        (decision.desired.entries, decision.left_out) =
            room_for(vteps, &actual.entries, &decision.keep.entries, facts, kernel.capacity);
    }
    decide_ipcache(inputs, vteps, kernel, &mut actual, &mut decision);
    let elsewhere = decide_routes(inputs, vteps, kernel, &mut actual, &mut decision);
    decision.plan = plan(&actual, &decision.desired, &decision.keep, kernel.capacity);
    decision.plan.extend(elsewhere);
    decision
}

/// What is not stale although nothing in force names it: the document mentions it, if only in error, it was vetoed, or Cilium was started
/// with it and would write it again. With VTEP disabled the map is Cilium's alone.
fn kept(view: &View, facts: &Facts) -> Keep {
    let enabled = view.in_force.as_ref().is_some_and(|spec| spec.enabled);
    let running = facts.running.config().into_iter().flat_map(RunningConfig::networks);
    let named = view.mentioned.iter().chain(&view.vetoed).map(Ipv4Net::network);
    let entries = match &facts.running {
        // It may name any of them.
        Running::Unreadable => KeepEntries::All,
        Running::Absent | Running::Known(_) if !enabled => KeepEntries::All,
        Running::Absent | Running::Known(_) => KeepEntries::Networks(named.chain(running).collect()),
    };
    // A route to what the node needs otherwise goes at once.
    let cidrs = if enabled { &view.mentioned - &view.vetoed } else { BTreeSet::new() };
    Keep { entries, cidrs }
}

/// The entries that fit into the map beside what stays there and what Cilium will write: were the map full, Cilium's own sync would
/// fail, and its routes with it.
fn room_for(
    vteps: &[Vtep],
    actual: &BTreeMap<Ipv4Net, VtepValue>,
    keep: &KeepEntries,
    facts: &Facts,
    capacity: usize,
) -> (BTreeMap<Ipv4Net, VtepValue>, BTreeSet<Ipv4Net>) {
    let wanted = state::entries(vteps);
    let is_wanted = |network: &Ipv4Addr| wanted.keys().any(|cidr| cidr.addr() == *network);
    let running: BTreeSet<_> = facts.running.config().into_iter().flat_map(RunningConfig::networks).collect();
    let staying = actual.keys().filter(|cidr| keep.contains(**cidr)).map(Ipv4Net::addr);
    let reserved = running.iter().copied().chain(staying).filter(|network| !is_wanted(network));
    let reserved = reserved.collect::<BTreeSet<_>>().len();
    let is_known = |cidr: Ipv4Net| running.contains(&cidr.network()) || actual.contains_key(&cidr);
    state::fit(wanted, is_known, reserved, capacity)
}

/// Whether this agent writes VTEPs into the ipcache.
#[must_use]
pub fn writes_ipcache(mode: IpcacheMode, model: Model, facts: &Facts) -> bool {
    match mode {
        IpcacheMode::On => true,
        IpcacheMode::Auto => model == Model::None && ipcache_alone(facts),
        IpcacheMode::Off => false,
    }
}

/// This Cilium has VTEPs in the ipcache and nowhere else. One that has a VTEP map for them would take an entry there for a node: so
/// it has to be known.
fn ipcache_alone(facts: &Facts) -> bool {
    let old = facts.version.is_some_and(|version| version <= CiliumVersion::new(1, 12, 0));
    let disabled = facts.running.config().is_some_and(|running| running.vtep_enabled == Some(false));
    old && !disabled
}

fn decide_ipcache(
    Inputs { settings, facts, owned, .. }: Inputs<'_>,
    vteps: &[Vtep],
    kernel: &Kernel,
    actual: &mut State,
    decision: &mut Decision,
) {
    let Some(IpcacheFound { resolved, ours }) = &kernel.ipcache else { return };
    let written = writes_ipcache(settings.ipcache, kernel.model, facts);
    // What is off is left as it is, also what was written when it was on.
    let manages = settings.ipcache != IpcacheMode::Off;
    if manages {
        actual.ipcache.clone_from(ours);
    }
    for &Vtep { cidr, endpoint, .. } in vteps {
        let found = resolved.get(&cidr);
        let is_ours = |entry: &&IpcacheEntry| {
            entry.endpoint.is_none_or(|found| found == endpoint || (manages && owned.has(cidr, found)))
        };
        if let Some(entry) = found.filter(|entry| !entry.is_outside() || !is_ours(entry)) {
            decision.taken.insert(cidr, *entry);
        } else if written && found.is_none_or(|entry| entry.is_world()) {
            decision.desired.ipcache.insert(cidr, endpoint);
        }
    }
}

/// Takes back what is ours and leads to these CIDRs.
fn withdraw(Inputs { settings, records, .. }: Inputs<'_>, kernel: &Kernel, cidrs: &BTreeSet<Ipv4Net>) -> Vec<Op> {
    let Some(found) = kernel.routes.as_ref().filter(|_| settings.host_routes != HostRoutes::Off) else {
        return Vec::new();
    };
    let OwnedRoutes { routes, rules, .. } = records.sort(&found.routes, &found.rules, settings.route_table);
    let actual = State {
        routes: routes.into_iter().filter(|(cidr, _)| cidrs.contains(cidr)).collect(),
        rules: rules.into_iter().filter(|rule| cidrs.contains(&rule.cidr)).collect(),
        ..State::default()
    };
    plan(&actual, &State::default(), &Keep::default(), kernel.capacity)
}

/// Gives what is left to remove in tables that are no longer used.
fn decide_routes(
    Inputs { settings, facts, records, refused, .. }: Inputs<'_>,
    vteps: &[Vtep],
    kernel: &Kernel,
    actual: &mut State,
    decision: &mut Decision,
) -> Vec<Op> {
    let Some(found) = kernel.routes.as_ref().filter(|_| settings.host_routes != HostRoutes::Off) else {
        return Vec::new();
    };
    let owned = records.sort(&found.routes, &found.rules, settings.route_table);
    let OwnedRoutes { routes, rules, mut elsewhere, foreign_routes, foreign_rules, restored } = owned;
    elsewhere.extend(restored.into_iter().filter(|rule| refused.contains(&rule.cidr)).map(Op::DeleteRule));
    (actual.routes, actual.rules) = (routes, rules);
    decision.foreign_routes = foreign_routes;
    let wanted: Vec<_> = vteps.iter().filter(|vtep| !refused.contains(&vtep.cidr)).copied().collect();
    decision.keep.cidrs = &decision.keep.cidrs - refused;
    if wanted.is_empty() {
        return elsewhere;
    }
    let Some(route) = host_route(facts, settings.route_table) else {
        // The kernel removes routes with their device: there is nothing to compare with, so nothing is changed.
        actual.routes.clear();
        actual.rules.clear();
        decision.route_problem = Some(RouteConflict::NoCiliumHost);
        return Vec::new();
    };
    let (mut routes, mut rules) = state::host_routes(&wanted, &found.cilium, route);
    decision.adopt = adoptable(&routes, &rules, &decision.foreign_routes, &foreign_rules);
    // A rule just like ours does the same, and stays whose it is.
    rules.retain(|rule| !foreign_rules.contains_key(rule));
    let mut conflicts = BTreeMap::new();
    for foreign in decision.foreign_routes.iter().filter(|foreign| foreign.in_the_way) {
        if routes.remove(&foreign.cidr).is_some_and(|wanted| wanted != foreign.route) {
            conflicts.insert(foreign.cidr, foreign.to_string());
        }
    }
    // No rule of ours leads to somebody else's route.
    rules.retain(|rule| !conflicts.contains_key(&rule.cidr));
    decision.keep.cidrs.retain(|cidr| !conflicts.contains_key(cidr));
    if !conflicts.is_empty() {
        decision.route_problem = Some(RouteConflict::Foreign(conflicts.into_values().collect()));
    }
    (decision.desired.routes, decision.desired.rules) = (routes, rules);
    elsewhere
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

#[cfg(test)]
mod tests;
