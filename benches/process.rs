//! The whole agent in the lab, in steady state and under repair: memory, CPU time, and reaction times. Needs root.
//!
//! `VTEP_BENCH_SECONDS` shortens the steady state (60 s).
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        time::TimeValLike,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use support::{cpu_time, resident_mb};
use vtep_agent::kernel::ipcache::Ipcache;
use vtep_apiserver::{ApiServer, Resource, objects};
use vtep_lab::{BPF_FS, CILIUM_RUN, Config, FILES, Lab, STATE, Vtep};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);
const REPAIRS: u32 = 200;
const EDITS: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let seconds = env::var("VTEP_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let start = Instant::now();
    let mut agent =
        lab.agent_command(Path::new(env!("CARGO_BIN_EXE_vtep-agent")), LISTEN).stdout(Stdio::null()).spawn()?;
    let measured = measure(&lab, &agent, start, Duration::from_secs(seconds));
    let begin = Instant::now();
    kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGTERM)?;
    agent.wait()?;
    let stopped = begin.elapsed();
    measured?;
    println!("{:<44} {:>10} {:>10}   2 s", "SIGTERM to the end", milliseconds(stopped), "");
    from_api_server(&lab)?;
    beside_a_large_ipcache(&lab)
}

/// The ipcache of the largest cluster that Cilium supports.
fn beside_a_large_ipcache(lab: &Lab) -> Result<()> {
    const ENTRIES: u32 = 511_000;
    lab.cilium.fill_ipcache(ENTRIES)?;
    lab.config.write(&Config::seed_keys())?;
    let mut agent =
        lab.agent_command(Path::new(env!("CARGO_BIN_EXE_vtep-agent")), LISTEN).stdout(Stdio::null()).spawn()?;
    let measured = wait_until_healthy(lab).and_then(|()| {
        let ticks = (0..100).map(|_| {
            thread::sleep(Duration::from_millis(53));
            Ok(Duration::from_micros(status(lab)?["datapath"]["last_pass"]["took_us"].as_u64().context("a number")?))
        });
        Ok((ticks.collect::<Result<Vec<_>>>()?, resident_mb(agent.id())?))
    });
    agent.kill()?;
    agent.wait()?;
    let (ticks, memory) = measured?;
    report("a pass beside 511,000 ipcache entries", "1 ms", ticks);
    println!("{:<44} {:>7.1} MB {:>10}   16 MB", "resident memory beside them", memory, "");

    let ipcache = Ipcache::open(Path::new(BPF_FS))?;
    let search = |prefix: &str, times: u32| -> Result<f64> {
        let prefix = prefix.parse()?;
        let before = thread_time()?;
        for _ in 0..times {
            ipcache.inside(prefix)?;
        }
        Ok((thread_time()? - before).as_secs_f64() * 1e3 / f64::from(times))
    };
    let (eight, wide, walk) = (search("10.1.6.0/24", 80)? * 8.0, search("10.1.0.0/16", 4)?, search("10.0.0.0/8", 1)?);
    let dump = children_time()?;
    let words = ["map", "dump", "pinned", "/sys/fs/bpf/tc/globals/cilium_ipcache_v2"];
    ensure!(lab.node.command("bpftool").args(words).stdout(Stdio::null()).status()?.success(), "bpftool");
    let dump = (children_time()? - dump).as_secs_f64() * 1e3;
    println!("{:<44} {eight:>7.1} ms {:>10}   300 ms", "search of eight /24 in it, processor time", "");
    println!("{:<44} {wide:>7.1} ms {:>10}   300 ms", "search of a /16 in it", "");
    println!("{:<44} {walk:>7.1} ms", "search of a /8 in it, which walks all keys");
    println!("{:<44} {dump:>7.1} ms {:>9.0}x", "bpftool map dump of it, beside the first", dump / eight);
    Ok(())
}

fn status(lab: &Lab) -> Result<serde_json::Value> {
    let url = format!("http://{LISTEN}");
    let args = ["status", "-o", "json", "--url", &url];
    let output = lab.node.command(env!("CARGO_BIN_EXE_vtep-agent")).args(args).output()?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn children_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.num_microseconds().try_into()?))
}

/// The same edits, through a watch at an API server.
fn from_api_server(lab: &Lab) -> Result<()> {
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
    let mut command = lab.node.command(env!("CARGO_BIN_EXE_vtep-agent"));
    command.env("KUBECONFIG", kubeconfig).args(["run", "--config-source", "kube", "--node-name", "worker-1"]);
    command.args(["--cilium-run", CILIUM_RUN, "--state-dir", STATE, "--listen", &LISTEN.to_string()]);
    let mut agent = command.stdout(Stdio::null()).spawn()?;
    let times = wait_for(lab, &lab.topology.vteps()).and_then(|_| edits(lab, apply));
    let memory = resident_mb(agent.id());
    agent.kill()?;
    agent.wait()?;
    report("edit of the ConfigMap to the kernel", "100 ms", times?);
    println!("{:<44} {:>7.1} MB", "resident memory with the API server", memory?);
    Ok(())
}

