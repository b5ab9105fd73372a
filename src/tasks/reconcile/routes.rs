//! Host routes and their rules: observe, decide, write, observe again. Each is on record before it is there.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rtnetlink::Handle;
use tracing::info;
use vtep_core::{
    config::view::View,
    datapath::{
        decide::{
            Inputs,
            routes::{Decision, Past, RouteConflict, decide},
        },
        plan::Op,
        records::Trial,
        repairs::Repairs,
        report::{Failure, Reason},
        route_guard::{Outcome, Reach},
        settings::HostRoutes,
    },
    types::error_chain::chain,
};

use super::{journal::Journal, lifeline::Lifeline, switch::Switch};
use crate::kernel::routes::{self, RouteError};

/// Routes are compared at least this often, should a notice of a change be lost.
const INTERVAL: Duration = Duration::from_secs(5);
/// Notices that come sooner than this after routes were compared wait for the next tick.
const PAUSE: Duration = Duration::from_millis(50);

/// Keeps the host routes as the configuration wants them.
pub struct RoutesReconciler {
    netlink: Handle,
    journal: Journal,
    switch: Switch,
    repairs: Repairs,
    due: Instant,
    compared: Instant,
    /// How routes stand since they were compared last.
    pub last: RoutesPass,
}

/// What the kernel holds, and what is to do about it.
#[derive(Default)]
pub struct Observed {
    pub decision: Decision,
    /// Why routes could not be compared.
    pub problem: Option<RouteProblem>,
}

/// What a pass over routes found in the end, and did.
#[derive(Default)]
pub struct RoutesPass {
    pub observed: Observed,
    pub done: Vec<Op>,
    pub failures: Vec<Failure>,
    /// How many of `done` put right what somebody else changed.
    pub repairs: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteProblem {
    #[error(transparent)]
    Read(#[from] RouteError),
    #[error(transparent)]
    Conflict(#[from] RouteConflict),
}

/// Looks at routes and rules, and plans; changes nothing. `ipcache_seen`: there is an ipcache, readable or not.
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
        let (switch, repairs, now) = (Switch::new(lifeline), Repairs::default(), Instant::now());
        Self { netlink, journal, switch, repairs, due: now, compared: now, last: RoutesPass::default() }
    }

    /// From now on this agent writes: another may have written until now.
    pub fn take_over(&mut self) {
        self.journal.reload();
        self.switch.resume(self.journal.records());
    }

    /// Whether a notice of a change waits for the next tick: a node with many pods changes routes all the time.
    pub fn defers_notice(&mut self) -> bool {
        let defers = self.compared.elapsed() < PAUSE;
        if defers {
            self.due = Instant::now();
        }
        defers
    }

    #[must_use]
    pub fn is_due(&self, reason: Reason, now: Instant) -> bool {
        reason != Reason::Tick || now >= self.due
    }

    /// One pass; `writes`: the plan is carried out. `is_same_map`: Cilium was not restarted since the pass before.
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
        let (mut done, mut failures, mut repairs) = (Vec::new(), Vec::new(), 0);
        if writes && !observed.decision.plan.is_empty() {
            (done, failures) = self.write_all(std::mem::take(&mut observed.decision.plan)).await;
            let Decision { desired, keep, .. } = &observed.decision;
            if is_same_map {
                repairs = self.repairs.among(desired, keep, &done).count() as u64;
            }
            // Planning again is the verification.
            observed = self.observe(inputs, ipcache_seen).await;
        }
        let Decision { desired, keep, plan, .. } = &observed.decision;
        self.repairs.on_pass(desired, keep, &done, plan);
        let is_unread = matches!(observed.problem, Some(RouteProblem::Read(_)));
        if is_unread || (writes && !plan.is_empty()) {
            // What is left to do is tried again at the next tick.
            self.due = now;
        }
        self.last = RoutesPass { observed, done, failures, repairs };
    }

    async fn observe(&self, inputs: Inputs<'_>, ipcache_seen: bool) -> Observed {
        let refused = self.switch.guard().refused();
        let past = Past { records: self.journal.records(), refused: &refused };
        observe(inputs, past, &self.netlink, ipcache_seen).await
    }

    /// The journal was lost, and these are just as this agent makes them, with its mark.
    fn adopt(&mut self, ops: &[Op]) {
        for op in ops {
            info!(change = %op, "found unrecorded with this agent's mark and values; recorded again");
        }
        self.journal.claim(ops);
    }

    /// Carries out what is planned. Gives what was done, and what the kernel refused.
    async fn write_all(&mut self, plan: Vec<Op>) -> (Vec<Op>, Vec<Failure>) {
        let adds: BTreeSet<_> = plan.iter().filter_map(Op::adds_route).collect();
        let targets = if adds.is_empty() { None } else { self.switch.before().await };
        self.journal.claim(&plan);
        if let Some(targets) = &targets {
            // An agent that ends in the middle is followed by one that goes on watching.
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

    /// Writes down what the next agent must know.
    pub async fn save(&mut self) {
        let guard = self.switch.guard();
        self.journal.refuse(guard.refusal().cloned());
        if guard.on_trial().is_none() {
            self.journal.try_out(None);
        }
        self.journal.save().await;
    }

    /// A configuration came: what was refused for another is not refused for this one.
    pub fn on_config(&mut self, view: &View) {
        view.last_good.iter().for_each(|good| self.switch.on_config(good));
    }

    /// VTEPs whose routes are refused because they cut the node off, in words.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.switch.problems()
    }

    /// A change of routes is watched, until it is known that the node can still be corrected.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.switch.guard().on_trial().is_some()
    }

    /// Waits for an answer of what no route may cut off. May be dropped at any moment: what is awaited stays awaited.
    pub async fn answer(&mut self) -> Option<Reach> {
        self.switch.answer().await
    }

    /// Whether a pass is due because of an answer.
    pub fn on_answer(&mut self, reach: Option<Reach>, view: Option<&View>) -> Outcome {
        match view.and_then(|view| view.last_good.as_ref()) {
            Some(good) => self.switch.on_answer(reach, good),
            None => Outcome::Nothing,
        }
    }
}
