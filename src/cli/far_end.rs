//! The far end of `check` and `bigip`: BIG-IPs' configurations and REST interfaces, compared with Cilium's configuration.

mod text;

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use vtep_core::{
    bigip::compare::{Comparison, Difference},
    config::finding::{Finding, Severity},
};

pub(super) use self::text::{notes, render};

/// The texts that locations point into, by their names.
pub(super) type Sources = BTreeMap<Arc<str>, String>;

/// A difference for a program: the finding, and both ends.
#[derive(Serialize)]
pub(super) struct Row<'d> {
    #[serde(flatten)]
    finding: &'d Finding,
    /// Where BIG-IP's value stands.
    file: Option<&'d str>,
    line: Option<u32>,
    column: Option<u32>,
    /// The CIDR of the VTEP.
    vtep: Option<String>,
    bigip: Option<&'d str>,
    /// Cilium's key and value.
    cilium: Option<&'d str>,
    commands: &'d [String],
}

/// `names` are those of the BIG-IPs.
pub(super) fn rows<'d>(comparison: &'d Comparison, names: &'d [String]) -> Vec<Row<'d>> {
    let row = |difference: &'d Difference| {
        let Difference { finding, at, vtep, device, cilium, commands } = difference;
        Row {
            finding,
            file: at.as_ref().map(|at| &*at.file),
            line: at.as_ref().map(|at| at.line),
            column: at.as_ref().map(|at| at.column),
            vtep: vtep.map(|cidr| cidr.to_string()),
            bigip: device.and_then(|index| names.get(index)).map(String::as_str),
            cilium: cilium.as_deref(),
            commands,
        }
    };
    comparison.differences.iter().map(row).collect()
}

/// Whether the two ends fit: nothing that matters differs.
pub(super) fn fits(comparison: &Comparison) -> bool {
    comparison.differences.iter().all(|difference| difference.finding.severity == Severity::Info)
}
