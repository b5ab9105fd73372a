//! The dead man's switch at work: asks whether the node can still be corrected after routes were added, beside the loop.
//!
//! What it decides by is in `route_guard`; whom it asks, in `lifeline`.

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

/// How long a change of routes waits to know whether the API server is there: map entries are written before.
const ASK_TIMEOUT: Duration = Duration::from_millis(1500);
/// An answer holds so long: routes that the kernel refuses are tried again ten times a second.
const ANSWER_AGE: Duration = Duration::from_secs(1);

pub(super) struct Switch {
    lifeline: Lifeline,
    guard: RouteGuard,
    /// Whom to ask: what was there before the last change.
    targets: Option<Targets>,
    /// The answer that is awaited.
    reach: Option<JoinHandle<Option<Reach>>>,
    /// What was there when it was asked for last before a change.
    asked: Option<(Instant, Option<Targets>)>,
}

impl Switch {
    pub(super) fn new(lifeline: Lifeline) -> Self {
        Self { lifeline, guard: RouteGuard::default(), targets: None, reach: None, asked: None }
    }

    /// Goes on with what an agent before this one had begun: a change that was not proven yet, and what was refused.
    pub(super) fn resume(&mut self, records: &Records) {
        self.guard = RouteGuard::new(records.refusal.clone());
        if let Some(Trial { cidrs, sockets }) = &records.trial {
            self.targets = (!sockets.is_empty()).then(|| Targets::Sockets(sockets.clone()));
            self.guard.on_added(cidrs.clone(), Instant::now());
        }
    }

    /// `good`: the VTEPs of the configuration, whether the node's needs allow them now or not.
    pub(super) fn on_config(&mut self, good: &Spec) {
        self.guard.on_config(good);
    }

    pub(super) fn guard(&self) -> &RouteGuard {
        &self.guard
    }

    /// What is refused, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let lifeline = &self.lifeline;
        let words = |cidr: Ipv4Net| {
            format!(
                "{lifeline} could not be reached after the host route to {cidr} was added: route and rule were taken back, and are not added \
                 again until the VTEPs of the configuration change; {cidr} seems to cover what this node needs"
            )
        };
        self.guard.refused().into_iter().map(words).collect()
    }

    /// What can be reached before a change, if anything: the rest is not lost by it.
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

    /// After routes and rules to these CIDRs were added while `targets` could be reached.
    pub(super) fn after(&mut self, added: BTreeSet<Ipv4Net>, targets: Option<Targets>) {
        if targets.is_some() && !added.is_empty() {
            self.targets = targets;
            self.guard.on_added(added, Instant::now());
        }
    }

    /// Waits until there is an answer. May be dropped at any moment: what is awaited stays awaited.
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
        // A task that failed has no answer: it is asked again.
        let answer = pending.await.unwrap_or(None);
        self.reach = None;
        answer
    }

    /// Whether a pass is due because of an answer.
    pub(super) fn on_answer(&mut self, reach: Option<Reach>, good: &Spec) -> Outcome {
        // What cannot be asked is not lost.
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
    /// To ask them again after a restart.
    pub(super) fn sockets(&self) -> Vec<SocketAddr> {
        match self {
            Self::Sockets(sockets) => sockets.clone(),
            Self::Gateways(..) => Vec::new(),
        }
    }
}
