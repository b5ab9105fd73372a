//! Reconciles the VTEP map and the ipcache: observe, decide, write, observe again. The core decides; this module reads and writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use tokio::sync::watch;
use tracing::{info, warn};
use vtep_core::{
    config::{spec::Vtep, truth::Truth, view::View},
    datapath::{
        abi::{IpcacheEntry, VtepValue},
        contention::Contention,
        decide::{
            Inputs,
            maps::{Decision, IpcacheFound, Maps, decide, writes_ipcache},
        },
        grace_period::GracePeriod,
        ipcache::{Inside, Owned},
        layout::Layout,
        plan::Op,
        repairs::Repairs,
        report::Failure,
    },
    tunnel::mac_learning::mac_of,
    types::error_chain::chain,
};

use super::{ipcache_ledger::Ledger, ipcache_search::Search};
use crate::{
    kernel::{
        ipcache::Ipcache,
        maps::MapError,
        vtep_map::{Look, VtepMap},
    },
    state_file::StateError,
};

/// The minimum time between two requests to read the custom resources again.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the VTEP map, and if required the ipcache, in line with the configuration.
pub struct MapsReconciler {
    ledger: Ledger,
    pub contention: Contention,
    search: Search,
    repairs: Repairs,
    grace: GracePeriod,
    /// Asks the source to read the custom resources again.
    recheck: watch::Sender<()>,
    rechecked: Option<Instant>,
    /// The kernel's id of the VTEP map, if there is a map; `None` before the first pass.
    map_id: Option<Option<u32>>,
}

/// The state of the maps, and the planned changes.
pub struct Observed {
    pub model: Layout,
    pub decision: Decision,
    /// The reason why there is no VTEP map to write to.
    pub map_problem: Option<MapError>,
    /// The reason why the ipcache cannot be read. A missing ipcache is a problem only if the agent writes it.
    pub ipcache_problem: Option<MapError>,
    /// An ipcache exists, readable or not.
    pub ipcache_seen: bool,
    pub ipcache: Option<Ipcache>,
    /// The VTEP map as it was read, to compare it with later.
    pub look: Option<Look>,
    vteps: Option<VtepMap>,
}

impl Observed {
    /// Whether only a change of the VTEP map makes another pass necessary soon. Nobody looks at the ipcache between passes.
    #[must_use]
    pub fn is_settled(&self, writes: bool) -> bool {
        let Decision { desired, plan, .. } = &self.decision;
        desired.ipcache.is_empty() && (plan.is_empty() || !writes)
    }
}

/// The result of a pass over the maps: the final state, and the changes.
pub struct MapsPass {
    pub observed: Observed,
    pub done: Vec<Op>,
    pub failures: Vec<Failure>,
    /// The operations in `done` that undo a change by another writer.
    pub repairs: Vec<Op>,
    /// How many other operations put a learned MAC back in the place of the configured one, as Cilium's sync makes it necessary every minute.
    pub made_good: usize,
    /// An entry was changed again after the agent had written it, and before it read the map: the next pass has to come at once, because the
    /// sentinel compares with what was read.
    pub is_disturbed: bool,
    /// VTEP CIDR → prefixes of it that the ipcache assigns to something else.
    pub conflicts: BTreeMap<Ipv4Net, Vec<Inside>>,
    /// The VTEP map is the same as in the previous pass.
    pub is_same_map: bool,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("the ipcache entry was not changed, because its record could not be saved")]
    Ledger(#[from] StateError),
}

/// Reads the maps and plans, without a change. `owned` lists the ipcache entries that this agent wrote.
#[must_use]
pub fn observe(inputs: Inputs<'_>, owned: &Owned) -> Observed {
    let Inputs { settings, view, facts, .. } = inputs;
    let spec = view.effective.as_ref();
    let prefix_len = |network| spec.map_or(32, |spec| spec.prefix_len(network));
    let mut found = Maps::none();
    let (vteps, look, mut map_problem) = match open_vteps(&settings.bpffs, prefix_len, &mut found) {
        Ok((map, look)) => (Some(map), look, None),
        Err(error) => {
            found.model = model_of(&error);
            (None, None, Some(error))
        }
    };
    let written = writes_ipcache(settings.ipcache, found.model, facts);
    let cidrs = spec.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
    let (ipcache, ipcache_problem) = match open_ipcache(&settings.bpffs, &cidrs, owned, &mut found) {
        Ok(ipcache) => (Some(ipcache), None),
        Err(MapError::Absent { .. }) if !written => (None, None),
        Err(error) => {
            found.ipcache_denied = matches!(error, MapError::NotAllowed { .. });
            (None, Some(error))
        }
    };
    let decision = decide(inputs, owned, &found);
    let mut model = found.model;
    if written && model == Layout::None && ipcache.is_some() {
        (model, map_problem) = (Layout::Ipcache, None);
    }
    let ipcache_seen = found.has_ipcache();
    Observed { model, decision, map_problem, ipcache_problem, ipcache_seen, ipcache, look, vteps }
}

