//! The loop that keeps the kernel as the configuration wants it: survey, apply, survey again.
//!
//! Ten times a second the map is compared with the configuration; routes are compared when the kernel tells of a change, and
//! every few seconds. Nothing is remembered of what was applied: what failed is simply still in the next plan.

mod apply;
pub mod ipcache_ledger;
pub mod ipcache_search;
pub mod journal;
mod lifeline;
pub mod observe;
mod publish;
mod switch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use rtnetlink::Handle;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tracing::{info, warn};
use vtep_core::{
    config::view::View,
    datapath::{
        contention::Contention,
        decide::Inputs,
        ipcache::Inside,
        plan::{Keep, Op},
        report::{DatapathReport, Mode, Pass, Reason},
        route_guard::{Outcome, Reach},
        settings,
        state::State,
    },
    node::{facts::Facts, fitness::Fitness},
};

use self::{
    ipcache_ledger::Ledger,
    ipcache_search::Search,
    journal::Journal,
    observe::{Scope, Survey, survey},
    switch::Switch,
};
use crate::{
    kernel::{lock::NodeLock, vtep_map::VtepMap},
    liveness::Beat,
};

pub use self::lifeline::Lifeline;

/// Routes are compared at least this often, should a notice of a change be lost.
const ROUTES_INTERVAL: Duration = Duration::from_secs(5);
/// Notices that come sooner than this after routes were compared wait for the next tick.
const ROUTES_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// On a node that is not fit nothing is written.
    pub fitness: Arc<Fitness>,
    /// How often the map is compared.
    pub tick: Duration,
    pub survey: settings::Settings,
    /// What no route may cut off.
    pub lifeline: Lifeline,
}

/// What tells of changes in the kernel; each may miss some.
pub struct Notices {
    pub routes: mpsc::Receiver<()>,
    pub pins: mpsc::Receiver<()>,
}

/// What this agent remembers of what it wrote.
pub struct Memory {
    /// Of the ipcache.
    pub ledger: Ledger,
    /// Of routes and rules.
    pub journal: Journal,
}

pub struct Reconciler {
    settings: Settings,
    netlink: Handle,
    config: watch::Receiver<Option<Arc<View>>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    report: watch::Sender<DatapathReport>,
    ledger: Ledger,
    journal: Journal,
    switch: Switch,
    lock: Option<NodeLock>,
    contention: Contention,
    search: Search,
    map_id: Option<u32>,
    /// What the last pass aimed at.
    aim: Option<(State, Keep)>,
    /// What the last pass left to do: to do it later is no repair.
    unfinished: Vec<Op>,
    routes_due: Instant,
    routes_read: Instant,
    current: DatapathReport,
}

impl Reconciler {
    #[must_use]
    pub fn new(
        settings: Settings,
        netlink: Handle,
        config: watch::Receiver<Option<Arc<View>>>,
        facts: watch::Receiver<Option<Arc<Facts>>>,
        Memory { ledger, journal }: Memory,
        report: watch::Sender<DatapathReport>,
    ) -> Self {
        let switch = Switch::new(settings.lifeline.clone());
        Self {
            settings,
            netlink,
            config,
            facts,
            report,
            ledger,
            journal,
            switch,
            lock: None,
            contention: Contention::default(),
            search: Search::default(),
            map_id: None,
            aim: None,
            unfinished: Vec::new(),
            routes_due: Instant::now(),
            routes_read: Instant::now(),
            current: DatapathReport::default(),
        }
    }

