//! The desired state of the VTEP map and the ipcache.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Inputs, retained};
use crate::{
    config::{spec::Vtep, truth::Truth},
    datapath::{
        abi::{IpcacheEntry, VtepValue},
        ipcache::Owned,
        layout::Layout,
        plan::{Op, Retain, RetainEntries, plan},
        settings::IpcacheMode,
        state::{self, State},
    },
    node::{facts::Facts, running::RunningConfig, version::CiliumVersion},
    tunnel::mac_learning::mac_of,
};

/// The content of the maps.
#[derive(Clone, Debug)]
pub struct Maps {
    pub model: Layout,
    /// The number of entries that the VTEP map can hold.
    pub capacity: usize,
    pub entries: BTreeMap<Ipv4Net, VtepValue>,
    /// `None` if no ipcache is readable.
    pub ipcache: Option<IpcacheFound>,
    /// An ipcache exists, but this process may not open it.
    pub ipcache_denied: bool,
}

impl Maps {
    /// The content if no map exists.
    #[must_use]
    pub const fn none() -> Self {
        let entries = BTreeMap::new();
        Self { model: Layout::None, capacity: 0, entries, ipcache: None, ipcache_denied: false }
    }

    /// Whether an ipcache exists, readable or not.
    #[must_use]
    pub const fn has_ipcache(&self) -> bool {
        self.ipcache.is_some() || self.ipcache_denied
    }
}

/// The part of the ipcache that concerns VTEPs.
#[derive(Clone, Debug, Default)]
pub struct IpcacheFound {
    /// VTEP CIDR → the entry that the whole CIDR resolves to.
    pub resolved: BTreeMap<Ipv4Net, IpcacheEntry>,
    /// Our entries that are still as we wrote them.
    pub ours: BTreeMap<Ipv4Net, Ipv4Addr>,
}

/// The operations for the maps, and the obstacles.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub plan: Vec<Op>,
    /// The state that the plan leads to, and the entries that it leaves alone.
    pub desired: State,
    pub retain: Retain,
    /// The VTEP map belongs to somebody else: operations on it are reported, but not applied.
    pub verify_only: bool,
    /// The same for single VTEPs: [`View::observed_only`](crate::config::view::View::observed_only).
    pub observed_only: BTreeSet<Ipv4Net>,
    /// VTEPs over capacity: the map has no room for them.
    pub over_capacity: BTreeSet<Ipv4Net>,
    /// VTEPs whose CIDR the ipcache maps to something else, each with that entry.
    pub conflicts: BTreeMap<Ipv4Net, IpcacheEntry>,
}

impl Decision {
    /// Whether the operation is only reported.
    #[must_use]
    pub fn withholds(&self, op: &Op) -> bool {
        let is_observed = op.entry().is_some_and(|cidr| self.observed_only.contains(&cidr));
        is_observed || (self.verify_only && op.is_of_vtep_map())
    }
}

/// The operations that bring the maps to the configured state, as far as they are permitted. `owned`: the ipcache entries that this agent
/// wrote.
#[must_use]
pub fn decide(inputs: Inputs<'_>, owned: &Owned, found: &Maps) -> Decision {
    // Only a Cilium that reconciles custom resources makes a trie: no list may change it.
    let verify_only = found.model == Layout::VtepLpm && inputs.view.truth != Truth::Crd;
    let observed_only = inputs.view.observed_only.clone();
    let mut decision = Decision { verify_only, observed_only, ..Decision::default() };
    if inputs.view.truth == Truth::None {
        // Somebody unknown decides the VTEPs here.
        decision.retain = Retain::all();
        return decision;
    }
    let mut vteps = inputs.vteps(found.has_ipcache());
    if inputs.view.may_learn_macs() && !decision.verify_only {
        vteps.iter_mut().for_each(|vtep| vtep.mac = mac_of(vtep, inputs.macs));
    }
    decision.retain = retained(inputs.view, inputs.facts);
    if decision.verify_only {
        decision.retain.entries = RetainEntries::All;
    }
    let mut actual = State { entries: found.entries.clone(), ..State::default() };
    if matches!(found.model, Layout::VtepHash | Layout::VtepLpm) {
        (decision.desired.entries, decision.over_capacity) =
            room_for(&vteps, &actual.entries, &decision.retain.entries, inputs.facts, found.capacity);
    }
    decide_ipcache(inputs, owned, &vteps, found, &mut actual, &mut decision);
    decision.plan = plan(&actual, &decision.desired, &decision.retain, found.capacity);
    decision
}

