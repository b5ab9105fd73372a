//! `vtep-agent bigip`: prints the tmsh commands for each BIG-IP of a configuration, with the FDB records that it needs.

mod ends;

use std::{io::Write, net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, ensure};
use ipnet::Ipv4Net;
use vtep_core::{
    bigip::{
        BigIp, SiteValues, TunnelName, bigips,
        choice::VtepChoice,
        compare::{CiliumEnd, Comparison},
        plan::for_shell,
    },
    config::spec::{Spec, Vtep},
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
    /// Commands for the shell of one BIG-IP, that may run twice.
    Tmsh,
}

/// Print the tmsh commands for each BIG-IP of a cilium-config; with --bigip, only what is missing there.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  vtep-agent bigip cilium-config.yaml --pod-cidr 10.0.0.0/16 --node-ip 10.169.72.239 --self-ip 10.1.6.34

Exit status: 0, or 2 if an input or the command line is unusable. With --bigip or --bigip-url: 0 both ends fit, 1 they differ.")]
pub(super) struct Args {
    #[command(flatten)]
    input: input::Input,
    #[command(flatten)]
    surroundings: ClusterNetworks,
    #[command(flatten)]
    far_end: FarEnd,
    /// Only the BIG-IP of this VTEP: its CIDR or its endpoint.
    #[arg(long, value_name = "CIDR|IP")]
    vtep: Option<VtepChoice>,
    /// A tunnel self IP, inside the CIDR of its VTEP; repeatable.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    self_ip: Vec<Ipv4Addr>,
    /// The tunnel's name on BIG-IP, as CIS knows it (`--cilium-name`).
    #[arg(long, value_name = "NAME", default_value_t)]
    tunnel: TunnelName,
    /// Text for people, JSON for programs, or lines for the shell of one BIG-IP.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// Exit status 2: an input or the command line is unusable; 1: the ends differ, with --bigip or --bigip-url; 0: otherwise.
///
/// # Errors
///
/// Standard error takes no more.
pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match work(args).await {
        Ok(code) => Ok(code),
        Err(error) => {
            writeln!(std::io::stderr(), "error: {error:#}")?;
            Ok(ExitCode::from(2))
        }
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
        return compare(args, cilium, &site).await;
    }
    let (vteps, _) = section.vteps();
    wanted(args, Spec { enabled: true, vteps, mask: None, tunnel: cilium.tunnel }, &site)
}

/// Prints what differs, and what is missing.
async fn compare(args: &Args, mut cilium: CiliumEnd, site: &SiteValues) -> anyhow::Result<ExitCode> {
    let bigips = BigIps::read(&args.far_end, args.input.reads_stdin()).await?;
    let mut comparison = bigips.compare(&cilium);
    if let Some(choice) = args.vtep {
        ensure_chosen(choice, cilium.vteps.iter().map(|vtep| (vtep.cidr, vtep.endpoint)))?;
        choice.restrict(&mut cilium, &mut comparison);
    }
    let is_printed = |index| args.vtep.is_none() || serves(&comparison, index);
    let mut report = Vec::new();
    ends::print(&mut report, args.output, (&cilium, &bigips), &comparison, (site, &is_printed))?;
    // Colours are only for terminals. A reader that closes the pipe early (`| head`) is not a failure.
    let _ = anstream::stdout().write_all(&report);
    Ok(ExitCode::from(u8::from(!far_end::fits(&comparison))))
}

/// Whether the BIG-IP at this index has the tunnel of one of the VTEPs.
fn serves(comparison: &Comparison, index: usize) -> bool {
    comparison.paired.iter().flatten().any(|(device, _)| *device == index)
}

/// Prints all that each BIG-IP needs.
fn wanted(args: &Args, mut spec: Spec, site: &SiteValues) -> anyhow::Result<ExitCode> {
    ensure!(!spec.vteps.is_empty(), "no VTEP of this configuration would be in force: see `vtep-agent check`");
    site.check(&spec).context("--self-ip")?;
    if let Some(choice) = args.vtep {
        ensure_chosen(choice, spec.vteps.iter().map(|vtep| (vtep.cidr, vtep.endpoint)))?;
        spec.vteps.retain(|&Vtep { cidr, endpoint, .. }| choice.is(cidr, endpoint));
    }
    let bigips = bigips(&spec, site);
    let mut report = Vec::new();
    match args.output {
        Output::Text => bigips.iter().try_for_each(|bigip| print(&mut report, bigip, &args.tunnel, str::to_owned))?,
        Output::Tmsh => {
            ensure_one(bigips.iter().map(|bigip| bigip.local_address.to_string()).collect())?;
            bigips.iter().try_for_each(|bigip| print(&mut report, bigip, &args.tunnel, for_shell))?;
        }
        Output::Json => write!(report, "{}", json::pretty(&bigips)?)?,
    }
    let _ = std::io::stdout().write_all(&report);
    Ok(ExitCode::SUCCESS)
}

fn ensure_chosen(choice: VtepChoice, vteps: impl Iterator<Item = (Ipv4Net, Ipv4Addr)> + Clone) -> anyhow::Result<()> {
    let named: Vec<_> = vteps.clone().map(|(cidr, endpoint)| format!("{cidr} at {endpoint}")).collect();
    let is_one = vteps.into_iter().any(|(cidr, endpoint)| choice.is(cidr, endpoint));
    ensure!(is_one, "--vtep: the configuration has no such VTEP, only {}", named.join(", "));
    Ok(())
}

/// The lines for a shell create objects by names that are the same on each BIG-IP, and skip what is there: on the wrong BIG-IP, or on one
/// after the other, they would do harm without a message.
fn ensure_one(bigips: Vec<String>) -> anyhow::Result<()> {
    let count = bigips.len();
    let shown = bigips.join(", ");
    ensure!(
        count < 2,
        "-o tmsh is for the shell of one BIG-IP, and these commands are for {count} ({shown}): choose one with --vtep"
    );
    Ok(())
}

fn print(out: &mut impl Write, bigip: &BigIp, tunnel: &TunnelName, line: fn(&str) -> String) -> std::io::Result<()> {
    let BigIp { local_address, network, mac, commands, notes, .. } = bigip;
    writeln!(out, "# BIG-IP {local_address}, tunnel network {network}")?;
    commands.iter().try_for_each(|command| writeln!(out, "{}", line(command)))?;
    notes.iter().try_for_each(|note| writeln!(out, "# {note}"))?;
    writeln!(out, "# vtep-mac is {mac}: `show net tunnels tunnel {tunnel} all-properties` must print the same MAC")?;
    writeln!(out)
}
