//! The agent's cost beside traffic, and the time until it sees an outage: eight BIG-IPs, many flows, the tap under load; and what traffic
//! loses while an entry is away. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "tunnel/flows.rs"]
mod flows;
mod support;
#[path = "tunnel/traffic.rs"]
mod traffic;

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use support::{Agent, Figure, Report, Unit, cpu_time, eight_bigips, resident_mb, share_of, verdicts, wait};
use vtep_lab::{Config, Host, Lab};

const TIMEOUT: Duration = Duration::from_secs(30);
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
const OUTAGES: usize = 7;
/// The seconds of each transfer, and the number of transfers of each kind.
const TRANSFER: u32 = 4;
const TRANSFERS: usize = 5;

fn main() -> ExitCode {
    support::run(&[
        ("tunnel", "Tunnels", measure),
        ("flows", "Eight VTEPs with 10,000 flows each", flows::measure),
        ("traffic", "Packets lost at 5,000 a second", traffic::measure),
    ])
}

fn measure(report: &mut Report) -> Result<()> {
    steady(report)?;
    outages("1s", 3.5, report)?;
    outages("250ms", 1.0, report)?;
    tap()
}

/// Eight BIG-IPs, all probed at the full rate.
fn steady(report: &mut Report) -> Result<()> {
    let lab = Lab::builder().topology(eight_bigips()?).start()?;
    lab.config.write(&Config::keys_for(&lab.topology.vteps()))?;
    let agent = Agent::start(&lab, &[])?;
    let (mut shares, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        shares.push(share_of(|| cpu_time(agent.pid()), WINDOW)?);
        memory.push(resident_mb(agent.pid())?);
    }
    report.figure(&Figure::new("eight-vteps-share-of-core", Unit::Percent, shares).promise(0.2));
    report.figure(&Figure::new("eight-vteps-memory", Unit::Megabytes, memory).promise(8.0));
    Ok(())
}

/// Until then, verdicts wait for Cilium's programs.
const CILIUM_STARTS: Duration = Duration::from_secs(10);

/// The time from the failure of a BIG-IP to a verdict.
fn outages(interval: &str, promised: f64, report: &mut Report) -> Result<()> {
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
        let seen = wait(&lab, "unreachable", |status| verdicts(status).any(|verdict| verdict == "unreachable"))?;
        times.push((seen - begin).as_secs_f64());
        lab.bigips[0].up()?;
        wait(&lab, "healthy again", |status| verdicts(status).all(|verdict| verdict == "healthy"))?;
    }
    let name = format!("outage-to-verdict-with-interval-{interval}");
    report.figure(&Figure::new(name, Unit::Seconds, times).promise(promised));
    Ok(())
}

/// Throughput from BIG-IP to a pod, with and without the agent in turns, and the tap's own time.
fn tap() -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    // The entries remain when the agent ends.
    drop(Agent::start(&lab, &[])?);
    let statistics = Statistics::start()?;
    let (mut with, mut without, mut costs, mut least) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TRANSFERS {
        without.push(transfer(&lab)?);
        let agent = Agent::start(&lab, &[])?;
        let before = (Runs::of(&lab, "tap")?, Runs::of(&lab, "arp_replies")?);
        with.push(transfer(&lab)?);
        costs.push(Runs::of(&lab, "tap")?.each_since(&before.0));
        least.push(Runs::of(&lab, "arp_replies")?.each_since(&before.1));
        drop(agent);
    }
    drop(statistics);
    for values in [&mut with, &mut without, &mut costs, &mut least] {
        values.sort_unstable_by(f64::total_cmp);
    }
    let [with, without, cost, least] = [&with, &without, &costs, &least].map(|values| values[TRANSFERS / 2]);
    println!("{:<52} {cost:>7.0} ns {:>9.2}x   60 ns", "the tap, per frame", cost / least);
    println!("{:<52} {least:>7.0} ns", "a filter that drops every frame, per frame");
    println!("{:<52} {without:>5.2} Gb/s", "TCP from BIG-IP to a pod, without the agent");
    println!("{:<52} {with:>5.2} Gb/s {:>9.2}x", "TCP from BIG-IP to a pod, with it", with / without);
    Ok(())
}

/// The throughput of one TCP stream in Gbit/s.
fn transfer(lab: &Lab) -> Result<f64> {
    let iperf = |host: &Host, args: &[&str]| -> Command {
        let mut command = host.command("iperf3");
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    let mut server = iperf(&lab.pod, &["--server"]).stdout(Stdio::null()).spawn()?;
    let begin = Instant::now();
    let (pod, seconds) = (lab.topology.pod_ip.to_string(), TRANSFER.to_string());
    let bits = loop {
        let args = ["--client", &pod, "--time", &seconds, "--json", "--connect-timeout", "1000"];
        let output = iperf(&lab.bigips[0].host, &args).output().context("failed to run iperf3")?;
        let result: Value = serde_json::from_slice(&output.stdout)?;
        // The server may not listen yet; iperf3 then still ends with 0.
        match result["end"]["sum_received"]["bits_per_second"].as_f64() {
            None if begin.elapsed() < TIMEOUT => thread::sleep(Duration::from_millis(50)),
            bits => break bits.with_context(|| format!("no figure in {result:#}")),
        }
    };
    let _ = server.kill();
    server.wait()?;
    Ok(bits? / 1e9)
}

/// The cost of a program so far.
struct Runs {
    time_ns: f64,
    frames: f64,
}

impl Runs {
    fn of(lab: &Lab, program: &str) -> Result<Self> {
        let output = lab.node.command("bpftool").args(["-j", "prog", "show", "name", program]).output()?;
        let programs: Value = serde_json::from_slice(&output.stdout).context("bpftool's JSON")?;
        let program = if programs.is_array() { programs.get(0).context("a program")? } else { &programs };
        ensure!(program["id"].is_u64(), "no program: {programs}");
        // A program that has not run yet has neither.
        let count = |name: &str| program[name].as_f64().unwrap_or_default();
        Ok(Self { time_ns: count("run_time_ns"), frames: count("run_cnt") })
    }

    /// The mean time per frame since the earlier measurement, in nanoseconds.
    fn each_since(&self, before: &Self) -> f64 {
        (self.time_ns - before.time_ns) / (self.frames - before.frames)
    }
}

/// Turns on the kernel's accounting of BPF programs while it exists. The setting is that of the whole machine, and is off otherwise.
struct Statistics;

impl Statistics {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn start() -> Result<Self> {
        fs::write(Self::SWITCH, "1").context("failed to switch on the statistics of BPF programs")?;
        Ok(Self)
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(Self::SWITCH, "0");
    }
}
