//! The result of a pass, and the state of the datapath after it. Values only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    contention::Contended,
    ipcache::{Inside, Version},
    layout::Layout,
    plan::Op,
};

/// Whether the agent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Reads and probes, but writes nothing.
    Observe,
    Enforce,
}

/// The reason for a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    ConfigChanged,
    NodeChanged,
    PinsChanged,
    /// The VTEP map differs from what the last pass has left.
    MapChanged,
    RoutesChanged,
    /// An entry gets the MAC that BIG-IP's tunnel answers with, or the configured one back.
    MacLearned,
    Tick,
    /// The node lost the API server after a change by this agent.
    CutOff,
    /// `run --once`.
    Once,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ConfigChanged => "config-changed",
            Self::NodeChanged => "node-changed",
            Self::PinsChanged => "pins-changed",
            Self::MapChanged => "map-changed",
            Self::RoutesChanged => "routes-changed",
            Self::MacLearned => "mac-learned",
            Self::Tick => "tick",
            Self::CutOff => "cut-off",
            Self::Once => "once",
        })
    }
}

/// The result of the last pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub at: Timestamp,
    /// The hash of its configuration.
    pub config_hash: String,
    pub reason: Reason,
    pub took: Duration,
    pub applied: usize,
    pub failed: usize,
}

/// The state of the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatapathReport {
    pub model: Layout,
    /// Operations that are not applied: all of them in observe mode, otherwise those that failed.
    pub pending: Vec<Op>,
    /// The ipcache's layout; `None` if no ipcache is readable.
    pub ipcache: Option<Version>,
    /// VTEP CIDR → the entries inside it that Cilium's ipcache maps to something else.
    pub ipcache_conflicts: BTreeMap<Ipv4Net, Vec<Inside>>,
    /// VTEPs over capacity: the map has no room for them.
    pub over_capacity: BTreeSet<Ipv4Net>,
    /// Why the agent writes nothing in spite of enforce mode, in words.
    pub observing: Option<String>,
    /// Why no map can be written, in words.
    pub map_problem: Option<String>,
    /// Why the ipcache could not be read, in words.
    pub ipcache_problem: Option<String>,
    /// Why routes could not be compared, in words.
    pub route_problem: Option<String>,
    /// VTEPs whose host route was withdrawn because it cut the node off, in words.
    pub refused: Vec<String>,
    /// The VTEP map belongs to somebody else: the agent compares it and never writes it.
    pub verify_only: bool,
    /// Foreign routes in our table, in words.
    pub foreign_routes: Vec<String>,
    /// Operations that the kernel refused; they are pending, too.
    pub failures: Vec<Failure>,
    /// Repairs of drift since the start, per entry.
    pub repairs: BTreeMap<Ipv4Net, u64>,
    /// Repairs of routes and rules since the start, per CIDR.
    pub route_repairs: BTreeMap<Ipv4Net, u64>,
    /// Repairs of drift since the start, routes and rules included.
    pub repairs_total: u64,
    /// How often somebody wrote the configured MAC over a learned one, as Cilium's sync does, and the agent put the learned one back.
    pub made_good: BTreeMap<Ipv4Net, u64>,
    /// Entries that somebody keeps overwriting.
    pub contended: BTreeMap<Ipv4Net, Contended>,
    /// The contended entries that the agent backs off from now.
    pub backed_off: BTreeSet<Ipv4Net>,
    pub last_pass: Option<Pass>,
}

/// An operation that the kernel refused, and the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub op: Op,
    pub error: String,
}

impl Default for DatapathReport {
    fn default() -> Self {
        Self {
            model: Layout::None,
            pending: Vec::new(),
            ipcache: None,
            ipcache_conflicts: BTreeMap::new(),
            over_capacity: BTreeSet::new(),
            observing: None,
            map_problem: None,
            ipcache_problem: None,
            route_problem: None,
            refused: Vec::new(),
            verify_only: false,
            foreign_routes: Vec::new(),
            failures: Vec::new(),
            repairs: BTreeMap::new(),
            route_repairs: BTreeMap::new(),
            repairs_total: 0,
            made_good: BTreeMap::new(),
            contended: BTreeMap::new(),
            backed_off: BTreeSet::new(),
            last_pass: None,
        }
    }
}

impl DatapathReport {
    #[must_use]
    pub fn in_sync(&self) -> bool {
        let nothing_open = self.pending.is_empty() && self.over_capacity.is_empty() && self.problems().next().is_none();
        self.last_pass.is_some() && nothing_open
    }

    /// All problems of reading and writing, in words.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        let Self { observing, map_problem, ipcache_problem, route_problem, refused, failures, .. } = self;
        let failures = failures.iter().map(|failure| &failure.error);
        let whole = [observing, map_problem, ipcache_problem, route_problem];
        whole.into_iter().flatten().chain(refused).chain(failures)
    }

    /// Why this entry could not be written.
    #[must_use]
    pub fn entry_error(&self, key: Ipv4Net) -> Option<&str> {
        self.failures.iter().find(|failure| failure.op.entry() == Some(key)).map(|failure| failure.error.as_str())
    }

    /// Whether the reports differ in more than the time of the last pass.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self.without_time() != other.without_time()
    }

    /// Every field, but of the last pass only whether there was one. It copies nothing, since each of ten passes a second is compared.
    fn without_time(&self) -> impl PartialEq {
        let Self {
            model,
            pending,
            ipcache,
            ipcache_conflicts,
            over_capacity,
            observing,
            map_problem,
            ipcache_problem,
            route_problem,
            refused,
            verify_only,
            foreign_routes,
            failures,
            repairs,
            route_repairs,
            repairs_total,
            made_good,
            contended,
            backed_off,
            last_pass,
        } = self;
        (
            (model, pending, ipcache, ipcache_conflicts, over_capacity, observing, map_problem),
            (ipcache_problem, route_problem, refused, verify_only, foreign_routes),
            (failures, repairs, route_repairs, repairs_total, made_good),
            (contended, backed_off, last_pass.is_some()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_last_pass_is_no_difference() {
        let pass = |took| Pass {
            at: Timestamp::UNIX_EPOCH,
            config_hash: String::new(),
            reason: Reason::Tick,
            took: Duration::from_micros(took),
            applied: 0,
            failed: 0,
        };
        let report = DatapathReport { last_pass: Some(pass(1)), ..DatapathReport::default() };
        assert!(!report.differs(&DatapathReport { last_pass: Some(pass(2)), ..DatapathReport::default() }));
        assert!(report.differs(&DatapathReport::default()), "the first pass is one");
        assert!(report.differs(&DatapathReport { repairs_total: 1, ..report.clone() }));
        assert!(report.differs(&DatapathReport { observing: Some("another agent writes".into()), ..report.clone() }));
    }
}
