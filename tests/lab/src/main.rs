//! The lab for people: `up` to explore it, `demo` to watch the agent.

#![expect(clippy::print_stdout, reason = "a program that talks to a person")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use vtep_lab::{CONFIG, Config, Host, Lab};

mod demo;
mod http;
mod stop;

use stop::Stop;

/// A Cilium node, a pod and two BIG-IPs on this machine, gone when the program ends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Start the lab, say how to look inside, and keep it until Ctrl-C.
    Up,
    /// Start the lab and the agent in it, and show the agent's status until Ctrl-C.
    Demo {
        /// The agent's program.
        #[arg(long)]
        agent: PathBuf,
        /// End as soon as all tunnels are healthy; fail if they are not within a minute.
        #[arg(long)]
        once: bool,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // This comes before any thread starts, because threads inherit the blocked signals.
    let stop = Stop::listen()?;
    match arguments.command {
        Subcommands::Up => up(&stop),
        Subcommands::Demo { agent, once } => demo::run(&agent, once, &stop),
    }
}

fn up(stop: &Stop) -> Result<ExitCode> {
    let lab = Lab::builder().l7_proxy(true).fill_map(true).start()?;
    lab.config.write(&Config::seed_keys())?;
    describe(&lab);
    println!("Ctrl-C takes everything down");
    stop.wait();
    Ok(ExitCode::SUCCESS)
}

/// Prints the hosts, and the commands to look inside.
fn describe(lab: &Lab) {
    let topology = &lab.topology;
    describe_host(&lab.node, &format!("{}, router IP {}", topology.node_ip, topology.router_ip));
    describe_host(&lab.pod, &topology.pod_ip.to_string());
    for bigip in &lab.bigips {
        let addresses = &bigip.addresses;
        let text = format!("{}, self IP {}, MAC {}", addresses.underlay_ip, addresses.self_ip, addresses.mac);
        describe_host(&bigip.host, &text);
    }
    describe_host(&lab.underlay, &format!("router {}", topology.underlay.addr()));
    println!("VTEP map: {}, ConfigMap: {CONFIG} (both only inside)", lab.cilium.vtep_pin().display());
}

fn describe_host(host: &Host, addresses: &str) {
    let pid = std::process::id();
    println!("{}: {addresses}\n    nsenter --target {pid} --mount --net={}", host.name(), host.path().display());
}
