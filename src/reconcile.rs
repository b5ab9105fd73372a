//! The loop that keeps the kernel as the configuration wants it: survey, apply, survey again.
//!
//! Ten times a second the map is compared with the configuration; routes are compared when the kernel tells of a change, and
//! every few seconds. Nothing is remembered of what was applied: what failed is simply still in the next plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::{info, warn};

use crate::{
    config::view::View,
    datapath::{
        abi::{VtepKey, VtepValue},
        contention::Contention,
        maps::{MapError, VtepMap},
        plan::Op,
        routes::{self, RouteError},
        survey::{self, Model, Scope, survey},
    },
    logging::chain,
    node::{facts::Facts, fitness::Fitness},
    progress::Beat,
};

/// Routes are compared at least this often, should a notice of a change be lost.
const ROUTES_INTERVAL: Duration = Duration::from_secs(5);
/// Notices that come sooner than this after routes were compared wait for the next tick.
const ROUTES_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Looks and probes; writes nothing.
    Observe,
    Enforce,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// On a node that is not fit nothing is written.
    pub fitness: Arc<Fitness>,
    /// How often the map is compared.
    pub tick: Duration,
    pub survey: survey::Settings,
}

/// Why a pass was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    ConfigChanged,
    NodeChanged,
    RoutesChanged,
    Tick,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ConfigChanged => "config-changed",
            Self::NodeChanged => "node-changed",
            Self::RoutesChanged => "routes-changed",
            Self::Tick => "tick",
        })
    }
}

/// What the last pass found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub at: Timestamp,
    /// The configuration that it was about.
    pub config_hash: String,
    pub reason: Reason,
    pub took: Duration,
    pub applied: usize,
    pub failed: usize,
}

/// How the datapath stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub model: Model,
    /// Operations that are still to do: all of them in observe mode, those that failed otherwise.
    pub pending: Vec<Op>,
    /// Why there is no map to write to, in words.
    pub map_problem: Option<String>,
    /// Why routes could not be compared, in words.
    pub route_problem: Option<String>,
    /// Operations that the kernel refused; they are pending, too.
    pub failures: Vec<Failure>,
    /// Repairs of drift since the start, per entry.
    pub repairs: BTreeMap<VtepKey, u64>,
    /// Repairs of drift since the start, routes and rules included.
    pub repairs_total: u64,
    /// Entries that somebody keeps overwriting, left alone for now, each with what had been put there.
    pub contended: BTreeMap<VtepKey, Option<VtepValue>>,
    pub last_pass: Option<Pass>,
}

/// An operation that the kernel refused, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub op: Op,
    pub error: String,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            model: Model::None,
            pending: Vec::new(),
            map_problem: None,
            route_problem: None,
            failures: Vec::new(),
            repairs: BTreeMap::new(),
            repairs_total: 0,
            contended: BTreeMap::new(),
            last_pass: None,
        }
    }
}

impl Report {
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.last_pass.is_some() && self.pending.is_empty() && self.problems().next().is_none()
    }

    /// What could not be read or written, in words.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        let failures = self.failures.iter().map(|failure| &failure.error);
        self.map_problem.iter().chain(&self.route_problem).chain(failures)
    }

    /// Why this entry could not be written.
    #[must_use]
    pub fn entry_error(&self, key: VtepKey) -> Option<&str> {
        self.failures.iter().find(|failure| failure.op.entry_key() == Some(key)).map(|failure| failure.error.as_str())
    }

    /// Differs in more than the time of the last pass.
    fn differs(&self, other: &Self) -> bool {
        let timeless = |report: &Self| Self { last_pass: None, ..report.clone() };
        self.last_pass.is_some() != other.last_pass.is_some() || timeless(self) != timeless(other)
    }
}

#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Route(#[from] RouteError),
}