fn open_vteps(
    bpffs: &Path,
    prefix_len: impl Fn(Ipv4Addr) -> u8,
    found: &mut Maps,
) -> Result<(VtepMap, Option<Look>), MapError> {
    let mut map = VtepMap::open(bpffs)?;
    // The look comes first: what changes in between is a difference, and another pass reads it.
    let look = map.look();
    found.entries = map.read(prefix_len)?;
    (found.model, found.capacity) = (map.model(), map.capacity);
    Ok((map, look))
}

fn open_ipcache(bpffs: &Path, cidrs: &BTreeSet<Ipv4Net>, owned: &Owned, found: &mut Maps) -> Result<Ipcache, MapError> {
    let ipcache = Ipcache::open(bpffs)?;
    let resolved = cidrs.iter().filter_map(|&cidr| ipcache.resolve(cidr).map(|e| Some((cidr, e?))).transpose());
    found.ipcache = Some(IpcacheFound { resolved: resolved.collect::<Result<_, _>>()?, ours: ipcache.of(owned)? });
    Ok(ipcache)
}

/// The layout for a map that could not be read.
fn model_of(error: &MapError) -> Layout {
    match error {
        MapError::UnknownLayout { .. } => Layout::Unsupported,
        MapError::Absent { .. } => Layout::None,
        MapError::NoBpffs { .. }
        | MapError::NotAMap { .. }
        | MapError::NotAllowed { .. }
        | MapError::Bpffs { .. }
        | MapError::Open { .. }
        | MapError::Read { .. }
        | MapError::Write { .. }
        | MapError::Delete { .. } => Layout::Unreadable,
    }
}

impl MapsReconciler {
    #[must_use]
    pub fn new(ledger: Ledger, recheck: watch::Sender<()>) -> Self {
        let (contention, search, repairs) = (Contention::default(), Search::default(), Repairs::default());
        let (grace, rechecked, map_id) = (GracePeriod::default(), None, None);
        Self { ledger, contention, search, repairs, grace, recheck, rechecked, map_id }
    }

    /// Makes one pass; if `writes`, it carries out the plan.
    pub async fn pass(&mut self, inputs: Inputs<'_>, writes: bool, now: Instant) -> MapsPass {
        let mut observed = observe(inputs, self.ledger.owned());
        let is_first = self.map_id.is_none();
        let is_same_map = !self.is_other_map(observed.vteps.as_ref());
        if !is_same_map && !is_first {
            // With another release of Cilium, custom resources may be served that were not.
            self.recheck.send_replace(());
        }
        // A gateway's failover takes effect at once, even if the entry was contended.
        self.repairs.changed(&observed.decision.desired).for_each(|cidr| self.contention.forget_key(cidr));
        let (mut done, mut failures, mut repairs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut made_good, mut is_disturbed) = (0, false);
        // What is left to Cilium now, and written after the grace period, is a repair.
        let planned = if inputs.view.truth == Truth::Crd { Vec::new() } else { observed.decision.plan.clone() };
        let due = if writes { self.due(&observed.decision, inputs.view, now) } else { Vec::new() };
        if !due.is_empty() {
            (done, failures) = self.write_all(due, &mut observed);
            let Decision { desired, retain, .. } = &observed.decision;
            if is_same_map {
                repairs = self.repairs.among(desired, retain, &done).copied().collect();
            }
            let all = repairs.len();
            repairs.retain(|op| !self.makes_good(op, inputs, now));
            made_good = all - repairs.len();
            repairs.iter().for_each(|op| self.note_repair(op, now));
            // The second observation verifies the writes: its plan must be empty.
            observed = observe(inputs, self.ledger.owned());
            is_disturbed = inputs.view.truth != Truth::Crd && self.is_disturbed(&observed.decision, &failures, now);
        }
        let Decision { desired, retain, .. } = &observed.decision;
        self.repairs.on_pass(desired, retain, &planned, &done);
        let conflicts = self.conflicts(inputs, &observed, now).await;
        MapsPass { observed, done, failures, repairs, made_good, is_disturbed, conflicts, is_same_map }
    }

    /// The operations to carry out now: not those of entries under contention, and not those that the agent only reports.
    fn due(&mut self, decision: &Decision, view: &View, now: Instant) -> Vec<Op> {
        let mut due = decision.plan.clone();
        due.retain(|op| !op.entry().is_some_and(|cidr| self.contention.holds_back(cidr, now)));
        due.retain(|op| !decision.withholds(op));
        if view.truth == Truth::Crd {
            self.let_cilium_write(&mut due, view, now);
        }
        due
    }

