//! What `cilium-config` says about VTEPs, and everything that is wrong with it.
//!
//! Lists and scalars are read the way Cilium reads them; every problem of a document is reported at once. What is in
//! force because of it is decided in [`super::effective`].

mod cluster;
mod containment;
mod cross_field;
mod lists;
pub(super) mod overlaps;
mod scalars;
#[cfg(test)]
mod tests;
mod values;

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

pub use self::lists::tokens;
pub(super) use self::values::Complaint;

/// How many values of a list are looked at one by one. A longer list is in error as a whole anyway.
const EXAMINED: usize = 64;

/// The VTEP mask where `vtep-mask` is absent.
const DEFAULT_MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

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
    /// The whole; `None` where an error concerns this line, or where the lists differ in length.
    pub vtep: Option<Vtep>,
}

/// A configuration, read as far as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// `enable-vtep` is not off: it is true, or nobody can read it.
    pub enabled: bool,
    /// VTEP is on, and not one of the three lists is there: the VTEPs are decided elsewhere.
    pub elsewhere: bool,
    /// `vtep-mask`, or its default where it is absent or wrong.
    pub mask: Ipv4Addr,
    pub tunnel: Tunnel,
    /// As many as the longest list has values, at most 64.
    pub lines: Vec<Line>,
    /// Every network `vtep-cidr` mentions, also on a line in error, in lists that do not fit together or with VTEP
    /// disabled: as written without host bits, and as the datapath's key under the mask would be.
    pub mentioned: BTreeSet<Ipv4Net>,
    /// In the order of [`Rule::ALL`], then of the lists.
    pub findings: Vec<Finding>,
}

impl Parsed {
    /// Whether an error takes the whole list out of force.
    #[must_use]
    pub fn list_error(&self) -> bool {
        self.errors().any(|finding| finding.scope == Scope::List)
    }

    /// Whether an error takes anything out of force.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.findings.iter().any(Finding::holds_back)
    }

    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }
}

/// Reads the keys, of a cluster that nothing is known of; never fails, what is wrong is in [`Parsed::findings`].
#[must_use]
pub fn parse(keys: &Keys) -> Parsed {
    parse_within(keys, &Surroundings::default())
}

/// Reads the keys, and compares them with what is known of the cluster around them.
#[must_use]
pub fn parse_within(keys: &Keys, surroundings: &Surroundings) -> Parsed {
    parse_around(keys, Around { surroundings, standing: &BTreeSet::new() })
}

/// The same where some VTEPs are in force already.
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
    overlaps::check(&lists, &lines, &cluster::pod_pools(keys), around, &mut findings);
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

/// What matters while VTEP is off. Cilium ends at its start with a value that it cannot read all the same, but no VTEP hangs on it any
/// more: off stays off.
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

/// `None` where the key is there and does not hold a mask.
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
            "the key is there and empty, with which the Cilium agent does not start",
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

/// The mask that fits every CIDR of the list, if there is one.
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
        cidr: lists.cidr.read(index, findings, |value| values::cidr(value, mask)),
        endpoint: lists.endpoint.read(index, findings, values::endpoint),
        mac: lists.mac.read(index, findings, values::mac),
        vtep: None,
    };
    (0..lists.longest().min(EXAMINED)).map(line).collect()
}

/// Completes the lines that no error concerns.
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

/// Read leniently: a slip in a line must not make its entry in the kernel look stale.
fn mentioned(cidrs: &List<'_>, mask: Ipv4Addr) -> BTreeSet<Ipv4Net> {
    let written = cidrs.values.iter().filter_map(|value| values::cidr(value, mask).ok()).map(|cidr| cidr.value);
    let addresses = cidrs.values.iter().filter_map(|value| values::lenient_address(value));
    let keys = addresses.filter_map(|address| Ipv4Net::with_netmask(address, mask).ok()).map(|net| net.trunc());
    written.chain(keys).collect()
}
