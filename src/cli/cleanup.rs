//! `vtep-agent cleanup`: removes the agent's routes, rules and ipcache entries. It leaves the VTEP map as it is.

use std::{collections::BTreeSet, io::Write, process::ExitCode};

use anyhow::{Context, bail};
use serde::Serialize;
use vtep_core::{
    datapath::{
        plan::{Op, Retain, plan},
        records::{Owned, PROTOCOL, Records},
        routes::{Found, HostRoutes},
        state::{HostRule, ROUTE_TABLE, State, Table},
    },
    types::error_chain::chain,
};

use super::{
    Format,
    args::{node, state},
    json,
};
use crate::{
    kernel::{ipcache::Ipcache, lock::NodeLock, maps::MapError, netlink, routes},
    tasks::reconcile::Memory,
};

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  vtep-agent cleanup\n\nEnd the agent of this node first. \
                  Exit status: 0 nothing of the agent's is left, 1 something is.")]
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
    /// Routes and rules with this agent's protocol but without a record: a person has to decide about them.
    left: Vec<String>,
}

/// # Errors
///
/// An agent runs on this node, or the kernel cannot be read.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(_lock) = NodeLock::take().context("failed to look for another vtep-agent")? else {
        bail!("a vtep-agent runs on this node and would put everything back: end it first");
    };
    let netlink = netlink::connect().context("failed to open a netlink socket")?;
    let mut memory = args.state.memory();
    let records = memory.journal.records();
    let tables = records.tables().into_iter().chain([ROUTE_TABLE]).collect();
    let found = routes::read(&netlink, &tables).await.context("failed to read this node's routes")?;
    let mut report = Report { done: Vec::new(), failed: Vec::new(), left: left(records, &found) };
    let mut ops = route_ops(records, &found);
    let mut ipcache = open_ipcache(args)?;
    if let Some(ipcache) = &ipcache {
        ops.extend(ipcache_ops(ipcache, &memory)?);
    }
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
        Format::Json => write!(out, "{}", json::pretty(&report)?)?,
    }
    let nothing_is_left = report.failed.is_empty() && report.left.is_empty();
    Ok(if nothing_is_left { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The operations that remove all recorded routes and rules.
fn route_ops(records: &Records, found: &HostRoutes) -> Vec<Op> {
    let mut ops = Vec::new();
    for table in records.tables() {
        let Owned { routes, rules, .. } = records.sort(&found.routes, &found.rules, table);
        // Cilium's rules remain, including those that this agent restored.
        let rules = rules.into_iter().filter(|HostRule { table: of, .. }| *of == Table::Ours(table)).collect();
        let actual = State { routes, rules, ..State::default() };
        ops.extend(plan(&actual, &State::default(), &Retain::default(), 0));
    }
    ops
}

/// Describes rules and routes with this agent's protocol but without a record, each with the command that removes it. Cleanup does not
/// remove them: either the record was lost, or another program uses the same protocol number. Rules come before routes, the order in which
/// a person should remove them.
fn left(records: &Records, found: &HostRoutes) -> Vec<String> {
    let advice = |what: String, command: String| {
        format!(
            "{what} carries protocol {PROTOCOL} and is not on record: remove it by hand if it is this agent's (`{command}`)"
        )
    };
    let is_unrecorded = |&&(rule, protocol): &&(HostRule, u8)| {
        rule.table != Table::Cilium && protocol == PROTOCOL && !records.has_rule(rule, protocol)
    };
    let rules: BTreeSet<_> = found.rules.iter().filter(is_unrecorded).map(|(rule, _)| rule).collect();
    let rules = rules.into_iter().map(|rule| {
        let HostRule { cidr, table } = rule;
        let (priority, table) = (table.priority(), table.id());
        let command = format!("ip rule del priority {priority} to {cidr} lookup {table} protocol {PROTOCOL}");
        advice(format!("rule {rule}"), command)
    });
    let like_ours = found.routes.iter().filter(|route| route.like_ours && route.protocol == PROTOCOL);
    let routes = like_ours.filter(|route| !records.has_route(route)).map(|Found { cidr, route, .. }| {
        let command = format!("ip route del {cidr} proto {PROTOCOL} table {}", route.table);
        advice(format!("route {cidr} {route}"), command)
    });
    rules.chain(routes).collect()
}

fn open_ipcache(args: &Args) -> anyhow::Result<Option<Ipcache>> {
    match Ipcache::open(&args.node.bpffs) {
        Ok(ipcache) => Ok(Some(ipcache)),
        // Without an ipcache there are no entries to remove.
        Err(MapError::Absent { .. } | MapError::NoBpffs { .. }) => Ok(None),
        Err(error) => bail!("{}", chain(&error)),
    }
}

/// The operations that remove all recorded entries of the ipcache.
fn ipcache_ops(ipcache: &Ipcache, memory: &Memory) -> anyhow::Result<Vec<Op>> {
    let ours = ipcache.of(memory.ledger.owned()).context("failed to read the ipcache")?;
    let actual = State { ipcache: ours, ..State::default() };
    Ok(plan(&actual, &State::default(), &Retain::default(), 0))
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
        // A plan with an empty goal only deletes, and this one does not cover the VTEP map.
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
        self.left.iter().try_for_each(|what| writeln!(out, "left: {what}"))?;
        let Self { done, failed, left } = self;
        let nothing = done.is_empty() && failed.is_empty() && left.is_empty();
        if nothing { writeln!(out, "nothing to clean up") } else { Ok(()) }
    }
}
