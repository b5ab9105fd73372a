//! The resources that a process of the lab uses.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// User and system time of a process.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name in parentheses, utime and stime are the 12th and 13th word, in hundredths of a second.
    let words: Vec<_> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).context("a number of ticks");
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

pub(crate) fn resident_mb(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a VmRSS line")?;
    let kb: f64 = line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("a number of kB")?;
    Ok(kb / 1024.0)
}