fn measure(lab: &Lab, agent: &Child, start: Instant, steady: Duration) -> Result<()> {
    println!("{:<44} {:>10} {:>10}   promised", "whole process, 2 VTEPs, release build", "p50", "p99");
    let programmed = wait_for(lab, &lab.topology.vteps())? - start;
    println!("{:<44} {:>10}", "start to both entries in the kernel", milliseconds(programmed));
    wait_until_healthy(lab)?;
    println!("{:<44} {:>10} {:>10}   3 s", "start to both BIG-IPs healthy", milliseconds(start.elapsed()), "");

    let before = cpu_time(agent.id())?;
    let (begin, mut largest) = (Instant::now(), 0.0_f64);
    while begin.elapsed() < steady {
        thread::sleep(Duration::from_millis(500));
        largest = largest.max(resident_mb(agent.id())?);
    }
    let share = (cpu_time(agent.id())? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
    let label = format!("steady state over {} s: share of one core", steady.as_secs());
    println!("{label:<44} {:>9.3}% {:>10}   0.5 %", share, "");
    println!("{:<44} {:>7.1} MB {:>10}   12 MB", "steady state: largest resident memory", largest, "");

    report("deleted or stale entry to repaired", "150 ms", repairs(lab)?);
    report(
        "edit of the directory to the kernel",
        "100 ms",
        edits(lab, |vteps| lab.config.write(&Config::keys_for(vteps)))?,
    );
    println!("{:<44} {:>7.1} MB", "resident memory after that", resident_mb(agent.id())?);
    Ok(())
}

/// Changes the map at moments that are independent of the agent's tick.
fn repairs(lab: &Lab) -> Result<Vec<Duration>> {
    let vteps = lab.topology.vteps();
    let [first, second] = vteps[..] else { anyhow::bail!("two VTEPs") };
    let mut times = Vec::new();
    for n in 0..REPAIRS {
        thread::sleep(Duration::from_micros(u64::from(n) * 997 % 100_000));
        let begin = Instant::now();
        match n {
            0..10 => lab.cilium.delete_vtep(first.key())?,
            10..20 => lab.cilium.delete_vtep(second.key())?,
            // The agent does not repair an entry for a minute after more than ten repairs in a minute: from here on, use another stale
            // entry each time.
            _ => {
                let stale = Vtep { cidr: ipnet::Ipv4Net::new([10, 9, n as u8, 0].into(), 24)?, ..first };
                lab.cilium.put_vtep(stale.key(), stale.value())?;
            }
        }
        times.push(wait_for(lab, &vteps)? - begin);
    }
    Ok(times)
}

fn edits(lab: &Lab, apply: impl Fn(&[Vtep]) -> Result<()>) -> Result<Vec<Duration>> {
    let vteps = lab.topology.vteps();
    let [first, second] = vteps[..] else { anyhow::bail!("two VTEPs") };
    let mut times = Vec::new();
    for n in 0..EDITS {
        let moved = Vtep { endpoint: [10, 169, 72, 100 + (n % 100) as u8].into(), ..second };
        thread::sleep(Duration::from_micros(u64::from(n) * 1997 % 100_000));
        let begin = Instant::now();
        apply(&[first, moved])?;
        times.push(wait_for(lab, &[first, moved])? - begin);
    }
    Ok(times)
}

/// The time at which the map had exactly these entries.
fn wait_for(lab: &Lab, vteps: &[Vtep]) -> Result<Instant> {
    let wanted = vteps.iter().map(|vtep| (vtep.key(), vtep.value())).collect();
    let begin = Instant::now();
    while lab.cilium.vtep_entries()? != wanted {
        ensure!(begin.elapsed() < TIMEOUT, "the map does not come to hold {wanted:?}");
        thread::sleep(Duration::from_micros(100));
    }
    Ok(Instant::now())
}

fn wait_until_healthy(lab: &Lab) -> Result<()> {
    let begin = Instant::now();
    let url = format!("http://{LISTEN}");
    loop {
        let status = lab.node.command(env!("CARGO_BIN_EXE_vtep-agent")).args(["status", "--url", &url]).output()?;
        if status.status.success() {
            return Ok(());
        }
        ensure!(begin.elapsed() < TIMEOUT, "{}", String::from_utf8_lossy(&status.stdout));
        thread::sleep(Duration::from_millis(5));
    }
}

fn report(label: &str, promised: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let percentile = |p: usize| times.get((times.len() * p / 100).min(times.len() - 1)).copied().unwrap_or_default();
    println!("{label:<44} {:>10} {:>10}   {promised}", milliseconds(percentile(50)), milliseconds(percentile(99)));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
