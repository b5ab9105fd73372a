//! The cost of clients of the HTTP endpoints: the agent's work without clients, with a thousand connections that never end their request,
//! and with requests for /status without a pause. Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    io::Write,
    net::TcpStream,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::{Agent, Figure, LISTEN, Report, Unit, cpu_time, get, percentile, resident_mb, status, wait_for};
use vtep_lab::{Config, Host, Lab};

const CONNECTIONS: usize = 1000;
const REQUESTS: usize = 10_000;
/// The two entries in turns.
const REPAIRS: usize = 10;
/// The agent backs off from an entry after more than ten repairs in a minute.
const PAUSE: Duration = Duration::from_millis(3500);

fn main() -> ExitCode {
    support::run(&[("clients", "Clients of the HTTP endpoints", |report| {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let none = with("no-client", report, |_| Ok(Vec::<TcpStream>::new()), |_, _| Ok(None))?;
        let held = with("1000-open-requests", report, hold, |_, _| Ok(None))?;
        let asked = with("status-without-pause", report, |_| Ok(Vec::<TcpStream>::new()), ask)?;
        report.ratio("repair-with-1000-open-requests", "no-client", &held, &none);
        report.ratio("repair-with-status-without-pause", "no-client", &asked, &none);
        Ok(())
    })])
}

/// What is measured between two repairs.
#[derive(Default)]
struct Measured {
    repairs: Vec<f64>,
    pings: Vec<f64>,
    /// The 99th percentile of the kubelet's requests in each pause.
    lives: Vec<f64>,
    shares: Vec<f64>,
    memory: Vec<f64>,
}

/// Starts a new agent, runs `before`, and measures the work of the agent while `beside` runs. Returns the milliseconds of the repairs.
fn with<H>(
    name: &str,
    report: &mut Report,
    before: impl Fn(&Host) -> Result<H>,
    beside: impl Fn(&Host, &AtomicBool) -> Result<Option<f64>> + Sync,
) -> Result<Vec<f64>> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab, &[])?;
    let held = before(&lab.node)?;
    let (done, node) = (AtomicBool::new(false), lab.node.clone());
    let (measured, asked) = thread::scope(|scope| {
        let asking = scope.spawn(|| beside(&node, &done));
        let measured = measure(&lab, &agent);
        done.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))??;
        Ok::<_, anyhow::Error>((measured?, asked))
    })?;
    drop(held);
    let name = |what: &str| format!("{name}-{what}");
    if let Some(rate) = asked {
        report.figure(&Figure::new(name("requests-per-second"), Unit::Count, [rate]));
    }
    report.figure(&Figure::new(name("repair"), Unit::Milliseconds, measured.repairs.clone()));
    report.figure(&Figure::new(name("ping"), Unit::Milliseconds, measured.pings));
    report.figure(&Figure::new(name("livez-p99"), Unit::Milliseconds, measured.lives));
    report.figure(&Figure::new(name("share-of-core"), Unit::Percent, measured.shares));
    report.figure(&Figure::new(name("memory"), Unit::Megabytes, measured.memory));
    Ok(measured.repairs)
}

/// Deletes an entry again and again, and asks as the kubelet does in between.
fn measure(lab: &Lab, agent: &Agent) -> Result<Measured> {
    let mut measured = Measured::default();
    let vteps = lab.topology.vteps();
    for (n, vtep) in vteps.iter().cycle().take(REPAIRS).enumerate() {
        let (cpu, begin) = (cpu_time(agent.pid())?, Instant::now());
        lab.cilium.delete_vtep(vtep.key())?;
        measured.repairs.push(milliseconds(wait_for(lab, &vteps)? - begin));
        // The moments are independent of the ticks.
        let pause = PAUSE + Duration::from_millis(n as u64 * 37);
        let mut lives = Vec::new();
        while begin.elapsed() < pause {
            let asked = Instant::now();
            ensure!(get(&lab.node, "/livez")?.0 == 200, "not alive");
            lives.push(milliseconds(asked.elapsed()));
            thread::sleep(Duration::from_millis(50));
        }
        measured.lives.push(percentile(&lives, 99));
        let rtt = status(lab)?["vteps"][0]["probes"]["icmp"]["rtt_us"].as_f64().context("a round trip")?;
        measured.pings.push(rtt / 1e3);
        let share = (cpu_time(agent.pid())? - cpu).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0;
        measured.shares.push(share);
        measured.memory.push(resident_mb(agent.pid())?);
    }
    Ok(measured)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
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

/// Asks without a pause, each time on a connection of its own; returns the requests per second.
fn ask(node: &Host, done: &AtomicBool) -> Result<Option<f64>> {
    let mut asked = 0;
    let begin = Instant::now();
    while asked < REQUESTS || !done.load(Ordering::Relaxed) {
        ensure!(get(node, "/status")?.0 == 200, "no status");
        asked += 1;
    }
    Ok(Some(f64::from(u32::try_from(asked)?) / begin.elapsed().as_secs_f64()))
}
