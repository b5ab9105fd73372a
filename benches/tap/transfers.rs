//! The throughput of one TCP stream, with and without the agent in turns.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;
use vtep_lab::{Config, Host, Lab};

use crate::support::Agent;

const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// The seconds of each transfer.
const SECONDS: u32 = 3;
const PAIRS: usize = 10;

/// Throughputs in Gbit/s, and of each pair, how many times as much there is without the agent.
#[derive(Default)]
pub(crate) struct Transfers {
    pub(crate) without: Vec<f64>,
    pub(crate) with: Vec<f64>,
    pub(crate) ratios: Vec<f64>,
}

/// Their names, and the transfers: from BIG-IP to a pod through the tunnel, and from BIG-IP to the node over the same device.
pub(crate) fn transfers() -> Result<[(&'static str, Transfers); 2]> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    // The entries remain when the agent ends.
    drop(Agent::start(&lab, &[])?);
    let (pod, node) = (lab.topology.pod_ip, lab.topology.node_ip);
    Ok([("tcp-in-tunnel", pairs(&lab, &lab.pod, pod)?), ("tcp-outside-tunnel", pairs(&lab, &lab.node, node)?)])
}

/// Every second pair begins with the agent, so that a machine that becomes slower or faster favours neither.
fn pairs(lab: &Lab, server: &Host, address: Ipv4Addr) -> Result<Transfers> {
    let mut transfers = Transfers::default();
    for n in 0..PAIRS {
        let (mut without, mut with) = (0.0, 0.0);
        for has_agent in [n % 2 == 1, n % 2 == 0] {
            let _agent = has_agent.then(|| Agent::start(lab, &[])).transpose()?;
            let throughput = transfer(lab, server, address)?;
            if has_agent { with = throughput } else { without = throughput }
        }
        transfers.without.push(without);
        transfers.with.push(with);
        transfers.ratios.push(without / with);
    }
    Ok(transfers)
}

/// The throughput of one TCP stream in Gbit/s.
fn transfer(lab: &Lab, server: &Host, address: Ipv4Addr) -> Result<f64> {
    let iperf = |host: &Host, args: &[&str]| -> Command {
        let mut command = host.command("iperf3");
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let mut server = iperf(server, &["--server"]).stdout(Stdio::null()).spawn()?;
    let begin = Instant::now();
    let (address, seconds) = (address.to_string(), SECONDS.to_string());
    let bits = loop {
        let args = ["--client", &address, "--time", &seconds, "--json", "--connect-timeout", "1000"];
        let output = iperf(&lab.bigips[0].host, &args).output().context("failed to run iperf3")?;
        let result: Value = serde_json::from_slice(&output.stdout)?;
        // The server may not listen yet; iperf3 then still ends with 0.
        match result["end"]["sum_received"]["bits_per_second"].as_f64() {
            None if begin.elapsed() < TIMEOUT => thread::sleep(POLL),
            bits => break bits.with_context(|| format!("no figure in {result:#}")),
        }
    };
    let _ = server.kill();
    server.wait()?;
    Ok(bits? / 1e9)
}
