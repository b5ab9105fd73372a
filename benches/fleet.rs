//! Fleets of agents' watches on one API server: their requests, the cost of one edit, and their return after an outage of the server. Needs
//! root.
//!
//! A small fleet gives the figures of one agent, a model computes those of a fleet from them, and two simulated fleets check the model.
//! The figures of 5,000 agents are the model's.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kube::Client;
use nix::sys::resource::{Resource as Limit, getrlimit, setrlimit};
use support::{
    Figure, Report, Unit,
    fleet_model::{Load, PerAgent},
    median, percentile,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
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

/// The fleet that gives the figures of one agent.
const SMALL: usize = 50;
const FLEETS: [usize; 2] = [500, 1000];
/// Too many for this machine: the model's.
const LARGE: usize = 5000;
const RUNS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(60);
/// An outage that is longer than a cycle of attempts.
const LONG: Duration = Duration::from_secs(8);
/// For each agent.
const WATCHES: usize = 5;
const NAMESPACE: &str = "kube-system";
const NAME: &str = "cilium-config";

fn main() -> ExitCode {
    support::run(&[("fleet", "Fleets at one API server", |report| {
        // Each watch has a connection, and both of its ends are in this process.
        let (_, most) = getrlimit(Limit::RLIMIT_NOFILE)?;
        setrlimit(Limit::RLIMIT_NOFILE, most, most)?;
        // The loopback of this namespace carries nothing else, so its counters are the cost.
        let lab = Lab::start()?;
        // An agent has a connection for each watch, and an outage leaves as many behind.
        lab.node.sysctl("ipv4/ip_local_port_range", "2000 65000")?;
        lab.node.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(report)))
    })])
}

/// The agents' view of the cluster. Its end ends their tasks.
struct Fleet {
    server: ApiServer,
    agents: Vec<Agent>,
    edits: u32,
    start: Start,
}

/// What each agent costs until it has read its configuration, and until all its watches are open.
#[derive(Clone, Copy, Default)]
struct Start {
    requests_until_read: f64,
    requests: f64,
    bytes: f64,
}

struct Agent {
    updates: mpsc::Receiver<Observed>,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
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
        let task = tokio::spawn(async move { _ = source.follow(sender).await });
        Ok(Self { updates, task })
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

/// One edit, or the return of the server.
#[derive(Clone, Copy)]
struct Edit {
    until_the_last: Duration,
    bytes: f64,
}

struct Return {
    edit: Edit,
    /// In the worst second.
    agents: f64,
    requests_in_a_second: f64,
    requests: f64,
    half: f64,
    nine_tenths: f64,
}

impl Fleet {
    async fn start(agents: usize) -> Result<Self> {
        let server = ApiServer::start()?;
        server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.72.10"]))?;
        let before = carried()?;
        let mut fleet = Self { server, agents: Vec::new(), edits: 0, start: Start::default() };
        let mac = fleet.next_mac()?;
        fleet.agents = (0..agents).map(|n| Agent::start(&fleet.server, n)).collect::<Result<_>>()?;
        fleet.all_read(&mac).await?;
        fleet.start.requests_until_read = fleet.of_each(fleet.server.requests().len() as f64);
        fleet.all_watch().await?;
        fleet.start.requests = fleet.of_each(fleet.server.requests().len() as f64);
        fleet.start.bytes = fleet.of_each(carried()? - before);
        Ok(fleet)
    }

    /// Starts so many agents several times, and returns the last fleet.
    async fn start_again(agents: usize) -> Result<(Self, Vec<Start>)> {
        let before = descriptors()?;
        let mut fleet = Self::start(agents).await?;
        let mut starts = vec![fleet.start];
        while starts.len() < RUNS {
            // The old fleet ends before the new one costs anything. Its connections end in tasks of their own, and both fleets together
            // would need more descriptors than a process may have.
            drop(fleet);
            let begin = Instant::now();
            while descriptors()? > before + agents {
                ensure!(begin.elapsed() < TIMEOUT, "{} descriptors, and {before} before", descriptors()?);
                time::sleep(Duration::from_millis(20)).await;
            }
            fleet = Self::start(agents).await?;
            starts.push(fleet.start);
        }
        Ok((fleet, starts))
    }

    fn of_each(&self, sum: f64) -> f64 {
        sum / self.agents.len() as f64
    }

