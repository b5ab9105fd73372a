//! `vtep-agent cleanup`: takes back what this agent put beside Cilium's own: routes, rules, ipcache entries. The VTEP map stays.

use std::{collections::BTreeSet, io::Write, process::ExitCode};

use anyhow::{Context, bail};
use serde::Serialize;

use super::{Format, node, state};
use crate::{
    datapath::{
        ipcache::Ipcache,
        maps::MapError,
        owned::Ledger,
        plan::{Keep, Op, plan},
        routes,
        state::{State, Table},
    },
    logging::chain,
    node::{lock::NodeLock, netlink},
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
    let mut ledger = args.state.ledger();
    let (mut ipcache, actual) = look(args, &netlink, &ledger).await?;
    let mut report = Report { done: Vec::new(), failed: Vec::new() };
    for op in plan(&actual, &State::default(), &Keep::default(), 0) {
        match apply(op, &netlink, ipcache.as_mut(), &mut ledger).await {
            Ok(()) => report.done.push(op.to_string()),
            Err(error) => report.failed.push(format!("{op}: {error:#}")),
        }
    }
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => report.print(&mut out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is ours, and the ipcache if that has some of it.
async fn look(args: &Args, netlink: &rtnetlink::Handle, ledger: &Ledger) -> anyhow::Result<(Option<Ipcache>, State)> {
    let found = routes::read(netlink).await.context("failed to read this node's routes")?;
    let rules: BTreeSet<_> = found.rules.into_iter().filter(|rule| rule.table == Table::Ours).collect();
    let mut actual = State { routes: found.ours, rules, ..State::default() };
    let ipcache = match Ipcache::open(&args.node.bpffs) {
        Ok(ipcache) => Some(ipcache),
        // Without it, nothing of ours is in it.
        Err(MapError::Absent { .. } | MapError::NoBpffs { .. }) => None,
        Err(error) => bail!("{}", chain(&error)),
    };
    if let Some(ipcache) = &ipcache {
        actual.ipcache = ipcache.of(ledger.owned()).context("failed to read the ipcache")?;
    }
    Ok((ipcache, actual))
}

async fn apply(
    op: Op,
    netlink: &rtnetlink::Handle,
    ipcache: Option<&mut Ipcache>,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    match op {
        Op::DeleteIpcache { cidr, .. } => {
            ipcache.map_or(Ok(()), |ipcache| ipcache.delete(cidr))?;
            ledger.release(cidr)?;
        }
        Op::DeleteRoute { cidr, .. } => routes::delete_route(netlink, cidr).await?,
        Op::DeleteRule(rule) => routes::delete_rule(netlink, rule).await?,
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
