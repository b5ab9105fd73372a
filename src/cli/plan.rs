//! `vtep-agent plan`: what `run` would change in the kernel now. Writes nothing.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;

use super::{Format, source};
use crate::{
    config::view::View,
    datapath::survey::{Model, Scope, Survey, survey},
    logging::chain,
    node::{facts::Facts, netlink},
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent plan --config-dir /etc/cilium-config\n\nExit status: 0 in sync, 1 changes pending, 2 no usable configuration."
)]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Serialize)]
struct Plan {
    in_sync: bool,
    model: Model,
    pending: Vec<String>,
    problems: Vec<String>,
}

/// # Errors
///
/// When the configuration or the kernel cannot be read.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.source.config().await?;
    let source = config.to_string();
    let view = View::next(&source, &config.read().await, None, Timestamp::now());
    if view.in_force.is_none() {
        let findings = view.findings.iter().map(|finding| finding.message.as_str());
        let errors: Vec<_> = view.source_error.as_deref().into_iter().chain(findings).collect();
        writeln!(std::io::stderr(), "error: no valid configuration: {}", errors.join("; "))?;
        return Ok(ExitCode::from(2));
    }
    let netlink = netlink::connect().context("failed to open a netlink socket")?;
    let node = &args.source.node;
    let version = node.version().read().await;
    let facts = Facts::read(&netlink, &view, &node.cilium_run, version).await.context("failed to read this node")?;
    let mut plan = Plan::from(survey(&args.source.survey(), &netlink, &view, &facts, Scope::All).await);
    plan.add_problems(node.fitness()?.kernel(version).reasons);
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => plan.print(&mut out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?,
    }
    Ok(if plan.in_sync { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl From<Survey> for Plan {
    fn from(found: Survey) -> Self {
        let map_problem = found.map_problem.as_ref().map(|problem| chain(problem).to_string());
        let route_problem = found.route_problem.as_ref().map(|problem| chain(problem).to_string());
        let problems: Vec<_> = map_problem.into_iter().chain(route_problem).collect();
        let pending: Vec<_> = found.plan.iter().map(ToString::to_string).collect();
        Self { in_sync: pending.is_empty() && problems.is_empty(), model: found.model, pending, problems }
    }
}

impl Plan {
    fn add_problems(&mut self, problems: Vec<String>) {
        self.in_sync &= problems.is_empty();
        self.problems.extend(problems);
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "problem: {problem}")?;
        }
        for op in &self.pending {
            writeln!(out, "{op}")?;
        }
        if self.in_sync { writeln!(out, "in sync: nothing to change") } else { Ok(()) }
    }
}
