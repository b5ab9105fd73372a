//! The whole agent with two VTEPs in the lab: its start and end, its steady state, and the time until an edit is in the kernel; the cost of
//! quick repairs; and a large ipcache. Needs root.
//!
//! `VTEP_BENCH_SECONDS` changes the length of each of the five windows of the steady state (12 s).
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "process/ipcache.rs"]
mod ipcache;
#[path = "process/repair.rs"]
mod repair;
mod support;

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use support::{
    AGENT, Agent, Figure, LISTEN, Report, Unit, cpu_time, idle_process, is_idle_process, resident_mb, share_of,
    wait_for,
};
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_lab::{CILIUM_RUN, Config, FILES, Lab, STATE, Vtep};

const RUNS: usize = 5;
const EDITS: u8 = 100;

fn main() -> ExitCode {
    match is_idle_process() {
        Ok(false) => support::run(&[
            ("process", "The agent with two VTEPs", measure),
            ("repair", "Cost and use of the verify interval", repair::measure),
            ("ipcache", "Beside 511,000 ipcache entries", ipcache::measure),
        ]),
        Ok(true) | Err(_) => ExitCode::FAILURE,
    }
}

fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    starts(&lab, report)?;
    let agent = Agent::start(&lab, &[])?;
    steady(&lab, &agent, report)?;
    let times = edits(&lab, |vteps| lab.config.write(&Config::keys_for(vteps)))?;
    report.figure(&Figure::new("edit-of-directory-to-kernel", Unit::Milliseconds, times).promise(100.0));
    drop(agent);
    from_api_server(&lab, report)
}

/// From nothing to both entries and to both verdicts, and the end.
fn starts(lab: &Lab, report: &mut Report) -> Result<()> {
    let (mut entries, mut healthy, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for key in lab.cilium.vtep_entries()?.into_keys() {
            lab.cilium.delete_vtep(key)?;
        }
        let begin = Instant::now();
        let mut agent = Agent::spawn(&mut lab.agent_command(Path::new(AGENT), LISTEN))?;
        entries.push((wait_for(lab, &lab.topology.vteps())? - begin).as_secs_f64() * 1e3);
        healthy.push((agent.healthy(lab)? - begin).as_secs_f64());
        ends.push(agent.terminate()?.as_secs_f64() * 1e3);
    }
    report.figure(&Figure::new("start-to-both-entries", Unit::Milliseconds, entries));
    report.figure(&Figure::new("start-to-both-healthy", Unit::Seconds, healthy).promise(3.0));
    report.figure(&Figure::new("sigterm-to-end", Unit::Milliseconds, ends).promise(2000.0));
    Ok(())
}

fn steady(lab: &Lab, agent: &Agent, report: &mut Report) -> Result<()> {
    let seconds = env::var("VTEP_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let mut idle = idle_process(&lab.node)?;
    let (mut shares, mut memory, mut least) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        shares.push(share_of(|| cpu_time(agent.pid()), Duration::from_secs(seconds))?);
        memory.push(resident_mb(agent.pid())?);
        least.push(resident_mb(idle.id())?);
    }
    idle.kill()?;
    idle.wait()?;
    report.figure(&Figure::new("steady-share-of-core", Unit::Percent, shares).promise(0.4));
    report.figure(&Figure::new("memory", Unit::Megabytes, memory.clone()).promise(8.0));
    report.figure(&Figure::new("memory-of-idle-tokio-process", Unit::Megabytes, least.clone()));
    report.ratio("memory", "idle-tokio-process", &memory, &least);
    Ok(())
}

/// The same edits, through a watch at an API server.
fn from_api_server(lab: &Lab, report: &mut Report) -> Result<()> {
    let server = lab.node.run(ApiServer::start)?;
    let kubeconfig = Path::new(FILES).join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig())?;
    let apply = |vteps: &[Vtep]| {
        let keys = Config::keys_for(vteps);
        let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        server.apply(Resource::ConfigMaps, objects::config_map("kube-system", "cilium-config", data)).map(drop)
    };
    apply(&lab.topology.vteps())?;
    server.apply(Resource::Nodes, objects::node("worker-1", [], &[]))?;
    let mut memory = Vec::new();
    let mut times = Vec::new();
    for run in 0..RUNS {
        let mut command = lab.node.command(AGENT);
        command.env("KUBECONFIG", &kubeconfig).args(["run", "--config-source", "kube", "--node-name", "worker-1"]);
        command.args(["--cilium-run", CILIUM_RUN, "--state-dir", STATE, "--listen", &LISTEN.to_string()]);
        apply(&lab.topology.vteps())?;
        let agent = Agent::spawn(&mut command)?;
        wait_for(lab, &lab.topology.vteps())?;
        // The memory is that after a start and some edits, whichever run it is.
        let first = usize::from(EDITS) / RUNS * run;
        times.extend(edits_of(lab, first..first + usize::from(EDITS) / RUNS, apply)?);
        memory.push(resident_mb(agent.pid())?);
    }
    report.figure(&Figure::new("edit-of-configmap-to-kernel", Unit::Milliseconds, times).promise(100.0));
    report.figure(&Figure::new("memory-with-api-server", Unit::Megabytes, memory));
    Ok(())
}

fn edits(lab: &Lab, apply: impl Fn(&[Vtep]) -> Result<()>) -> Result<Vec<f64>> {
    edits_of(lab, 0..usize::from(EDITS), apply)
}

/// The milliseconds until each edit is in the kernel: the second VTEP moves.
fn edits_of(
    lab: &Lab,
    numbers: impl Iterator<Item = usize>,
    apply: impl Fn(&[Vtep]) -> Result<()>,
) -> Result<Vec<f64>> {
    let vteps = lab.topology.vteps();
    let [first, second] = vteps[..] else { bail!("two VTEPs") };
    let mut times = Vec::new();
    for n in numbers {
        let moved = Vtep { endpoint: [10, 169, 72, 100 + u8::try_from(n % 100)?].into(), ..second };
        // The moments are independent of the agent's ticks.
        thread::sleep(Duration::from_micros(n as u64 * 1997 % 100_000));
        let begin = Instant::now();
        apply(&[first, moved])?;
        times.push((wait_for(lab, &[first, moved])? - begin).as_secs_f64() * 1e3);
    }
    Ok(times)
}
