//! `-o wide`: the report with all names, and a line for each node, as wide as it is.

use std::fmt::Write as _;

use vtep_core::{
    diagnosis::Verdict,
    fleet::report::{NodeRow, Report},
};

use super::{
    super::style::{SOFT, clean, paint},
    text::{self, Names},
};

const HEADINGS: [&str; 8] = ["NODE", "VERDICT", "ZONE", "AGENT", "CILIUM", "KERNEL", "MODE", "CONFIG"];
/// Digits of a configuration's hash that are enough to compare.
const HASH: usize = 12;

pub(super) fn render(report: &Report) -> String {
    let mut out = text::sections(report, Names::All);
    if report.nodes.is_empty() {
        return out;
    }
    let rows: Vec<_> = report.nodes.iter().map(cells).collect();
    let widths: Vec<_> = (0..HEADINGS.len())
        .map(|column| {
            rows.iter().map(|row| row[column].chars().count()).chain([HEADINGS[column].len()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ")
    };
    let headings = line(&HEADINGS.map(str::to_owned));
    let _ = writeln!(out, "\n{}", paint(SOFT, format!("{headings}  TROUBLE")));
    for (row, node) in rows.iter().zip(&report.nodes) {
        let text = format!("{}  {}", line(row), trouble(node));
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

fn cells(node: &NodeRow) -> [String; 8] {
    let NodeRow { node, verdict, zone, version, cilium, kernel, mode, config_hash, .. } = node;
    let known = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), clean);
    let hash: String = known(config_hash).chars().take(HASH).collect();
    let (zone, version, cilium) = (known(zone), known(version), known(cilium));
    [clean(node), verdict.to_string(), zone, version, cilium, known(kernel), known(mode), hash]
}

fn trouble(node: &NodeRow) -> String {
    let bad = node.vteps.iter().filter(|vtep| vtep.verdict != Verdict::Healthy);
    let words = bad
        .map(|vtep| format!("{} {}", clean(&vtep.vtep.cidr), clean(vtep.cause.as_deref().unwrap_or("no cause yet"))));
    words.collect::<Vec<_>>().join(", ")
}
