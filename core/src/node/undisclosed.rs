//! Finds the lists that Cilium runs with if it does not disclose them (1.19 and newer): by the record of the lists at its start, and by the
//! values that come back as often as its sync runs.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    drift::{Difference, Effect, Words, of_lists, of_values},
    running::{RunningConfig, RunningVtep},
};
use crate::{
    config::{
        list_record::{ListRecord, Listed},
        spec::{Spec, Vtep},
        truth::Truth,
        view::View,
    },
    datapath::{contention::Contended, report::DatapathReport},
};

const WRITES: Words = Words { before: "something writes", after: " back every minute, as Cilium's sync does" };

/// The evidence of Cilium's lists beside its own files.
#[derive(Clone, Copy, Debug)]
pub struct Traces<'a> {
    pub truth: Truth,
    pub record: &'a ListRecord,
    /// The entries that somebody keeps overwriting.
    pub contended: &'a BTreeMap<Ipv4Net, Contended>,
    pub now: Instant,
    /// The same moment on the wall clock.
    pub at: Timestamp,
}

impl<'a> Traces<'a> {
    #[must_use]
    pub fn new(view: &'a View, datapath: &'a DatapathReport, now: Instant, at: Timestamp) -> Self {
        Self { truth: view.truth, record: &view.record, contended: &datapath.contended, now, at }
    }
}

/// The differences in the lists, if Cilium does not disclose its lists. Without evidence there is none.
#[must_use]
pub fn undisclosed(spec: &Spec, running: &RunningConfig, traces: &Traces<'_>) -> Vec<Difference> {
    let is_on = spec.enabled && running.vtep_enabled != Some(false);
    if !is_on || running.vteps.is_some() {
        return Vec::new();
    }
    let recorded = running.started.and_then(|start| Some((start, traces.record.at(start)?)));
    let mut found = match &recorded {
        Some((start, lists)) => by_record(spec, lists, traces.record, *start),
        None => Vec::new(),
    };
    let is_found = |vtep: &Vtep| found.iter().any(|difference| difference.effect.overwrites(vtep.cidr.network()));
    let rest = spec.vteps.iter().filter(|vtep| !is_found(vtep));
    let written: Vec<_> = rest.flat_map(|vtep| by_sync(vtep, running, traces, recorded.is_some())).collect();
    found.extend(written);
    found
}

/// The differences from the lists at Cilium's start. If they changed at about that time, only those that exist in either case.
fn by_record(spec: &Spec, lists: &[&Listed], record: &ListRecord, start: Timestamp) -> Vec<Difference> {
    let how = format!(", by this agent's record of the lists at Cilium's start ({start:.0})");
    let mut of_each = lists.iter().map(|listed| of_lists(&spec.vteps, &known(listed)));
    let first = of_each.next().unwrap_or_default();
    let rest: Vec<_> = of_each.collect();
    // A veto or an error in the lists takes a VTEP out of force, and no restart of Cilium brings it back.
    let is_present = |network: &Ipv4Addr| record.present().is_some_and(|present| present.contains_key(network));
    let was_listed = |network: &Ipv4Addr| lists.iter().any(|listed| listed.contains_key(network));
    let is_real = |difference: &Difference| match &difference.effect {
        Effect::Listing(network) => !(was_listed(network) && is_present(network)),
        Effect::Programs | Effect::Overwrites(_) => true,
    };
    let found = first.into_iter().filter(|found| is_real(found) && rest.iter().all(|other| other.contains(found)));
    found.map(|found| found.known(&how)).collect()
}

fn known(listed: &Listed) -> BTreeMap<Ipv4Addr, RunningVtep> {
    let running = |endpoint, mac| RunningVtep { endpoint, mac };
    listed.iter().map(|(network, values)| (*network, running(values.endpoint, values.mac))).collect()
}

/// The value that comes back every minute. If the record covers Cilium's start, another writer is more probable, unless the lists once had
/// this value: a restart of Cilium's container alone keeps the lists that an init container read when the pod started.
fn by_sync(vtep: &Vtep, running: &RunningConfig, traces: &Traces<'_>, is_recorded: bool) -> Vec<Difference> {
    let Traces { record, contended, now, at, truth: _ } = *traces;
    let Some((found, since)) = contended.get(&vtep.cidr).and_then(|of| Some((of.found?, of.minutely_since?))) else {
        return Vec::new();
    };
    let had = record.had(vtep.cidr.network(), found);
    // What came back before Cilium's start was written by an earlier one.
    let age = now.saturating_duration_since(since);
    let is_before =
        running.started.is_some_and(|start| Duration::try_from(at.duration_since(start)).unwrap_or_default() < age);
    if is_before || (is_recorded && !had) {
        return Vec::new();
    }
    let written = RunningVtep { endpoint: Some(found.endpoint()), mac: Some(found.mac()) };
    let how = if had { "; the lists had this value earlier" } else { "" };
    of_values(vtep, &written, WRITES).into_iter().map(|difference| difference.known(how)).collect()
}

#[cfg(test)]
mod tests;
