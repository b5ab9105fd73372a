//! Causes at the VTEP's entry in Cilium's map: it is missing, another writer changes it, or Cilium has pods inside the CIDR. Pure.

use std::time::Instant;

use super::Evidence;
use crate::{
    datapath::{abi::VtepValue, contention::Contended, layout::Layout, plan::Op},
    node::running::RunningVtep,
};

pub(super) fn datapath_missing(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    match (evidence.datapath.model, &evidence.datapath.map_problem) {
        (Layout::Unsupported, Some(problem)) => return Some(format!("update this agent: {problem}")),
        (Layout::Unreadable, Some(problem)) => return Some(problem.clone()),
        (Layout::None | Layout::VtepHash | Layout::VtepLpm | Layout::Ipcache, _) => {}
        (Layout::Unsupported | Layout::Unreadable, None) => {}
    }
    if evidence.datapath.over_capacity.contains(&evidence.vtep.cidr) {
        let what = format!("the VTEP map has no room for {} beside", evidence.entry());
        return Some(match evidence.name {
            None => format!("restart the cilium DaemonSet: {what} what Cilium was started with"),
            Some(_) => format!("let fewer endpoints select this node: {what} its other entries"),
        });
    }
    let error = evidence.datapath.entry_error(evidence.vtep.cidr);
    let pending = || evidence.pending_entry().map(|op| format!("not written: {op}"));
    let reason = error.map(str::to_owned).or_else(pending)?;
    (!evidence.is_backed_off()).then(|| format!("the kernel lacks the entry for {}: {reason}", evidence.entry()))
}

pub(super) fn datapath_contended(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let Contended { found, .. } = evidence.datapath.contended.get(&evidence.vtep.cidr)?;
    let does = found.map_or_else(|| "deleting it".to_owned(), |found| format!("writing {found}"));
    let so_far = if evidence.is_backed_off() { "it is left alone for a minute" } else { "each time it is put right" };
    let what = format!("somebody keeps changing the VTEP entry {}, {does} ({so_far})", evidence.vtep.cidr);
    if let Some(name) = evidence.name {
        // The values that Cilium was started with show nothing: it writes those of the object.
        return Some(format!(
            "find out who writes cilium_vtep_map, and compare VTEP {name} with its CiliumVTEPConfig: {what}; Cilium itself writes \
             what the object has, without a restart"
        ));
    }
    Some(match evidence.is_written_by_cilium(*found) {
        Some(true) => format!(
            "restart the cilium DaemonSet: {what}, and that is what this Cilium was started with and writes once a minute"
        ),
        Some(false) => format!(
            "find out who writes cilium_vtep_map, as a second agent or a script: {what}; it is not Cilium, {}",
            evidence.cilium_would_write()
        ),
        None => format!(
            "find out who writes cilium_vtep_map: {what}; a Cilium that was started with an older configuration does, and then a \
             restart of the cilium DaemonSet ends it"
        ),
    })
}

/// While the agent backs off, the entry remains as the other writer left it: a present state.
pub(super) fn last_repair(evidence: &Evidence<'_>) -> Option<(&'static str, Instant)> {
    let contended = evidence.datapath.contended.get(&evidence.vtep.cidr).filter(|_| !evidence.is_backed_off())?;
    Some(("the VTEP entry was put right", contended.repaired))
}

pub(super) fn vtep_cidr_in_use(evidence: &Evidence<'_>, _now: Instant) -> Option<String> {
    let inside: Vec<_> =
        evidence.datapath.ipcache_conflicts.get(&evidence.vtep.cidr)?.iter().map(ToString::to_string).collect();
    Some(format!(
        "give {} or what is inside it another network: Cilium has pods or nodes at {}, and what is sent to them goes to {}",
        evidence.entry(),
        inside.join(", "),
        evidence.peer_name()
    ))
}

impl Evidence<'_> {
    /// After too many repairs the agent leaves the entry alone for a while.
    pub(super) fn is_backed_off(&self) -> bool {
        self.datapath.backed_off.contains(&self.vtep.cidr)
    }

    pub(super) fn pending_entry(&self) -> Option<&Op> {
        self.datapath.pending.iter().find(|op| op.entry() == Some(self.vtep.cidr))
    }

    /// Whether the running Cilium wrote the value in the map; `None` if Cilium's own values are not known. Cilium deletes no entry.
    fn is_written_by_cilium(&self, found: Option<VtepValue>) -> Option<bool> {
        let Some(found) = found else { return Some(false) };
        let vteps = self.facts.running.config()?.vteps.as_ref()?;
        let Some(RunningVtep { endpoint, mac }) = vteps.get(&self.vtep.cidr.network()) else { return Some(false) };
        let differs =
            endpoint.is_some_and(|endpoint| endpoint != found.endpoint()) || mac.is_some_and(|mac| mac != found.mac());
        if differs { Some(false) } else { endpoint.and(*mac).map(|_| true) }
    }

    /// The values that Cilium would write instead, for a hint that names another writer.
    fn cilium_would_write(&self) -> String {
        let vteps = self.facts.running.config().and_then(|running| running.vteps.as_ref());
        let Some(vteps) = vteps else { return "which deletes no entry".to_owned() };
        match vteps.get(&self.vtep.cidr.network()) {
            Some(RunningVtep { endpoint: Some(endpoint), mac: Some(mac) }) => {
                format!("which would write endpoint {endpoint} mac {mac}")
            }
            Some(RunningVtep { endpoint: Some(endpoint), mac: None }) => {
                format!("which would write endpoint {endpoint}")
            }
            Some(RunningVtep { endpoint: None, mac: Some(mac) }) => format!("which would write mac {mac}"),
            Some(RunningVtep { endpoint: None, mac: None }) => "which deletes no entry".to_owned(),
            None => format!("which does not know {}", self.vtep.cidr),
        }
    }
}
