//! 500 agents: time and memory of the command.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vtep_apiserver::Verb;

use crate::cluster::{Agent, Cluster, healthy, silent};

const NODES: usize = 500;
/// What is promised for an optimised build on a calm machine; a test may take ten times as long.
const WITHIN: Duration = Duration::from_secs(5);
const MEMORY_KB: u64 = 64 << 10;

#[test]
fn five_hundred_agents_are_asked_in_little_time_and_memory() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 1..=NODES {
        let node = format!("worker-{number}");
        let status = if number > 488 { silent(&node, "10.1.5.0/24", "2026-11-27T08:00:00Z") } else { healthy(&node) };
        cluster.add(&node, if number % 2 == 0 { "a" } else { "b" }, Agent::Answers(status))?;
    }
    // With --watch, the process is still there when its report is, so that its memory can be read.
    let begun = Instant::now();
    let mut child = cluster.command(["--watch", "-o", "json"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let mut text = String::new();
    while !text.ends_with("\n}") {
        text = text + "\n" + &lines.next().context("the report ends early")??;
    }
    let elapsed = begun.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    child.kill()?;
    child.wait()?;
    let report: Value = serde_json::from_str(&text)?;
    assert_eq!(report["summary"]["healthy"], 488);
    assert_eq!(report["trouble"][0]["folded"], "worker-[489-500]");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    writeln!(io::stderr(), "{NODES} agents: {elapsed:.2?}, {} MB", peak >> 10)?;
    ensure!(peak <= MEMORY_KB, "{} MB", peak >> 10);
    ensure!(elapsed < WITHIN * 10, "{elapsed:?}");
    Ok(())
}

/// Nodes, and Cilium's pods, are megabytes in a large cluster. The second round comes after five seconds.
#[test]
fn the_second_round_lists_the_agents_only() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster.add("worker-1", "a", Agent::Answers(healthy("worker-1")))?;
    let mut child = cluster.command(["--watch", "-o", "yaml"]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let rounds = lines.map_while(Result::ok).filter(|line| line.starts_with("at:")).take(2).count();
    child.kill()?;
    child.wait()?;
    assert_eq!(rounds, 2);
    let lists = |of: &str| {
        let requests = cluster.server.requests();
        let is_one = |path: &str, query: &str| format!("{path}?{query}").contains(of);
        let all = requests.iter().filter(|request| request.verb == Verb::List);
        all.filter(|request| is_one(&request.path, &request.query)).count()
    };
    assert_eq!((lists("/nodes?"), lists("cilium")), (1, 1));
    ensure!(lists("component") >= 2);
    Ok(())
}
