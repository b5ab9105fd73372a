//! Parses the part of `cilium-config` that concerns VTEPs, and reports every error in it.
//!
//! It reads lists and scalars as Cilium does, and reports all problems of a document at once. [`super::effective`] decides which values
//! take effect.

pub(in crate::config) mod cluster;
mod containment;
mod cross_field;
mod lists;
pub(super) mod overlaps;
mod scalars;
#[cfg(test)]
mod tests;
pub(super) mod values;

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use self::lists::{List, Lists};
use super::{
    Keys,
    finding::{Finding, Rule, Scope, Severity},
    spec::{Tunnel, Vtep},
    surroundings::{Around, Surroundings},
};
use crate::types::mac::Mac;

pub(crate) use self::cluster::pod_pools;
pub use self::lists::tokens;
pub(super) use self::values::{Complaint, FarEnd};

/// The number of values of a list that are checked one by one. A longer list is in error as a whole anyway.
const EXAMINED: usize = 64;

/// The VTEP mask if `vtep-mask` is absent.
pub(super) const DEFAULT_MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// One position of the three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 0.
    pub index: usize,
    /// Without host bits.
    pub cidr: Option<Ipv4Net>,
    /// Unicast.
    pub endpoint: Option<Ipv4Addr>,
    /// Never zero.
    pub mac: Option<Mac>,
    /// The complete VTEP; `None` if an error concerns this line, or if the lists differ in length.
    pub vtep: Option<Vtep>,
}

/// A configuration, parsed as far as possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// `enable-vtep` is true or unreadable.
    pub enabled: bool,
    /// VTEP is on, and all three lists are absent: the VTEPs are decided elsewhere.
    pub elsewhere: bool,
    /// `vtep-mask`, or its default if the key is absent or wrong.
    pub mask: Ipv4Addr,
    pub tunnel: Tunnel,
    /// One for each value of the longest list, at most 64.
    pub lines: Vec<Line>,
    /// Every network that `vtep-cidr` mentions, even on a line in error, in lists of different lengths, or with VTEP disabled: as written
    /// without host bits, and as the mask turns it into a key of the datapath.
    pub mentioned: BTreeSet<Ipv4Net>,
    /// In the order of [`Rule::ALL`], then of the lists.
    pub findings: Vec<Finding>,
}

impl Parsed {
    /// Whether the whole list has no effect because of an error.
    #[must_use]
    pub fn list_error(&self) -> bool {
        self.errors().any(|finding| finding.scope == Scope::List)
    }

    /// Whether any part has no effect because of an error.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.findings.iter().any(Finding::holds_back)
    }

    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }
}

/// Parses the keys without facts about the cluster. It never fails: errors are in [`Parsed::findings`].
#[must_use]
pub fn parse(keys: &Keys) -> Parsed {
    parse_within(keys, &Surroundings::default())
}

/// Parses the keys and compares them with the known facts about the cluster.
#[must_use]
pub fn parse_within(keys: &Keys, surroundings: &Surroundings) -> Parsed {
    parse_around(keys, Around { surroundings, standing: &BTreeSet::new() })
}

/// The same, if some VTEPs are in effect already.
#[must_use]
pub fn parse_around(keys: &Keys, around: Around<'_>) -> Parsed {
    let lists = Lists::read(keys);
    let mut findings = Vec::new();
    let enabled = cluster::enabled(keys, &mut findings);
    cluster::unknown_keys(keys, &mut findings);
    scalars::check(keys, &mut findings);
    let tunnel = cluster::tunnel(keys, &mut findings);
    cluster::features(keys, &mut findings);
    let mask = mask(keys, &lists.cidr, &mut findings);
    lists.check_shape(&mut findings);
    let mut lines = lines(&lists, mask.unwrap_or(DEFAULT_MASK), &mut findings);
    overlaps::check(&lists, &lines, &pod_pools(keys), around, &mut findings);
    cross_field::check(&lists, &lines, mask, &mut findings);
    if lists.equal_lengths() {
        assemble(&mut lines, &findings);
    }
    if !enabled {
        findings = findings.into_iter().filter_map(while_off).collect();
    }
    sort(&mut findings);
    let mask = mask.unwrap_or(DEFAULT_MASK);
    let mentioned = mentioned(&lists.cidr, mask);
    let elsewhere = lists.are_absent() && cluster::is(keys, "enable-vtep", true);
    Parsed { enabled, elsewhere, mask, tunnel, lines, mentioned, findings }
}

