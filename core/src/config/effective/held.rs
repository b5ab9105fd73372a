//! Checks retained values like lines of the document: against the needs of the node, and against each other's endpoints.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Effective, Slot};
use crate::config::{
    finding::{Finding, Rule},
    parse::{Complaint, Line, overlaps},
    spec::{Spec, Vtep},
    surroundings::Around,
};

/// The result of judging slots: those that may take effect, and those that may not.
pub(super) struct Judged {
    pub(super) effective: Vec<Vtep>,
    pub(super) vetoed: BTreeSet<Ipv4Net>,
    pub(super) findings: Vec<Finding>,
}

/// Retains a whole configuration. `lines` are the lines of the current document; findings refer to them.
#[must_use]
pub fn keep(last_good: &Spec, lines: &[Line], around: Around<'_>) -> Effective {
    let line_of = |vtep: &Vtep| lines.iter().rfind(|line| line.cidr == Some(vtep.cidr)).map(|line| line.index);
    let slots: Vec<Slot> =
        last_good.vteps.iter().map(|vtep| Slot { vtep: *vtep, line: line_of(vtep), held: true }).collect();
    let Judged { effective, vetoed, findings } = judge(&slots, lines, around);
    let spec = Spec { vteps: effective, ..last_good.clone() };
    Effective { spec, last_good: last_good.clone(), vetoed, findings, stale: true }
}

/// Whether the value passes all checks: no known fact rules it out, and every fact that could do so is known.
pub(super) fn passes(vtep: Vtep, around: Around<'_>) -> bool {
    complaints(vtep, around).is_empty()
}

/// Removes the slots that may not take effect. The document's own lines have already passed these checks.
pub(super) fn judge(slots: &[Slot], lines: &[Line], around: Around<'_>) -> Judged {
    let mut effective: Vec<Slot> = Vec::new();
    let mut judged = Judged { effective: Vec::new(), vetoed: BTreeSet::new(), findings: Vec::new() };
    for slot in slots {
        let complaints = if slot.held { complaints(slot.vtep, around) } else { Vec::new() };
        if complaints.is_empty() {
            effective.push(*slot);
        } else {
            judged.refuse(slot, lines, complaints);
        }
    }
    while let Some((at, problem)) =
        effective.iter().enumerate().find_map(|(at, slot)| Some((at, loops(slot, &effective)?)))
    {
        let slot = effective.remove(at);
        let remedy = "write a tunnel network that no endpoint is in, and endpoints outside every tunnel network";
        judged.refuse(&slot, lines, vec![Complaint::new(Rule::VtepEndpointInVtepCidr, problem, remedy)]);
    }
    judged.effective = effective.into_iter().map(|slot| slot.vtep).collect();
    judged
}

impl Judged {
    /// Adds one finding for each complaint that the line does not have yet.
    fn refuse(&mut self, slot: &Slot, lines: &[Line], complaints: Vec<Complaint>) {
        let Slot { vtep: Vtep { cidr, .. }, line, held: _ } = *slot;
        self.vetoed.insert(cidr);
        // A line with the same CIDR has already reported the rules that it breaks itself.
        let is_reported = lines.iter().any(|other| Some(other.index) == line && other.cidr == Some(cidr));
        let known = |complaint: &Complaint| is_reported && complaint.rule.vetoes();
        self.findings.extend(complaints.into_iter().filter(|complaint| !known(complaint)).map(|mut complaint| {
            complaint.problem = format!("the last good value {cidr} is not in force: {}", complaint.problem);
            complaint.about("vtep-cidr", line, &cidr.to_string())
        }));
    }
}

fn complaints(vtep: Vtep, around: Around<'_>) -> Vec<Complaint> {
    let Vtep { cidr, endpoint, mac: _ } = vtep;
    let mut complaints = overlaps::of_cidr(cidr, around);
    complaints.extend(overlaps::unknown(cidr, around));
    complaints.extend(overlaps::of_endpoint(endpoint, around.surroundings));
    complaints.retain(Complaint::is_error);
    complaints
}

/// Why a retained value cannot take effect beside the others: its network contains the endpoint of one of them, or its endpoint lies in the
/// network of a line.
fn loops(slot: &Slot, all: &[Slot]) -> Option<String> {
    let Slot { vtep: Vtep { cidr, endpoint, .. }, held: true, .. } = *slot else { return None };
    let inside = |other: &Slot| cidr.contains(&other.vtep.endpoint);
    let around = |other: &Slot| !other.held && other.vtep.cidr.contains(&endpoint);
    let of = |other: &Slot| -> (Ipv4Addr, Ipv4Net) { (other.vtep.endpoint, other.vtep.cidr) };
    if let Some((endpoint, other)) = all.iter().find(|other| inside(other)).map(of) {
        return Some(format!("it contains {endpoint}, the endpoint of {other}"));
    }
    let (_, other) = all.iter().find(|other| around(other)).map(of)?;
    Some(format!("its endpoint {endpoint} lies inside {other}"))
}
