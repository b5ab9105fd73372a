//! The three lists: splits them, and checks that they have the same shape.

use super::{
    EXAMINED,
    values::{Complaint, Read},
};
use crate::config::{
    Keys,
    finding::{Finding, Rule},
    spec::MAX_VTEPS,
};

/// The values of a list as written, each with its byte offset. Any run of white space and commas separates them.
pub fn tokens(raw: &str) -> impl Iterator<Item = (usize, &str)> {
    let separates = |c: char| c.is_whitespace() || c == ',';
    let mut end = 0;
    raw.split_inclusive(separates).filter_map(move |piece| {
        let start = end;
        end += piece.len();
        let value = piece.trim_end_matches(separates);
        (!value.is_empty()).then_some((start, value))
    })
}

/// One list as written.
pub(super) struct List<'k> {
    pub(super) key: &'static str,
    /// `None`: the key is absent; it counts as an empty list.
    raw: Option<&'k str>,
    pub(super) values: Vec<&'k str>,
}

impl<'k> List<'k> {
    fn read_key(keys: &'k Keys, key: &'static str) -> Self {
        let raw = keys.get(key).map(String::as_str);
        Self { key, raw, values: raw.map(|raw| tokens(raw).map(|(_, value)| value).collect()).unwrap_or_default() }
    }

    /// Parses the value at `index`, if there is one, and reports an error or a warning about it.
    pub(super) fn read<T>(
        &self,
        index: usize,
        findings: &mut Vec<Finding>,
        reader: impl Fn(&str) -> Result<Read<T>, Complaint>,
    ) -> Option<T> {
        let value = self.values.get(index)?;
        let (value_read, complaint) = match reader(value) {
            Ok(Read { value, warning }) => (Some(value), warning),
            Err(complaint) => (None, Some(complaint)),
        };
        findings.extend(complaint.map(|complaint| complaint.about(self.key, Some(index), value)));
        value_read
    }

    /// A finding about one value of this list.
    pub(super) fn finding(&self, rule: Rule, index: usize, problem: String, remedy: String) -> Finding {
        Finding::new(rule, self.key, Some(index), self.values.get(index).copied(), problem, remedy)
    }

    /// The finding for a complaint about one value of this list.
    pub(super) fn complaint(&self, index: usize, complaint: Complaint) -> Finding {
        complaint.about(self.key, Some(index), self.values.get(index).copied().unwrap_or_default())
    }

    fn whole(&self, rule: Rule, problem: String, remedy: String) -> Finding {
        Finding::new(rule, self.key, None, self.raw, problem, remedy)
    }
}

/// `vtep-endpoint`, `vtep-cidr` and `vtep-mac`.
pub(super) struct Lists<'k> {
    pub(super) endpoint: List<'k>,
    pub(super) cidr: List<'k>,
    pub(super) mac: List<'k>,
}

impl<'k> Lists<'k> {
    pub(super) fn read(keys: &'k Keys) -> Self {
        let list = |key| List::read_key(keys, key);
        Self { endpoint: list("vtep-endpoint"), cidr: list("vtep-cidr"), mac: list("vtep-mac") }
    }

    pub(super) fn longest(&self) -> usize {
        let Self { endpoint, cidr, mac } = self;
        endpoint.values.len().max(cidr.values.len()).max(mac.values.len())
    }

    pub(super) fn equal_lengths(&self) -> bool {
        let Self { endpoint, cidr, mac } = self;
        endpoint.values.len() == cidr.values.len() && cidr.values.len() == mac.values.len()
    }

    /// All three keys are absent.
    pub(super) fn are_absent(&self) -> bool {
        let Self { endpoint, cidr, mac } = self;
        [endpoint, cidr, mac].iter().all(|list| list.raw.is_none())
    }

    /// Reports problems that do not depend on the values.
    pub(super) fn check_shape(&self, findings: &mut Vec<Finding>) {
        let Self { endpoint, cidr, mac } = self;
        findings.extend([endpoint, cidr, mac].into_iter().filter_map(comma));
        if self.are_absent() {
            // The VTEPs are decided elsewhere, so this is not an error.
        } else if self.longest() == 0 {
            findings.push(cidr.whole(
                Rule::VtepListEmpty,
                "VTEP is enabled and no VTEP is listed".to_owned(),
                "list each BIG-IP in vtep-endpoint, vtep-cidr and vtep-mac, or set enable-vtep to \"false\"".to_owned(),
            ));
        } else if !self.equal_lengths() {
            findings.push(self.count_mismatch());
        }
        if let Some(list) = [cidr, endpoint, mac].into_iter().find(|list| list.values.len() > MAX_VTEPS) {
            let more = if list.values.len() > EXAMINED {
                format!(" (the first {EXAMINED} are examined)")
            } else {
                String::new()
            };
            findings.push(list.whole(
                Rule::VtepTooMany,
                format!("{} values are listed{more}, and Cilium's VTEP map holds {MAX_VTEPS}", list.values.len()),
                format!("keep at most {MAX_VTEPS} VTEPs"),
            ));
        }
    }

    /// Reports the mismatch at the list that differs from the two others, or else at `vtep-cidr`.
    fn count_mismatch(&self) -> Finding {
        let Self { endpoint, cidr, mac } = self;
        let [endpoints, cidrs, macs] = [endpoint, cidr, mac].map(|list| list.values.len());
        let odd = match () {
            () if cidrs == macs => endpoint,
            () if cidrs == endpoints => mac,
            () => cidr,
        };
        odd.whole(
            Rule::VtepCountMismatch,
            format!(
                "the lists differ in length: vtep-endpoint has {endpoints}, vtep-cidr has {cidrs} and vtep-mac has \
                 {macs} values"
            ),
            "write one value per BIG-IP in each list, in the same order".to_owned(),
        )
    }
}

fn comma(list: &List<'_>) -> Option<Finding> {
    list.raw.filter(|raw| raw.contains(',')).map(|_| {
        list.whole(
            Rule::VtepListSeparator,
            "the values are separated by commas, which Cilium before 1.19 reads as one value".to_owned(),
            "separate them with blanks".to_owned(),
        )
    })
}