/// The entries that fit into the map beside those that remain and those that Cilium will write. If the map were full, Cilium's own sync
/// would fail, and Cilium would then add no routes.
fn room_for(
    vteps: &[Vtep],
    actual: &BTreeMap<Ipv4Net, VtepValue>,
    retain: &RetainEntries,
    facts: &Facts,
    capacity: usize,
) -> (BTreeMap<Ipv4Net, VtepValue>, BTreeSet<Ipv4Net>) {
    let wanted = state::entries(vteps);
    let is_wanted = |network: &Ipv4Addr| wanted.keys().any(|cidr| cidr.addr() == *network);
    let running: BTreeSet<_> = facts.running.config().into_iter().flat_map(RunningConfig::networks).collect();
    let staying = actual.keys().filter(|cidr| retain.contains(**cidr)).map(Ipv4Net::addr);
    let reserved = running.iter().copied().chain(staying).filter(|network| !is_wanted(network));
    let reserved = reserved.collect::<BTreeSet<_>>().len();
    let is_known = |cidr: Ipv4Net| running.contains(&cidr.network()) || actual.contains_key(&cidr);
    state::fit(wanted, is_known, reserved, capacity)
}

/// Whether this agent writes VTEPs into the ipcache.
#[must_use]
pub fn writes_ipcache(mode: IpcacheMode, model: Layout, facts: &Facts) -> bool {
    match mode {
        IpcacheMode::On => true,
        IpcacheMode::Auto => model == Layout::None && ipcache_alone(facts),
        IpcacheMode::Off => false,
    }
}

/// Whether this Cilium looks for VTEPs only in the ipcache. A Cilium with a VTEP map would take an ipcache entry of a VTEP for a node, so
/// the version must be known. 1.12.0 has the map, its release candidates have none, and all of them are 1.12.0 here: the caller has seen
/// that there is no map.
fn ipcache_alone(facts: &Facts) -> bool {
    let old = facts.version.is_some_and(|version| version <= CiliumVersion::new(1, 12, 0));
    let disabled = facts.running.config().is_some_and(|running| running.vtep_enabled == Some(false));
    old && !disabled
}

fn decide_ipcache(
    Inputs { settings, facts, view, .. }: Inputs<'_>,
    owned: &Owned,
    vteps: &[Vtep],
    found: &Maps,
    actual: &mut State,
    decision: &mut Decision,
) {
    let Some(IpcacheFound { resolved, ours }) = &found.ipcache else { return };
    // A Cilium with custom resources has a VTEP map, and takes an entry of a VTEP in the ipcache for a node.
    let written = view.truth != Truth::Crd && writes_ipcache(settings.ipcache, found.model, facts);
    // With `off`, the agent leaves all entries as they are, even those that it wrote with `on`.
    let manages = settings.ipcache != IpcacheMode::Off;
    if manages {
        actual.ipcache.clone_from(ours);
    }
    for &Vtep { cidr, endpoint, .. } in vteps {
        let resolved = resolved.get(&cidr);
        let is_ours = |entry: &&IpcacheEntry| {
            entry.endpoint.is_none_or(|found| found == endpoint || (manages && owned.has(cidr, found)))
        };
        if let Some(entry) = resolved.filter(|entry| !entry.is_outside() || !is_ours(entry)) {
            decision.conflicts.insert(cidr, *entry);
        } else if written && resolved.is_none_or(|entry| entry.is_world()) {
            decision.desired.ipcache.insert(cidr, endpoint);
        }
    }
}
