//! What the kernel should hold, and what to do about the difference: for the maps and for the routes apart.
//!
//! The configuration says what is wanted; the node's facts, the layout of the map and the records say what of it may be written, and what
//! may be removed.

pub mod maps;
pub mod routes;

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{
    plan::{Keep, KeepEntries},
    settings::Settings,
};
use crate::{
    config::{spec::Vtep, view::View},
    node::{
        facts::Facts,
        running::{Running, RunningConfig},
    },
};

/// What a pass is about.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub settings: &'a Settings,
    pub view: &'a View,
    pub facts: &'a Facts,
}

impl Inputs<'_> {
    /// The VTEPs to program. `ipcache_seen`: there is an ipcache, readable or not.
    fn vteps(&self, ipcache_seen: bool) -> Vec<Vtep> {
        let mut vteps = self.view.in_force.as_ref().map(|spec| spec.vteps.clone()).unwrap_or_default();
        if ipcache_seen {
            // It came after the configuration: what it has inside is known in a moment, or not at all.
            vteps.retain(|vtep| !self.view.unlooked.contains(&vtep.cidr));
        }
        vteps
    }
}

/// What is not stale although nothing in force names it: the document mentions it, if only in error, it was vetoed, or Cilium was started
/// with it and would write it again. With VTEP disabled the map is Cilium's alone.
fn kept(view: &View, facts: &Facts) -> Keep {
    let enabled = view.in_force.as_ref().is_some_and(|spec| spec.enabled);
    let running = facts.running.config().into_iter().flat_map(RunningConfig::networks);
    let named = view.mentioned.iter().chain(&view.vetoed).map(Ipv4Net::network);
    let entries = match &facts.running {
        // It may name any of them.
        Running::Unreadable => KeepEntries::All,
        Running::Absent | Running::Known(_) if !enabled => KeepEntries::All,
        Running::Absent | Running::Known(_) => KeepEntries::Networks(named.chain(running).collect()),
    };
    // A route to what the node needs otherwise goes at once.
    let cidrs = if enabled { &view.mentioned - &view.vetoed } else { BTreeSet::new() };
    Keep { entries, cidrs }
}

#[cfg(test)]
mod tests;
