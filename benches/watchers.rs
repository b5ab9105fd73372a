//! The agent's watch loop and kube's `watcher`, side by side at API servers that fail: how often each asks, and when it sees an edit again.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    collections::BTreeMap,
    pin::Pin,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::{Stream, StreamExt, future::join_all};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    client::ClientBuilder,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tower::limit::RateLimitLayer;
use vtep_agent::k8s::{server::Server, source::Source};
use vtep_apiserver::{After, ApiServer, Fault, Matcher, Resource, Times, objects};
use vtep_core::config::{
    merge::Names,
    surroundings::Surroundings,
    view::{Observed, SourceState},
};

/// How long a server fails.
const FAILS: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_secs(120);
/// The limiter's time for each request.
const LIMIT: Duration = Duration::from_secs(1);
/// The followers that lose their server at once.
const FLEET: usize = 200;
/// The argument of the process that measures one kind's memory.
const MEMORY: &str = "memory-of";
const NAMESPACE: &str = "kube-system";
const NAME: &str = "cilium-config";

fn main() -> Result<()> {
    let kind = std::env::args().skip_while(|argument| argument != MEMORY).nth(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match kind {
        Some(kind) => {
            runtime.block_on(memory(kind.parse::<usize>().ok().and_then(|n| KINDS.get(n)).context("a kind")?))
        }
        None => runtime.block_on(measure()),
    }
}

/// Follows the ConfigMap.
enum Follower {
    Agent(mpsc::Receiver<Observed>),
    Kube(Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<ConfigMap>>>>>),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Agent,
    /// With its default backoff.
    Kube,
    /// Also with a limiter around its client: at most one request a second.
    Limited,
}

const KINDS: [Kind; 3] = [Kind::Agent, Kind::Kube, Kind::Limited];

impl Follower {
    fn start(kind: Kind, server: &ApiServer, n: usize) -> Result<Self> {
        let mut config = kube::Config::new(server.url().parse()?);
        config.default_retry = false;
        let at = Server::of(&config);
        let client = match kind {
            Kind::Agent | Kind::Kube => Client::try_from(config)?,
            Kind::Limited => ClientBuilder::try_from(config)?.with_layer(&RateLimitLayer::new(1, LIMIT)).build(),
        };
        Ok(match kind {
            Kind::Kube | Kind::Limited => {
                let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
                Self::Kube(Box::pin(watcher(Api::namespaced(client, NAMESPACE), config).default_backoff()))
            }
            Kind::Agent => {
                let names = Names { namespace: NAMESPACE.into(), configmap: NAME.into(), node: format!("worker-{n}") };
                server.apply(Resource::Nodes, objects::node(&names.node, [], &[]))?;
                let (surroundings, recheck) = (Surroundings::default(), watch::channel(()).1);
                let source = Source { client, server: at, names, surroundings, recheck };
                let (sender, updates) = mpsc::channel(16);
                tokio::spawn(source.follow(sender));
                Self::Agent(updates)
            }
        })
    }

    /// Waits until it has seen this value.
    async fn sees(&mut self, value: &str) -> Result<()> {
        let is_value = |keys: Option<&BTreeMap<String, String>>| {
            keys.and_then(|keys| keys.get("vtep-mac")).is_some_and(|seen| seen == value)
        };
        let seen = async {
            loop {
                let found = match self {
                    Self::Agent(updates) => match updates.recv().await.context("the source ended")?.state {
                        SourceState::Document(document) => is_value(Some(&document.keys)),
                        SourceState::Missing(_) | SourceState::Nothing => false,
                    },
                    Self::Kube(events) => match events.next().await.context("the watcher ended")? {
                        Ok(watcher::Event::Apply(map) | watcher::Event::InitApply(map)) => is_value(map.data.as_ref()),
                        Ok(_) | Err(_) => false,
                    },
                };
                if found {
                    return Ok(());
                }
            }
        };
        time::timeout(TIMEOUT, seen).await.with_context(|| format!("{value} was not seen in {TIMEOUT:?}"))?
    }

    /// Lets it work for some time. kube's watcher works only while somebody reads its events.
    async fn works(&mut self, time: Duration) -> Result<()> {
        let _ = time::timeout(time, self.sees("nothing has this value")).await;
        Ok(())
    }
}

fn server() -> Result<ApiServer> {
    let server = ApiServer::start()?;
    server.apply(Resource::EndpointSlices, objects::api_server_endpoints("kubernetes", &["10.169.72.10"]))?;
    edit(&server, "a")?;
    Ok(server)
}

fn edit(server: &ApiServer, value: &str) -> Result<()> {
    let keys = [("enable-vtep", "false"), ("vtep-mac", value)];
    server.apply(Resource::ConfigMaps, objects::config_map(NAMESPACE, NAME, keys)).map(drop)
}

/// One failure: the requests for the ConfigMap while it lasts, and the time from its end until an edit is seen.
async fn failure(kind: Kind, fault: Fault) -> Result<(usize, Duration)> {
    let server = server()?;
    let mut follower = Follower::start(kind, &server, 1)?;
    follower.sees("a").await?;
    let of_configmap = Matcher::all().resource("configmaps");
    // kube's watcher opens its watch only when it is asked for the next event.
    follower.works(Duration::from_secs(1)).await?;
    server.clear_requests();
    server.misbehave(of_configmap.clone(), fault.clone(), Times::Always);
    ensure!(server.interrupt(&of_configmap, &Fault::End) == 1, "one open watch");
    follower.works(FAILS).await?;
    let requests = server.requests().iter().filter(|request| request.resource == "configmaps").count();
    server.behave();
    edit(&server, "b")?;
    let end = Instant::now();
    follower.sees("b").await.with_context(|| format!("after {fault:?}"))?;
    Ok((requests, end.elapsed()))
}

/// A fleet loses its server: the most requests in one second after its return, and the times until half and all have seen an edit.
async fn outage(kind: Kind, away: Duration) -> Result<[String; 3]> {
    let server = server()?;
    let mut fleet = (0..FLEET).map(|n| Follower::start(kind, &server, n)).collect::<Result<Vec<_>>>()?;
    join_all(fleet.iter_mut().map(|follower| follower.sees("a"))).await.into_iter().collect::<Result<()>>()?;
    server.stop()?;
    join_all(fleet.iter_mut().map(|follower| follower.works(away))).await.into_iter().collect::<Result<()>>()?;
    server.clear_requests();
    server.resume()?;
    let back = Instant::now();
    edit(&server, "b")?;
    let seen = fleet.iter_mut().map(|follower| async move { follower.sees("b").await.map(|()| back.elapsed()) });
    let mut seen = join_all(seen).await.into_iter().collect::<Result<Vec<_>>>()?;
    seen.sort_unstable();
    let mut seconds = BTreeMap::<u64, usize>::new();
    for request in server.requests().iter().filter(|request| request.resource == "configmaps") {
        *seconds.entry(request.instant.duration_since(back).as_secs()).or_default() += 1;
    }
    let peak = seconds.into_values().max().unwrap_or_default() as f64 / FLEET as f64;
    Ok([format!("{peak:.2}"), format!("{:.1?}", seen[FLEET / 2]), format!("{:.1?}", seen[FLEET - 1])])
}

/// Prints the growth of this process for each follower, in kB; the server's part of it is the same for all kinds.
async fn memory(kind: &Kind) -> Result<()> {
    let server = server()?;
    let before = resident()?;
    let mut fleet = (0..FLEET).map(|n| Follower::start(*kind, &server, n)).collect::<Result<Vec<_>>>()?;
    join_all(fleet.iter_mut().map(|follower| follower.sees("a"))).await.into_iter().collect::<Result<()>>()?;
    join_all(fleet.iter_mut().map(|follower| follower.works(Duration::from_secs(2)))).await;
    println!("{}", (resident()? - before) / FLEET);
    Ok(())
}

/// In kB.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// A process for each kind, so that none uses the memory that another one has freed.
fn memory_in_a_process(kind: usize) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).args([MEMORY, &kind.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn print(what: &str, figures: [&str; 3]) {
    let [agent, kube, limited] = figures;
    println!("{what:<64} {agent:>12} {kube:>12} {limited:>12}");
}

async fn measure() -> Result<()> {
    print("one ConfigMap is followed", ["the agent", "kube", "kube limited"]);
    let [agent, kube, limited] = [0, 1, 2].map(memory_in_a_process);
    print(&format!("memory of each of {FLEET}, in kB"), [&agent?, &kube?, &limited?]);
    let faults = [
        ("the watch ends at once", Fault::End),
        ("429, Retry-After: 1", Fault::TooManyRequests(1)),
        ("500", Fault::InternalError),
        ("503", Fault::Unavailable),
        ("410", Fault::Gone),
        ("403", Fault::Forbidden),
        ("no answer", Fault::Hang),
        ("half a line, then the end", Fault::HalfLine(After::Close)),
        ("connection reset", Fault::Reset),
        ("bytes that are no JSON", Fault::Garbage),
        ("an object of the wrong shape", Fault::WrongShape),
    ];
    let all = faults.iter().map(|(_, fault)| join_all(KINDS.map(|kind| failure(kind, fault.clone()))));
    for ((what, _), results) in faults.iter().zip(join_all(all).await) {
        let words = results.into_iter().map(|result| match result {
            Ok((requests, time)) => (requests.to_string(), format!("{time:.1?}")),
            Err(_) => ("-".to_owned(), format!("> {TIMEOUT:?}")),
        });
        let [agent, kube, limited] = &words.collect::<Vec<_>>()[..] else { continue };
        print(&format!("{what}: requests in {} s", FAILS.as_secs()), [&agent.0, &kube.0, &limited.0]);
        print(&format!("{what}: an edit is seen after"), [&agent.1, &kube.1, &limited.1]);
    }
    for away in [1, 15] {
        let away = Duration::from_secs(away);
        let [agent, kube, limited] =
            [outage(Kind::Agent, away).await?, outage(Kind::Kube, away).await?, outage(Kind::Limited, away).await?];
        let what = format!("{FLEET} lose the server for {away:?}");
        let figures = ["most requests of each in one second", "half have seen an edit after", "all have seen it after"];
        for (n, figure) in figures.iter().enumerate() {
            print(&format!("{what}: {figure}"), [&agent[n], &kube[n], &limited[n]]);
        }
    }
    Ok(())
}
