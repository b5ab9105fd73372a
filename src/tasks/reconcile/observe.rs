//! One look at the datapath: what the kernel holds, and what `decide` makes of it.

use std::collections::BTreeSet;

use ipnet::ipv4_mask_to_prefix;
use rtnetlink::Handle;
use vtep_core::datapath::{
    decide::{Decision, Inputs, IpcacheFound, Kernel, RouteConflict, decide, writes_ipcache},
    layout::Model,
    settings::HostRoutes,
};

use crate::kernel::{
    ipcache::Ipcache,
    maps::MapError,
    routes::{self, RouteError},
    vtep_map::VtepMap,
};

/// What of the kernel to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The maps: a handful of system calls.
    Map,
    /// The map, routes and rules.
    All,
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
    pub decision: Decision,
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
    #[error(transparent)]
    Conflict(#[from] RouteConflict),
}

/// Looks, and plans; changes nothing.
pub async fn survey(inputs: Inputs<'_>, netlink: &Handle, scope: Scope) -> Survey {
    let Inputs { settings, view, facts, owned, records, .. } = inputs;
    let spec = view.in_force.as_ref();
    let mut kernel = Kernel {
        model: Model::None,
        capacity: 0,
        entries: Default::default(),
        ipcache: None,
        ipcache_denied: false,
        routes: None,
    };
    let mut maps = Maps::default();

    let mask_length = spec.and_then(|spec| ipv4_mask_to_prefix(spec.mask).ok()).unwrap_or(32);
    let opened = VtepMap::open(&settings.bpffs).and_then(|map| map.read(mask_length).map(|entries| (map, entries)));
    let mut map_problem = match opened {
        Ok((map, entries)) => {
            (kernel.model, kernel.capacity, kernel.entries) = (map.model(), map.capacity, entries);
            maps.vteps = Some(map);
            None
        }
        Err(error) => {
            kernel.model = model_of(&error);
            Some(error)
        }
    };

    let written = writes_ipcache(settings.ipcache, kernel.model, facts);
    let cidrs: BTreeSet<_> = spec.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
    let opened = Ipcache::open(&settings.bpffs).and_then(|ipcache| {
        let resolved = cidrs.iter().filter_map(|&cidr| ipcache.resolve(cidr).map(|e| Some((cidr, e?))).transpose());
        let found = IpcacheFound { resolved: resolved.collect::<Result<_, _>>()?, ours: ipcache.of(owned)? };
        Ok((ipcache, found))
    });
    let ipcache_problem = match opened {
        Ok((ipcache, found)) => {
            (maps.ipcache, kernel.ipcache) = (Some(ipcache), Some(found));
            None
        }
        Err(MapError::Absent { .. }) if !written => None,
        Err(error) => {
            kernel.ipcache_denied = matches!(error, MapError::NotAllowed { .. });
            Some(error)
        }
    };

    let mut route_problem = None;
    if scope == Scope::All && settings.host_routes != HostRoutes::Off {
        let mut tables = records.tables();
        tables.insert(settings.route_table);
        match routes::read(netlink, &tables).await {
            Ok(found) => kernel.routes = Some(found),
            Err(error) => route_problem = Some(error.into()),
        }
    }
    let decision = decide(inputs, &kernel);
    let route_problem = route_problem.or(decision.route_problem.clone().map(Into::into));
    let mut model = kernel.model;
    if written && model == Model::None && maps.ipcache.is_some() {
        (model, map_problem) = (Model::Ipcache, None);
    }
    Survey { model, maps, decision, map_problem, ipcache_problem, route_problem }
}

/// What there is instead of a map that could be read.
fn model_of(error: &MapError) -> Model {
    match error {
        MapError::UnknownLayout { .. } => Model::Unsupported,
        MapError::Absent { .. } => Model::None,
        MapError::NoBpffs { .. }
        | MapError::NotAMap { .. }
        | MapError::NotAllowed { .. }
        | MapError::Bpffs { .. }
        | MapError::Open { .. }
        | MapError::Read { .. }
        | MapError::Write { .. }
        | MapError::Delete { .. } => Model::Unreadable,
    }
}
