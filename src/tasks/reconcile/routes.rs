//! Reconciles host routes and their rules: observe, decide, write, observe again. The core decides; this module reads and writes. It
//! records each route and rule before it adds it, so that a crash leaves none without a record.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rtnetlink::Handle;
use tracing::info;
use vtep_core::{
    config::{truth::Truth, view::View},
    datapath::{
        decide::{
            Inputs,
            routes::{Decision, Past, RouteConflict, decide},
        },
        grace_period::GracePeriod,
        plan::Op,
        records::Trial,
        repairs::Repairs,
        report::{Failure, Reason},
        route_guard::{Outcome, Reach},
        settings::HostRoutes,
    },
    types::error_chain::chain,
};

use super::{dead_mans_switch::DeadMansSwitch, journal::Journal, lifeline::Lifeline};
use crate::kernel::routes::{self, RouteError};

/// The maximum time between two comparisons of routes, in case a notification is lost.
const INTERVAL: Duration = Duration::from_secs(5);
/// A notification that comes sooner than this after a comparison waits for the next tick.
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps the host routes in line with the configuration.
pub struct RoutesReconciler {
    netlink: Handle,
    journal: Journal,
    switch: DeadMansSwitch,
    repairs: Repairs,
    grace: GracePeriod,
    due: Instant,
    compared: Instant,
    /// The result of the last comparison.
    pub last: RoutesPass,
}

/// The decision about the kernel's routes, with the planned changes.
#[derive(Default)]
pub struct Observed {
    pub decision: Decision,
    /// The reason why routes could not be compared.
    pub problem: Option<RouteProblem>,
}

