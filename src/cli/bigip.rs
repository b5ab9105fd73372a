//! `vtep-agent bigip`: prints the tmsh commands for each BIG-IP of a configuration, with the FDB records that it needs.

use std::{io::Write, net::Ipv4Addr, process::ExitCode};

use anyhow::{Context, bail};
use vtep_core::{
    bigip::{BigIp, SiteValues, TunnelName, bigips},
    config::{checked::Checked, effective::effective},
};

use super::{
    Format,
    args::cluster_networks::ClusterNetworks,
    input::{self, Applied},
};

/// Print the tmsh commands for each BIG-IP of a cilium-config.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent bigip cilium-config.yaml --pod-cidr 10.0.0.0/16 --node-ip 10.169.72.239 --self-ip 10.1.6.34"
)]
pub(super) struct Args {
    #[command(flatten)]
    input: input::Input,
    #[command(flatten)]
    surroundings: ClusterNetworks,
    /// A tunnel self IP, inside the CIDR of its VTEP; repeatable.
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    self_ip: Vec<Ipv4Addr>,
    /// The tunnel's name on BIG-IP, as CIS knows it (`--cilium-name`).
    #[arg(long, value_name = "NAME", default_value_t)]
    tunnel: TunnelName,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// # Errors
///
/// The configuration cannot be read, or has no valid VTEP, or a tunnel self IP belongs to none.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let surroundings = args.surroundings.surroundings();
    let (Checked { parsed, .. }, node_configs) = args.input.read(&surroundings)?;
    for note in node_configs.iter().filter_map(Applied::note) {
        writeln!(std::io::stderr(), "{note}")?;
    }
    // The nodes and pod networks serve two purposes: BIG-IP's commands contain them, and the configuration must not overlap them.
    let Some(spec) = effective(&parsed, None).map(|effective| effective.spec).filter(|spec| !spec.vteps.is_empty())
    else {
        bail!("no VTEP of this configuration would be in force: see `vtep-agent check`");
    };
    let site = SiteValues {
        self_ips: args.self_ip.clone(),
        pod_cidrs: surroundings.pod_cidrs.iter().copied().collect(),
        nodes: surroundings.node_addresses.iter().copied().collect(),
        tunnel: args.tunnel.clone(),
    };
    site.check(&spec).context("--self-ip")?;
    let bigips = bigips(&spec, &site);
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => bigips.iter().try_for_each(|bigip| print(&mut out, bigip, &args.tunnel))?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&bigips)?)?,
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
