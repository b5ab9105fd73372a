//! The agent's cost beside traffic, and the time until it sees an outage: eight BIG-IPs, and many flows; what traffic
//! loses while an entry is away, and after a failover; what a capture and a bundle cost. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "tunnel/capture.rs"]
mod capture;
#[path = "tunnel/failover.rs"]
mod failover;
#[path = "tunnel/flows.rs"]
mod flows;
mod support;
#[path = "tunnel/traffic.rs"]
mod traffic;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use support::{Agent, Figure, Report, Unit, cpu_time, eight_bigips, resident_mb, share_of, verdicts, wait};
use vtep_lab::{Config, Lab};

const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_secs(10);
const OUTAGES: usize = 7;

fn main() -> ExitCode {
    support::run(&[
        ("tunnel", "Tunnels", measure),
        ("flows", "Eight VTEPs with 10,000 flows each", flows::measure),
        ("failover", "Failovers of a pair", failover::measure),
        ("traffic", "Packets lost at 5,000 a second", traffic::measure),
        ("capture", "A capture and a bundle beside 1 Gbit/s", capture::measure),
    ])
}

fn measure(report: &mut Report) -> Result<()> {
    steady(report)?;
    outages("1s", 3.5, report)?;
    outages("250ms", 1.0, report)
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
