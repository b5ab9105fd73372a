//! `vtep-agent plan`: prints the changes that `run` would make in the kernel now. Writes nothing.

use std::{collections::BTreeSet, io::Write, process::ExitCode};

use serde::Serialize;
use vtep_core::{
    datapath::{
        decide::{Inputs, routes::Past},
        layout::Layout,
    },
    types::error_chain::chain,
};

use super::{
    Format,
    args::source,
    json,
    snapshot::{self, NO_CONFIGURATION, Snapshot},
};
use crate::tasks::reconcile::{maps, routes};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  vtep-agent plan --config-dir /etc/cilium-config\n\n\
                  Exit status: 0 in sync, 1 changes pending, 2 no usable configuration, or its source does not answer.")]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Serialize)]
pub(super) struct Plan {
    in_sync: bool,
    model: Layout,
    pending: Vec<String>,
    problems: Vec<String>,
}

/// # Errors
///
/// The kernel cannot be read.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = Snapshot::read(&args.source).await? else {
        return Ok(ExitCode::from(NO_CONFIGURATION));
    };
    let plan = Plan::read(&args.source, &snapshot).await?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => plan.print(&mut out)?,
        Format::Json => write!(out, "{}", json::pretty(&plan)?)?,
    }
    Ok(snapshot::exit(&snapshot.view, plan.in_sync))
}

impl Plan {
    /// Compares the kernel with the configuration now.
    pub(super) async fn read(source: &source::Source, snapshot: &Snapshot) -> anyhow::Result<Self> {
        let Snapshot { view, facts, netlink } = snapshot;
        let (settings, memory) = (source.datapath(), source.state.memory());
        let macs = source.learned_macs();
        let inputs = Inputs { settings: &settings, view, facts, macs: &macs };
        let maps = maps::observe(inputs, memory.ledger.owned());
        let past = Past { records: memory.journal.records(), refused: &BTreeSet::new() };
        let routes = routes::observe(inputs, past, netlink, maps.ipcache_seen).await;
        let mut plan = Self::of(&maps, &routes);
        plan.add_problems(source.node.fitness()?.kernel(facts.version).reasons);
        Ok(plan)
    }

    fn of(maps: &maps::Observed, routes: &routes::Observed) -> Self {
        let map_problem = maps.map_problem.as_ref().map(|problem| chain(problem).to_string());
        let ipcache_problem = maps.ipcache_problem.as_ref().map(|problem| chain(problem).to_string());
        let route_problem = routes.problem.as_ref().map(|problem| chain(problem).to_string());
        let over_capacity =
            maps.decision.over_capacity.iter().map(|cidr| format!("the VTEP map has no room for {cidr}"));
        let problems = [map_problem, ipcache_problem, route_problem].into_iter().flatten().chain(over_capacity);
        let problems: Vec<_> = problems.collect();
        let plan = maps.decision.plan.iter().chain(&routes.decision.plan);
        let pending: Vec<_> = plan.map(ToString::to_string).collect();
        Self { in_sync: pending.is_empty() && problems.is_empty(), model: maps.model, pending, problems }
    }

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