    /// Writes a configuration that no agent has seen.
    fn next_mac(&mut self) -> Result<String> {
        self.edits += 1;
        let mac = format!("00:50:56:a0:7d:{:02x}", self.edits);
        let mut keys = Config::seed_keys();
        keys.insert("vtep-mac".into(), format!("{mac} 00:50:56:86:6b:28"));
        let data = keys.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        self.server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, data))?;
        Ok(mac)
    }

    async fn all_read(&mut self, mac: &str) -> Result<()> {
        for agent in &mut self.agents {
            agent.reads(mac).await?;
        }
        Ok(())
    }

    async fn all_watch(&self) -> Result<()> {
        let (begin, wanted) = (Instant::now(), self.agents.len() * WATCHES);
        while self.server.open_watches() < wanted {
            ensure!(begin.elapsed() < TIMEOUT, "{} watches of {wanted}", self.server.open_watches());
            time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn edit(&mut self) -> Result<Edit> {
        let (begin, before) = (Instant::now(), carried()?);
        let mac = self.next_mac()?;
        self.all_read(&mac).await?;
        Ok(Edit { until_the_last: begin.elapsed(), bytes: self.of_each(carried()? - before) })
    }

    /// Takes the server away for a time, and counts how the agents come back.
    async fn outage(&mut self, away: Duration) -> Result<Return> {
        self.server.stop()?;
        time::sleep(away).await;
        self.server.clear_requests();
        self.server.resume()?;
        let back = Instant::now();
        let edit = self.edit().await?;
        self.all_watch().await?;
        let requests = self.server.requests();
        let waits = waits(&requests, back);
        Ok(Return {
            edit,
            agents: most_in_a_second(&requests, back, |request| (request.resource == "nodes").then_some(&request.name)),
            requests_in_a_second: most_in_a_second(&requests, back, |request| Some((request.instant, request.peer))),
            requests: self.of_each(requests.len() as f64),
            half: percentile(&waits, 50),
            nine_tenths: percentile(&waits, 90),
        })
    }
}

fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// The bytes that the loopback has carried, in both directions.
fn carried() -> Result<f64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).context("a loopback")?;
    Ok(line.split_whitespace().next().context("a counter")?.parse()?)
}

/// The most different things that requests stand for in one second after the return.
fn most_in_a_second<'r, T: Ord>(
    requests: &'r [Request],
    back: Instant,
    what: impl Fn(&'r Request) -> Option<T>,
) -> f64 {
    let mut seconds = BTreeMap::<u64, Vec<T>>::new();
    for request in requests.iter().filter(|request| request.instant >= back) {
        seconds.entry(request.instant.duration_since(back).as_secs()).or_default().extend(what(request));
    }
    let most = seconds.into_values().map(|things| things.into_iter().collect::<BTreeSet<_>>().len()).max();
    most.unwrap_or_default() as f64
}

/// The seconds after the server's return until each agent watched its node again.
fn waits(requests: &[Request], back: Instant) -> Vec<f64> {
    let mut last = BTreeMap::<&str, f64>::new();
    for request in requests.iter().filter(|request| request.resource == "nodes" && request.instant >= back) {
        let at = request.instant.duration_since(back).as_secs_f64();
        last.entry(&request.name).and_modify(|known| *known = at.max(*known)).or_insert(at);
    }
    last.into_values().collect()
}

async fn measure(report: &mut Report) -> Result<()> {
    let one = one_agent(report).await?;
    print_model(report, &one.times(LARGE as f64));
    for agents in FLEETS {
        simulate(report, agents, &one.times(agents as f64)).await?;
    }
    Ok(())
}

/// The figures of one agent, as the means of a small fleet.
async fn one_agent(report: &mut Report) -> Result<PerAgent> {
    let (mut fleet, starts) = Fleet::start_again(SMALL).await?;
    let of = |value: fn(&Start) -> f64| starts.iter().map(value).collect::<Vec<_>>();
    let (mut edits, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        edits.push(fleet.edit().await?.bytes);
        returns.push(fleet.outage(LONG).await?);
    }
    let return_requests: Vec<_> = returns.iter().map(|back| back.requests).collect();
    // The bytes of a return include those of the edit that shows it.
    let return_bytes: Vec<_> = returns.iter().map(|back| back.edit.bytes).collect();
    let one = PerAgent {
        start_requests: median(&of(|start| start.requests)),
        start_bytes: median(&of(|start| start.bytes)),
        edit_bytes: median(&edits),
        return_requests: median(&return_requests),
        return_bytes: median(&return_bytes),
        watches: WATCHES as f64,
    };
    let until_read = of(|start| start.requests_until_read);
    report.figure(&Figure::new("one-agent-requests-until-read", Unit::Count, until_read).promise(10.0));
    report.figure(&Figure::new("one-agent-start-requests", Unit::Count, of(|start| start.requests)));
    report.figure(&Figure::new("one-agent-start-bytes", Unit::Bytes, of(|start| start.bytes)));
    report.figure(&Figure::new("one-agent-edit-bytes", Unit::Bytes, edits));
    report.figure(&Figure::new("one-agent-return-requests", Unit::Count, return_requests));
    report.figure(&Figure::new("one-agent-return-bytes", Unit::Bytes, return_bytes));
    Ok(one)
}

