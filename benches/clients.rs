//! The cost of clients of the HTTP endpoints: the agent's work without clients, with a thousand connections that never end their request,
//! and with requests for /status without a pause. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use support::{cpu_time, resident_mb};
use vtep_lab::{Config, Host, Lab};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9808);
const CONNECTIONS: usize = 1000;
const REQUESTS: usize = 10_000;
const REPAIRS: usize = 9;
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    println!(
        "{:<52} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "clients, release build", "repair p50", "ping p50", "/livez p99", "one core", "memory"
    );
    with("nobody asks", |_| Ok(Vec::<TcpStream>::new()), |_, _| Ok(()))?;
    with("1,000 connections that never end their request", hold, |_, _| Ok(()))?;
    with("GET /status without a pause, 10,000 times at least", |_| Ok(Vec::<TcpStream>::new()), ask)
}

/// Starts a new agent, runs `before`, and measures the work of the agent while `beside` runs.
fn with<H>(
    what: &str,
    before: impl Fn(&Host) -> Result<H>,
    beside: impl Fn(&Host, &AtomicBool) -> Result<()> + Sync,
) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let mut agent =
        lab.agent_command(Path::new(env!("CARGO_BIN_EXE_vtep-agent")), LISTEN).stdout(Stdio::null()).spawn()?;
    let begin = Instant::now();
    while get(&lab.node, "/healthz").map_or(0, |(code, _)| code) != 200 {
        ensure!(begin.elapsed() < TIMEOUT, "not healthy");
        thread::sleep(Duration::from_millis(20));
    }
    let held = before(&lab.node)?;
    let (cpu, since) = (cpu_time(agent.id())?, Instant::now());
    let (done, node) = (AtomicBool::new(false), lab.node.clone());
    let measured = thread::scope(|scope| {
        let asking = scope.spawn(|| beside(&node, &done));
        let measured = measure(&lab);
        done.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))??;
        measured
    });
    let memory = resident_mb(agent.id());
    let share = (cpu_time(agent.id())? - cpu).as_secs_f64() / since.elapsed().as_secs_f64() * 100.0;
    drop(held);
    agent.kill()?;
    agent.wait()?;
    let (repair, ping, livez) = measured?;
    let ms = |duration: Duration| format!("{:.2} ms", duration.as_secs_f64() * 1e3);
    println!("{what:<52} {:>10} {:>10} {:>10} {share:>8.1} % {:>7.1} MB", ms(repair), ms(ping), ms(livez), memory?);
    Ok(())
}

/// The median repair of a deleted entry, the median ping through the tunnel, and the 99th percentile of the kubelet's requests.
fn measure(lab: &Lab) -> Result<(Duration, Duration, Duration)> {
    let (mut repairs, mut pings, mut lives) = (Vec::new(), Vec::new(), Vec::new());
    let vtep = lab.topology.vteps().into_iter().next().context("a VTEP")?;
    for n in 0..REPAIRS {
        let begin = Instant::now();
        lab.cilium.delete_vtep(vtep.key())?;
        while !lab.cilium.vtep_entries()?.contains_key(&vtep.key()) {
            ensure!(begin.elapsed() < TIMEOUT, "not repaired");
            thread::sleep(Duration::from_micros(200));
        }
        repairs.push(begin.elapsed());
        // The moments are independent of the ticks, and seven seconds apart, because the agent would take more for contention.
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_millis(7000 + n as u64 * 37) {
            let asked = Instant::now();
            ensure!(get(&lab.node, "/livez")?.0 == 200, "not alive");
            lives.push(asked.elapsed());
            thread::sleep(Duration::from_millis(50));
        }
        let status: Value = serde_json::from_str(&get(&lab.node, "/status")?.1)?;
        let rtt = status["vteps"][0]["probes"]["icmp"]["rtt_us"].as_u64().context("a round trip")?;
        pings.push(Duration::from_micros(rtt));
    }
    for times in [&mut repairs, &mut pings, &mut lives] {
        times.sort_unstable();
    }
    Ok((repairs[repairs.len() / 2], pings[pings.len() / 2], lives[lives.len() * 99 / 100]))
}

fn hold(node: &Host) -> Result<Vec<TcpStream>> {
    node.run(|| {
        let open = |_| {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ")?;
            Ok(stream)
        };
        (0..CONNECTIONS).map(open).collect()
    })
}

fn ask(node: &Host, done: &AtomicBool) -> Result<()> {
    let mut asked = 0;
    let begin = Instant::now();
    while asked < REQUESTS || !done.load(Ordering::Relaxed) {
        ensure!(get(node, "/status")?.0 == 200, "no status");
        asked += 1;
    }
    println!(
        "  {:.0} requests a second, each on a connection of its own",
        f64::from(u32::try_from(asked)?) / begin.elapsed().as_secs_f64()
    );
    Ok(())
}

fn get(node: &Host, path: &str) -> Result<(u16, String)> {
    let path = path.to_owned();
    let answer = node.run(move || {
        let mut stream = TcpStream::connect(LISTEN)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not HTTP")?;
    Ok((head.split(' ').nth(1).context("a code")?.parse()?, body.to_owned()))
}
