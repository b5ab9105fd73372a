//! The agent beside what a user would do without it, in one run: a shell loop around `bpftool`, a restart of Cilium, and `ping`. Needs root.
//!
//! The restart is the lab's: new maps, three small programs attached, and the running configuration. A real Cilium also starts a container,
//! reads the API server, and compiles and verifies its programs for each endpoint, which takes tens of seconds; nothing here measures that.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use support::{
    Agent, Figure, Report, ShellLoop, Unit, cpu_time, share_of, steady_shares, time_with_children, verdicts, wait,
    wait_for,
};
use vtep_lab::{Config, Lab, Vtep};

const RUNS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);
/// Longer, because the time of children that have ended is known only in hundredths of a second.
const LOOP_WINDOW: Duration = Duration::from_secs(10);
/// Of each of the two entries. The agent backs off from an entry after more than ten repairs in a minute.
const DELETIONS: usize = 5;
const CHANGES: u8 = 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// While Cilium is younger, lost probes say nothing about BIG-IP.
const CILIUM_STARTS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::run(&[
        ("shell-loop", "Beside a shell loop around bpftool", shell_loops),
        ("restart", "Beside a restart of Cilium", restarts),
        ("ping", "Beside ping", pings),
    ])
}

fn shell_loops(report: &mut Report) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let agent = Agent::start(&lab, &[])?;
    let shares = steady_shares(agent.pid(), RUNS, WINDOW)?;
    let repairs = deletions(&lab)?;
    drop(agent);
    report.figure(&Figure::new("agent-share-of-core", Unit::Percent, shares.clone()).promise(0.4));
    report.figure(&Figure::new("agent-repair-of-deletion", Unit::Milliseconds, repairs.clone()).promise(5.0));
    for (name, pause) in [("bpftool-loop-each-second", Some("1")), ("bpftool-loop-without-pause", None)] {
        let shell = ShellLoop::start(&lab, pause)?;
        let of_loop =
            (0..RUNS).map(|_| share_of(|| time_with_children(shell.pid()), LOOP_WINDOW)).collect::<Result<Vec<_>>>()?;
        let loop_repairs = deletions(&lab)?;
        drop(shell);
        report.figure(&Figure::new(format!("{name}-share-of-core"), Unit::Percent, of_loop.clone()));
        report.figure(&Figure::new(format!("{name}-repair-of-deletion"), Unit::Milliseconds, loop_repairs.clone()));
        report.ratio("agent-share-of-core", name, &shares, &of_loop);
        report.ratio("agent-repair-of-deletion", name, &repairs, &loop_repairs);
    }
    Ok(())
}

/// Deletes the two entries in turns; the milliseconds until each is back.
fn deletions(lab: &Lab) -> Result<Vec<f64>> {
    let vteps = lab.topology.vteps();
    let mut times = Vec::new();
    for n in 0..DELETIONS {
        for (m, vtep) in vteps.iter().enumerate() {
            // Independent of a tick of a second and of one of 100 ms.
            thread::sleep(Duration::from_millis((n * 373 + m * 631) as u64 % 1000));
            let begin = Instant::now();
            lab.cilium.delete_vtep(vtep.key())?;
            times.push((wait_for(lab, &vteps)? - begin).as_secs_f64() * 1e3);
        }
    }
    Ok(times)
}

/// A change of the configuration until it is in the map: by the agent, and by a restart of the lab's Cilium.
fn restarts(report: &mut Report) -> Result<()> {
    let mut lab = Lab::builder().fill_map(true).start()?;
    lab.config.write(&Config::seed_keys())?;
    let [first, second] = lab.topology.vteps()[..] else { bail!("two VTEPs") };
    let moved = |n: u8| [first, Vtep { endpoint: [10, 169, 72, 100 + n].into(), ..second }];
    let agent = Agent::start(&lab, &[])?;
    let mut edits = Vec::new();
    for n in 0..CHANGES {
        let begin = Instant::now();
        lab.config.write(&Config::keys_for(&moved(n)))?;
        edits.push((wait_for(&lab, &moved(n))? - begin).as_secs_f64() * 1e3);
    }
    drop(agent);
    let mut restarts = Vec::new();
    for n in 0..CHANGES {
        let begin = Instant::now();
        lab.cilium.running.vteps = moved(n + 1).to_vec();
        lab.cilium.start()?;
        restarts.push((wait_for(&lab, &moved(n + 1))? - begin).as_secs_f64() * 1e3);
    }
    report.figure(&Figure::new("agent-edit-to-kernel", Unit::Milliseconds, edits.clone()).promise(100.0));
    report.figure(&Figure::new("restart-of-lab-cilium-to-kernel", Unit::Milliseconds, restarts.clone()));
    report.ratio("agent-edit-to-kernel", "restart-of-lab-cilium", &edits, &restarts);
    Ok(())
}