    /// Whether something is left to do that could be done: neither has it just failed, nor does the agent leave it to somebody else.
    fn is_disturbed(&mut self, decision: &Decision, failures: &[Failure], now: Instant) -> bool {
        let has_failed = |op: &Op| failures.iter().any(|failure| failure.op == *op);
        let mut left = decision.plan.iter().filter(|op| !has_failed(op) && !decision.withholds(op));
        left.any(|op| !op.entry().is_some_and(|cidr| self.contention.holds_back(cidr, now)))
    }

    /// Leaves only the operations that Cilium's reconciler had time for, and that the objects still demand. Asks for the objects again if
    /// that is unknown.
    fn let_cilium_write(&mut self, plan: &mut Vec<Op>, view: &View, now: Instant) {
        self.grace.note(plan, now);
        plan.retain(|op| self.grace.is_over(op, now));
        let is_confirmed = |op: &Op| self.grace.is_confirmed(op, view.delivered);
        let has_asked = self.rechecked.is_some_and(|at| now.saturating_duration_since(at) < RECHECK_INTERVAL);
        if !has_asked && !plan.iter().all(is_confirmed) {
            self.rechecked = Some(now);
            self.recheck.send_replace(());
        }
        plan.retain(is_confirmed);
    }

    /// Whether the map's id has changed. A new id means that Cilium restarted and created a new map.
    fn is_other_map(&mut self, map: Option<&VtepMap>) -> bool {
        let id = map.map(|map| map.id);
        let before = self.map_id.replace(id).flatten();
        if id == before {
            return false;
        }
        match (before, id) {
            (_, Some(id)) => info!(map_id = id, "the VTEP map is there"),
            (Some(id), None) => warn!(map_id = id, "the VTEP map is gone"),
            (None, None) => {}
        }
        true
    }

    /// Whether the operation only undoes what Cilium's sync has done: it wrote the configured MAC over a learned one.
    fn makes_good(&mut self, op: &Op, inputs: Inputs<'_>, now: Instant) -> bool {
        let Some((cidr, found)) = op.entry().zip(op.found()) else { return false };
        let vteps = inputs.view.effective.iter().flat_map(|spec| &spec.vteps);
        let is_learned = |vtep: &&Vtep| vtep.cidr == cidr && mac_of(vtep, inputs.macs) != vtep.mac;
        let configured = vteps.into_iter().find(is_learned).map(|vtep| VtepValue::new(vtep.mac, vtep.endpoint));
        configured == Some(found) && self.contention.makes_good(cidr, now)
    }

    fn note_repair(&mut self, op: &Op, now: Instant) {
        let Some(cidr) = op.entry() else { return };
        if self.contention.on_repair(cidr, op.found(), now) {
            warn!(%cidr, "another writer keeps overwriting this VTEP entry; no repair for one minute");
        }
    }

    /// Returns the operations that succeeded, and those that failed.
    fn write_all(&mut self, due: Vec<Op>, observed: &mut Observed) -> (Vec<Op>, Vec<Failure>) {
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        for op in due {
            match self.write(op, observed) {
                Ok(()) => done.push(op),
                Err(error) => failures.push(Failure { op, error: chain(&error).to_string() }),
            }
        }
        (done, failures)
    }

    fn write(&mut self, op: Op, observed: &mut Observed) -> Result<(), WriteError> {
        let Observed { vteps, ipcache, .. } = observed;
        match op {
            Op::ReplaceEntry { cidr, value, .. } | Op::AddEntry { cidr, value } => {
                vteps.as_mut().map_or(Ok(()), |map| map.put(cidr, value))?;
            }
            Op::DeleteEntry { cidr, .. } => vteps.as_mut().map_or(Ok(()), |map| map.delete(cidr))?,
            Op::PutIpcache { cidr, endpoint, .. } => {
                self.ledger.claim(cidr, endpoint)?;
                ipcache.as_mut().map_or(Ok(()), |ipcache| ipcache.put(cidr, IpcacheEntry::of_vtep(endpoint)))?;
            }
            Op::DeleteIpcache { cidr, .. } => {
                ipcache.as_mut().map_or(Ok(()), |ipcache| ipcache.delete(cidr))?;
                self.ledger.release(cidr)?;
            }
            Op::PutRoute { .. } | Op::DeleteRoute { .. } | Op::AddRule(_) | Op::DeleteRule(_) => {}
        }
        Ok(())
    }

    /// The ipcache's conflicts: whole CIDRs from this pass's observation, and prefixes inside them from the last search.
    async fn conflicts(
        &mut self,
        Inputs { settings, view, .. }: Inputs<'_>,
        observed: &Observed,
        now: Instant,
    ) -> BTreeMap<Ipv4Net, Vec<Inside>> {
        let Some(ipcache) = &observed.ipcache else { return BTreeMap::new() };
        let cidrs = view.effective.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
        let mut conflicts = self.search.turn(&settings.bpffs, ipcache.id, &cidrs, now).await.clone();
        for (&cidr, &entry) in &observed.decision.conflicts {
            conflicts.entry(cidr).or_default().insert(0, Inside { prefix: cidr, entry });
        }
        conflicts
    }
}
