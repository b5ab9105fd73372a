//! Five hundred agents' watches on one API server: their requests, the cost of one edit, and their return after an outage of the server.
//! Needs root.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    time,
};
use vtep_agent::k8s::{server::Server, source::Source};
use vtep_apiserver::{ApiServer, Request, Resource, objects};
use vtep_core::config::{
    merge::Names,
    surroundings::Surroundings,
    view::{Observed, SourceState},
};
use vtep_lab::{Config, Lab};

const AGENTS: usize = 500;
const TIMEOUT: Duration = Duration::from_secs(60);
/// The duration of the outage.
const AWAY: Duration = Duration::from_secs(5);
/// For each agent.
const WATCHES: usize = 5;
const NAMESPACE: &str = "kube-system";
const NAME: &str = "cilium-config";

fn main() -> Result<()> {
    // The loopback of this namespace carries nothing else, so its counters are the cost.
    let lab = Lab::start()?;
    lab.node.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure()))
}

fn print(what: &str, value: impl std::fmt::Display, promised: &str) {
    println!("{what:<64} {value:>12}   {promised}");
}

/// One agent's view of the cluster.
struct Agent {
    updates: mpsc::Receiver<Observed>,
}

impl Agent {
    fn start(server: &ApiServer, n: usize) -> Result<Self> {
        let mut config = kube::Config::new(server.url().parse()?);
        config.default_retry = false;
        let at = Server::of(&config);
        let client = Client::try_from(config)?;
        let names = Names { namespace: NAMESPACE.into(), configmap: NAME.into(), node: format!("worker-{n}") };
        server.apply(Resource::Nodes, objects::node(&names.node, [], &[]))?;
        server.apply(Resource::CiliumNodes, objects::cilium_node(&names.node, &[], []))?;
        let (surroundings, recheck) = (Surroundings::default(), watch::channel(()).1);
        let source = Source { client, server: at, names, surroundings, recheck };
        let (sender, updates) = mpsc::channel(16);
        tokio::spawn(source.follow(sender));
        Ok(Self { updates })
    }

    /// Waits until it has read this MAC from a complete configuration.
    async fn reads(&mut self, mac: &str) -> Result<()> {
        loop {
            let seen = time::timeout(TIMEOUT, self.updates.recv()).await.context("no update came")?;
            match seen.context("the watch ended")? {
                Observed { state: SourceState::Document(document), warning: None }
                    if document.keys.get("vtep-mac").is_some_and(|macs| macs.contains(mac)) =>
                {
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

fn edit(server: &ApiServer, mac: &str) -> Result<()> {
    let mut keys = Config::seed_keys();
    keys.insert("vtep-mac".into(), format!("{mac} 00:50:56:86:6b:28"));
    let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, data)).map(drop)
}

/// The bytes that the loopback has carried.
fn carried() -> Result<f64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("a loopback")?;
    Ok(line.split_whitespace().next().context("a counter")?.parse()?)
}

async fn all_read(agents: &mut [Agent], mac: &str) -> Result<Duration> {
    let begin = Instant::now();
    for agent in agents {
        agent.reads(mac).await?;
    }
    Ok(begin.elapsed())
}

async fn measure() -> Result<()> {
    println!("{:<64} {:>12}   promised", format!("{AGENTS} agents at one API server"), "");
    let server = ApiServer::start()?;
    edit(&server, "00:50:56:a0:7d:01")?;
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.72.10"]))?;
    let mut agents = (0..AGENTS).map(|n| Agent::start(&server, n)).collect::<Result<Vec<_>>>()?;
    all_read(&mut agents, "00:50:56:a0:7d:01").await?;
    print("requests of each until all are told", of_each(server.requests().len()), "10");

    server.clear_requests();
    let before = carried()?;
    edit(&server, "00:50:56:a0:7d:02")?;
    let took = all_read(&mut agents, "00:50:56:a0:7d:02").await?;
    print("one edit: until the last has read it", format!("{took:.1?}"), "");
    print("one edit: bytes for each", format!("{:.0}", (carried()? - before) / AGENTS as f64), "");
    print("one edit: requests of each", of_each(server.requests().len()), "0");

    for (what, away, mac) in [
        ("the server restarts", Duration::ZERO, "00:50:56:a0:7d:03"),
        ("the server is away for 5 s", AWAY, "00:50:56:a0:7d:04"),
        ("the server is away for 15 s", AWAY * 3, "00:50:56:a0:7d:05"),
    ] {
        outage(&server, &mut agents, what, away, mac).await?;
    }
    Ok(())
}

fn of_each(count: usize) -> String {
    format!("{:.2}", count as f64 / AGENTS as f64)
}

/// Takes the server away for a time, and prints how the agents come back.
async fn outage(server: &ApiServer, agents: &mut [Agent], what: &str, away: Duration, mac: &str) -> Result<()> {
    server.clear_requests();
    server.stop()?;
    time::sleep(away).await;
    server.resume()?;
    let back = Instant::now();
    edit(server, mac)?;
    let took = all_read(agents, mac).await?;
    while server.open_watches() < AGENTS * WATCHES {
        ensure!(back.elapsed() < TIMEOUT, "{} watches of {}", server.open_watches(), AGENTS * WATCHES);
        time::sleep(Duration::from_millis(50)).await;
    }
    let requests = server.requests();
    let peak = most_in_a_second(&requests, back).context("nobody came back")?;
    let waits = waits(&requests, back);
    let at = |share: usize| waits.get(waits.len() * share / 100).map_or_else(String::new, |wait| format!("{wait:.1?}"));
    let worst = format!("{:.1} %", peak as f64 / AGENTS as f64 * 100.0);
    print(&format!("{what}: most agents in one second"), worst, "20 %");
    print(&format!("{what}: half of the agents are back after"), at(50), "5 s");
    print(&format!("{what}: nine tenths of them"), at(90), "");
    print(&format!("{what}: requests of each"), of_each(requests.len()), "");
    print(&format!("{what}: until the last has read an edit"), format!("{took:.1?}"), "");
    Ok(())
}

/// Requests by agent; its node's read or watch identifies it.
fn of_nodes(requests: &[Request], back: Instant) -> impl Iterator<Item = (&str, Duration)> {
    let of_nodes = requests.iter().filter(move |request| request.resource == "nodes" && request.instant >= back);
    of_nodes.map(move |request| (request.name.as_str(), request.instant.duration_since(back)))
}

fn most_in_a_second(requests: &[Request], back: Instant) -> Option<usize> {
    let mut seconds = BTreeMap::<u64, BTreeSet<&str>>::new();
    for (node, at) in of_nodes(requests, back) {
        seconds.entry(at.as_secs()).or_default().insert(node);
    }
    seconds.values().map(BTreeSet::len).max()
}

/// The times after the server's return until each agent watched again, the shortest first.
fn waits(requests: &[Request], back: Instant) -> Vec<Duration> {
    let mut last = BTreeMap::<&str, Duration>::new();
    for (node, at) in of_nodes(requests, back) {
        last.entry(node).and_modify(|known| *known = at.max(*known)).or_insert(at);
    }
    let mut waits: Vec<_> = last.into_values().collect();
    waits.sort_unstable();
    waits
}
