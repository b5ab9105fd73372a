//! The effective configuration: the lines of the current document, and last good values in place of lines in error, as far as no need of
//! the node vetoes them.
//!
//! `lines + last good → slots (pairing) → effective and vetoed VTEPs (held)`.

mod held;
mod pairing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};

use self::{held::judge, pairing::slots};
use super::{
    finding::{Finding, Rule, Scope},
    parse::{Line, Parsed},
    spec::{Spec, Vtep, overlaps},
    surroundings::{Around, Surroundings},
};

pub use self::held::keep;

/// The configuration that this node must have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub spec: Spec,
    /// The same with the vetoed VTEPs, so that they can take effect again when the veto ends.
    pub last_good: Spec,
    /// CIDRs of retained values that are not in effect.
    pub vetoed: BTreeSet<Ipv4Net>,
    /// Why they are not in effect, and which lines are in error because of effective values.
    pub findings: Vec<Finding>,
    /// Part of the current document has no effect because of an error. A last good value, where one exists, takes its place.
    pub stale: bool,
}

impl Effective {
    fn whole(spec: Spec, stale: bool) -> Self {
        Self { last_good: spec.clone(), spec, vetoed: BTreeSet::new(), findings: Vec::new(), stale }
    }
}

/// One place in the list: a VTEP of the document, or a last good value instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) vtep: Vtep,
    /// The line that it comes from, or that it replaces.
    pub(super) line: Option<usize>,
    pub(super) held: bool,
}

/// [`effective_around`] if nothing is known about the cluster and the node.
#[must_use]
pub fn effective(parsed: &Parsed, last_good: Option<&Spec>) -> Option<Effective> {
    effective_around(parsed, last_good, Around { surroundings: &Surroundings::default(), standing: &BTreeSet::new() })
}

/// Computes the effective configuration. `None`: no valid configuration exists yet, because an error concerns the whole list and no good
/// configuration came before.
///
/// After an error that concerns the whole list, the last good configuration remains in effect. After an error in one VTEP, the last good
/// value of that VTEP remains in effect, unless a good line of the document conflicts with it. A new mask takes effect only when no line is
/// in error, because no last good value matches it. Retained values must pass the same checks as lines of the document.
#[must_use]
pub fn effective_around(parsed: &Parsed, last_good: Option<&Spec>, around: Around<'_>) -> Option<Effective> {
    if parsed.elsewhere {
        return elsewhere(parsed, last_good, around);
    }
    if !parsed.enabled {
        return Some(Effective::whole(spec(parsed, Vec::new()), false));
    }
    if parsed.list_error() {
        return last_good.map(|spec| keep(spec, &parsed.lines, around));
    }
    if let Some((last_good, finding)) = last_good.and_then(|spec| Some((spec, lost_by_mask(spec, parsed)?))) {
        let mut kept = keep(last_good, &parsed.lines, around);
        kept.findings.push(finding);
        return Some(kept);
    }
    let (slots, displaced) = settle(parsed, last_good, around);
    let judged = judge(&slots, &parsed.lines, around);
    Some(Effective {
        spec: spec(parsed, judged.effective),
        last_good: spec(parsed, slots.iter().map(|slot| slot.vtep).collect()),
        vetoed: judged.vetoed,
        stale: parsed.holds_back() || slots.iter().any(|slot| slot.held),
        findings: displaced.into_iter().chain(judged.findings).collect(),
    })
}

/// Finds a last good value that may belong to a line in error and would be dropped only because of its prefix length. While there is one,
/// the whole last good list remains in effect, with its mask.
fn lost_by_mask(last_good: &Spec, parsed: &Parsed) -> Option<Finding> {
    let length = ipv4_mask_to_prefix(parsed.mask).unwrap_or(0);
    let replaced =
        |cidr: Ipv4Net| parsed.lines.iter().filter_map(|line| line.vtep).any(|vtep| overlaps(vtep.cidr, cidr));
    if parsed.lines.iter().all(|line| line.vtep.is_some()) {
        return None;
    }
    let mut cidrs = last_good.vteps.iter().map(|vtep| vtep.cidr);
    let cidr = cidrs.find(|cidr| cidr.prefix_len() != length && !replaced(*cidr))?;
    let problem = format!(
        "the last good value {cidr} does not fit vtep-mask {} (/{length}), and a line is in error: \
         the whole last good list remains in force, with its mask",
        parsed.mask
    );
    let remedy = "correct the lines in error, or the mask";
    let finding = Finding::new(Rule::VtepCidrMaskMismatch, "vtep-cidr", None, Some(&cidr.to_string()), problem, remedy);
    Some(finding.within(Scope::List))
}

