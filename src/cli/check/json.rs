//! The report for programs.

use serde::Serialize;
use vtep_core::config::{
    checked::{BothEnds, Located},
    finding::{Finding, Severity},
    shapes::Shape,
    spec::Vtep,
    truth::Truth,
};

use super::{Count, Report, section::Section};
use crate::cli::{input::Applied, json};

#[derive(Serialize)]
struct Printed<'r> {
    findings: Vec<Found<'r>>,
    errors: usize,
    warnings: usize,
    vteps: Vec<Vtep>,
    truth: Truth,
    node_configs: Vec<&'r Applied>,
    /// If there is more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    configurations: Vec<Configuration<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<&'r str>,
    /// Files of a directory that have nothing to do with Cilium.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_files: Option<usize>,
}

/// A finding.
#[derive(Serialize)]
pub(in crate::cli) struct Found<'r> {
    #[serde(flatten)]
    finding: &'r Finding,
    #[serde(flatten)]
    place: Option<Place<'r>>,
    #[serde(flatten)]
    difference: Option<&'r BothEnds>,
    /// The position in `configurations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<usize>,
}

#[derive(Serialize)]
struct Place<'r> {
    file: &'r str,
    line: u32,
    column: u32,
    path: &'r str,
}

#[derive(Serialize)]
struct Configuration<'r> {
    kind: Shape,
    file: &'r str,
    name: Option<&'r str>,
    namespace: Option<&'r str>,
    errors: usize,
    warnings: usize,
    vteps: Vec<Vtep>,
    truth: Truth,
    node_configs: &'r [Applied],
}

impl<'r> Found<'r> {
    pub(in crate::cli) fn of(located: &'r Located) -> Self {
        let Located { finding, place: _, spot: _, difference } = located;
        Self { finding, place: place(located), difference: difference.as_ref(), configuration: None }
    }
}

pub(super) fn report(report: &Report) -> String {
    let Report { sections, notes, skipped } = report;
    let Count { errors, warnings, infos: _ } = report.count();
    let several = sections.len() > 1;
    let findings = sections.iter().enumerate().flat_map(|(index, section)| {
        let configuration = several.then_some(index);
        section.findings.iter().map(move |located| Found { configuration, ..Found::of(located) })
    });
    let all: Vec<_> = sections.iter().map(Section::vteps).collect();
    let of_sections = sections.iter().flat_map(|section| {
        let unknown = section.objects.iter().flat_map(|objects| &objects.unknown);
        section.notes.iter().chain(unknown)
    });
    let printed = Printed {
        findings: findings.collect(),
        errors,
        warnings,
        vteps: all.iter().flat_map(|(vteps, _)| vteps).copied().collect(),
        truth: all.first().map(|(_, truth)| *truth).unwrap_or_default(),
        node_configs: sections.iter().flat_map(|section| &section.node_configs).collect(),
        configurations: if several { sections.iter().map(configuration).collect() } else { Vec::new() },
        notes: notes.iter().chain(of_sections).map(String::as_str).collect(),
        skipped_files: skipped.is_counted.then_some(skipped.files),
    };
    // The report has only strings, numbers and booleans under fixed names, so serialization cannot fail.
    json::pretty(&printed).unwrap_or_default()
}

fn place(located: &Located) -> Option<Place<'_>> {
    let spot = located.spot.as_ref()?;
    Some(Place { file: &spot.location.file, line: spot.location.line, column: spot.location.column, path: &spot.path })
}

fn configuration(section: &Section) -> Configuration<'_> {
    let (vteps, truth) = section.vteps();
    let of = |severity| section.findings.iter().filter(|located| located.finding.severity == severity).count();
    Configuration {
        kind: section.shape,
        file: &section.file,
        name: section.name.as_deref(),
        namespace: section.namespace.as_deref(),
        errors: of(Severity::Error),
        warnings: of(Severity::Warning),
        vteps,
        truth,
        node_configs: &section.node_configs,
    }
}
