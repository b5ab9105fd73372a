//! What is in force: the current document, and where it is in error the last good value, as far as the node's needs allow it.
//!
//! `lines + last good → slots (pairing) → what may be in force, and what may not (held)`.

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

/// The configuration this node shall have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    pub spec: Spec,
    /// The same with what the node's needs keep out of force, so that it comes back when they allow it.
    pub last_good: Spec,
    /// CIDRs of values held over that are not in force.
    pub vetoed: BTreeSet<Ipv4Net>,
    /// Why they are not, and which lines are in error because of what is in force.
    pub findings: Vec<Finding>,
    /// An error holds some of the current document back; the last good value stands in where there is one.
    pub stale: bool,
}

impl InForce {
    fn whole(spec: Spec, stale: bool) -> Self {
        Self { last_good: spec.clone(), spec, vetoed: BTreeSet::new(), findings: Vec::new(), stale }
    }
}

/// What stands in the list: a VTEP of the document, or a last good one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) vtep: Vtep,
    /// The line it is of, or stands for.
    pub(super) line: Option<usize>,
    pub(super) held: bool,
}

/// [`in_force_around`] where nothing is known of the cluster and the node.
#[must_use]
pub fn in_force(parsed: &Parsed, last_good: Option<&Spec>) -> Option<InForce> {
    in_force_around(parsed, last_good, Around { surroundings: &Surroundings::default(), standing: &BTreeSet::new() })
}

/// `None`: there is no valid configuration yet, because an error concerns the whole list and nothing good came before.
///
/// An error that concerns the whole list leaves the last good configuration as it is. An error in one VTEP leaves that VTEP's last good
/// value, as long as it is not in the way of what the document says; a new mask, which no last good value fits, counts once no line is in
/// error. Whatever is held over passes the checks that a line of the document passes.
#[must_use]
pub fn in_force_around(parsed: &Parsed, last_good: Option<&Spec>, around: Around<'_>) -> Option<InForce> {
    if parsed.elsewhere {
        return elsewhere(parsed, last_good, around);
    }
    if !parsed.enabled {
        return Some(InForce::whole(spec(parsed, Vec::new()), false));
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
    Some(InForce {
        spec: spec(parsed, judged.in_force),
        last_good: spec(parsed, slots.iter().map(|slot| slot.vtep).collect()),
        vetoed: judged.vetoed,
        stale: parsed.holds_back() || slots.iter().any(|slot| slot.held),
        findings: displaced.into_iter().chain(judged.findings).collect(),
    })
}

/// A last good value that a line in error may stand for, and that would be lost for its length alone: while there is one, the last good
/// list stays whole, with its mask.
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
        "the last good value {cidr} does not fit vtep-mask {} (/{length}), and a line is in error: the last good list stays whole, with its mask",
        parsed.mask
    );
    let remedy = "correct the lines in error, or the mask";
    let finding = Finding::new(Rule::VtepCidrMaskMismatch, "vtep-cidr", None, Some(&cidr.to_string()), problem, remedy);
    Some(finding.within(Scope::List))
}

/// The VTEPs are decided elsewhere: none is in force here, and the last good ones are kept for when the lists come back.
fn elsewhere(parsed: &Parsed, last_good: Option<&Spec>, around: Around<'_>) -> Option<InForce> {
    let before = last_good.map(|spec| keep(spec, &[], around));
    let now = (!parsed.list_error()).then(|| spec(parsed, Vec::new()));
    let spec = now.or_else(|| Some(Spec { vteps: Vec::new(), ..last_good?.clone() }))?;
    let vetoed = before.map(|before| before.vetoed).unwrap_or_default();
    let last_good = last_good.cloned().unwrap_or_else(|| spec.clone());
    Some(InForce { spec, last_good, vetoed, findings: Vec::new(), stale: parsed.holds_back() })
}

fn spec(parsed: &Parsed, vteps: Vec<Vtep>) -> Spec {
    Spec { enabled: parsed.enabled, vteps, mask: parsed.mask, tunnel: parsed.tunnel }
}

/// Finds what is held over. A line that would send the packets of a VTEP in force into a tunnel, or whose own would go there, is in
/// error, too: then its last good value is held over as well, so that the search begins anew, one good line fewer.
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

/// What is wrong with a line of the document beside what is held over, and its index.
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
