//! One look at the datapath: what the kernel holds, what it should hold, and the operations in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
};

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};
use rtnetlink::Handle;

use super::{
    abi::{IpcacheEntry, VtepValue},
    ipcache::Ipcache,
    maps::MapError,
    owned::Owned,
    plan::{Keep, KeepEntries, Op, plan},
    routes::{self, RouteError},
    state::{self, HostRoute, State},
    vtep_map::VtepMap,
};
use crate::{
    config::{spec::Vtep, view::View},
    node::{
        cilium::{Running, RunningConfig},
        devices::TUNNEL_OVERHEAD,
        facts::Facts,
        version::CiliumVersion,
    },
};

/// What of the kernel to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The maps: a handful of system calls.
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

/// Whether the agent writes the ipcache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IpcacheMode {
    /// Only where the datapath knows VTEPs by nothing else (candidates of Cilium 1.12, and what is older).
    Auto,
    /// In any case.
    On,
    Off,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// Where bpffs is mounted.
    pub bpffs: PathBuf,
    pub ipcache: IpcacheMode,
    pub host_routes: HostRoutes,
}

/// The layout that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// `cilium_vtep_map` as a hash (Cilium 1.12 and newer).
    VtepHash,
    /// `cilium_vtep_map` as an LPM trie (cilium/cilium #46602).
    VtepLpm,
    /// No VTEP map: the ipcache has the VTEPs (candidates of Cilium 1.12, and what is older).
    Ipcache,
    /// Nothing is pinned.
    None,
    /// The kernel does not let us open or read it.
    Unreadable,
    /// Something that this agent does not know: it writes nothing.
    Unsupported,
}

impl Model {
    /// There is something to write to.
    #[must_use]
    pub const fn is_known(self) -> bool {
        match self {
            Self::VtepHash | Self::VtepLpm | Self::Ipcache => true,
            Self::None | Self::Unreadable | Self::Unsupported => false,
        }
    }
}

/// The map entries that a pass may touch, opened.
#[derive(Default)]
pub struct Maps {
    pub vteps: Option<VtepMap>,
    pub ipcache: Option<Ipcache>,
}

/// One look.
pub struct Survey {
    pub model: Model,
    /// To apply the plan to.
    pub maps: Maps,
    pub plan: Vec<Op>,
    /// What the plan aims at, and what it spares.
    pub aim: (State, Keep),
    /// VTEPs that the map has no room for.
    pub left_out: BTreeSet<Ipv4Net>,
    /// VTEPs whose CIDR the ipcache gives to something else, and to what.
    pub taken: BTreeMap<Ipv4Net, IpcacheEntry>,
    /// Why there is no map to write to.
    pub map_problem: Option<MapError>,
    /// Why the ipcache could not be read; it is no problem where there is none.
    pub ipcache_problem: Option<MapError>,
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

/// What a look is about.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub settings: &'a Settings,
    pub view: &'a View,
    pub facts: &'a Facts,
    /// What this agent put into the ipcache.
    pub owned: &'a Owned,
}

