//! One look at the datapath: what the kernel holds, what it should hold, and the operations in between.

use std::{collections::BTreeSet, path::PathBuf};

use rtnetlink::Handle;

use super::{
    maps::{MapError, VtepMap},
    plan::{Keep, Op, plan},
    routes::{self, RouteError},
    state::{self, HostRoute, State},
};
use crate::{
    config::{spec::Vtep, view::View},
    node::{
        cilium::{Running, RunningConfig},
        devices::TUNNEL_OVERHEAD,
        facts::Facts,
    },
};

/// What of the kernel to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The VTEP map: a handful of system calls.
    Map,
    /// The map, routes and rules.
    All,
}

/// Whether the agent adds host routes to VTEPs that Cilium does not route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRoutes {
    Auto,
    /// As `auto`: a CIDR that Cilium routes needs no second route.
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where bpffs is mounted.
    pub bpffs: PathBuf,
    pub host_routes: HostRoutes,
}

/// The layout that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// `cilium_vtep_map` as a hash (Cilium 1.12 and newer).
    VtepHash,
    /// Nothing is pinned.
    None,
    /// The kernel does not let us open or read it.
    Unreadable,
    /// Something that this agent does not know: it writes nothing.
    Unsupported,
}

/// One look.
pub struct Survey {
    pub model: Model,
    /// The opened map, to apply the plan to.
    pub map: Option<VtepMap>,
    pub plan: Vec<Op>,
    /// Why there is no map to write to.
    pub map_problem: Option<MapError>,
    /// Why routes could not be compared; always `None` when they were not looked at.
    pub route_problem: Option<RouteProblem>,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteProblem {
    #[error(transparent)]
    Read(#[from] RouteError),
    #[error("no host routes: the device cilium_host is not there")]
    NoCiliumHost,
}

/// Looks, and plans; changes nothing.
pub async fn survey(settings: &Settings, netlink: &Handle, view: &View, facts: &Facts, scope: Scope) -> Survey {
    let vteps = view.in_force.as_ref().map(|spec| spec.vteps.as_slice()).unwrap_or_default();
    let mut actual = State::default();
    let mut desired = State::default();
    let opened = VtepMap::open(&settings.bpffs).and_then(|map| map.read().map(|entries| (map, entries)));
    let (model, map, map_problem) = match opened {
        Ok((map, entries)) => {
            actual.entries = entries;
            desired.entries = state::entries(vteps);
            (Model::VtepHash, Some(map), None)
        }
        Err(error @ MapError::UnknownLayout { .. }) => (Model::Unsupported, None, Some(error)),
        Err(error @ MapError::Absent { .. }) => (Model::None, None, Some(error)),
        Err(error) => (Model::Unreadable, None, Some(error)),
    };
    let keep = kept(view, facts, &actual);
    let route_problem = match scope {
        Scope::All if settings.host_routes != HostRoutes::Off => {
            plan_routes(netlink, vteps, facts, &mut actual, &mut desired).await.err()
        }
        Scope::All | Scope::Map => None,
    };
    Survey { model, map, plan: plan(&actual, &desired, &keep), map_problem, route_problem }
}

/// Entries that are not stale although nothing in force names them: the document mentions them, if only in error, or Cilium
/// was started with them and would write them again. With VTEP disabled the map is Cilium's alone.
fn kept(view: &View, facts: &Facts, actual: &State) -> Keep {
    if view.in_force.as_ref().is_none_or(|spec| !spec.enabled) {
        return Keep { entries: actual.entries.keys().copied().collect(), routes: BTreeSet::new() };
    }
    if facts.running == Running::Unreadable {
        // It may name any of them.
        return Keep { entries: actual.entries.keys().copied().collect(), routes: view.mentioned.clone() };
    }
    let running = facts.running.config().into_iter().flat_map(RunningConfig::networks);
    let named: BTreeSet<_> = view.mentioned.iter().map(|cidr| cidr.network()).chain(running).collect();
    let entries = actual.entries.keys().copied().filter(|key| named.contains(&key.network())).collect();
    Keep { entries, routes: view.mentioned.clone() }
}

async fn plan_routes(
    netlink: &Handle,
    vteps: &[Vtep],
    facts: &Facts,
    actual: &mut State,
    desired: &mut State,
) -> Result<(), RouteProblem> {
    let found = routes::read(netlink).await?;
    actual.routes = found.ours;
    actual.rules = found.rules;
    if vteps.is_empty() {
        return Ok(());
    }
    let Some(route) = host_route(facts) else {
        // The kernel removes routes with their device: there is nothing to compare with, so nothing is changed.
        actual.routes.clear();
        actual.rules.clear();
        return Err(RouteProblem::NoCiliumHost);
    };
    (desired.routes, desired.rules) = state::host_routes(vteps, &found.cilium, route);
    Ok(())
}

/// The smallest underlay decides how large an inner packet may be.
fn host_route(facts: &Facts) -> Option<HostRoute> {
    let host = facts.cilium.host.as_ref()?;
    let underlay = facts.underlay.values().map(|underlay| underlay.device.mtu).min().unwrap_or(host.mtu);
    Some(HostRoute { device: host.index, mtu: underlay.saturating_sub(TUNNEL_OVERHEAD) })
}
