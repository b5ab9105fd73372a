//! Carries out a plan: entries first, then routes, each of which is on record before it is there.

use std::{collections::BTreeSet, time::Instant};

use vtep_core::{
    datapath::{
        abi::IpcacheEntry,
        plan::Op,
        records::Trial,
        report::{DatapathReport, Failure},
    },
    types::error_chain::chain,
};

use super::{
    Reconciler,
    observe::{Maps, Survey},
};
use crate::{
    kernel::{
        maps::MapError,
        routes::{self, RouteError},
    },
    state_file::StateError,
};

#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("the ipcache is left as it is: what is ours there could not be written down")]
    Ledger(#[from] StateError),
}

impl Reconciler {
    /// Does what is planned, as far as it may and can be done; gives what was done.
    pub(super) async fn apply_all(&mut self, found: &mut Survey, report: &mut DatapathReport, now: Instant) -> Vec<Op> {
        let (routes, entries): (Vec<_>, Vec<_>) =
            std::mem::take(&mut found.decision.plan).into_iter().partition(Op::is_of_route);
        let mut done = Vec::new();
        for op in entries {
            let backs_off = op.entry().is_some_and(|cidr| self.contention.holds_back(cidr, now));
            if backs_off || (found.decision.verify_only && op.is_of_vtep_map()) {
                continue;
            }
            self.apply_one(op, &mut found.maps, report, &mut done).await;
        }
        if routes.is_empty() {
            return done;
        }
        let adds: BTreeSet<_> = routes.iter().filter_map(Op::adds_route).collect();
        let targets = if adds.is_empty() { None } else { self.switch.before().await };
        self.journal.claim(&routes);
        let trial = targets.as_ref().map(|targets| Trial { cidrs: adds, sockets: targets.sockets() });
        if trial.is_some() {
            // An agent that ends in the middle is followed by one that goes on watching.
            self.journal.try_out(trial);
        }
        self.journal.save().await;
        let before = done.len();
        for op in routes {
            self.apply_one(op, &mut found.maps, report, &mut done).await;
        }
        self.journal.release(done.iter().skip(before));
        self.switch.after(done.iter().skip(before).filter_map(Op::adds_route).collect(), targets);
        done
    }

    /// Writes down what the next agent must know.
    pub(super) async fn remember(&mut self) {
        let guard = self.switch.guard();
        self.journal.refuse(guard.refusal().cloned());
        if guard.on_trial().is_none() {
            self.journal.try_out(None);
        }
        self.journal.save().await;
    }

    async fn apply_one(&mut self, op: Op, maps: &mut Maps, report: &mut DatapathReport, done: &mut Vec<Op>) {
        match self.apply(op, maps).await {
            Ok(()) => done.push(op),
            Err(error) => report.failures.push(Failure { op, error: chain(&error).to_string() }),
        }
    }

    async fn apply(&mut self, op: Op, maps: &mut Maps) -> Result<(), ApplyError> {
        let Maps { vteps, ipcache } = maps;
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
        }
        Ok(())
    }
}
