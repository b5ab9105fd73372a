//! The loop that keeps the kernel in the configured state: observe, decide, write, observe again.
//!
//! A pass compares the maps with the configuration: when the sentinel calls, because a byte of the VTEP map has changed, and every second; ten
//! times a second while work is left. It compares the routes when the kernel reports a change and every few seconds. It keeps no list of
//! failed writes, because the next plan contains them again.

mod dead_mans_switch;
pub mod ipcache_ledger;
pub mod ipcache_search;
pub mod journal;
mod lifeline;
pub mod maps;
mod publish;
pub mod routes;
mod sentinel;

use std::{
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
use vtep_core::{
    config::view::View,
    datapath::{
        decide::Inputs,
        look_pace::LookPace,
        plan::Op,
        report::{DatapathReport, Mode, Pass, Reason},
        route_guard::{Outcome, Reach},
        settings,
    },
    node::{facts::Facts, fitness::Fitness},
    tunnel::mac_learning::LearnedMacs,
};

use self::{
    ipcache_ledger::Ledger,
    journal::Journal,
    maps::MapsReconciler,
    routes::RoutesReconciler,
    sentinel::{Sentinel, Watch},
};
use crate::{kernel::lock::NodeLock, liveness::Heartbeat, together};

pub use self::lifeline::Lifeline;

/// The time between two passes while everything is as it should be.
const QUIET: Duration = Duration::from_secs(1);
/// The time between two passes while work is left, or while no sentinel looks at the map.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// If the node is not supported, the reconciler writes nothing.
    pub fitness: Arc<Fitness>,
    /// The interval between two looks at the VTEP map.
    pub look: Duration,
    pub datapath: settings::Settings,
    /// The connection that no route may cut off.
    pub lifeline: Lifeline,
    /// Asks the source to read the custom resources again, before the agent writes against what it may not know.
    pub recheck: watch::Sender<()>,
}

/// Notices of changes in the kernel. Each channel may miss some.
pub struct Notices {
    pub routes: mpsc::Receiver<()>,
    pub pins: mpsc::Receiver<()>,
}

/// What the other loops have found.
pub struct Watched {
    pub config: watch::Receiver<Option<Arc<View>>>,
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    /// The MACs that entries have in the place of configured ones.
    pub macs: watch::Receiver<Arc<LearnedMacs>>,
}

/// The records of this agent's own writes.
pub struct Memory {
    /// Ipcache entries.
    pub ledger: Ledger,
    /// Routes and rules.
    pub journal: Journal,
}

pub struct Reconciler {
    settings: Settings,
    config: watch::Receiver<Option<Arc<View>>>,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    macs: watch::Receiver<Arc<LearnedMacs>>,
    report: watch::Sender<Arc<DatapathReport>>,
    maps: MapsReconciler,
    routes: RoutesReconciler,
    lock: Option<NodeLock>,
    sentinel: Option<Sentinel>,
    pace: LookPace,
    /// When the next pass is due, if nothing else causes one.
    due: Instant,
    current: Arc<DatapathReport>,
}

impl Reconciler {
    #[must_use]
    pub fn new(
        settings: Settings,
        netlink: Handle,
        Watched { config, facts, macs }: Watched,
        Memory { ledger, journal }: Memory,
        report: watch::Sender<Arc<DatapathReport>>,
    ) -> Self {
        let routes = RoutesReconciler::new(netlink, journal, settings.lifeline.clone());
        let (maps, current) = (MapsReconciler::new(ledger, settings.recheck.clone()), Arc::default());
        let (lock, sentinel, pace, due) = (None, None, LookPace::new(settings.look), Instant::now());
        Self { settings, config, facts, macs, report, maps, routes, lock, sentinel, pace, due, current }
    }

