//! Finds the last good value that replaces each line in error.

use ipnet::Ipv4Net;

use super::Slot;
use crate::config::{
    parse::Line,
    spec::{MAX_VTEPS, Vtep, overlaps},
};

/// How a line in error finds its last good value, the most reliable way first.
#[derive(Clone, Copy)]
enum Pairing {
    Cidr,
    Endpoint,
    Mac,
    Position,
}

/// The good lines in their order, with last good values in place of lines in error. If a line in error matches no last good value, all
/// values that it may have replaced follow at the end. `length` is the prefix length of the mask: the datapath never finds an entry of
/// another length.
pub(super) fn slots(lines: &[Line], last_good: &[Vtep], length: u8) -> Vec<Slot> {
    let good = |line: &Line| line.vtep.map(|vtep| Slot { vtep, line: Some(line.index), held: false });
    let mut slots: Vec<Option<Slot>> = lines.iter().map(good).collect();
    for pairing in [Pairing::Cidr, Pairing::Endpoint, Pairing::Mac, Pairing::Position] {
        for line in lines.iter().filter(|line| line.vtep.is_none() && !is_superseded(line, lines)) {
            let positions_agree = last_good.len() == lines.len();
            let held = last_good.iter().enumerate().find(|(position, good)| {
                let same_position = positions_agree && line.index == *position;
                pairing.joins(line, good, same_position) && is_free(good, slots.iter().flatten(), length)
            });
            if let (Some(slot @ None), Some((_, good))) = (slots.get_mut(line.index), held) {
                *slot = Some(Slot { vtep: *good, line: Some(line.index), held: true });
            }
        }
    }
    let all_paired = slots.iter().all(Option::is_some);
    let mut slots: Vec<Slot> = slots.into_iter().flatten().collect();
    if !all_paired {
        // It is unknown which of them the line in error replaces, so all of them remain.
        for good in last_good {
            if slots.len() < MAX_VTEPS && is_free(good, &slots, length) {
                slots.push(Slot { vtep: *good, line: None, held: true });
            }
        }
    }
    slots
}

/// The value matches the mask and overlaps no other slot.
fn is_free<'s>(good: &Vtep, slots: impl IntoIterator<Item = &'s Slot>, length: u8) -> bool {
    good.cidr.prefix_len() == length && !slots.into_iter().any(|slot| overlaps(slot.vtep.cidr, good.cidr))
}

impl Pairing {
    fn joins(self, line: &Line, good: &Vtep, same_position: bool) -> bool {
        match self {
            Self::Cidr => line.cidr.and_then(|cidr| at_length(cidr, good.cidr.prefix_len())) == Some(good.cidr),
            Self::Endpoint => line.endpoint == Some(good.endpoint),
            Self::Mac => line.mac == Some(good.mac),
            Self::Position => same_position,
        }
    }
}

/// A later line has the same CIDR: only the last one counts.
fn is_superseded(line: &Line, lines: &[Line]) -> bool {
    line.cidr.is_some() && lines.iter().any(|other| other.index > line.index && other.cidr == line.cidr)
}

/// A CIDR with a typing error in its length still identifies its VTEP.
fn at_length(cidr: Ipv4Net, length: u8) -> Option<Ipv4Net> {
    Ipv4Net::new(cidr.addr(), length).ok().map(|net| net.trunc())
}