/// The result of a pass over routes: the final state, and the changes.
#[derive(Default)]
pub struct RoutesPass {
    pub observed: Observed,
    pub done: Vec<Op>,
    pub failures: Vec<Failure>,
    /// The operations in `done` that undo a change by another program.
    pub repairs: Vec<Op>,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteProblem {
    #[error(transparent)]
    Read(#[from] RouteError),
    #[error(transparent)]
    Conflict(#[from] RouteConflict),
}

/// Reads routes and rules and plans, without a change. `ipcache_seen`: an ipcache exists, readable or not.
pub async fn observe(inputs: Inputs<'_>, past: Past<'_>, netlink: &Handle, ipcache_seen: bool) -> Observed {
    if inputs.settings.host_routes == HostRoutes::Off {
        return Observed::default();
    }
    let mut tables = past.records.tables();
    tables.insert(inputs.settings.route_table);
    match routes::read(netlink, &tables).await {
        Ok(found) => {
            let decision = decide(inputs, past, &found, ipcache_seen);
            let problem = decision.conflict.clone().map(Into::into);
            Observed { decision, problem }
        }
        Err(error) => Observed { decision: Decision::default(), problem: Some(error.into()) },
    }
}

impl RoutesReconciler {
    #[must_use]
    pub fn new(netlink: Handle, journal: Journal, lifeline: Lifeline) -> Self {
        let (switch, repairs, grace) = (DeadMansSwitch::new(lifeline), Repairs::default(), GracePeriod::default());
        let (now, last) = (Instant::now(), RoutesPass::default());
        Self { netlink, journal, switch, repairs, grace, due: now, compared: now, last }
    }

    /// Prepares for writing. Another agent may have written until now, so its records are loaded.
    pub fn take_over(&mut self) {
        self.journal.reload();
        self.switch.resume(self.journal.records());
    }

    /// Whether a notification waits for the next tick: a node with many pods changes routes all the time.
    pub fn defers_notice(&mut self) -> bool {
        let defers = self.compared.elapsed() < PAUSE;
        if defers {
            self.due = Instant::now();
        }
        defers
    }

    /// When routes are compared next, without a notification.
    #[must_use]
    pub fn next_comparison(&self) -> Instant {
        self.due
    }

    #[must_use]
    pub fn is_due(&self, reason: Reason, now: Instant) -> bool {
        !matches!(reason, Reason::Tick | Reason::MapChanged) || now >= self.due
    }

    /// Makes one pass; if `writes`, it carries out the plan. `is_same_map`: Cilium has not restarted since the previous pass.
    pub async fn pass(
        &mut self,
        inputs: Inputs<'_>,
        ipcache_seen: bool,
        writes: bool,
        is_same_map: bool,
        now: Instant,
    ) {
        (self.compared, self.due) = (now, now + INTERVAL);
        let mut observed = self.observe(inputs, ipcache_seen).await;
        if writes && !observed.decision.adopt.is_empty() {
            self.adopt(&observed.decision.adopt);
            observed = self.observe(inputs, ipcache_seen).await;
        }
        let (mut done, mut failures, mut repairs) = (Vec::new(), Vec::new(), Vec::new());
        let planned = observed.decision.plan.clone();
        let due = if writes { self.due(&observed.decision, inputs.view, now) } else { Vec::new() };
        if !due.is_empty() {
            (done, failures) = self.write_all(due).await;
            let Decision { desired, retain, .. } = &observed.decision;
            if is_same_map {
                repairs = self.repairs.among(desired, retain, &done).copied().collect();
            }
            // The second observation verifies the writes: its plan must be empty.
            observed = self.observe(inputs, ipcache_seen).await;
        }
        let Decision { desired, retain, plan, .. } = &observed.decision;
        self.repairs.on_pass(desired, retain, &planned, &done);
        let is_unread = matches!(observed.problem, Some(RouteProblem::Read(_)));
        if is_unread || (writes && !plan.is_empty()) {
            // Retry the remaining work at the next tick.
            self.due = now;
        }
        self.last = RoutesPass { observed, done, failures, repairs };
    }

    async fn observe(&self, inputs: Inputs<'_>, ipcache_seen: bool) -> Observed {
        let refused = self.switch.guard().refused();
        let past = Past { records: self.journal.records(), refused: &refused };
        observe(inputs, past, &self.netlink, ipcache_seen).await
    }

    /// The operations to carry out now. Under custom resources, Cilium has some time to add routes and rules of its own.
    fn due(&mut self, decision: &Decision, view: &View, now: Instant) -> Vec<Op> {
        let mut due = decision.plan.clone();
        if view.truth == Truth::Crd {
            self.grace.note(&due, now);
            due.retain(|op| op.adds_route().is_none() || self.grace.is_over(op, now));
        }
        due
    }

    /// Records routes and rules again after the journal was lost: they have this agent's protocol and exactly its values.
    fn adopt(&mut self, ops: &[Op]) {
        for op in ops {
            info!(change = %op, "found unrecorded with this agent's mark and values; recorded again");
        }
        self.journal.claim(ops);
    }

    /// Carries out the plan. Returns the operations that succeeded, and those that failed.
    async fn write_all(&mut self, plan: Vec<Op>) -> (Vec<Op>, Vec<Failure>) {
        let adds: BTreeSet<_> = plan.iter().filter_map(Op::adds_route).collect();
        let targets = if adds.is_empty() { None } else { self.switch.before().await };
        self.journal.claim(&plan);
        if let Some(targets) = &targets {
            // If this agent ends during the trial, the next one reads this and continues to watch.
            self.journal.try_out(Some(Trial { cidrs: adds, sockets: targets.sockets() }));
        }
        self.journal.save().await;
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        for op in plan {
            match self.write(op).await {
                Ok(()) => done.push(op),
                Err(error) => failures.push(Failure { op, error: chain(&error).to_string() }),
            }
        }
        self.journal.release(&done);
        self.switch.after(done.iter().filter_map(Op::adds_route).collect(), targets);
        (done, failures)
    }

    async fn write(&self, op: Op) -> Result<(), RouteError> {
        match op {
            Op::PutRoute { cidr, found, route } => {
                routes::put_route(&self.netlink, cidr, route, found.is_some()).await?;
            }
            Op::DeleteRoute { cidr, route } => {
                for protocol in self.journal.records().route_protocols(cidr, route.table) {
                    routes::delete_route(&self.netlink, cidr, route.table, protocol).await?;
                }
            }
            Op::AddRule(rule) => routes::add_rule(&self.netlink, rule).await?,
            Op::DeleteRule(rule) => {
                if let Some(protocol) = self.journal.records().rule_protocol(rule) {
                    routes::delete_rule(&self.netlink, rule, protocol).await?;
                }
            }
            Op::ReplaceEntry { .. }
            | Op::AddEntry { .. }
            | Op::DeleteEntry { .. }
            | Op::PutIpcache { .. }
            | Op::DeleteIpcache { .. } => {}
        }
        Ok(())
    }

    /// Saves the state that the next agent needs.
    pub async fn save(&mut self) {
        let guard = self.switch.guard();
        self.journal.refuse(guard.refusal().cloned());
        if guard.on_trial().is_none() {
            self.journal.try_out(None);
        }
        self.journal.save().await;
    }

    /// Informs the guard of a configuration: a refusal applies only to the configuration that caused it.
    pub fn on_config(&mut self, view: &View) {
        view.last_good.iter().for_each(|good| self.switch.on_config(good));
    }

    /// Describes the VTEPs whose routes are refused because they cut the node off.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.switch.problems()
    }

    /// Whether a change of routes is on trial: the agent does not know yet whether the node's lifeline survives it.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.switch.guard().on_trial().is_some()
    }

    /// Waits for a test of the lifeline. Cancel-safe: if this future is dropped, the running test continues.
    pub async fn answer(&mut self) -> Option<Reach> {
        self.switch.answer().await
    }

    /// Handles the result of a test; the outcome says whether a pass is due.
    pub fn on_answer(&mut self, reach: Option<Reach>, view: Option<&View>) -> Outcome {
        match view.and_then(|view| view.last_good.as_ref()) {
            Some(good) => self.switch.on_answer(reach, good),
            None => Outcome::Nothing,
        }
    }
}