    /// Runs until the configuration's sender is gone.
    pub async fn run(mut self, mut notices: Notices, heartbeat: Heartbeat) {
        match Sentinel::start() {
            Ok(sentinel) => self.sentinel = Some(sentinel),
            Err(error) => warn!(%error, "no thread for the sentinel: comparing the VTEP map ten times a second"),
        }
        loop {
            let reason = tokio::select! {
                biased;
                changed = self.config.changed() => if changed.is_ok() { Reason::ConfigChanged } else { return },
                Ok(()) = self.facts.changed() => Reason::NodeChanged,
                Ok(()) = self.macs.changed() => Reason::MacLearned,
                Some(()) = notices.pins.recv() => Reason::PinsChanged,
                reach = self.routes.answer() => match self.on_answer(reach) {
                    Outcome::Nothing => continue,
                    Outcome::Withdraw | Outcome::Restore => Reason::CutOff,
                },
                Some(()) = sentinel::called(self.sentinel.as_mut()) => Reason::MapChanged,
                Some(()) = notices.routes.recv() => Reason::RoutesChanged,
                () = time::sleep_until(self.due.into()) => Reason::Tick,
            };
            if reason == Reason::RoutesChanged && self.routes.defers_notice() {
                self.due = self.due.min(Instant::now() + self.retry());
                continue;
            }
            self.pass(reason).await;
            heartbeat.beat();
        }
    }

    /// One pass, for `run --once`. If it added routes, it waits until the API server is known to be still reachable.
    pub async fn once(mut self) -> Arc<DatapathReport> {
        self.pass(Reason::Once).await;
        while self.routes.is_on_trial() {
            let reach = self.routes.answer().await;
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
        self.routes.on_answer(reach, view.as_deref())
    }

    async fn pass(&mut self, reason: Reason) {
        let start = Instant::now();
        self.due = start + self.retry();
        let view = self.config.borrow_and_update().clone();
        let facts = self.facts.borrow_and_update().clone();
        // Before the first valid configuration there is nothing to compare with, and nothing to delete.
        let (Some(view), Some(facts)) = (view, facts) else { return };
        if view.effective.is_none() {
            return;
        }
        let observing = self.why_only_observing(&facts);
        let writes = self.settings.mode == Mode::Enforce && observing.is_none();
        let settings = self.settings.datapath.clone();
        let macs = self.macs.borrow_and_update().clone();
        let inputs = Inputs { settings: &settings, view: &view, facts: &facts, macs: &macs };
        self.routes.on_config(&view);
        let mut maps = self.maps.pass(inputs, writes, start).await;
        if maps.repairs.iter().any(|op| op.found().is_some()) || maps.made_good > 0 {
            self.pace.on_overwrite(start);
        }
        let look = maps.observed.look.take();
        let is_settled = maps.observed.is_settled(writes);
        let is_disturbed = maps.is_disturbed;
        let with_routes = !maps.is_same_map || self.routes.is_due(reason, start);
        if with_routes {
            self.routes.pass(inputs, maps.observed.ipcache_seen, writes, maps.is_same_map, start).await;
        }
        let routes = with_routes.then_some(&self.routes.last);
        let changes = || maps.done.iter().chain(routes.into_iter().flat_map(|routes| &routes.done));
        changes().for_each(|op: &Op| info!(change = %op, %reason, "kernel changed"));
        let last_pass = Pass {
            at: Timestamp::now(),
            config_hash: view.hash.clone(),
            reason,
            took: start.elapsed(),
            applied: changes().count(),
            failed: maps.failures.len() + routes.map_or(0, |routes| routes.failures.len()),
        };
        let repaired_routes = routes.map(|routes| routes.repairs.clone()).unwrap_or_default();
        if writes {
            self.routes.save().await;
        }
        self.publish(&view, maps, &repaired_routes, observing, last_pass, start);
        self.pace.hold_back(!self.current.backed_off.is_empty());
        let watch = look.map(|look| Watch { look, pace: self.pace });
        let looks = self.sentinel.as_ref().is_some_and(|sentinel| sentinel.watch(watch));
        if looks && is_settled {
            self.due = together::next(QUIET.max(self.settings.look));
            // The routes may have work left.
            self.due = self.due.min(self.routes.next_comparison()).max(start + self.retry());
        }
        if is_disturbed {
            self.due = self.due.min(start + self.settings.look);
        }
    }

    /// The time between two passes while work is left.
    fn retry(&self) -> Duration {
        RETRY.max(self.settings.look)
    }

    /// The reason why an agent in enforce mode does not write. The notifier logs why a node is not supported.
    fn why_only_observing(&mut self, facts: &Facts) -> Option<String> {
        if self.settings.mode == Mode::Observe {
            return None;
        }
        if !self.settings.fitness.kernel(facts.version).supported {
            return Some("node unsupported; running read-only".to_owned());
        }
        if self.lock.is_none() {
            match NodeLock::take() {
                Ok(Some(lock)) => {
                    self.lock = Some(lock);
                    self.routes.take_over();
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
}
