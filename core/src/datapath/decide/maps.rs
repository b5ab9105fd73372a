//! What the VTEP map and the ipcache should hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use super::{Inputs, kept};
use crate::{
    config::{spec::Vtep, view::Truth},
    datapath::{
        abi::{IpcacheEntry, VtepValue},
        ipcache::Owned,
        layout::Model,
        plan::{Keep, KeepEntries, Op, plan},
        settings::IpcacheMode,
        state::{self, State},
    },
    node::{facts::Facts, running::RunningConfig, version::CiliumVersion},
};

/// What the maps hold.
#[derive(Clone, Debug)]
pub struct Maps {
    pub model: Model,
    /// Entries that the VTEP map can hold.
    pub capacity: usize,
    pub entries: BTreeMap<Ipv4Net, VtepValue>,
    /// `None` where there is no ipcache to read.
    pub ipcache: Option<IpcacheFound>,
    /// There is one, and this process may not open it.
    pub ipcache_denied: bool,
}

impl Maps {
    /// No map was seen.
    #[must_use]
    pub const fn none() -> Self {
        let entries = BTreeMap::new();
        Self { model: Model::None, capacity: 0, entries, ipcache: None, ipcache_denied: false }
    }

    /// There is an ipcache, whether it can be read or not.
    #[must_use]
    pub const fn has_ipcache(&self) -> bool {
        self.ipcache.is_some() || self.ipcache_denied
    }
}

/// What of the ipcache concerns VTEPs.
#[derive(Clone, Debug, Default)]
pub struct IpcacheFound {
    /// VTEP CIDR → what it resolves to as a whole.
    pub resolved: BTreeMap<Ipv4Net, IpcacheEntry>,
    /// Those of our entries that are still as we put them.
    pub ours: BTreeMap<Ipv4Net, Ipv4Addr>,
}

/// What to do about the maps, and what cannot be done.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub plan: Vec<Op>,
    /// The state that the plan leads to, and what it spares.
    pub desired: State,
    pub keep: Keep,
    /// The VTEP map is somebody else's: operations on it are reported, and not carried out.
    pub verify_only: bool,
    /// VTEPs that the map has no room for.
    pub left_out: BTreeSet<Ipv4Net>,
    /// VTEPs whose CIDR the ipcache gives to something else, and to what.
    pub taken: BTreeMap<Ipv4Net, IpcacheEntry>,
}

/// The operations that bring the maps to what the configuration says, as far as they may be carried out. `owned`: the ipcache entries that
/// this agent wrote.
#[must_use]
pub fn decide(inputs: Inputs<'_>, owned: &Owned, found: &Maps) -> Decision {
    let mut decision = Decision { verify_only: found.model == Model::VtepLpm, ..Decision::default() };
    if inputs.view.truth == Truth::None {
        // Somebody else decides about VTEPs here, and it is not known who.
        decision.keep = Keep::all();
        return decision;
    }
    let vteps = inputs.vteps(found.has_ipcache());
    decision.keep = kept(inputs.view, inputs.facts);
    if decision.verify_only {
        decision.keep.entries = KeepEntries::All;
    }
    let mut actual = State { entries: found.entries.clone(), ..State::default() };
    if matches!(found.model, Model::VtepHash | Model::VtepLpm) {
        (decision.desired.entries, decision.left_out) =
            room_for(&vteps, &actual.entries, &decision.keep.entries, inputs.facts, found.capacity);
    }
    decide_ipcache(inputs, owned, &vteps, found, &mut actual, &mut decision);
    decision.plan = plan(&actual, &decision.desired, &decision.keep, found.capacity);
    decision
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
    Inputs { settings, facts, .. }: Inputs<'_>,
    owned: &Owned,
    vteps: &[Vtep],
    found: &Maps,
    actual: &mut State,
    decision: &mut Decision,
) {
    let Some(IpcacheFound { resolved, ours }) = &found.ipcache else { return };
    let written = writes_ipcache(settings.ipcache, found.model, facts);
    // What is off is left as it is, also what was written when it was on.
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
            decision.taken.insert(cidr, *entry);
        } else if written && resolved.is_none_or(|entry| entry.is_world()) {
            decision.desired.ipcache.insert(cidr, endpoint);
        }
    }
}
