//! The view from custom resources. Cilium reconciles them itself: what this view has in effect, the agent verifies and probes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{View, clashes, sources::Sources};
use crate::config::{
    document::Document,
    effective::{Effective, keep},
    finding::{Finding, Rule},
    parse::{self, Parsed, parse_around},
    spec::{MAX_VTEPS, Spec, Vtep},
    surroundings::Around,
    truth::Truth,
    vtep_config::Resolved,
};

impl View {
    pub(super) fn of_objects(
        document: &Document,
        sources: &Sources,
        around: Around<'_>,
        previous: Option<&Self>,
    ) -> Self {
        // Switch, tunnel and features are still keys of the ConfigMap.
        let parsed = parse_around(&sources.keys_without_lists, around);
        let resolved = document.objects.as_ref().map(|objects| objects.resolve(around)).unwrap_or_default();
        let is_gone = !resolved.applies() && previous.is_some_and(had_objects);
        let earlier = previous.into_iter().filter(|view| view.truth != Truth::None).flat_map(|view| &view.last_good);
        let earlier: Vec<Vtep> = earlier.flat_map(|spec| &spec.vteps).copied().collect();
        let vteps: Vec<Vtep> = resolved.vteps.iter().map(|named| named.vtep).collect();
        let held = held(&parsed, &resolved, &earlier, is_gone);
        let fresh = if !parsed.enabled || parsed.list_error() { Vec::new() } else { vteps };
        let kept = keep(&spec(&parsed, &resolved, held), &[], around);
        let effective = spec(&parsed, &resolved, fresh.iter().copied().chain(kept.spec.vteps.clone()).collect());
        let last_good = spec(&parsed, &resolved, fresh.iter().copied().chain(kept.last_good.vteps.clone()).collect());
        let mut mentioned = resolved.mentioned.clone();
        mentioned.extend(earlier.iter().filter(|_| is_gone || resolved.is_partial).map(|vtep| vtep.cidr));
        let expected = resolved.vteps.iter().filter(|named| named.is_expected).map(|named| named.vtep.cidr);
        Self {
            source: String::new(),
            observed_at: Timestamp::UNIX_EPOCH,
            hash: sources.hash(document),
            source_error: None,
            overrides: document.origins.clone(),
            findings: findings(&parsed, &resolved, &kept, is_gone, document, sources),
            truth: Truth::Crd,
            truth_reason: sources.reason.to_owned(),
            objects: resolved.objects.clone(),
            delivered: sources.delivered,
            names: names(&resolved, &effective, previous),
            stale: parsed.holds_back() || !kept.spec.vteps.is_empty(),
            vetoed: mentioned.iter().copied().filter(|cidr| clashes(*cidr, around)).chain(kept.vetoed).collect(),
            unlooked: BTreeSet::new(),
            observed_only: kept.spec.vteps.iter().map(|vtep| vtep.cidr).chain(expected).collect(),
            covered: Some(covered(&effective, previous)),
            record: Default::default(),
            mentioned,
            last_good: Some(last_good),
            effective: Some(effective),
        }
    }
}

/// Objects gave this node VTEPs, the last time that they were the truth.
pub(super) fn had_objects(view: &View) -> bool {
    view.truth == Truth::Crd && view.last_good.as_ref().is_some_and(|spec| !spec.vteps.is_empty())
}

/// The earlier VTEPs that remain in effect: an object that had them is in error, unreadable or gone.
fn held(parsed: &Parsed, resolved: &Resolved, earlier: &[Vtep], is_gone: bool) -> Vec<Vtep> {
    let is_held = |vtep: &&Vtep| {
        let is_new = resolved.vteps.iter().any(|new| new.vtep.cidr == vtep.cidr);
        let is_awaited = resolved.is_partial || is_gone || resolved.mentioned.contains(&vtep.cidr);
        is_awaited && !is_new && !resolved.conflicts.contains(&vtep.cidr)
    };
    match () {
        () if !parsed.enabled => Vec::new(),
        // An error in the switch or the tunnel keeps all values as they are.
        () if parsed.list_error() => earlier.to_vec(),
        () => earlier.iter().filter(is_held).take(MAX_VTEPS.saturating_sub(resolved.vteps.len())).copied().collect(),
    }
}

/// The names of the VTEPs in effect. A VTEP that is held keeps its name.
fn names(resolved: &Resolved, effective: &Spec, previous: Option<&View>) -> BTreeMap<Ipv4Net, String> {
    let named = resolved.vteps.iter().map(|named| (named.vtep.cidr, named.name.clone()));
    let known = previous.map(|view| view.names.clone()).unwrap_or_default();
    known.into_iter().chain(named).filter(|(cidr, _)| has(effective, *cidr)).collect()
}

fn spec(parsed: &Parsed, resolved: &Resolved, vteps: Vec<Vtep>) -> Spec {
    let fits = |mask| vteps.iter().all(|vtep| vtep.cidr.netmask() == mask);
    Spec { enabled: parsed.enabled, mask: resolved.mask.filter(|mask| fits(*mask)), tunnel: parsed.tunnel, vteps }
}

fn has(spec: &Spec, cidr: Ipv4Net) -> bool {
    spec.vteps.iter().any(|vtep| vtep.cidr == cidr)
}

/// What the lists had in effect and the objects have not.
fn covered(effective: &Spec, previous: Option<&View>) -> BTreeSet<Ipv4Net> {
    let before = previous.and_then(|view| view.covered.clone());
    let of_lists = || {
        let lists = previous.filter(|view| view.truth == Truth::Configmap).and_then(|view| view.effective.as_ref());
        lists.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect()
    };
    let mut covered = before.unwrap_or_else(of_lists);
    covered.retain(|cidr| !has(effective, *cidr));
    covered
}

fn findings(
    parsed: &Parsed,
    resolved: &Resolved,
    kept: &Effective,
    is_gone: bool,
    document: &Document,
    sources: &Sources,
) -> Vec<Finding> {
    let of_keys = parsed.findings.iter().cloned().map(|finding| document.with_origin(finding));
    let held = kept.findings.iter().cloned();
    let gone = is_gone.then(gone);
    let mut findings: Vec<_> =
        of_keys.chain(resolved.findings.iter().cloned()).chain(held).chain(gone).chain(sources.both()).collect();
    parse::sort(&mut findings);
    findings
}

fn gone() -> Finding {
    let problem =
        "no custom resource is for this node any more: its last VTEPs are only observed, and nothing is removed";
    let remedy = "create the object again; if it went on purpose, restart this agent, which then forgets them";
    Finding::new(Rule::VtepConfigGone, "CiliumVTEPConfig", None, None, problem, remedy)
}

#[cfg(test)]
mod tests;
