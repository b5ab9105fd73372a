//! Publishes the result of a pass: the report for other loops, and one line in the log for each change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use ipnet::Ipv4Net;
use tracing::{info, warn};
use vtep_core::{
    config::view::View,
    datapath::{
        plan::Op,
        report::{DatapathReport, Pass},
    },
    types::error_chain::chain,
};

use super::{Reconciler, maps::MapsPass};
use crate::kernel::ipcache::Ipcache;

impl Reconciler {
    /// Assembles the report from this pass over the maps and from the last pass over routes.
    pub(super) fn publish(
        &mut self,
        view: &View,
        maps: MapsPass,
        repaired_routes: &[Op],
        observing: Option<String>,
        last_pass: Pass,
        now: Instant,
    ) {
        let MapsPass { observed, failures, repairs, conflicts, done: _, made_good: _, is_disturbed: _, is_same_map: _ } =
            maps;
        let routes = &self.routes.last;
        let why = |problem: Option<&dyn std::error::Error>| problem.map(|problem| chain(problem).to_string());
        let report = DatapathReport {
            model: observed.model,
            ipcache: observed.ipcache.as_ref().map(Ipcache::version),
            ipcache_conflicts: conflicts,
            observing,
            map_problem: why(observed.map_problem.as_ref().map(|error| error as _)),
            ipcache_problem: why(observed.ipcache_problem.as_ref().map(|error| error as _)),
            route_problem: why(routes.observed.problem.as_ref().map(|error| error as _)),
            refused: self.routes.refused(),
            verify_only: observed.decision.verify_only,
            over_capacity: observed.decision.over_capacity,
            foreign_routes: routes.observed.decision.foreign.iter().map(ToString::to_string).collect(),
            pending: [observed.decision.plan, routes.observed.decision.plan.clone()].concat(),
            failures: [failures, routes.failures.clone()].concat(),
            repairs: count(view, &self.current.repairs, repairs.iter().filter_map(Op::entry)),
            route_repairs: count(view, &self.current.route_repairs, repaired_routes.iter().filter_map(Op::route)),
            repairs_total: self.current.repairs_total + (repairs.len() + repaired_routes.len()) as u64,
            made_good: self.maps.contention.made_good(),
            contended: self.maps.contention.contended(now),
            backed_off: self.maps.contention.backed_off(now),
            last_pass: Some(last_pass),
        };
        self.log_changes(&report);
        self.log_problems(&report);
        let report = Arc::new(report);
        self.report.send_if_modified(|published| {
            let differs = published.differs(&report);
            published.clone_from(&report);
            differs
        });
        self.current = report;
    }

    /// Logs each new state once, not in every pass.
    fn log_changes(&self, report: &DatapathReport) {
        if report.verify_only && !self.current.verify_only {
            info!("VTEP map is an LPM trie, maintained from custom resources; comparing it, not writing");
        }
        if !report.foreign_routes.is_empty() && report.foreign_routes != self.current.foreign_routes {
            let (table, routes) = (self.settings.datapath.route_table, report.foreign_routes.join("; "));
            warn!(table, routes, "route table is shared; routes of others remain; see --route-table");
        }
    }

    /// Logs each new problem once, not in every pass.
    fn log_problems(&self, report: &DatapathReport) {
        let known: Vec<_> = self.current.problems().collect();
        for problem in report.problems().filter(|problem| !known.contains(problem)) {
            warn!(%problem, "datapath not as configured");
        }
        for cidr in report.over_capacity.difference(&self.current.over_capacity) {
            warn!(%cidr, "no room for this VTEP: entries from Cilium's start fill the map; restart the cilium DaemonSet");
        }
        for (cidr, inside) in
            report.ipcache_conflicts.iter().filter(|(cidr, _)| !self.current.ipcache_conflicts.contains_key(cidr))
        {
            let inside = inside.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            warn!(%cidr, inside, "Cilium has pods or nodes inside this VTEP's network");
        }
    }
}

/// Adds repairs to the counts since the start, for each VTEP of the current configuration.
fn count(
    view: &View,
    before: &BTreeMap<Ipv4Net, u64>,
    repaired: impl Iterator<Item = Ipv4Net>,
) -> BTreeMap<Ipv4Net, u64> {
    let wanted: BTreeSet<_> = view.effective.iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect();
    let mut counts = before.clone();
    for cidr in repaired {
        *counts.entry(cidr).or_default() += 1;
    }
    counts.retain(|cidr, _| wanted.contains(cidr));
    counts
}
