//! `vtep-agent check`: lints a `cilium-config` before Cilium reads it.
//!
//! It reads one input and prints findings. It changes nothing, and opens no connection.

mod text;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use vtep_core::config::{
    effective::effective,
    finding::{Finding, Severity},
    parse::{Parsed, parse_within},
    spec::Vtep,
    view::Truth,
};

use super::{
    Format,
    args::cluster_networks::ClusterNetworks,
    input::{self, Applied, Given},
};

pub use self::text::render;

/// Lint a cilium-config: a manifest, a map of keys, or a directory with one file per key.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  kubectl -n kube-system get configmap cilium-config -o yaml | vtep-agent check")]
pub struct Args {
    #[command(flatten)]
    pub input: input::Input,
    /// Warnings count as errors.
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub surroundings: ClusterNetworks,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Format,
}

/// Exit status 0: no error, 1: at least one error, 2: the input is unusable.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let Args { input, strict, surroundings, output } = args;
    let Given { document, node_configs } = match input.read(surroundings.surroundings()) {
        Ok(given) => given,
        Err(error) => {
            // If standard error is closed, the exit status still reports the failure.
            let _ = writeln!(io::stderr(), "vtep-agent check: {error:#}");
            return ExitCode::from(2);
        }
    };
    let mut parsed = parse_within(&document.keys, &document.surroundings);
    parsed.findings = parsed.findings.into_iter().map(|finding| document.with_origin(finding)).collect();
    let report = match output {
        Format::Text => render(&document.keys, &parsed) + &text::notes(&node_configs),
        Format::Json => json(&parsed, &node_configs) + "\n",
    };
    // A reader that closes the pipe early (`| head`) is not a failure of the check.
    let _ = anstream::stdout().write_all(report.as_bytes());
    let count = Count::of(&parsed);
    ExitCode::from(u8::from(count.errors > 0 || (*strict && count.warnings > 0)))
}

/// The VTEPs that take effect on a node without an earlier configuration.
fn vteps(parsed: &Parsed) -> Vec<Vtep> {
    effective(parsed, None).map(|effective| effective.spec.vteps).unwrap_or_default()
}

#[derive(Clone, Copy)]
struct Count {
    errors: usize,
    warnings: usize,
    infos: usize,
}

impl Count {
    fn of(parsed: &Parsed) -> Self {
        let of = |severity| parsed.findings.iter().filter(|finding| finding.severity == severity).count();
        Self { errors: of(Severity::Error), warnings: of(Severity::Warning), infos: of(Severity::Info) }
    }
}

#[derive(Serialize)]
struct Report<'p> {
    findings: &'p [Finding],
    errors: usize,
    warnings: usize,
    vteps: Vec<Vtep>,
    truth: Truth,
    node_configs: &'p [Applied],
}

fn json(parsed: &Parsed, node_configs: &[Applied]) -> String {
    let Count { errors, warnings, infos: _ } = Count::of(parsed);
    let (vteps, truth) = (vteps(parsed), Truth::of(parsed));
    let report = Report { findings: &parsed.findings, errors, warnings, vteps, truth, node_configs };
    // The report has only strings, numbers and booleans under fixed names, so serialization cannot fail.
    serde_json::to_string_pretty(&report).unwrap_or_default()
}