pub struct Reconciler {
    settings: Settings,
    netlink: Handle,
    config: watch::Receiver<Option<Arc<View>>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    route_changes: mpsc::Receiver<()>,
    report: watch::Sender<Report>,
    contention: Contention,
    map_id: Option<u32>,
    /// What the last pass was about.
    applied: Option<(Arc<View>, Arc<Facts>)>,
    routes_due: Instant,
    routes_read: Instant,
    current: Report,
}

impl Reconciler {
    #[must_use]
    pub fn new(
        settings: Settings,
        netlink: Handle,
        config: watch::Receiver<Option<Arc<View>>>,
        facts: watch::Receiver<Option<Arc<Facts>>>,
        route_changes: mpsc::Receiver<()>,
        report: watch::Sender<Report>,
    ) -> Self {
        Self {
            settings,
            netlink,
            config,
            facts,
            route_changes,
            report,
            contention: Contention::default(),
            map_id: None,
            applied: None,
            routes_due: Instant::now(),
            routes_read: Instant::now(),
            current: Report::default(),
        }
    }

    /// Runs until the configuration's sender is gone.
    pub async fn run(mut self, beat: Beat) {
        let mut tick = time::interval(self.settings.tick);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let reason = tokio::select! {
                biased;
                changed = self.config.changed() => if changed.is_ok() { Reason::ConfigChanged } else { return },
                Ok(()) = self.facts.changed() => Reason::NodeChanged,
                Some(()) = self.route_changes.recv() => Reason::RoutesChanged,
                _ = tick.tick() => Reason::Tick,
            };
            if reason == Reason::RoutesChanged && self.routes_read.elapsed() < ROUTES_PAUSE {
                // A node with many pods changes routes all the time: the next tick looks at them.
                self.routes_due = Instant::now();
                continue;
            }
            self.pass(reason).await;
            beat.now();
        }
    }

    async fn pass(&mut self, reason: Reason) {
        let start = Instant::now();
        let view = self.config.borrow_and_update().clone();
        let facts = self.facts.borrow_and_update().clone();
        // Before the first valid configuration there is nothing to compare with, and nothing to delete.
        let (Some(view), Some(facts)) = (view, facts) else { return };
        if view.in_force.is_none() {
            return;
        }
        let scope = self.scope(reason, start);
        let mut found = survey(&self.settings.survey, &self.netlink, &view, &facts, scope).await;
        let map_before = self.map_id;
        self.note_map(found.map.as_ref());
        let (mut applied, mut failed) = (0, 0);
        let mut report = Report { failures: Vec::new(), ..self.current.clone() };
        if !found.plan.is_empty() && self.may_write(&facts) {
            let settled = self.settled(&view, &facts, map_before);
            for op in std::mem::take(&mut found.plan) {
                if op.entry_key().is_some_and(|key| self.contention.is_left_alone(key, start)) {
                    continue;
                }
                match self.apply(op, found.map.as_mut()).await {
                    Ok(()) => {
                        applied += 1;
                        info!(change = %op, %reason, "kernel changed");
                        if settled && !self.current.pending.contains(&op) {
                            self.count_repair(&op, start, &mut report);
                        }
                    }
                    Err(error) => {
                        failed += 1;
                        report.failures.push(Failure { op, error: chain(&error).to_string() });
                    }
                }
            }
            // Planning again is the verification.
            found = survey(&self.settings.survey, &self.netlink, &view, &facts, scope).await;
        }
        let at = Timestamp::now();
        let config_hash = view.hash.clone();
        let spec = view.in_force.as_ref();
        let wanted = spec.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| VtepKey::new(vtep.cidr)).collect();
        self.applied = Some((view, facts));
        report.last_pass = Some(Pass { at, config_hash, reason, took: start.elapsed(), applied, failed });
        self.publish(report, found, &wanted, scope, start);
    }

    fn may_write(&self, facts: &Facts) -> bool {
        self.settings.mode == Mode::Enforce && self.settings.fitness.kernel(facts.version).supported
    }

    /// The last pass was about the same configuration, node and map: what differs now, somebody else changed.
    fn settled(&self, view: &Arc<View>, facts: &Arc<Facts>, map_before: Option<u32>) -> bool {
        let same = |(last_view, last_facts): &(Arc<View>, Arc<Facts>)| {
            Arc::ptr_eq(last_view, view) && Arc::ptr_eq(last_facts, facts)
        };
        self.applied.as_ref().is_some_and(same) && self.map_id == map_before
    }

    fn scope(&mut self, reason: Reason, now: Instant) -> Scope {
        if reason == Reason::Tick && now < self.routes_due {
            return Scope::Map;
        }
        self.routes_read = now;
        self.routes_due = now + ROUTES_INTERVAL;
        Scope::All
    }

    /// Another id is another map: Cilium restarted.
    fn note_map(&mut self, map: Option<&VtepMap>) {
        let id = map.map(|map| map.id);
        if id != self.map_id {
            match (self.map_id, id) {
                (_, Some(id)) => info!(id, "programming the VTEP map"),
                (Some(id), None) => warn!(id, "the VTEP map is gone"),
                (None, None) => {}
            }
            self.map_id = id;
        }
    }

    async fn apply(&self, op: Op, map: Option<&mut VtepMap>) -> Result<(), ApplyError> {
        match op {
            Op::ReplaceEntry { key, value, .. } | Op::AddEntry { key, value } => {
                map.map_or(Ok(()), |map| map.put(key, value))?;
            }
            Op::DeleteEntry { key, .. } => map.map_or(Ok(()), |map| map.delete(key))?,
            Op::PutRoute { cidr, route } => routes::put_route(&self.netlink, cidr, route).await?,
            Op::DeleteRoute { cidr, .. } => routes::delete_route(&self.netlink, cidr).await?,
            Op::AddRule(rule) => routes::add_rule(&self.netlink, rule).await?,
            Op::DeleteRule(rule) => routes::delete_rule(&self.netlink, rule).await?,
        }
        Ok(())
    }

    fn count_repair(&mut self, op: &Op, now: Instant, report: &mut Report) {
        report.repairs_total += 1;
        let Some(key) = op.entry_key() else { return };
        *report.repairs.entry(key).or_default() += 1;
        if self.contention.on_repair(key, op.found(), now) {
            warn!(network = %key.network(), "somebody keeps overwriting this VTEP entry; leaving it alone for a minute");
        }
    }

    fn publish(
        &mut self,
        mut report: Report,
        found: survey::Survey,
        wanted: &BTreeSet<VtepKey>,
        scope: Scope,
        now: Instant,
    ) {
        report.model = found.model;
        report.pending = found.plan;
        report.repairs.retain(|key, _| wanted.contains(key));
        report.contended = self.contention.left_alone(now);
        report.map_problem = found.map_problem.as_ref().map(|problem| chain(problem).to_string());
        match scope {
            Scope::All => {
                report.route_problem = found.route_problem.as_ref().map(|problem| chain(problem).to_string());
                if report.route_problem.is_some() {
                    // Listings are cut short when routes change meanwhile: look again at the next tick.
                    self.routes_due = now;
                }
            }
            Scope::Map => self.keep_routes(&mut report),
        }
        self.say_problems(&report);
        self.report.send_if_modified(|published| {
            let differs = published.differs(&report);
            published.clone_from(&report);
            differs
        });
        self.current = report;
    }

    /// A look at the map alone says nothing of routes: what was known of them stays.
    fn keep_routes(&self, report: &mut Report) {
        let is_route = |op: &Op| op.entry_key().is_none();
        report.pending.extend(self.current.pending.iter().filter(|op| is_route(op)).copied());
        report.failures.extend(self.current.failures.iter().filter(|failure| is_route(&failure.op)).cloned());
    }

    /// One line for each problem, not one for every pass that it lasts.
    fn say_problems(&self, report: &Report) {
        let known: Vec<_> = self.current.problems().collect();
        for problem in report.problems().filter(|problem| !known.contains(problem)) {
            warn!(%problem, "datapath not as configured");
        }
    }
}
