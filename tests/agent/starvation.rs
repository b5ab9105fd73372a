//! A node that leaves the agent hardly any CPU time: the agent must not take its own slowness for trouble of a tunnel.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use vtep_lab::Lab;

use crate::support::{Agent, all_healthy};

/// A twentieth of one CPU. The kernel counts in periods of 100 ms.
const QUOTA_US: u32 = 5_000;
const PERIOD_US: u32 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A control group of this test, with limited CPU time, and a process that uses up as much of it as it gets. Dropping it removes both.
struct Group {
    path: PathBuf,
    root: PathBuf,
    rival: Child,
}

impl Group {
    fn new(pid: Pid) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let root = if is_v2 { root.to_owned() } else { root.join("cpu") };
        let path = root.join(format!("vtep-starvation-{}", process::id()));
        let rival = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().context("failed to run sh")?;
        let group = Self { path, root, rival };
        fs::create_dir(&group.path).with_context(|| format!("no control group {}", group.path.display()))?;
        if is_v2 {
            fs::write(group.root.join("cgroup.subtree_control"), "+cpu").context("no CPU controller")?;
            group.set("cpu.max", &format!("{QUOTA_US} {PERIOD_US}"))?;
        } else {
            group.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            group.set("cpu.cfs_quota_us", &QUOTA_US.to_string())?;
        }
        for pid in [pid.to_string(), group.rival.id().to_string()] {
            group.set("cgroup.procs", &pid)?;
        }
        Ok(group)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.path.join(file), value).with_context(|| format!("{file} of the control group"))
    }

    /// How many periods there were, and in how many of them the time was used up.
    fn periods(&self) -> Result<(u64, u64)> {
        let stat = fs::read_to_string(self.path.join("cpu.stat"))?;
        let value = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.context("a value of cpu.stat")?.parse().context("a number")
        };
        Ok((value("nr_periods")?, value("nr_throttled")?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.rival.kill();
        let _ = self.rival.wait();
        // A group with processes cannot be removed. If this fails, the group remains, without effect on others.
        for process in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.root.join("cgroup.procs"), process);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

#[test]
#[ignore = "takes an hour"]
fn an_hour_with_a_twentieth_of_a_cpu_changes_no_verdict() -> Result<()> {
    let lab = Lab::start()?;
    let agent = Agent::healthy(&lab)?;
    let since = |agent: &Agent| -> Result<Vec<_>> {
        let status = agent.wait_for("an answer", Duration::from_secs(60), |_| true)?;
        ensure!(all_healthy(&status), "{:?}\n{}", status.vteps, agent.log().join("\n"));
        Ok(status.vteps.iter().map(|vtep| vtep.since).collect())
    };
    let before = since(&agent)?;
    let group = Group::new(agent.pid()?)?;
    let begin = Instant::now();
    while begin.elapsed() < HOUR {
        thread::sleep(Duration::from_secs(10));
        let now = since(&agent)?;
        ensure!(now == before, "a verdict changed and came back:\n{}", agent.log().join("\n"));
    }
    ensure!(agent.lines("verdict changed").len() == 2, "{:#?}", agent.lines("verdict changed"));
    let (periods, throttled) = group.periods()?;
    writeln!(io::stdout(), "{throttled} of {periods} periods were used up")?;
    ensure!(throttled * 2 > periods, "the agent had time enough: {throttled} of {periods} periods");
    Ok(())
}