/// Keeps the findings that matter while VTEP is off. Cilium still exits at its start with an unreadable value, but no VTEP depends on the
/// value then: off remains off.
fn while_off(finding: Finding) -> Option<Finding> {
    if matches!(finding.rule, Rule::BoolInvalid | Rule::NumberInvalid | Rule::DurationInvalid) {
        return Some(finding.within(Scope::Start));
    }
    matches!(finding.rule, Rule::VtepDisabled | Rule::UnknownVtepKey).then_some(finding)
}

/// In the order of [`Rule::ALL`], then of the lists.
pub(super) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| (a.rule, a.index, &a.key).cmp(&(b.rule, b.index, &b.key)));
}

/// `None` if the key is set to something other than a mask.
fn mask(keys: &Keys, cidrs: &List<'_>, findings: &mut Vec<Finding>) -> Option<Ipv4Addr> {
    const KEY: &str = "vtep-mask";
    let Some(raw) = keys.get(KEY) else { return Some(DEFAULT_MASK) };
    let suggestion = common_mask(cidrs);
    if raw.trim().is_empty() {
        let absent = if suggestion == DEFAULT_MASK { ", or remove the key" } else { "" };
        findings.push(Finding::new(
            Rule::VtepMaskEmpty,
            KEY,
            None,
            Some(raw),
            "the key is set but empty, and the Cilium agent does not start with an empty mask",
            format!("write {suggestion}{absent} (Helm: set `vtep.mask`)"),
        ));
        return None;
    }
    match values::mask(raw.trim(), suggestion) {
        Ok(mask) => Some(mask),
        Err(complaint) => {
            findings.push(complaint.about(KEY, None, raw));
            None
        }
    }
}

/// The mask that matches every CIDR of the list, or the default mask if none does.
fn common_mask(cidrs: &List<'_>) -> Ipv4Addr {
    let lengths: BTreeSet<u8> =
        cidrs.values.iter().filter_map(|value| value.parse::<Ipv4Net>().ok()).map(|net| net.prefix_len()).collect();
    match lengths.into_iter().collect::<Vec<_>>().as_slice() {
        [length] if *length > 0 => values::netmask(*length),
        _ => DEFAULT_MASK,
    }
}

fn lines(lists: &Lists<'_>, mask: Ipv4Addr, findings: &mut Vec<Finding>) -> Vec<Line> {
    let line = |index| Line {
        index,
        cidr: lists.cidr.read(index, findings, |value| values::cidr(value, mask, FarEnd::BigIp)),
        endpoint: lists.endpoint.read(index, findings, |value| values::endpoint(value, FarEnd::BigIp)),
        mac: lists.mac.read(index, findings, |value| values::mac(value, FarEnd::BigIp)),
        vtep: None,
    };
    (0..lists.longest().min(EXAMINED)).map(line).collect()
}

/// Completes the lines that have no error.
fn assemble(lines: &mut [Line], findings: &[Finding]) {
    // Findings about a list have no index.
    let in_error = |finding: &&Finding| finding.severity == Severity::Error && finding.scope != Scope::Start;
    let in_error: BTreeSet<usize> = findings.iter().filter(in_error).filter_map(|finding| finding.index).collect();
    for line in lines {
        let Line { index, cidr, endpoint, mac, ref mut vtep } = *line;
        if let (false, Some(cidr), Some(endpoint), Some(mac)) = (in_error.contains(&index), cidr, endpoint, mac) {
            *vtep = Some(Vtep { cidr, endpoint, mac });
        }
    }
}

/// Parses leniently: because of a typing error in a line, its map entry must not look stale.
fn mentioned(cidrs: &List<'_>, mask: Ipv4Addr) -> BTreeSet<Ipv4Net> {
    let written =
        cidrs.values.iter().filter_map(|value| values::cidr(value, mask, FarEnd::BigIp).ok()).map(|cidr| cidr.value);
    let addresses = cidrs.values.iter().filter_map(|value| values::lenient_address(value));
    let keys = addresses.filter_map(|address| Ipv4Net::with_netmask(address, mask).ok()).map(|net| net.trunc());
    written.chain(keys).collect()
}
