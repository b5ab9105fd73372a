//! Computes the desired state of the kernel and the operations that lead to it, separately for maps and for routes.
//!
//! The configuration determines the desired state. The node's facts, the layout of the map and the records determine which part of it may
//! be written, and what may be removed.

pub mod maps;
pub mod routes;

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{
    plan::{Retain, RetainEntries},
    settings::Settings,
};
use crate::{
    config::{spec::Vtep, truth::Truth, view::View},
    node::{
        facts::Facts,
        running::{Running, RunningConfig},
    },
    tunnel::mac_learning::LearnedMacs,
};

/// The inputs of a pass.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub settings: &'a Settings,
    pub view: &'a View,
    pub facts: &'a Facts,
    /// The MACs in the place of configured ones.
    pub macs: &'a LearnedMacs,
}

impl Inputs<'_> {
    /// The VTEPs to program. `ipcache_seen`: an ipcache exists, readable or not.
    fn vteps(&self, ipcache_seen: bool) -> Vec<Vtep> {
        let mut vteps = self.view.effective.as_ref().map(|spec| spec.vteps.clone()).unwrap_or_default();
        if ipcache_seen {
            // The ipcache appeared after these VTEPs took effect. They wait until it has been searched for conflicts.
            vteps.retain(|vtep| !self.view.unlooked.contains(&vtep.cidr));
        }
        vteps
    }
}

/// Entries and routes that are not stale although no effective VTEP needs them: the document mentions their CIDR (even in error), the CIDR
/// is vetoed, or Cilium was started with it and would write it again. With VTEP disabled, only Cilium changes the map.
fn retained(view: &View, facts: &Facts) -> Retain {
    let enabled = view.effective.as_ref().is_some_and(|spec| spec.enabled);
    let running = facts.running.config().into_iter().flat_map(RunningConfig::networks);
    let named: BTreeSet<_> = view.mentioned.iter().chain(&view.vetoed).map(Ipv4Net::network).chain(running).collect();
    let entries = match (&facts.running, &view.covered) {
        // Under custom resources, Cilium alone deletes.
        (_, _) if view.truth == Truth::Crd || !enabled => RetainEntries::All,
        // The unreadable file of Cilium may name any entry.
        (Running::Unreadable, _) => RetainEntries::All,
        (Running::Absent | Running::Known(_), None) => RetainEntries::Networks(named),
        (Running::Absent | Running::Known(_), Some(covered)) => {
            let networks = covered.iter().map(Ipv4Net::network);
            RetainEntries::AllBut(networks.filter(|network| !named.contains(network)).collect())
        }
    };
    // Routes to vetoed CIDRs are not kept: the node needs these networks now.
    let cidrs = if enabled { &view.mentioned - &view.vetoed } else { BTreeSet::new() };
    Retain { entries, cidrs }
}

#[cfg(test)]
mod tests;
