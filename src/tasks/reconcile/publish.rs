//! What a pass found, as others see it: the report, and one line in the log for each change.

use std::{collections::BTreeSet, time::Instant};

use ipnet::Ipv4Net;
use tracing::{info, warn};
use vtep_core::{
    datapath::{
        plan::Op,
        report::{DatapathReport, Mode},
    },
    types::error_chain::chain,
};

use super::{
    Reconciler,
    observe::{RouteProblem, Scope, Survey},
};
use crate::kernel::ipcache::Ipcache;

impl Reconciler {
    pub(super) fn publish(
        &mut self,
        mut report: DatapathReport,
        found: Survey,
        wanted: &BTreeSet<Ipv4Net>,
        scope: Scope,
        now: Instant,
    ) {
        report.model = found.model;
        report.pending = found.decision.plan;
        report.verify_only = found.decision.verify_only;
        report.refused = self.switch.problems();
        report.repairs.retain(|key, _| wanted.contains(key));
        report.contended = self.contention.contended(now);
        report.left_alone = self.contention.left_alone(now);
        report.ipcache = found.maps.ipcache.as_ref().map(Ipcache::version);
        report.left_out = found.decision.left_out;
        report.map_problem = found.map_problem.as_ref().map(|problem| chain(problem).to_string());
        report.ipcache_problem = found.ipcache_problem.as_ref().map(|problem| chain(problem).to_string());
        match scope {
            Scope::All => {
                report.route_problem = found.route_problem.as_ref().map(|problem| chain(problem).to_string());
                report.foreign_routes = found.decision.foreign_routes.iter().map(ToString::to_string).collect();
                let unread = matches!(found.route_problem, Some(RouteProblem::Read(_)));
                let writes = self.settings.mode == Mode::Enforce && report.observing.is_none();
                if unread || (writes && report.pending.iter().any(Op::is_of_route)) {
                    // What is not done yet is looked at again at the next tick.
                    self.routes_due = now;
                }
            }
            Scope::Map => self.keep_routes(&mut report),
        }
        self.say_changes(&report);
        self.say_problems(&report);
        self.report.send_if_modified(|published| {
            let differs = published.differs(&report);
            published.clone_from(&report);
            differs
        });
        self.current = report;
    }

    /// A look at the map alone says nothing of routes: what was known of them stays.
    fn keep_routes(&self, report: &mut DatapathReport) {
        let is_route = |op: &Op| op.entry().is_none();
        report.pending.extend(self.current.pending.iter().filter(|op| is_route(op)).copied());
        report.failures.extend(self.current.failures.iter().filter(|failure| is_route(&failure.op)).cloned());
    }

    /// One line for each thing that somebody should know, not one for every pass that it lasts.
    fn say_changes(&self, report: &DatapathReport) {
        if report.verify_only && !self.current.verify_only {
            info!("VTEP map is an LPM trie, kept from custom resources: compared, not written");
        }
        if !report.foreign_routes.is_empty() && report.foreign_routes != self.current.foreign_routes {
            let (table, routes) = (self.settings.survey.route_table, report.foreign_routes.join("; "));
            warn!(table, routes, "route table is shared: foreign routes stay; see --route-table");
        }
    }

    /// One line for each problem, not one for every pass that it lasts.
    fn say_problems(&self, report: &DatapathReport) {
        let known: Vec<_> = self.current.problems().collect();
        for problem in report.problems().filter(|problem| !known.contains(problem)) {
            warn!(%problem, "datapath not as configured");
        }
        for cidr in report.left_out.difference(&self.current.left_out) {
            warn!(%cidr, "no room for this VTEP: the map is full of what Cilium was started with; restart the cilium DaemonSet");
        }
        for (cidr, inside) in report.intruders.iter().filter(|(cidr, _)| !self.current.intruders.contains_key(cidr)) {
            let inside = inside.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            warn!(%cidr, inside, "Cilium has pods or nodes inside this VTEP's network");
        }
    }
}