/// The VTEPs are decided elsewhere: none is in effect here. The last good values are retained until the lists come back.
fn elsewhere(parsed: &Parsed, last_good: Option<&Spec>, around: Around<'_>) -> Option<Effective> {
    let before = last_good.map(|spec| keep(spec, &[], around));
    let now = (!parsed.list_error()).then(|| spec(parsed, Vec::new()));
    let spec = now.or_else(|| Some(Spec { vteps: Vec::new(), ..last_good?.clone() }))?;
    let vetoed = before.map(|before| before.vetoed).unwrap_or_default();
    let last_good = last_good.cloned().unwrap_or_else(|| spec.clone());
    Some(Effective { spec, last_good, vetoed, findings: Vec::new(), stale: parsed.holds_back() })
}

fn spec(parsed: &Parsed, vteps: Vec<Vtep>) -> Spec {
    Spec { enabled: parsed.enabled, vteps, mask: Some(parsed.mask), tunnel: parsed.tunnel }
}

/// Finds the values to retain. A line is in error, too, if its network contains the endpoint of a retained VTEP, or if its endpoint lies in
/// the network of one: outer packets would loop into a tunnel. Then the last good value of that line is also retained, so the search starts
/// again. It ends, because each round has one good line fewer.
fn settle(parsed: &Parsed, last_good: Option<&Spec>, around: Around<'_>) -> (Vec<Slot>, Vec<Finding>) {
    let last_good = last_good.map_or(&[][..], |spec| &spec.vteps);
    let length = ipv4_mask_to_prefix(parsed.mask).unwrap_or(0);
    let mut lines: Vec<Line> = parsed.lines.clone();
    let mut findings = Vec::new();
    loop {
        let slots = slots(&lines, last_good, length);
        let allowed =
            |slot: &&Slot| slot.held && around.standing.contains(&slot.vtep.cidr) && held::passes(slot.vtep, around);
        let held: Vec<Vtep> = slots.iter().filter(allowed).map(|slot| slot.vtep).collect();
        let clash = slots.iter().filter(|slot| !slot.held).find_map(|slot| displaced(slot, &held));
        let Some((finding, line)) = clash.and_then(|(finding, index)| Some((finding, lines.get_mut(index)?))) else {
            return (slots, findings);
        };
        line.vtep = None;
        findings.push(finding);
    }
}

/// The conflict of a line of the document with retained values, and the line's index.
fn displaced(slot: &Slot, held: &[Vtep]) -> Option<(Finding, usize)> {
    let Slot { vtep: Vtep { cidr, endpoint, .. }, line, held: _ } = *slot;
    let index = line?;
    let finding = held.iter().find_map(|held| {
        if cidr.contains(&held.endpoint) {
            let problem = format!("{cidr} contains the endpoint {} of {}, which is in force", held.endpoint, held.cidr);
            let remedy = "write the BIG-IP's tunnel network, not the underlay's";
            return Some(loops("vtep-cidr", index, &cidr.to_string(), problem, remedy));
        }
        let problem = format!("{endpoint} lies inside the tunnel network {}, which is in force", held.cidr);
        let remedy = "write the BIG-IP's self IP on the underlay (the tunnel's local-address)";
        held.cidr.contains(&endpoint).then(|| loops("vtep-endpoint", index, &endpoint.to_string(), problem, remedy))
    });
    finding.map(|finding| (finding, index))
}

fn loops(key: &str, index: usize, value: &str, problem: String, remedy: &str) -> Finding {
    Finding::new(Rule::VtepEndpointInVtepCidr, key, Some(index), Some(value), problem, remedy)
}