/// `ping` of each VTEP, as often as the agent probes it and in the same seconds: the share of a core, and the time to notice an outage.
fn pings(report: &mut Report) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    thread::sleep(CILIUM_STARTS);
    let agent = Agent::start(&lab, &[])?;
    let pings = (0..lab.bigips.len()).map(|n| Ping::start(&lab, n)).collect::<Result<Vec<_>>>()?;
    let of_pings = || pings.iter().map(|ping| cpu_time(ping.child.id())).sum::<Result<Duration>>();
    let (mut shares, mut ping_shares) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let before = of_pings()?;
        shares.push(share_of(|| cpu_time(agent.pid()), WINDOW)?);
        ping_shares.push((of_pings()? - before).as_secs_f64() / (WINDOW).as_secs_f64() * 100.0);
    }
    drop(agent);
    report.figure(&Figure::new("ping-of-both-share-of-core", Unit::Percent, ping_shares.clone()));
    report.ratio("agent-share-of-core", "ping-of-both", &shares, &ping_shares);

    let (mut verdict, mut first, mut third) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..RUNS {
        // One agent would say that the tunnel flaps.
        let agent = Agent::start(&lab, &[])?;
        // The moments are independent of the probes.
        thread::sleep(Duration::from_millis(n as u64 * 377 % 1000));
        let begin = Instant::now();
        lab.bigips[0].down()?;
        let seen = wait(&lab, "unreachable", |status| verdicts(status).any(|verdict| verdict == "unreachable"))?;
        verdict.push((seen - begin).as_secs_f64());
        let losses = (0..3).map(|_| pings[0].loss_after(begin)).collect::<Result<Vec<_>>>()?;
        first.push((losses[0] - begin).as_secs_f64());
        third.push((losses[2] - begin).as_secs_f64());
        lab.bigips[0].up()?;
        wait(&lab, "healthy again", |status| verdicts(status).all(|verdict| verdict == "healthy"))?;
        drop(agent);
    }
    report.figure(&Figure::new("outage-to-agent-verdict", Unit::Seconds, verdict.clone()).promise(3.5));
    report.figure(&Figure::new("outage-to-first-loss-of-ping", Unit::Seconds, first));
    report.figure(&Figure::new("outage-to-third-loss-of-ping", Unit::Seconds, third.clone()));
    report.ratio("outage-to-agent-verdict", "third-loss-of-ping", &verdict, &third);
    Ok(())
}

/// A ping each second, like the agent's probe, which reports each loss at its next packet.
struct Ping {
    child: Child,
    losses: Receiver<Instant>,
}

impl Ping {
    fn start(lab: &Lab, n: usize) -> Result<Self> {
        let target = lab.topology.bigips[n].self_ip.addr().to_string();
        // It would keep its lines until it has some kilobytes of them.
        let mut command = lab.pod.command("stdbuf");
        command.args(["-oL", "ping", "-n", "-O", "-i", "1", &target]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let (sender, losses) = channel();
        thread::spawn(move || {
            let losses = lines.map_while(Result::ok).filter(|line| line.contains("no answer yet"));
            // It fails when nobody waits any more.
            losses.map(|_| sender.send(Instant::now())).all(|sent| sent.is_ok())
        });
        Ok(Self { child, losses })
    }

    /// The next loss that it reported after this time.
    fn loss_after(&self, begin: Instant) -> Result<Instant> {
        loop {
            let loss = self.losses.recv_timeout(TIMEOUT).context("ping reports no loss")?;
            ensure!(begin.elapsed() < TIMEOUT, "ping reports no loss");
            if loss >= begin {
                return Ok(loss);
            }
        }
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
