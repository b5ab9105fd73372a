//! What is in force: the current document, and where it is in error the last good value.

use ipnet::{Ipv4Net, ipv4_mask_to_prefix};

use super::{
    parse::{Line, Parsed},
    spec::{Spec, Vtep, overlaps},
};

/// The configuration this node shall have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    pub spec: Spec,
    /// An error holds some of the current document back; the last good value stands in where there is one.
    pub stale: bool,
}

/// `None`: there is no valid configuration yet, because an error concerns the whole list and nothing good came before.
///
/// An error that concerns the whole list leaves the last good configuration as it is. An error in one VTEP leaves that
/// VTEP's last good value, as long as it fits the current mask and is not in the way of what the document says.
#[must_use]
pub fn in_force(parsed: &Parsed, last_good: Option<&Spec>) -> Option<InForce> {
    if parsed.enabled && parsed.list_error() {
        return last_good.map(|spec| InForce { spec: spec.clone(), stale: true });
    }
    let vteps = if parsed.enabled { vteps(parsed, last_good) } else { Vec::new() };
    let spec = Spec { enabled: parsed.enabled, vteps, mask: parsed.mask, tunnel: parsed.tunnel };
    Some(InForce { spec, stale: parsed.errors().next().is_some() })
}

/// How a line in error finds its last good value, the surest way first.
#[derive(Clone, Copy)]
enum Pairing {
    Cidr,
    Endpoint,
    Mac,
    Position,
}

/// One slot per line, so that what is held over keeps its place in the list.
fn vteps(parsed: &Parsed, last_good: Option<&Spec>) -> Vec<Vtep> {
    let Parsed { lines, mask, .. } = parsed;
    let length = ipv4_mask_to_prefix(*mask).unwrap_or(0);
    let last_good = last_good.map_or(&[][..], |spec| &spec.vteps);
    let positions_agree = last_good.len() == lines.len();
    let mut slots: Vec<Option<Vtep>> = lines.iter().map(|line| line.vtep).collect();
    for pairing in [Pairing::Cidr, Pairing::Endpoint, Pairing::Mac, Pairing::Position] {
        for line in lines.iter().filter(|line| line.vtep.is_none() && !is_superseded(line, lines)) {
            let is_free = |good: &Vtep| !slots.iter().flatten().any(|taken| overlaps(taken.cidr, good.cidr));
            let held = last_good.iter().enumerate().find(|(position, good)| {
                let same_position = positions_agree && line.index == *position;
                good.cidr.prefix_len() == length && pairing.joins(line, good, same_position) && is_free(good)
            });
            if let (Some(slot @ None), Some((_, good))) = (slots.get_mut(line.index), held) {
                *slot = Some(*good);
            }
        }
    }
    slots.into_iter().flatten().collect()
}

impl Pairing {
    /// A line that names a CIDR of the right length is about that CIDR and no other.
    fn joins(self, line: &Line, good: &Vtep, same_position: bool) -> bool {
        let length = good.cidr.prefix_len();
        let names_another = line.cidr.is_some_and(|cidr| cidr.prefix_len() == length && cidr != good.cidr);
        !names_another
            && match self {
                Self::Cidr => line.cidr.and_then(|cidr| at_length(cidr, length)) == Some(good.cidr),
                Self::Endpoint => line.endpoint == Some(good.endpoint),
                Self::Mac => line.mac == Some(good.mac),
                Self::Position => same_position,
            }
    }
}

/// The same CIDR stands on a later line, which counts alone.
fn is_superseded(line: &Line, lines: &[Line]) -> bool {
    line.cidr.is_some() && lines.iter().any(|other| other.index > line.index && other.cidr == line.cidr)
}

/// A CIDR with a slip in its length still names its VTEP.
fn at_length(cidr: Ipv4Net, length: u8) -> Option<Ipv4Net> {
    Ipv4Net::new(cidr.addr(), length).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests;
