//! `vtep-agent bigip`: prints the tmsh commands for each BIG-IP of a configuration, with the FDB records that it needs.

mod ends;

use std::{io::Write, net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, ensure};
use vtep_core::{
    bigip::{BigIp, SiteValues, TunnelName, bigips, compare::CiliumEnd, plan::for_shell},
    config::spec::Spec,
};

use super::{
    args::{cluster_networks::ClusterNetworks, far_end::FarEnd},
    check::Section,
    far_end::{self, BigIps},
    input, json,
};

/// How the command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people, with commands for tmsh.
    #[default]
    Text,
    /// For programs.
    Json,
    /// Commands for BIG-IP's shell, that may run twice.
    Tmsh,
}

/// Print the tmsh commands for each BIG-IP of a cilium-config; with --bigip, only what is missing there.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent bigip cilium-config.yaml --pod-cidr 10.0.0.0/16 --node-ip 10.169.72.239 --self-ip 10.1.6.34"
)]
pub(super) struct Args {
    #[command(flatten)]
    input: input::Input,
    #[command(flatten)]
    surroundings: ClusterNetworks,
    #[command(flatten)]
    far_end: FarEnd,
    /// A tunnel self IP, inside the CIDR of its VTEP; repeatable.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    self_ip: Vec<Ipv4Addr>,
    /// The tunnel's name on BIG-IP, as CIS knows it (`--cilium-name`).
    #[arg(long, value_name = "NAME", default_value_t)]
    tunnel: TunnelName,
    /// Text for people, JSON for programs, or lines for BIG-IP's shell.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// With --bigip, the exit status is 0 if both ends fit, 1 if they differ, and 2 if one of them cannot be read.
///
/// # Errors
///
/// The configuration cannot be read, or has no valid VTEP, or a tunnel self IP belongs to none.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let result = work(args).await;
    match result {
        Err(error) if BigIps::is_given(&args.far_end) => {
            writeln!(std::io::stderr(), "error: {error:#}")?;
            Ok(ExitCode::from(2))
        }
        result => result,
    }
}

async fn work(args: &Args) -> anyhow::Result<ExitCode> {
    let surroundings = args.surroundings.surroundings();
    let (group, labels) = args.input.read()?;
    let section = Section::of(group, labels.as_ref(), &surroundings);
    for note in section.not_applied() {
        writeln!(std::io::stderr(), "{note}")?;
    }
    let is_unknown = section.lists.as_ref().is_some_and(|lists| lists.is_unknown);
    ensure!(!is_unknown, "the VTEPs depend on a value that is a template: give the rendered configuration");
    // The nodes and pod networks serve two purposes: BIG-IP's commands contain them, and the configuration must not overlap them.
    let mut site = SiteValues {
        self_ips: args.self_ip.clone(),
        pod_cidrs: surroundings.pod_cidrs.iter().copied().collect(),
        nodes: surroundings.node_addresses.iter().copied().collect(),
        tunnel: args.tunnel.clone(),
    };
    let nodes = far_end::read_nodes(&args.far_end).await?;
    let cilium = section.cilium_end().within(&surroundings, nodes, section.keys());
    site.nodes = cilium.nodes.iter().flatten().filter_map(|node| node.address).collect();
    if BigIps::is_given(&args.far_end) {
        return compare(args, &cilium, &site).await;
    }
    let (vteps, _) = section.vteps();
    wanted(args, Spec { enabled: true, vteps, mask: None, tunnel: cilium.tunnel }, &site)
}

/// Prints what differs, and what is missing.
async fn compare(args: &Args, cilium: &CiliumEnd, site: &SiteValues) -> anyhow::Result<ExitCode> {
    let bigips = BigIps::read(&args.far_end, args.input.reads_stdin()).await?;
    let comparison = bigips.compare(cilium);
    let mut report = Vec::new();
    ends::print(&mut report, args.output, (cilium, &bigips), &comparison, site)?;
    // Colours are only for terminals. A reader that closes the pipe early (`| head`) is not a failure.
    let _ = anstream::stdout().write_all(&report);
    Ok(ExitCode::from(u8::from(!far_end::fits(&comparison))))
}

/// Prints all that each BIG-IP needs.
fn wanted(args: &Args, spec: Spec, site: &SiteValues) -> anyhow::Result<ExitCode> {
    ensure!(!spec.vteps.is_empty(), "no VTEP of this configuration would be in force: see `vtep-agent check`");
    site.check(&spec).context("--self-ip")?;
    let bigips = bigips(&spec, site);
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => bigips.iter().try_for_each(|bigip| print(&mut out, bigip, &args.tunnel))?,
        Output::Tmsh => {
            let commands = bigips.iter().flat_map(|bigip| &bigip.commands);
            commands.into_iter().try_for_each(|command| writeln!(out, "{}", for_shell(command)))?;
        }
        Output::Json => write!(out, "{}", json::pretty(&bigips)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, bigip: &BigIp, tunnel: &TunnelName) -> std::io::Result<()> {
    let BigIp { local_address, network, mac, commands, .. } = bigip;
    writeln!(out, "# BIG-IP {local_address}, tunnel network {network}")?;
    commands.iter().try_for_each(|command| writeln!(out, "{command}"))?;
    writeln!(out, "# vtep-mac is {mac}: `show net tunnels tunnel {tunnel} all-properties` must print the same MAC")?;
    writeln!(out)
}
