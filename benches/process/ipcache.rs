//! The agent beside the ipcache of the largest cluster that Cilium supports.

use std::{path::Path, process::Stdio, thread, time::Duration};

use crate::support::{Agent, Figure, Report, Unit, median, percentile, resident_mb, status};
use anyhow::{Context, Result, ensure};
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    },
    time::{ClockId, clock_gettime},
};
use vtep_agent::kernel::ipcache::Ipcache;
use vtep_lab::{BPF_FS, Config, Lab};

/// Cilium's map has 512,000 places; the rest is for the agent's own and the lab's.
const ENTRIES: u32 = 511_000;
const RUNS: usize = 5;
const PASSES: usize = 40;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::start()?;
    lab.config.write(&Config::seed_keys())?;
    let (few, _) = passes(&lab)?;
    lab.cilium.fill_ipcache(ENTRIES)?;
    let (many, memory) = passes(&lab)?;
    let of = |runs: &[Vec<f64>], share| runs.iter().map(|run| percentile(run, share)).collect::<Vec<_>>();
    report.figure(&Figure::new("pass-with-empty-ipcache-p50", Unit::Milliseconds, of(&few, 50)));
    report.figure(&Figure::new("pass-with-511000-entries-p50", Unit::Milliseconds, of(&many, 50)).promise(1.0));
    report.figure(&Figure::new("pass-with-511000-entries-p99", Unit::Milliseconds, of(&many, 99)));
    report.ratio("pass-with-511000-entries", "pass-with-empty-ipcache", &of(&many, 50), &of(&few, 50));
    report.figure(&Figure::new("memory-with-511000-entries", Unit::Megabytes, memory).promise(16.0));
    searches(&lab, report)
}

/// The milliseconds of an agent's passes in several runs, and its memory after each.
fn passes(lab: &Lab) -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
    let agent = Agent::start(lab, &[])?;
    let (mut runs, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        runs.push((0..PASSES).map(|_| a_pass(lab)).collect::<Result<Vec<_>>>()?);
        memory.push(resident_mb(agent.pid())?);
    }
    Ok((runs, memory))
}

/// The duration of a recent pass. Status has no list of them, so each is read by chance.
fn a_pass(lab: &Lab) -> Result<f64> {
    thread::sleep(Duration::from_millis(53));
    Ok(status(lab)?["datapath"]["last_pass"]["took_us"].as_f64().context("a number")? / 1e3)
}

/// The processor time of the searches that the agent makes for a configuration, and of what a script would do instead.
fn searches(lab: &Lab, report: &mut Report) -> Result<()> {
    let ipcache = Ipcache::open(Path::new(BPF_FS))?;
    let search = |prefix: &str, times: u32| -> Result<f64> {
        let prefix = prefix.parse()?;
        let before: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
        for _ in 0..times {
            ipcache.inside(prefix)?;
        }
        let after: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
        Ok((after - before).as_secs_f64() * 1e3 / f64::from(times))
    };
    let runs = |prefix: &str, times| (0..RUNS).map(|_| search(prefix, times)).collect::<Result<Vec<_>>>();
    let eight: Vec<_> = runs("10.1.6.0/24", 80)?.iter().map(|one| one * 8.0).collect();
    let (wide, walk) = (runs("10.1.0.0/16", 4)?, runs("10.0.0.0/8", 1)?);
    let dumps = (0..RUNS).map(|_| dump(lab)).collect::<Result<Vec<_>>>()?;
    report
        .figure(&Figure::new("search-for-eight-24s-processor-time", Unit::Milliseconds, eight.clone()).promise(300.0));
    report.figure(&Figure::new("search-for-a-16-processor-time", Unit::Milliseconds, wide).promise(300.0));
    report.figure(&Figure::new("search-for-an-8-that-walks-all", Unit::Milliseconds, walk));
    report.figure(&Figure::new("bpftool-map-dump-processor-time", Unit::Milliseconds, dumps.clone()));
    report.ratio("search-for-eight-24s", "bpftool-map-dump", &eight, &[median(&dumps)]);
    Ok(())
}

fn dump(lab: &Lab) -> Result<f64> {
    let before = children_time()?;
    let words = ["map", "dump", "pinned", "/sys/fs/bpf/tc/globals/cilium_ipcache_v2"];
    ensure!(lab.node.command("bpftool").args(words).stdout(Stdio::null()).status()?.success(), "bpftool");
    Ok((children_time()? - before).as_secs_f64() * 1e3)
}

fn children_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.num_microseconds().try_into()?))
}