    /// Runs until the configuration's sender is gone.
    pub async fn run(mut self, mut notices: Notices, beat: Beat) {
        let mut tick = time::interval(self.settings.tick);
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let reason = tokio::select! {
                biased;
                changed = self.config.changed() => if changed.is_ok() { Reason::ConfigChanged } else { return },
                Ok(()) = self.facts.changed() => Reason::NodeChanged,
                Some(()) = notices.pins.recv() => Reason::PinsChanged,
                reach = self.switch.answer() => match self.on_answer(reach) {
                    Outcome::Nothing => continue,
                    Outcome::Withdraw | Outcome::Restore => Reason::CutOff,
                },
                Some(()) = notices.routes.recv() => Reason::RoutesChanged,
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

    /// One pass, for `run --once`; and what must be seen after it, where it added routes: that the API server is still there.
    pub async fn once(mut self) -> DatapathReport {
        self.pass(Reason::Once).await;
        while self.switch.guard().on_trial().is_some() {
            let reach = self.switch.answer().await;
            if self.on_answer(reach) == Outcome::Withdraw {
                self.pass(Reason::CutOff).await;
            } else if reach == Some(Reach::Answered) {
                break;
            }
        }
        self.current
    }

    fn on_answer(&mut self, reach: Option<Reach>) -> Outcome {
        let view = self.config.borrow().clone();
        match view.as_ref().and_then(|view| view.last_good.as_ref()) {
            Some(good) => self.switch.on_answer(reach, good),
            None => Outcome::Nothing,
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
        let mut report = DatapathReport { failures: Vec::new(), ..self.current.clone() };
        report.observing = self.why_only_observing(&facts);
        view.last_good.iter().for_each(|good| self.switch.on_config(good));
        let mut found = self.look(&view, &facts, scope).await;
        let map_before = self.map_id;
        self.note_map(found.maps.vteps.as_ref());
        let mut done = Vec::new();
        let writes = self.settings.mode == Mode::Enforce && report.observing.is_none();
        if writes && !found.decision.adopt.is_empty() {
            // The journal was lost, and they are just as this agent makes them, with its mark.
            for op in &found.decision.adopt {
                info!(change = %op, "found as this agent makes it, with its mark: on record again");
            }
            self.journal.claim(&found.decision.adopt);
            found = self.look(&view, &facts, scope).await;
        }
        if writes && !found.decision.plan.is_empty() {
            // The last pass aimed at the same, in the same map: what differs now, somebody else changed.
            let settled = self.aim.as_ref() == Some(&self.whole_aim(&found, scope)) && self.map_id == map_before;
            done = self.apply_all(&mut found, &mut report, start).await;
            for op in &done {
                info!(change = %op, %reason, "kernel changed");
                if settled && !self.unfinished.contains(op) {
                    self.count_repair(op, start, &mut report);
                }
            }
            // Planning again is the verification.
            found = self.look(&view, &facts, scope).await;
        }
        if writes {
            self.remember().await;
        }
        let (applied, failed) = (done.len(), report.failures.len());
        self.aim = Some(self.whole_aim(&found, scope));
        let wanted: BTreeSet<_> = view.in_force.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
        report.intruders = self.intruders(&found, &wanted, start).await;
        let (at, took, config_hash) = (Timestamp::now(), start.elapsed(), view.hash.clone());
        report.last_pass = Some(Pass { at, config_hash, reason, took, applied, failed });
        self.publish(report, found, &wanted, scope, start);
        // What was done and differs again already, somebody else has undone.
        let undone =
            |op: &&Op| done.iter().any(|done| done == *op || (op.entry().is_some() && done.entry() == op.entry()));
        self.unfinished = self.current.pending.iter().filter(|op| !undone(op)).copied().collect();
    }

    async fn look(&self, view: &View, facts: &Facts, scope: Scope) -> Survey {
        let refused = self.switch.guard().refused();
        let inputs = Inputs {
            settings: &self.settings.survey,
            view,
            facts,
            owned: self.ledger.owned(),
            records: self.journal.records(),
            refused: &refused,
        };
        survey(inputs, &self.netlink, scope).await
    }

    /// A look at the maps alone aims at nothing for routes: what it was before stays.
    fn whole_aim(&self, found: &Survey, scope: Scope) -> (State, Keep) {
        let (mut desired, keep) = (found.decision.desired.clone(), found.decision.keep.clone());
        if let (Scope::Map, Some((before, _))) = (scope, &self.aim) {
            desired.routes.clone_from(&before.routes);
            desired.rules.clone_from(&before.rules);
        }
        (desired, keep)
    }

    /// What keeps an agent that should write from writing. An unfit node is told by its own words elsewhere.
    fn why_only_observing(&mut self, facts: &Facts) -> Option<String> {
        if self.settings.mode == Mode::Observe {
            return None;
        }
        if !self.settings.fitness.kernel(facts.version).supported {
            return Some("this node is not fit: nothing is written".to_owned());
        }
        if self.lock.is_none() {
            match NodeLock::take() {
                Ok(Some(lock)) => {
                    self.lock = Some(lock);
                    // Another agent may have written until now.
                    self.journal.reload();
                    self.switch.resume(self.journal.records());
                }
                Ok(None) => {
                    return Some(
                        "another vtep-agent writes on this node: this one only observes; end one of them".to_owned(),
                    );
                }
                Err(error) => {
                    return Some(format!("cannot tell whether another vtep-agent writes on this node: {error}"));
                }
            }
        }
        None
    }

    /// What the ipcache gives to something else: whole CIDRs as of this look, and what is inside them as of the last search.
    async fn intruders(
        &mut self,
        found: &Survey,
        wanted: &BTreeSet<Ipv4Net>,
        now: Instant,
    ) -> BTreeMap<Ipv4Net, Vec<Inside>> {
        let Some(ipcache) = &found.maps.ipcache else { return BTreeMap::new() };
        let bpffs = &self.settings.survey.bpffs;
        let mut intruders = self.search.turn(bpffs, ipcache.id, wanted, now).await.clone();
        for (&cidr, &entry) in &found.decision.taken {
            intruders.entry(cidr).or_default().insert(0, Inside { prefix: cidr, entry });
        }
        intruders
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
                (_, Some(id)) => info!(map_id = id, "the VTEP map is there"),
                (Some(id), None) => warn!(map_id = id, "the VTEP map is gone"),
                (None, None) => {}
            }
            self.map_id = id;
        }
    }

    fn count_repair(&mut self, op: &Op, now: Instant, report: &mut DatapathReport) {
        report.repairs_total += 1;
        let Some(cidr) = op.entry() else { return };
        *report.repairs.entry(cidr).or_default() += 1;
        if self.contention.on_repair(cidr, op.found(), now) {
            warn!(%cidr, "somebody keeps overwriting this VTEP entry; leaving it alone for a minute");
        }
    }
}
