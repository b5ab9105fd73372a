//! The price of a quick repair: for each `--verify-interval`, the agent's share of a core in steady state, and the times until a deleted or
//! stale entry is right again.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Agent, Figure, Report, Unit, disturb, percentile, steady_shares};
use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use vtep_lab::{Config, Lab};

/// The intervals whose costs are compared; without one, the agent has its default.
const INTERVALS: [Option<&str>; 6] = [None, Some("1ms"), Some("2ms"), Some("5ms"), Some("10ms"), Some("20ms")];
const RUNS: usize = 5;
/// The agent's default.
const LOOK: Duration = Duration::from_millis(4);
const WINDOW: Duration = Duration::from_secs(4);
/// In each run. The agent backs off from an entry after more than ten repairs in a minute: each run deletes each entry once.
const REPAIRS: u8 = 50;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    for interval in INTERVALS {
        at(&lab, interval, report)?;
    }
    let sleeps = (0..RUNS).map(|_| sleeping_share()).collect::<Result<Vec<_>>>()?;
    report.figure(&Figure::new("sleeps-of-4ms-share-of-core", Unit::Percent, sleeps));
    Ok(())
}

/// The share of a core of a thread that only sleeps for the agent's default interval, again and again: no look costs less.
fn sleeping_share() -> Result<f64> {
    let used = || Ok::<_, nix::Error>(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?));
    let (begin, before) = (Instant::now(), used()?);
    while begin.elapsed() < WINDOW {
        thread::sleep(LOOK);
    }
    Ok((used()? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}

fn at(lab: &Lab, interval: Option<&str>, report: &mut Report) -> Result<()> {
    let args = interval.map(|interval| ["--verify-interval", interval]);
    let name = |what: &str| format!("verify-{}-{what}", interval.unwrap_or("default"));
    let agent = Agent::start(lab, args.as_ref().map_or(&[], |args| args))?;
    let shares = steady_shares(agent.pid(), RUNS, WINDOW)?;
    let (mut medians, mut worst) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let times = disturb(lab, REPAIRS)?;
        medians.push(percentile(&times, 50));
        worst.push(percentile(&times, 99));
    }
    let promised = |figure: Figure, most| if interval.is_none() { figure.promise(most) } else { figure };
    report.figure(&promised(Figure::new(name("share-of-core"), Unit::Percent, shares), 0.4));
    report.figure(&Figure::new(name("repair-p50"), Unit::Milliseconds, medians));
    report.figure(&promised(Figure::new(name("repair-p99"), Unit::Milliseconds, worst), 5.0));
    Ok(())
}
