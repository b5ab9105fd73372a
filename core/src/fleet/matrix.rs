//! VTEP × verdict, with the number of nodes in each cell.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Member, status::AgentVtep};
use crate::diagnosis::Verdict;

/// A VTEP of the fleet. Nodes that have another endpoint for the same CIDR have another VTEP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct VtepKey {
    pub cidr: String,
    pub endpoint: String,
}

/// A row: one VTEP, and on how many nodes it has each verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub vtep: VtepKey,
    /// Its names in custom resources, usually none or one.
    pub names: BTreeSet<String>,
    /// Nodes that have it.
    pub nodes: usize,
    pub verdicts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub healthy: usize,
    pub degraded: usize,
    pub unreachable: usize,
    pub misconfigured: usize,
    pub unknown: usize,
}

impl VtepKey {
    #[must_use]
    pub fn of(vtep: &AgentVtep) -> Self {
        Self { cidr: vtep.cidr.clone(), endpoint: vtep.endpoint.clone() }
    }
}

impl Counts {
    #[must_use]
    pub const fn of(&self, verdict: Verdict) -> usize {
        match verdict {
            Verdict::Healthy => self.healthy,
            Verdict::Degraded => self.degraded,
            Verdict::Unreachable => self.unreachable,
            Verdict::Misconfigured => self.misconfigured,
            Verdict::Unknown => self.unknown,
        }
    }

    const fn add(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Healthy => &mut self.healthy,
            Verdict::Degraded => &mut self.degraded,
            Verdict::Unreachable => &mut self.unreachable,
            Verdict::Misconfigured => &mut self.misconfigured,
            Verdict::Unknown => &mut self.unknown,
        };
        *count += 1;
    }
}

/// The rows in the order of their CIDRs; a CIDR with two endpoints has two rows below each other.
#[must_use]
pub fn matrix(members: &[Member]) -> Vec<Row> {
    let mut rows: BTreeMap<VtepKey, Row> = BTreeMap::new();
    let statuses = members.iter().filter_map(|member| member.answer.as_ref().ok());
    for vtep in statuses.flat_map(|status| &status.vteps) {
        let key = VtepKey::of(vtep);
        let row = rows.entry(key.clone()).or_insert_with(|| Row {
            vtep: key,
            names: BTreeSet::new(),
            nodes: 0,
            verdicts: Counts::default(),
        });
        row.names.extend(vtep.name.clone());
        row.nodes += 1;
        row.verdicts.add(vtep.verdict());
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    // 10.1.6.0/24 comes before 10.1.10.0/24, which texts do not know.
    rows.sort_by_key(|row| row.vtep.cidr.parse::<ipnet::IpNet>().ok());
    rows
}
