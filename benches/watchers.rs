//! The agent's watch loop and kube's `watcher`, side by side at API servers that fail: how often each asks, and when it sees an edit again.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod support;

use std::{
    collections::BTreeMap,
    pin::Pin,
    process::{Command, ExitCode},
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
use support::{Figure, Report, Unit};
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
/// A follower that has not seen an edit by then may never see it. The slowest of the others needs 25 s.
const TIMEOUT: Duration = Duration::from_secs(60);
const RUNS: usize = 5;
/// The limiter's time for each request.
const LIMIT: Duration = Duration::from_secs(1);
/// The followers that lose their server at once.
const FLEET: usize = 100;
/// The argument of the process that measures one kind's memory.
const MEMORY: &str = "memory-of";
const NAMESPACE: &str = "kube-system";
const NAME: &str = "cilium-config";

fn main() -> ExitCode {
    let kind = std::env::args().skip_while(|argument| argument != MEMORY).nth(1);
    match kind.map(|kind| kind.parse::<usize>().ok().and_then(|n| KINDS.get(n))) {
        // A process that measures one kind's memory, for another one that reads its output.
        Some(kind) => match kind.context("a kind").and_then(|(_, kind)| block_on(memory(kind))) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        None => support::run(&[
            ("failures", "The agent's watch beside kube's", |report| block_on(measure(report))),
            ("outages", "Fleets of them that lose their server", |report| block_on(outages(report))),
        ]),
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
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

const KINDS: [(&str, Kind); 3] = [("agent", Kind::Agent), ("kube", Kind::Kube), ("kube-limited", Kind::Limited)];

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

/// The return of a fleet that lost its server.
struct Return {
    /// The most requests of each in one second.
    peak: f64,
    /// The seconds until half and all have seen an edit.
    half: f64,
    all: f64,
}

async fn outage(kind: Kind, away: Duration) -> Result<Return> {
    let server = server()?;
    let mut fleet = (0..FLEET).map(|n| Follower::start(kind, &server, n)).collect::<Result<Vec<_>>>()?;
    join_all(fleet.iter_mut().map(|follower| follower.sees("a"))).await.into_iter().collect::<Result<()>>()?;
    server.stop()?;
    join_all(fleet.iter_mut().map(|follower| follower.works(away))).await.into_iter().collect::<Result<()>>()?;
    server.clear_requests();
    server.resume()?;
    let back = Instant::now();
    edit(&server, "b")?;
    // One that sees nothing within the timeout has the timeout.
    let seen = fleet.iter_mut().map(|follower| async move {
        let _ = follower.sees("b").await;
        back.elapsed()
    });
    let mut seen = join_all(seen).await;
    seen.sort_unstable();
    let mut seconds = BTreeMap::<u64, usize>::new();
    for request in server.requests().iter().filter(|request| request.resource == "configmaps") {
        *seconds.entry(request.instant.duration_since(back).as_secs()).or_default() += 1;
    }
    let peak = seconds.into_values().max().unwrap_or_default() as f64 / FLEET as f64;
    Ok(Return { peak, half: seen[FLEET / 2].as_secs_f64(), all: seen[FLEET - 1].as_secs_f64() })
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
fn memory_in_a_process(kind: usize) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?).args([MEMORY, &kind.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn measure(report: &mut Report) -> Result<()> {
    for (n, (name, _)) in KINDS.iter().enumerate() {
        let runs = (0..RUNS).map(|_| memory_in_a_process(n)).collect::<Result<Vec<_>>>()?;
        report.figure(&Figure::new(format!("watch-{name}-memory"), Unit::Kilobytes, runs));
    }
    // Where a watch ends at once, kube's watcher asks as often as the processor permits: so only one run of these at a time.
    let busy = [("watch-ends", Fault::End), ("half-a-line", Fault::HalfLine(After::Close))];
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        runs.extend(failures(&busy).await);
    }
    print_failures(report, &busy, &runs);
    let waiting = [
        ("429-retry-after-1", Fault::TooManyRequests(1)),
        ("500", Fault::InternalError),
        ("503", Fault::Unavailable),
        ("410", Fault::Gone),
        ("403", Fault::Forbidden),
        ("no-answer", Fault::Hang),
        ("connection-reset", Fault::Reset),
        ("no-json", Fault::Garbage),
        ("wrong-shape", Fault::WrongShape),
    ];
    let runs: Vec<_> = join_all((0..RUNS).map(|_| failures(&waiting))).await.into_iter().flatten().collect();
    print_failures(report, &waiting, &runs);
    Ok(())
}

/// The name of the fault, the number of the kind, the requests, and the seconds until an edit is seen.
type Failure = (&'static str, usize, f64, f64);

/// Each fault with each kind, at the same time.
async fn failures(faults: &[(&'static str, Fault)]) -> Vec<Failure> {
    let of = |(name, fault): &(&'static str, Fault), n: usize| {
        let (name, fault) = (*name, fault.clone());
        async move {
            let seen = failure(KINDS[n].1, fault).await;
            let (requests, time) = seen.map_or((f64::NAN, TIMEOUT), |(requests, time)| (requests as f64, time));
            (name, n, requests, time.as_secs_f64())
        }
    };
    join_all(faults.iter().flat_map(|fault| (0..KINDS.len()).map(move |n| of(fault, n)))).await
}

/// A follower that has seen no edit within the timeout has no number of requests, and the timeout as its time.
fn print_failures(report: &mut Report, faults: &[(&'static str, Fault)], failures: &[Failure]) {
    for (fault, _) in faults {
        for (n, (kind, _)) in KINDS.iter().enumerate() {
            let runs = failures.iter().filter(|(name, of, ..)| name == fault && *of == n);
            let (requests, times): (Vec<_>, Vec<_>) = runs.map(|(.., requests, time)| (*requests, *time)).unzip();
            report.figure(&Figure::new(format!("watch-{fault}-{kind}-requests-in-20s"), Unit::Count, requests));
            report.figure(&Figure::new(format!("watch-{fault}-{kind}-edit-seen"), Unit::Seconds, times));
        }
    }
}

/// The fleets of all kinds and outages at the same time: the short outage is over before the server of the long one returns.
async fn outages(report: &mut Report) -> Result<()> {
    let cases: Vec<_> = [1, 15].into_iter().flat_map(|away| KINDS.map(|(name, kind)| (away, name, kind))).collect();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let all = cases.iter().map(|(away, _, kind)| outage(*kind, Duration::from_secs(*away)));
        runs.push(join_all(all).await.into_iter().collect::<Result<Vec<_>>>()?);
    }
    for (n, (away, kind, _)) in cases.iter().enumerate() {
        let name = |what: &str| format!("{FLEET}-lose-server-{away}s-{kind}-{what}");
        let of = |value: fn(&Return) -> f64| runs.iter().map(|run| value(&run[n])).collect::<Vec<_>>();
        report.figure(&Figure::new(name("requests-of-each-in-one-second"), Unit::Count, of(|back| back.peak)));
        report.figure(&Figure::new(name("half-see-edit"), Unit::Seconds, of(|back| back.half)));
        report.figure(&Figure::new(name("all-see-edit"), Unit::Seconds, of(|back| back.all)));
    }
    Ok(())
}
