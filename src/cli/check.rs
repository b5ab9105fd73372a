//! `vtep-agent check`: lints a `cilium-config` before Cilium reads it.
//!
//! It reads one input and prints findings. It changes nothing, and opens no connection.

mod text;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use vtep_core::config::{
    Keys,
    document::Document,
    effective::effective,
    finding::{Finding, Rule, Severity},
    parse::{Parsed, parse_within},
    selector::{Labels, Selector},
    spec::Vtep,
    surroundings::{Around, Surroundings},
    truth::Truth,
    vtep_config::{Kind, Resolved, VtepConfig, resolve},
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
    let surroundings = surroundings.surroundings();
    let given = match input.read(surroundings.clone()) {
        Ok(given) => given,
        Err(error) => {
            // If standard error is closed, the exit status still reports the failure.
            let _ = writeln!(io::stderr(), "vtep-agent check: {error:#}");
            return ExitCode::from(2);
        }
    };
    let Given { document, node_configs, vtep_configs, labels } = given;
    let objects = (!vtep_configs.is_empty()).then(|| Objects::of(vtep_configs, labels.as_ref(), &surroundings));
    let lists = document.map(|document| Lists::of(document, objects.is_some()));
    let report = match output {
        Format::Text => text::render_all(lists.as_ref(), objects.as_ref()) + &text::notes(&node_configs),
        Format::Json => json(lists.as_ref(), objects.as_ref(), &node_configs) + "\n",
    };
    // A reader that closes the pipe early (`| head`) is not a failure of the check.
    let _ = anstream::stdout().write_all(report.as_bytes());
    let count = Count::of(&findings(lists.as_ref(), objects.as_ref()));
    ExitCode::from(u8::from(count.errors > 0 || (*strict && count.warnings > 0)))
}

/// What the lists of a ConfigMap say.
struct Lists {
    keys: Keys,
    parsed: Parsed,
}

impl Lists {
    /// `with_objects`: the input has custom resources, too. If the lists are absent, these decide the VTEPs.
    fn of(document: Document, with_objects: bool) -> Self {
        let mut parsed = parse_within(&document.keys, &document.surroundings);
        if with_objects && !parsed.elsewhere {
            parsed.findings.push(both());
        }
        parsed.findings = parsed.findings.into_iter().map(|finding| document.with_origin(finding)).collect();
        Self { keys: document.keys, parsed }
    }
}

/// Without the node's map, nothing shows which of the two Cilium uses.
fn both() -> Finding {
    let problem = "the input has VTEP lists and custom resources: the lists are in force here";
    let remedy =
        "a Cilium that serves CiliumVTEPConfig takes the objects, and ignores the lists: remove one of the two";
    Finding::new(Rule::VtepSourcesBoth, "vtep-endpoint", None, None, problem, remedy)
}

/// What the custom resources say.
struct Objects {
    resolved: Resolved,
    /// One sentence for each object that selects nodes by labels which are not known.
    unknown: Vec<String>,
}

impl Objects {
    fn of(read: Vec<Result<VtepConfig, Box<Finding>>>, labels: Option<&Labels>, surroundings: &Surroundings) -> Self {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        for object in read {
            match object {
                Ok(object) => objects.push(object),
                Err(finding) => unreadable.push(*finding),
            }
        }
        // The input is for one node: the one that an object of it is named after.
        let node = objects.iter().find(|object| object.kind == Kind::NodeConfig).map(|object| object.name.clone());
        let selects =
            |object: &VtepConfig| matches!(&object.selector, Ok(Some(selector)) if *selector != Selector::default());
        let (left, objects): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| labels.is_none() && selects(object));
        let unknown = left.iter().map(|object| {
            let path = object.path();
            format!("{path} is not applied: it selects nodes by their labels, which are not known: give --node-labels")
        });
        let unknown = unknown.collect();
        let none = Labels::new();
        let around = Around { surroundings, standing: &BTreeSet::new() };
        let mut resolved = resolve(&objects, &node.unwrap_or_default(), labels.unwrap_or(&none), around);
        resolved.findings.extend(unreadable);
        Self { resolved, unknown }
    }
}

/// All findings, those of the lists first.
fn findings(lists: Option<&Lists>, objects: Option<&Objects>) -> Vec<Finding> {
    let of_lists = lists.into_iter().flat_map(|lists| &lists.parsed.findings);
    of_lists.chain(objects.into_iter().flat_map(|objects| &objects.resolved.findings)).cloned().collect()
}

/// Whether the custom resources decide the VTEPs: there are no lists.
fn objects_decide(lists: Option<&Lists>, objects: Option<&Objects>) -> bool {
    objects.is_some() && lists.is_none_or(|lists| lists.parsed.elsewhere)
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
    fn of(findings: &[Finding]) -> Self {
        let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
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

fn json(lists: Option<&Lists>, objects: Option<&Objects>, node_configs: &[Applied]) -> String {
    let findings = findings(lists, objects);
    let Count { errors, warnings, infos: _ } = Count::of(&findings);
    let (vteps, truth) = if objects_decide(lists, objects) {
        let vteps = objects.into_iter().flat_map(|objects| &objects.resolved.vteps).map(|named| named.vtep);
        (vteps.collect(), Truth::Crd)
    } else {
        let parsed = lists.map(|lists| &lists.parsed);
        let truth = if parsed.is_some_and(|parsed| parsed.elsewhere) { Truth::None } else { Truth::Configmap };
        (parsed.map(vteps).unwrap_or_default(), truth)
    };
    let report = Report { findings: &findings, errors, warnings, vteps, truth, node_configs };
    // The report has only strings, numbers and booleans under fixed names, so serialization cannot fail.
    serde_json::to_string_pretty(&report).unwrap_or_default()
}
