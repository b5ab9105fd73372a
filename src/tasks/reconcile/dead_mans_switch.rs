//! The dead man's switch: after routes were added, tests whether the node's lifeline still works, without blocking the loop.
//!
//! `route_guard` in the core decides; `lifeline` makes the tests.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use tokio::{task::JoinHandle, time};
use tracing::{info, warn};
use vtep_core::{
    config::spec::Spec,
    datapath::{
        records::{Records, Trial},
        route_guard::{Outcome, Reach, RouteGuard},
    },
};

use super::lifeline::{Lifeline, Targets};

/// The maximum time that a change of routes waits for a test of the lifeline. Map entries do not wait: the pass writes them before.
const ASK_TIMEOUT: Duration = Duration::from_millis(1500);
/// The lifetime of a test's result. Without it, routes that the kernel refuses would cause ten tests a second.
const ANSWER_AGE: Duration = Duration::from_secs(1);

pub(super) struct DeadMansSwitch {
    lifeline: Lifeline,
    guard: RouteGuard,
    /// The targets that could be reached before the last change.
    targets: Option<Targets>,
    /// The running test.
    reach: Option<JoinHandle<Option<Reach>>>,
    /// The result of the last test before a change, with its time.
    asked: Option<(Instant, Option<Targets>)>,
}

impl DeadMansSwitch {
    pub(super) fn new(lifeline: Lifeline) -> Self {
        Self { lifeline, guard: RouteGuard::default(), targets: None, reach: None, asked: None }
    }

    /// Continues the state of the previous agent: its trial and its refusal.
    pub(super) fn resume(&mut self, records: &Records) {
        self.guard = RouteGuard::new(records.refusal.clone());
        if let Some(Trial { cidrs, sockets }) = &records.trial {
            self.targets = (!sockets.is_empty()).then(|| Targets::Sockets(sockets.clone()));
            self.guard.on_added(cidrs.clone(), Instant::now());
        }
    }

    /// Informs the guard of a configuration. `good` has all its VTEPs, also those that the node's networks do not permit now.
    pub(super) fn on_config(&mut self, good: &Spec) {
        self.guard.on_config(good);
    }

    pub(super) fn guard(&self) -> &RouteGuard {
        &self.guard
    }

    /// Describes the refused VTEPs.
    pub(super) fn problems(&self) -> Vec<String> {
        let lifeline = &self.lifeline;
        let words = |cidr: Ipv4Net| {
            format!(
                "{lifeline} could not be reached after the host route to {cidr} was added: the agent withdrew route and rule, and does \
                 not add them again until the VTEPs of the configuration change; {cidr} seems to cover an address that this node needs"
            )
        };
        self.guard.refused().into_iter().map(words).collect()
    }

    /// Tests the lifeline before a change. Returns the targets if one can be reached; otherwise the change cannot cut anything off.
    pub(super) async fn before(&mut self) -> Option<Targets> {
        if let Some((_, targets)) = self.asked.as_ref().filter(|(at, _)| at.elapsed() < ANSWER_AGE) {
            return targets.clone();
        }
        let lifeline = self.lifeline.clone();
        let asked = time::timeout(ASK_TIMEOUT, async move {
            let targets = lifeline.targets().await?;
            (targets.reach().await == Some(Reach::Answered)).then_some(targets)
        });
        let targets = asked.await.ok().flatten();
        self.asked = Some((Instant::now(), targets.clone()));
        targets
    }

    /// Starts a trial after routes and rules to these CIDRs were added, if `targets` could be reached before.
    pub(super) fn after(&mut self, added: BTreeSet<Ipv4Net>, targets: Option<Targets>) {
        if targets.is_some() && !added.is_empty() {
            self.targets = targets;
            self.guard.on_added(added, Instant::now());
        }
    }

    /// Waits for the next test's result. Cancel-safe: if this future is dropped, the running test continues.
    pub(super) async fn answer(&mut self) -> Option<Reach> {
        let pending = match &mut self.reach {
            Some(pending) => pending,
            none => {
                match self.guard.due() {
                    Some(due) => time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
                let (targets, lifeline) = (self.targets.clone(), self.lifeline.clone());
                none.insert(tokio::spawn(async move {
                    let targets = if targets.is_some() { targets } else { lifeline.targets().await };
                    targets?.reach().await
                }))
            }
        };
        // A failed task yields no result, and the test is repeated.
        let answer = pending.await.unwrap_or(None);
        self.reach = None;
        answer
    }

    /// Handles the result of a test; the outcome says whether a pass is due.
    pub(super) fn on_answer(&mut self, reach: Option<Reach>, good: &Spec) -> Outcome {
        // A target that cannot be tested does not count as lost.
        let outcome = self.guard.on_probe(reach.unwrap_or(Reach::Answered), good, Instant::now());
        match outcome {
            Outcome::Withdraw => {
                for cidr in self.guard.refused() {
                    warn!(%cidr, lost = %self.lifeline, "cut off after a host route was added: withdrawing route and rule");
                }
            }
            Outcome::Restore => {
                info!(lost = %self.lifeline, "host routes did not cause the loss; adding them again");
            }
            Outcome::Nothing => {}
        }
        outcome
    }
}

impl Targets {
    /// The addresses for a test after a restart. Gateways are not saved: the next agent reads them again.
    pub(super) fn sockets(&self) -> Vec<SocketAddr> {
        match self {
            Self::Sockets(sockets) => sockets.clone(),
            Self::Gateways(..) => Vec::new(),
        }
    }
}
