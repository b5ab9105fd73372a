//! Who else writes a VTEP entry: what is found there is compared with what Cilium would write. Pure.

use super::Evidence;
use crate::{
    datapath::{abi::VtepValue, contention::Contended},
    node::running::RunningVtep,
};

impl Evidence<'_> {
    pub(super) fn datapath_contended(&self) -> Option<String> {
        let Contended { found, .. } = self.datapath.contended.get(&self.vtep.cidr)?;
        let does = found.map_or_else(|| "deleting it".to_owned(), |found| format!("writing {found}"));
        let so_far = if self.is_left_alone() { "it is left alone for a minute" } else { "each time it is put right" };
        let what = format!("somebody keeps changing the VTEP entry {}, {does} ({so_far})", self.vtep.cidr);
        Some(match self.is_ciliums(*found) {
            Some(true) => format!(
                "restart the cilium DaemonSet: {what}, and that is what this Cilium was started with and writes once a minute"
            ),
            Some(false) => format!(
                "find out who writes cilium_vtep_map, as a second agent or a script: {what}; it is not Cilium, {}",
                self.would_write()
            ),
            None => format!(
                "find out who writes cilium_vtep_map: {what}; a Cilium that was started with an older configuration does, and then a \
                 restart of the cilium DaemonSet ends it"
            ),
        })
    }

    /// Whether the running Cilium left the entry so; `None` where it does not tell what it writes. It never deletes one.
    fn is_ciliums(&self, found: Option<VtepValue>) -> Option<bool> {
        let Some(found) = found else { return Some(false) };
        let vteps = self.facts.running.config()?.vteps.as_ref()?;
        let Some(RunningVtep { endpoint, mac }) = vteps.get(&self.vtep.cidr.network()) else { return Some(false) };
        let differs =
            endpoint.is_some_and(|endpoint| endpoint != found.endpoint()) || mac.is_some_and(|mac| mac != found.mac());
        if differs { Some(false) } else { endpoint.and(*mac).map(|_| true) }
    }

    /// What sets Cilium apart from whoever writes.
    fn would_write(&self) -> String {
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
