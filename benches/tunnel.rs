//! The agent's cost beside eight BIG-IPs, and the time until it sees an outage. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use serde_json::Value;
use support::{cpu_time, resident_mb};
use vtep_lab::{BigIpAddresses, Config, Lab, Topology};

const AGENT: &str = env!("CARGO_BIN_EXE_vtep-agent");
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);
const TIMEOUT: Duration = Duration::from_secs(30);
const STEADY: Duration = Duration::from_secs(30);
const OUTAGES: usize = 10;

fn main() -> Result<()> {
    println!("{:<52} {:>10} {:>10}   promised", "beside traffic, release build", "", "");
    steady(8)?;
    outages("1s", "3.5 s")?;
    outages("250ms", "1 s")
}

/// An agent that ends with its measurement.
struct Agent(Child);

impl Agent {
    fn start(lab: &Lab, args: &[&str]) -> Result<Self> {
        let mut command = lab.agent_command(Path::new(AGENT), LISTEN);
        let agent = Self(command.args(args).stdout(Stdio::null()).spawn()?);
        wait(lab, "healthy", |status| verdicts(status).all(|verdict| verdict == "healthy"))?;
        Ok(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn verdicts(status: &Value) -> impl Iterator<Item = &str> {
    status["vteps"].as_array().into_iter().flatten().filter_map(|vtep| vtep["verdict"].as_str())
}

/// Waits until the status is as wanted and has a VTEP.
fn wait(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Instant> {
    let begin = Instant::now();
    let url = format!("http://{LISTEN}");
    loop {
        let output = lab.node.command(AGENT).args(["status", "-o", "json", "--url", &url]).output()?;
        let status = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if verdicts(&status).next().is_some() && wanted(&status) {
            return Ok(Instant::now());
        }
        ensure!(begin.elapsed() < TIMEOUT, "not {what} within {TIMEOUT:?}: {status:#}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// This many BIG-IPs, all probed at the full rate.
fn steady(bigips: u8) -> Result<()> {
    let of = |n: u8| -> Result<BigIpAddresses> {
        Ok(BigIpAddresses {
            underlay_ip: [10, 169, 72, 40 + n].into(),
            self_ip: Ipv4Net::new([10, 1, 10 + n, 34].into(), 24)?,
            mac: [0, 0x50, 0x56, 0xa0, 0x7d, n].into(),
            vni: 2,
        })
    };
    let topology = Topology { bigips: (0..bigips).map(of).collect::<Result<_>>()?, ..Topology::default() };
    let lab = Lab::builder().topology(topology).start()?;
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let agent = Agent::start(&lab, &[])?;
    let pid = agent.0.id();
    let (begin, before) = (Instant::now(), cpu_time(pid)?);
    thread::sleep(STEADY);
    let share = (cpu_time(pid)? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    println!("{:<52} {share:>9.3}% {:>10}   0.5 %", format!("{bigips} VTEPs: share of one core"), "");
    println!("{:<52} {:>7.1} MB {:>10}   12 MB", format!("{bigips} VTEPs: resident memory"), resident_mb(pid)?, "");
    Ok(())
}

/// Until then, verdicts wait for Cilium's programs.
const CILIUM_STARTS: Duration = Duration::from_secs(10);

/// The time from the failure of a BIG-IP to a verdict.
fn outages(interval: &str, promised: &str) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    // While Cilium is younger, lost probes say nothing about BIG-IP.
    thread::sleep(CILIUM_STARTS);
    let mut times = Vec::new();
    for n in 0..OUTAGES {
        // One agent would say that the tunnel flaps.
        let _agent = Agent::start(&lab, &["--probe-interval", interval])?;
        // The moments are independent of the probes.
        thread::sleep(Duration::from_millis(n as u64 * 377 % 1000));
        let begin = Instant::now();
        lab.bigips[0].down()?;
        times.push(
            wait(&lab, "unreachable", |status| verdicts(status).any(|verdict| verdict == "unreachable"))? - begin,
        );
        lab.bigips[0].up()?;
        wait(&lab, "healthy again", |status| verdicts(status).all(|verdict| verdict == "healthy"))?;
    }
    times.sort_unstable();
    let (median, last) = (times[OUTAGES / 2].as_secs_f64(), times[OUTAGES - 1].as_secs_f64());
    let label = format!("BIG-IP down to its verdict, interval {interval}: p50, worst");
    println!("{label:<52} {median:>8.2} s {last:>8.2} s   {promised}");
    Ok(())
}
