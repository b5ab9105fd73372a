//! `vtep-agent cleanup`: takes back what this agent put beside Cilium's own: routes, rules, ipcache entries. The VTEP map stays.

use std::{io::Write, process::ExitCode};

use anyhow::{Context, bail};
use serde::Serialize;

use super::{Format, node, state};
use crate::{
    datapath::{
        ipcache::Ipcache,
        journal::Owned,
        maps::MapError,
        plan::{Keep, Op, plan},
        routes,
        state::{HostRule, State, Table},
    },
    logging::chain,
    node::{lock::NodeLock, netlink},
    reconcile::Memory,
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent cleanup\n\nEnd the agent of this node first. Exit status: 0 nothing of the agent's is left, 1 something is."
)]
pub struct Args {
    #[command(flatten)]
    node: node::Flags,
    #[command(flatten)]
    state: state::Flags,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    done: Vec<String>,
    failed: Vec<String>,
}

/// # Errors
///
/// When another agent runs on this node, or the kernel cannot be read.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(_lock) = NodeLock::take().context("failed to look for another vtep-agent")? else {
        bail!("a vtep-agent runs on this node and would put everything back: end it first");
    };
    let netlink = netlink::connect().context("failed to open a netlink socket")?;
    let mut memory = args.state.memory();
    let (mut ipcache, ops) = look(args, &netlink, &memory).await?;
    let mut report = Report { done: Vec::new(), failed: Vec::new() };
    for op in ops {
        match apply(op, &netlink, ipcache.as_mut(), &mut memory).await {
            Ok(()) => {
                memory.journal.release([&op]);
                report.done.push(op.to_string());
            }
            Err(error) => report.failed.push(format!("{op}: {error:#}")),
        }
    }
    memory.journal.save().await;
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => report.print(&mut out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What takes back what is ours, and the ipcache if that has some of it.
async fn look(args: &Args, netlink: &rtnetlink::Handle, memory: &Memory) -> anyhow::Result<(Option<Ipcache>, Vec<Op>)> {
    let mut ops = Vec::new();
    let records = memory.journal.records();
    let found = routes::read(netlink, &records.tables()).await.context("failed to read this node's routes")?;
    for table in records.tables() {
        let Owned { routes, rules, .. } = records.sort(&found.routes, &found.rules, table);
        // Cilium's rules stay, also those that this agent restored.
        let rules = rules.into_iter().filter(|HostRule { table: of, .. }| *of == Table::Ours(table)).collect();
        let actual = State { routes, rules, ..State::default() };
        ops.extend(plan(&actual, &State::default(), &Keep::default(), 0));
    }
    let ipcache = match Ipcache::open(&args.node.bpffs) {
        Ok(ipcache) => Some(ipcache),
        // Without it, nothing of ours is in it.
        Err(MapError::Absent { .. } | MapError::NoBpffs { .. }) => None,
        Err(error) => bail!("{}", chain(&error)),
    };
    if let Some(ipcache) = &ipcache {
        let ours = ipcache.of(memory.ledger.owned()).context("failed to read the ipcache")?;
        let actual = State { ipcache: ours, ..State::default() };
        ops.extend(plan(&actual, &State::default(), &Keep::default(), 0));
    }
    Ok((ipcache, ops))
}

async fn apply(
    op: Op,
    netlink: &rtnetlink::Handle,
    ipcache: Option<&mut Ipcache>,
    Memory { ledger, journal }: &mut Memory,
) -> anyhow::Result<()> {
    match op {
        Op::DeleteIpcache { cidr, .. } => {
            ipcache.map_or(Ok(()), |ipcache| ipcache.delete(cidr))?;
            ledger.release(cidr)?;
        }
        Op::DeleteRoute { cidr, route } => {
            for protocol in journal.records().route_protocols(cidr, route.table) {
                routes::delete_route(netlink, cidr, route.table, protocol).await?;
            }
        }
        Op::DeleteRule(rule) => {
            let protocol = journal.records().rule_protocol(rule).context("it is not on record")?;
            routes::delete_rule(netlink, rule, protocol).await?;
        }
        // A plan towards nothing deletes, and the VTEP map is not part of it.
        Op::ReplaceEntry { .. }
        | Op::AddEntry { .. }
        | Op::DeleteEntry { .. }
        | Op::PutIpcache { .. }
        | Op::PutRoute { .. }
        | Op::AddRule(_) => {}
    }
    Ok(())
}

impl Report {
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        self.done.iter().try_for_each(|op| writeln!(out, "{op}"))?;
        self.failed.iter().try_for_each(|op| writeln!(out, "FAILED {op}"))?;
        if self.done.is_empty() && self.failed.is_empty() { writeln!(out, "nothing to clean up") } else { Ok(()) }
    }
}
