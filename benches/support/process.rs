//! The resources that a process of the lab uses.

use std::{
    env, fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use vtep_lab::Host;

/// The argument with which a benchmark starts itself as a process that does nothing.
const IDLE: &str = "idle-tokio-process";

/// User and system time of a process, from its clock: `/proc/<pid>/stat` has only hundredths of a second, too few for a process that
/// uses less than a hundredth of a core.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(clock_gettime(clock)?.into())
}

/// The time of a process and of its children that have ended, in hundredths of a second: for shells.
pub(crate) fn time_with_children(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name in parentheses, utime, stime, cutime and cstime are the 12th to 15th word, in hundredths of a second.
    let words: Vec<_> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).context("a number of ticks");
    Ok(Duration::from_millis((ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?) * 10))
}

pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a VmRSS line")?;
    let kb: f64 = line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("a number of kB")?;
    Ok(kb / 1024.0)
}

/// The share of one core that something uses for a time, in percent.
pub(crate) fn share_of(time: impl Fn() -> Result<Duration>, window: Duration) -> Result<f64> {
    let (begin, before) = (Instant::now(), time()?);
    thread::sleep(window);
    Ok((time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}

/// The shares of one core that a process uses in so many windows, one after the other.
pub(crate) fn steady_shares(pid: u32, windows: usize, window: Duration) -> Result<Vec<f64>> {
    (0..windows).map(|_| share_of(|| cpu_time(pid), window)).collect()
}

/// A process with tokio's runtime and nothing to do: what any agent of this kind needs on this machine. A benchmark whose `main` asks
/// [`is_idle_process`] first can start it.
pub(crate) fn idle_process(host: &Host) -> Result<Child> {
    Ok(host.command(env::current_exe()?).arg(IDLE).stdout(Stdio::null()).spawn()?)
}

/// Whether this process is one; if so, it remains one until it is killed.
pub(crate) fn is_idle_process() -> Result<bool> {
    if env::args().any(|argument| argument == IDLE) {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(std::future::pending::<()>());
        return Ok(true);
    }
    Ok(false)
}
