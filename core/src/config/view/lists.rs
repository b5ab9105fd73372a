//! The view from the lists in `cilium-config`.

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};
use jiff::Timestamp;

use super::{View, clashes, network, sources::Sources};
use crate::config::{
    document::Document,
    effective::{Effective, effective_around},
    finding::{Finding, Rule},
    parse::{self, Parsed, parse_around},
    spec::Spec,
    surroundings::Around,
    truth::Truth,
};

impl View {
    pub(super) fn of_lists(
        document: &Document,
        sources: &Sources,
        around: Around<'_>,
        previous: Option<&Self>,
    ) -> Self {
        let mut parsed = parse_around(&document.keys, around);
        // An error that retains the last good configuration also retains the place that decided it.
        parsed.elsewhere |= parsed.list_error() && previous.is_some_and(|view| view.truth == Truth::None);
        let before = previous.and_then(|view| last_good(view, &parsed));
        let effective = effective_around(&parsed, before.as_ref(), around);
        let truth = if parsed.elsewhere { Truth::None } else { Truth::Configmap };
        let (last_good, mut mentioned) = if truth == Truth::None {
            (before, previous.map(|previous| previous.mentioned.clone()).unwrap_or_default())
        } else {
            (effective.as_ref().map(|now| now.last_good.clone()), parsed.mentioned.clone())
        };
        // The entries of the objects belong to whoever reconciles them.
        mentioned.extend(&sources.resolved.mentioned);
        let vetoed = vetoed(&parsed, effective.as_ref(), last_good.as_ref(), &mentioned, around);
        let spec = effective.as_ref().map(|effective| effective.spec.clone());
        Self {
            source: String::new(),
            observed_at: Timestamp::UNIX_EPOCH,
            hash: sources.hash(document),
            source_error: None,
            overrides: document.origins.clone(),
            stale: effective.as_ref().is_some_and(|effective| effective.stale),
            truth,
            truth_reason: sources.reason.to_owned(),
            objects: sources.resolved.objects.clone(),
            delivered: sources.delivered,
            names: [].into(),
            vetoed,
            unlooked: BTreeSet::new(),
            observed_only: sources.disputed(spec.as_ref()),
            covered: covered(sources, spec.as_ref(), previous),
            record: Default::default(),
            last_good,
            mentioned,
            findings: findings(parsed, effective.as_ref(), document, sources),
            effective: spec,
        }
    }
}

/// The last good values that may replace lines in error. Those of custom resources may, if the mask fits them.
fn last_good(view: &View, parsed: &Parsed) -> Option<Spec> {
    let mut last_good = view.last_good.clone()?;
    if view.truth == Truth::Crd {
        let length = ipv4_mask_to_prefix(parsed.mask).unwrap_or(0);
        last_good.vteps.retain(|vtep| vtep.cidr.prefix_len() == length);
        last_good.mask = Some(parsed.mask);
    }
    Some(last_good)
}

/// The CIDRs whose entries the lists account for. Once a custom resource was seen, another controller may have written any other entry.
fn covered(sources: &Sources, spec: Option<&Spec>, previous: Option<&View>) -> Option<BTreeSet<Ipv4Net>> {
    /// Nobody edits lists this often; beyond it, the agent leaves older entries in place.
    const MOST: usize = 256;
    let now = spec.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr);
    let before = previous.and_then(|view| view.covered.clone());
    if before.is_none() && sources.resolved.objects.is_empty() && !sources.resolved.is_partial {
        return None;
    }
    let earlier = before.or_else(|| previous.map(|view| cidrs(view.effective.as_ref()))).unwrap_or_default();
    let all: BTreeSet<_> = earlier.into_iter().chain(now.clone()).collect();
    Some(if all.len() > MOST { now.collect() } else { all })
}

fn cidrs(spec: Option<&Spec>) -> BTreeSet<Ipv4Net> {
    spec.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr).collect()
}

/// The findings about the document and about retained values, each with the object that set the key.
fn findings(parsed: Parsed, effective: Option<&Effective>, document: &Document, sources: &Sources) -> Vec<Finding> {
    let held = effective.into_iter().flat_map(|effective| effective.findings.clone());
    let mut findings: Vec<_> = parsed.findings.into_iter().chain(held).chain(sources.both()).collect();
    parse::sort(&mut findings);
    findings.into_iter().map(|finding| document.with_origin(finding)).collect()
}

/// Every CIDR that a need of the node rules out: those of the document, in error or not, and those of retained values.
fn vetoed(
    parsed: &Parsed,
    effective: Option<&Effective>,
    last_good: Option<&Spec>,
    mentioned: &BTreeSet<Ipv4Net>,
    around: Around<'_>,
) -> BTreeSet<Ipv4Net> {
    let lines = parsed.lines.iter().filter_map(|line| line.cidr);
    let before = last_good.into_iter().flat_map(|spec| &spec.vteps).map(|vtep| vtep.cidr);
    let all: BTreeSet<Ipv4Net> = lines.chain(before).chain(mentioned.iter().copied()).collect();
    let found = parsed.findings.iter().chain(effective.into_iter().flat_map(|now| &now.findings));
    let wrong = found.filter(|finding| finding.rule == Rule::VtepEndpointInVtepCidr).filter_map(network);
    let stands = |cidr: &Ipv4Net| effective.is_some_and(|now| now.spec.vteps.iter().any(|vtep| vtep.cidr == *cidr));
    // A CIDR that contains an endpoint may still be in effect: the endpoint of a line in error is not.
    let wrong = wrong.filter(|cidr| !stands(cidr));
    let held = effective.into_iter().flat_map(|effective| effective.vetoed.clone());
    all.iter().copied().filter(|cidr| clashes(*cidr, around)).chain(wrong).chain(held).collect()
}