/// A fleet, and each figure divided by the model's.
async fn simulate(report: &mut Report, agents: usize, model: &Load) -> Result<()> {
    let (mut fleet, starts) = Fleet::start_again(agents).await?;
    let name = |what: &str| format!("fleet-{agents}-{what}");
    let of_fleet = agents as f64;
    let of = |value: fn(&Start) -> f64| starts.iter().map(|start| value(start) * of_fleet).collect::<Vec<_>>();
    report.ratio(&name("start-requests"), "model", &of(|start| start.requests), &[model.start_requests]);
    report.ratio(&name("start-bytes"), "model", &of(|start| start.bytes), &[model.start_bytes]);
    let mut edits = Vec::new();
    for _ in 0..RUNS {
        edits.push(fleet.edit().await?);
    }
    let times: Vec<_> = edits.iter().map(|edit| edit.until_the_last.as_secs_f64() * 1e3).collect();
    report.figure(&Figure::new(name("edit-until-the-last"), Unit::Milliseconds, times));
    let bytes: Vec<_> = edits.iter().map(|edit| edit.bytes * of_fleet).collect();
    report.ratio(&name("edit-bytes"), "model", &bytes, &[model.edit_bytes]);

    simulate_outages(report, &mut fleet, model).await
}

/// How the agents come back after a restart of the server, and after an outage.
async fn simulate_outages(report: &mut Report, fleet: &mut Fleet, model: &Load) -> Result<()> {
    let of_fleet = fleet.agents.len() as f64;
    let after_restart =
        [model.storm_requests_after_restart, model.half_back_after_restart, model.nine_tenths_back_after_restart];
    let after_outage = [model.storm_requests, model.half_back, model.nine_tenths_back];
    let outages = [("restart", Duration::ZERO, after_restart), ("outage-8s", LONG, after_outage)];
    for (what, away, [storm_requests, half, nine_tenths]) in outages {
        let mut returns = Vec::new();
        for _ in 0..RUNS {
            returns.push(fleet.outage(away).await?);
        }
        let name = |figure: &str| format!("fleet-{of_fleet}-{what}-{figure}");
        let of = |value: fn(&Return) -> f64| returns.iter().map(value).collect::<Vec<_>>();
        let peak: Vec<_> = of(|back| back.agents).iter().map(|most| most / of_fleet * 100.0).collect();
        report.figure(&Figure::new(name("agents-in-one-second"), Unit::Percent, peak).promise(20.0));
        report.ratio(&name("agents-in-one-second"), "model", &of(|back| back.agents), &[model.storm_agents]);
        let requests = of(|back| back.requests_in_a_second);
        report.figure(&Figure::new(name("requests-in-one-second"), Unit::Count, requests.clone()));
        report.ratio(&name("requests-in-one-second"), "model", &requests, &[storm_requests]);
        report.figure(&Figure::new(name("half-back"), Unit::Seconds, of(|back| back.half)).promise(5.0));
        report.ratio(&name("half-back"), "model", &of(|back| back.half), &[half]);
        report.figure(&Figure::new(name("nine-tenths-back"), Unit::Seconds, of(|back| back.nine_tenths)));
        report.ratio(&name("nine-tenths-back"), "model", &of(|back| back.nine_tenths), &[nine_tenths]);
    }
    Ok(())
}

fn print_model(report: &mut Report, model: &Load) {
    let mut print = |what: &str, unit, value| report.model(&format!("fleet-{LARGE}-{what}"), unit, value);
    print("steady-requests-per-second", Unit::Count, model.steady_requests);
    print("start-requests", Unit::Count, model.start_requests);
    print("start-megabytes", Unit::Megabytes, model.start_bytes / 1e6);
    print("edit-megabytes", Unit::Megabytes, model.edit_bytes / 1e6);
    print("agents-in-one-second", Unit::Percent, model.storm_agents / LARGE as f64 * 100.0);
    print("requests-in-one-second", Unit::Count, model.storm_requests);
    print("megabytes-in-one-second", Unit::Megabytes, model.storm_bytes / 1e6);
    print("half-back-after-restart", Unit::Seconds, model.half_back_after_restart);
    print("half-back-after-outage", Unit::Seconds, model.half_back);
    print("nine-tenths-back-after-outage", Unit::Seconds, model.nine_tenths_back);
}
