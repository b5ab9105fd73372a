//! `vtep-agent check`: lints Cilium's configuration before Cilium reads it.
//!
//! It reads its inputs and prints findings. It changes nothing, and opens no connection unless --bigip-url asks for one.

mod github;
mod json;
mod objects;
mod sarif;
mod section;
mod text;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::bail;
use vtep_core::{
    bigip::compare::ClusterNode,
    config::{checked::Located, finding::Severity, project::Group, selector::Labels, surroundings::Surroundings},
};

use super::{
    args::{cluster_networks::ClusterNetworks, far_end::FarEnd},
    far_end::{self, BigIps},
    input::{self, Given, Skipped},
};

pub use self::text::render;
pub(super) use self::{
    json::Found,
    section::Section,
    text::{render_located, render_notes},
};
pub use super::style::colourless;

/// Lint Cilium's configuration: a cilium-config, Helm values, GitOps objects, or a directory of them.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  kubectl -n kube-system get configmap cilium-config -o yaml | vtep-agent check\n  \
                        vtep-agent check --strict deploy/\n\n\
                        Exit status: 0 no error, 1 at least one (with --strict also a warning), 2 an input is unusable.")]
pub struct Args {
    #[command(flatten)]
    pub input: input::Inputs,
    /// Warnings count as errors.
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub surroundings: ClusterNetworks,
    #[command(flatten)]
    pub far_end: FarEnd,
    /// Text for people, JSON for programs, SARIF or GitHub's workflow commands for code review.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// Workflow commands, which GitHub shows beside the lines of a pull request.
    Github,
}

/// What `check` found.
struct Report {
    /// One for each configuration.
    sections: Vec<Section>,
    notes: Vec<String>,
    skipped: Skipped,
}

/// Exit status 0: no error, 1: at least one error, 2: an input is unusable.
#[must_use]
pub async fn run(args: &Args) -> ExitCode {
    let Args { input, strict, surroundings, far_end, output } = args;
    let surroundings = surroundings.surroundings();
    let Given { groups, labels, notes, skipped, failures } = input.read();
    for failure in &failures {
        // If standard error is closed, the exit status still reports the failure.
        let _ = writeln!(io::stderr(), "vtep-agent check: {failure:#}");
    }
    if groups.is_empty() {
        return ExitCode::from(2);
    }
    let sections = match sections(groups, labels.as_ref(), (far_end, input.reads_stdin()), &surroundings).await {
        Ok(sections) => sections,
        Err(error) => {
            let _ = writeln!(io::stderr(), "vtep-agent check: {error:#}");
            return ExitCode::from(2);
        }
    };
    let report = Report { sections, notes, skipped };
    let printed = match output {
        Output::Text => text::report(&report),
        Output::Json => json::report(&report),
        Output::Sarif => sarif::report(&report),
        Output::Github => github::report(&report),
    };
    // A reader that closes the pipe early (`| head`) is not a failure of the check.
    let _ = anstream::stdout().write_all(printed.as_bytes());
    let count = report.count();
    match failures.is_empty() {
        true => ExitCode::from(u8::from(count.errors > 0 || (*strict && count.warnings > 0))),
        false => ExitCode::from(2),
    }
}

/// Checks each configuration, also against the nodes that are given, and one with the BIG-IPs.
async fn sections(
    groups: Vec<Group>,
    labels: Option<&Labels>,
    (far_end, reads_stdin): (&FarEnd, bool),
    surroundings: &Surroundings,
) -> anyhow::Result<Vec<Section>> {
    let nodes = far_end::read_nodes(far_end).await?;
    let mut around = surroundings.clone();
    for node in nodes.iter().flatten() {
        around.node_addresses.extend(node.address);
        around.pod_cidrs.extend(&node.pod_cidrs);
    }
    let mut sections: Vec<_> = groups.into_iter().map(|group| Section::of(group, labels, &around)).collect();
    if BigIps::is_given(far_end) {
        compare(&mut sections, (far_end, reads_stdin), surroundings, nodes).await?;
    }
    Ok(sections)
}

/// Adds the differences to the BIG-IPs of the input.
async fn compare(
    sections: &mut [Section],
    (far_end, reads_stdin): (&FarEnd, bool),
    surroundings: &Surroundings,
    nodes: Option<Vec<ClusterNode>>,
) -> anyhow::Result<()> {
    // With several, a BIG-IP of one would be compared with the VTEPs of the others.
    let [section] = sections else { bail!("the input has several configurations: give one of them with --bigip") };
    let bigips = BigIps::read(far_end, reads_stdin).await?;
    let comparison = bigips.compare(&section.cilium_end().within(surroundings, nodes, section.keys()));
    section.findings.extend(bigips.findings(&comparison));
    section.notes.extend(comparison.notes);
    Ok(())
}

impl Report {
    fn findings(&self) -> impl Iterator<Item = &Located> + Clone {
        self.sections.iter().flat_map(|section| &section.findings)
    }

    fn count(&self) -> Count {
        Count::of(self.findings())
    }
}

#[derive(Clone, Copy)]
struct Count {
    errors: usize,
    warnings: usize,
    infos: usize,
}

impl Count {
    fn of<'f>(findings: impl Iterator<Item = &'f Located> + Clone) -> Self {
        let of = |severity| findings.clone().filter(|located| located.finding.severity == severity).count();
        Self { errors: of(Severity::Error), warnings: of(Severity::Warning), infos: of(Severity::Info) }
    }
}
