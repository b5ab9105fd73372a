//! Rules between values: a CIDR and the mask, two CIDRs, an endpoint inside a CIDR ([`containment`]).

use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};

use super::{Line, containment, lists::Lists, values::netmask};
use crate::config::{
    finding::{Finding, Rule, Scope, ordinal},
    spec::overlaps,
};

/// `mask` is `None` if `vtep-mask` contains none. `findings` must already contain the findings about overlaps.
pub(super) fn check(lists: &Lists<'_>, lines: &[Line], mask: Option<Ipv4Addr>, findings: &mut Vec<Finding>) {
    let length = mask.and_then(|mask| ipv4_mask_to_prefix(mask).ok());
    let scope = mismatch_scope(lines, length);
    for line in lines {
        let earlier = lines.get(..line.index).unwrap_or_default();
        let found = [
            length.and_then(|length| mask_mismatch(lists, line, length)).map(|finding| finding.within(scope)),
            duplicate_cidr(lists, line, lines),
            overlap(lists, line, earlier),
            duplicate_endpoint(lists, line, earlier),
            duplicate_mac(lists, line, earlier),
        ];
        findings.extend(found.into_iter().flatten());
    }
    containment::check(lists, lines, length, findings);
}

/// If no CIDR matches the mask, the mask is wrong, and the error concerns the whole list. If it were an error of
/// each line, no last good value would match the mask either, and all of them would be dropped.
fn mismatch_scope(lines: &[Line], length: Option<u8>) -> Scope {
    let fits =
        lines.iter().filter_map(|line| line.cidr).any(|cidr| length.is_none_or(|length| cidr.prefix_len() == length));
    if fits { Scope::Vtep } else { Scope::List }
}

fn mask_mismatch(lists: &Lists<'_>, line: &Line, length: u8) -> Option<Finding> {
    let cidr = line.cidr.filter(|cidr| cidr.prefix_len() != length)?;
    let (mask, own) = (netmask(length), cidr.prefix_len());
    let effect = if own > length { "never matches it" } else { "matches only its first block" };
    let problem = format!(
        "{cidr} has the prefix length {own} and vtep-mask is {mask} (/{length}): Cilium accepts it and {effect}"
    );
    let fitting = Ipv4Net::new(cidr.addr(), length).map_or(cidr, |net| net.trunc());
    let remedy = match own {
        0 => format!("write a network of the length of vtep-mask, e.g. 10.1.6.0/{length}"),
        1.. => format!("write {fitting}, or give all VTEPs the same length and set vtep-mask to {}", netmask(own)),
    };
    Some(lists.cidr.finding(Rule::VtepCidrMaskMismatch, line.index, problem, remedy))
}

fn duplicate_cidr(lists: &Lists<'_>, line: &Line, lines: &[Line]) -> Option<Finding> {
    let cidr = line.cidr?;
    let last = lines.iter().rposition(|other| other.cidr == Some(cidr)).filter(|&last| last > line.index)?;
    let problem = format!("{cidr} is listed again as the {} value, and the last one is in force", ordinal(last));
    let remedy = "give each BIG-IP a tunnel network of its own, or remove this line from all three lists".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrDuplicate, line.index, problem, remedy))
}

fn overlap(lists: &Lists<'_>, line: &Line, earlier: &[Line]) -> Option<Finding> {
    let cidr = line.cidr?;
    let clashes = |other: &Ipv4Net| *other != cidr && overlaps(*other, cidr);
    let (other, clash) = earlier.iter().find_map(|other| Some((other.index, other.cidr.filter(clashes)?)))?;
    let problem = format!("{cidr} overlaps {clash}, the {} value", ordinal(other));
    let remedy = "give each BIG-IP a tunnel network of its own".to_owned();
    Some(lists.cidr.finding(Rule::VtepCidrOverlap, line.index, problem, remedy))
}

fn duplicate_endpoint(lists: &Lists<'_>, line: &Line, earlier: &[Line]) -> Option<Finding> {
    let endpoint = line.endpoint?;
    let first = earlier.iter().position(|other| other.endpoint == Some(endpoint))?;
    let problem = format!("{endpoint} is also the {} value", ordinal(first));
    let remedy = "check that both tunnel networks belong to this one BIG-IP".to_owned();
    Some(lists.endpoint.finding(Rule::VtepEndpointDuplicate, line.index, problem, remedy))
}

fn duplicate_mac(lists: &Lists<'_>, line: &Line, earlier: &[Line]) -> Option<Finding> {
    let mac = line.mac?;
    let first = earlier.iter().position(|other| other.mac == Some(mac))?;
    let problem = format!("{mac} is also the {} value", ordinal(first));
    let remedy =
        "write each BIG-IP's own tunnel MAC, as `tmsh show net tunnels tunnel … all-properties` prints it".to_owned();
    Some(lists.mac.finding(Rule::VtepMacDuplicate, line.index, problem, remedy))
}