/// Looks, and plans; changes nothing.
pub async fn survey(about: About<'_>, netlink: &Handle, scope: Scope) -> Survey {
    let About { settings, view, facts, owned } = about;
    let spec = view.in_force.as_ref();
    let vteps = spec.map(|spec| spec.vteps.as_slice()).unwrap_or_default();
    let keep = kept(view, facts);
    let (mut actual, mut desired) = (State::default(), State::default());
    let mut left_out = BTreeSet::new();

    let mask_length = spec.and_then(|spec| ipv4_mask_to_prefix(spec.mask).ok()).unwrap_or(32);
    let opened = VtepMap::open(&settings.bpffs).and_then(|map| map.read(mask_length).map(|entries| (map, entries)));
    let (mut model, map, mut map_problem) = match opened {
        Ok((map, entries)) => {
            actual.entries = entries;
            (desired.entries, left_out) = room_for(vteps, &actual.entries, &keep.entries, facts, map.capacity);
            (map.model(), Some(map), None)
        }
        Err(error @ MapError::UnknownLayout { .. }) => (Model::Unsupported, None, Some(error)),
        Err(error @ MapError::Absent { .. }) => (Model::None, None, Some(error)),
        Err(error) => (Model::Unreadable, None, Some(error)),
    };

    let written = match settings.ipcache {
        IpcacheMode::On => true,
        IpcacheMode::Auto => model == Model::None && ipcache_alone(facts),
        IpcacheMode::Off => false,
    };
    let opened = Ipcache::open(&settings.bpffs).and_then(|ipcache| {
        // What is off is left as it is, also what was written when it was on.
        let owned = (settings.ipcache != IpcacheMode::Off).then_some(owned);
        look_into(&ipcache, vteps, owned, written).map(|look| (ipcache, look))
    });
    let (ipcache, taken, ipcache_problem) = match opened {
        Ok((ipcache, look)) => {
            (actual.ipcache, desired.ipcache) = (look.actual, look.desired);
            if written && model == Model::None {
                (model, map_problem) = (Model::Ipcache, None);
            }
            (Some(ipcache), look.taken, None)
        }
        Err(MapError::Absent { .. }) if !written => (None, BTreeMap::new(), None),
        Err(error) => (None, BTreeMap::new(), Some(error)),
    };

    let route_problem = match scope {
        Scope::All if settings.host_routes != HostRoutes::Off => {
            plan_routes(netlink, vteps, facts, &mut actual, &mut desired).await.err()
        }
        Scope::All | Scope::Map => None,
    };
    let capacity = map.as_ref().map_or(0, |map| map.capacity);
    let plan = plan(&actual, &desired, &keep, capacity);
    let maps = Maps { vteps: map, ipcache };
    Survey { model, maps, plan, aim: (desired, keep), left_out, taken, map_problem, ipcache_problem, route_problem }
}

/// Entries that are not stale although nothing in force names them: the document mentions them, if only in error, or Cilium
/// was started with them and would write them again. With VTEP disabled the map is Cilium's alone.
fn kept(view: &View, facts: &Facts) -> Keep {
    let enabled = view.in_force.as_ref().is_some_and(|spec| spec.enabled);
    let running = facts.running.config().into_iter().flat_map(RunningConfig::networks);
    let entries = match &facts.running {
        // It may name any of them.
        Running::Unreadable => KeepEntries::All,
        Running::Absent | Running::Known(_) if !enabled => KeepEntries::All,
        Running::Absent | Running::Known(_) => {
            KeepEntries::Networks(view.mentioned.iter().map(|cidr| cidr.network()).chain(running).collect())
        }
    };
    Keep { entries, cidrs: if enabled { view.mentioned.clone() } else { BTreeSet::new() } }
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

/// This Cilium has VTEPs in the ipcache and nowhere else. One that has a VTEP map for them would take an entry there for a node: so
/// it has to be known.
fn ipcache_alone(facts: &Facts) -> bool {
    let old = facts.version.is_some_and(|version| version <= CiliumVersion::new(1, 12, 0));
    let disabled = facts.running.config().is_some_and(|running| running.vtep_enabled == Some(false));
    old && !disabled
}

struct IpcacheLook {
    actual: BTreeMap<Ipv4Net, Ipv4Addr>,
    desired: BTreeMap<Ipv4Net, Ipv4Addr>,
    taken: BTreeMap<Ipv4Net, IpcacheEntry>,
}

/// A few look-ups: what the CIDRs resolve to, and which of our entries are still there.
fn look_into(ipcache: &Ipcache, vteps: &[Vtep], owned: Option<&Owned>, written: bool) -> Result<IpcacheLook, MapError> {
    let has = |prefix, endpoint| owned.is_some_and(|owned| owned.has(prefix, endpoint));
    let actual = owned.map(|owned| ipcache.of(owned)).transpose()?.unwrap_or_default();
    let mut look = IpcacheLook { actual, desired: BTreeMap::new(), taken: BTreeMap::new() };
    for &Vtep { cidr, endpoint, .. } in vteps {
        let found = ipcache.resolve(cidr)?;
        let is_ours = |entry: &IpcacheEntry| entry.endpoint.is_none_or(|e| e == endpoint || has(cidr, e));
        if let Some(entry) = found.filter(|entry| !entry.is_outside() || !is_ours(entry)) {
            look.taken.insert(cidr, entry);
        } else if written && found.is_none_or(IpcacheEntry::is_world) {
            look.desired.insert(cidr, endpoint);
        }
    }
    Ok(look)
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
