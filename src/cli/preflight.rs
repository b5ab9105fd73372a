//! `vtep-agent preflight`: checks whether this node supports VTEPs and this agent. Writes nothing.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use rtnetlink::Handle;
use serde::Serialize;
use vtep_core::{
    config::spec::{Tunnel, TunnelProtocol},
    node::{
        capabilities, compatibility,
        fitness::{Check, Fitness},
        version::CiliumVersion,
    },
    types::error_chain::chain,
};

use super::{Format, args::node, json};
use crate::kernel::{
    devices::{self, CILIUM_HOST},
    maps, netlink,
    tap::Tap,
    vtep_map::VtepMap,
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent preflight --cilium-version 1.18.8\n\nExit status: 0 the node is supported, 1 it is not."
)]
pub struct Args {
    #[command(flatten)]
    node: node::Flags,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// What is tried out besides the features. The verifier takes a tenth of a second for the tap's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    OfTap,
    /// Where a running agent's status says the same (`tap`).
    None,
}

#[derive(Serialize)]
pub(super) struct Report {
    fit: bool,
    checks: Vec<Check>,
}

/// # Errors
///
/// The kernel does not answer.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let report = Report::read(&args.node, Trial::OfTap).await?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => report.print(&mut out)?,
        Format::Json => write!(out, "{}", json::pretty(&report)?)?,
    }
    Ok(if report.fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    pub(super) async fn read(node: &node::Flags, trial: Trial) -> anyhow::Result<Self> {
        let netlink = netlink::connect().context("failed to open a netlink socket")?;
        let version = node.cilium_agent().read().await.version;
        let fitness = node.fitness()?;
        let mut checks = fitness.checks(version).to_vec();
        if trial == Trial::OfTap {
            checks.push(Check::new("tap", load_tap(&fitness)));
        }
        checks.push(Check::new("bpffs", maps::check_bpffs(&node.bpffs).map_err(|error| chain(&error).to_string())));
        checks.push(Check::new("cilium-version", judge_version(version)));
        checks.push(Check::new("cilium-devices", look_at_devices(&netlink).await?));
        checks.push(Check::new("vtep-map", look_at_map(node)));
        Ok(Self { fit: checks.iter().all(|check| check.ok), checks })
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        for Check { name, ok, detail } in &self.checks {
            writeln!(out, "{:<6} {name:<15} {detail}", if *ok { "ok" } else { "FAILED" })?;
        }
        let failed = self.checks.iter().filter(|check| !check.ok).count();
        match failed {
            0 => writeln!(out, "this node is fit"),
            1 => writeln!(out, "this node is not fit: 1 check failed"),
            _ => writeln!(out, "this node is not fit: {failed} checks failed"),
        }
    }
}

/// The kernel drops the tap's program and maps at once.
fn load_tap(fitness: &Fitness) -> Result<String, String> {
    if fitness.lacks(capabilities::BPF) {
        return Err("not tested, because CAP_BPF is missing".to_owned());
    }
    match Tap::load(Tunnel::default()) {
        Ok(_) => Ok("the kernel accepts its program and its maps".to_owned()),
        Err(error) => Err(chain(&error).to_string()),
    }
}

/// An unknown version does not fail the check.
fn judge_version(version: Option<CiliumVersion>) -> Result<String, String> {
    let Some(version) = version else {
        return Ok("unknown: no answer on Cilium's socket, and --cilium-version is not set".to_owned());
    };
    match version.broken() {
        Some(broken) => Err(format!("Cilium {version} is broken for VTEPs: {broken}")),
        None => Ok(format!("{version} ({})", compatibility::of(version).words())),
    }
}

/// Without a configuration the tunnel protocol is unknown, so the device of either protocol passes the check.
async fn look_at_devices(netlink: &Handle) -> anyhow::Result<Result<String, String>> {
    let read = |protocol| async move {
        devices::cilium_devices(netlink, protocol).await.context("failed to read this node's devices")
    };
    let (vxlan, geneve) = (read(TunnelProtocol::Vxlan).await?, read(TunnelProtocol::Geneve).await?);
    let Some(tunnel) = vxlan.tunnel.or(geneve.tunnel) else {
        return Ok(Err(
            "neither cilium_vxlan nor cilium_geneve is there: Cilium does not run, or routes natively".into()
        ));
    };
    Ok(match (vxlan.host, vxlan.router) {
        (None, _) => Err(format!("{CILIUM_HOST} is not there: look at Cilium's pod on this node")),
        (Some(_), None) => Err(format!("{CILIUM_HOST} has no address: look at Cilium's pod on this node")),
        (Some(_), Some(router)) => Ok(format!("{}, {CILIUM_HOST} with {router}", tunnel.name)),
    })
}

fn look_at_map(node: &node::Flags) -> Result<String, String> {
    let count = VtepMap::open(&node.bpffs).and_then(|map| map.read(|_| 32)).map(|entries| entries.len());
    match count {
        Ok(1) => Ok("a VTEP map with 1 entry".to_owned()),
        Ok(count) => Ok(format!("a VTEP map with {count} entries")),
        Err(error) => Err(chain(&error).to_string()),
    }
}
