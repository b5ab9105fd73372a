//! `vtep-agent run`: reads the settings, wires the loops together, and ends them on SIGTERM or SIGINT.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use vtep_core::{
    datapath::report::DatapathReport,
    diagnosis::RUNBOOK,
    node::{capabilities, fitness::Fitness},
    report::status::Identity,
    tunnel::{report::ProbeReport, vtep_probes::Pace, window::Thresholds},
};

use super::{
    args::Mode,
    snapshot::{self, Moment, NO_CONFIGURATION},
    source,
};
use crate::{
    http,
    k8s::{events, node_condition},
    kernel::{netlink, pins},
    liveness::Progress,
    logging,
    tasks::{
        self, history,
        monitor::{self, Board},
        node::{facts, networks},
        prober::{self, Prober, learned::Memory},
        reconcile::{self, Lifeline, Notices, Reconciler},
    },
};

/// How long a person waits at most for a stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent run --config-source dir --config-dir /etc/cilium-config --probe-target 10.1.6.0/24=10.1.6.34"
)]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// Make one pass and exit, without probes or endpoints: 0 in sync, 1 not, 2 no usable configuration, or its source does not answer.
    #[arg(long)]
    once: bool,
    /// Write to the kernel, or only look: `observe` does everything but write.
    #[arg(long, value_enum, default_value = "enforce", env = "VTEP_AGENT_MODE")]
    mode: Mode,
    /// Address and port of the HTTP endpoints.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9808", env = "VTEP_AGENT_LISTEN")]
    listen: SocketAddr,
    /// How often the kernel is compared with the configuration, 10ms to 5s.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = verify_interval, env = "VTEP_AGENT_VERIFY_INTERVAL")]
    verify_interval: Duration,
    /// How often each BIG-IP is probed.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval, env = "VTEP_AGENT_PROBE_INTERVAL")]
    probe_interval: Duration,
    /// How long to wait for the answer to a probe; not longer than the interval.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = interval, env = "VTEP_AGENT_PROBE_TIMEOUT")]
    probe_timeout: Duration,
    /// Probes in a row that must fail before a cause is raised.
    #[arg(long, value_name = "COUNT", default_value_t = 3, env = "VTEP_AGENT_PROBE_FAILURES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    probe_failures: u32,
    /// Probes in a row that must be answered before a cause is cleared.
    #[arg(long, value_name = "COUNT", default_value_t = 3, env = "VTEP_AGENT_PROBE_SUCCESSES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    probe_successes: u32,
    /// The tunnel self IP behind a VTEP CIDR, repeatable; without it, it is learned from BIG-IP's own frames.
    #[arg(long, value_name = "CIDR=IP", value_parser = probe_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TARGET")]
    probe_target: Vec<(Ipv4Net, Ipv4Addr)>,
    /// While BIG-IP's own frames show that its tunnel lives, leave out nine rounds of probes in ten.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL", env = "VTEP_AGENT_PASSIVE_FIRST")]
    passive_first: bool,
    /// How often the log sums up each VTEP; one that stays healthy, every sixth time.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = interval, env = "VTEP_AGENT_SUMMARY_INTERVAL")]
    summary_interval: Duration,
    /// Tell changes of verdict as Events of the Node, and findings as Events of the ConfigMap.
    #[arg(long, value_enum, default_value = "on", env = "VTEP_AGENT_EVENTS")]
    events: Switch,
    /// Keep the Node's condition VtepTunnelsHealthy; it informs, and nothing follows from it.
    #[arg(long, env = "VTEP_AGENT_NODE_CONDITION")]
    node_condition: bool,
    /// Where your people find the runbook: `/status` and Events link to its section of the cause.
    #[arg(long, value_name = "URL", default_value = RUNBOOK, env = "VTEP_AGENT_RUNBOOK_URL")]
    runbook_url: String,
    /// How to write the log: for people, or one JSON object a line.
    #[arg(long, value_enum, default_value = "text", env = "VTEP_AGENT_LOG_FORMAT")]
    log_format: logging::Format,
    /// The least level that is logged, or directives such as `info,vtep_agent::probe=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level, env = "VTEP_AGENT_LOG_LEVEL")]
    log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

/// # Errors
///
/// When the agent cannot start: the HTTP address is taken, or there are no credentials for the API server.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    logging::init(args.log_format, &args.log_level)?;
    if args.once {
        return once(&args).await;
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!("failed to listen on {}: is another agent running? choose another address with --listen", args.listen)
    })?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    info!(version = env!("CARGO_PKG_VERSION"), node = args.source.node_name, listen = %listener.local_addr()?, "started");

    let sources = start(&args).await?;
    let (stop, stopped) = watch::channel(false);
    let server = http::start(listener.into_std()?, sources, stopped).context("failed to start the HTTP server")?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping, the kernel stays as it is"),
        _ = interrupt.recv() => info!("SIGINT: stopping, the kernel stays as it is"),
    }
    stop.send_replace(true);
    // A client that holds its connection does not hold the agent.
    let _ = tokio::time::timeout(STOP_WITHIN / 2, server.ended()).await;
    Ok(ExitCode::SUCCESS)
}

/// What the loop does at the start, for jobs and scripts: no probes, no endpoints.
async fn once(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(Moment { view, facts, netlink }) = Moment::look(&args.source).await? else {
        return Ok(ExitCode::from(NO_CONFIGURATION));
    };
    let view = Arc::new(view);
    let fitness = Arc::new(args.source.node.fitness()?);
    fitness.kernel(facts.version).reasons.iter().for_each(|reason| warn!(reason, "this node is not fit"));
    let (_config, config) = watch::channel(Some(Arc::clone(&view)));
    let (_facts, facts) = watch::channel(Some(Arc::new(facts)));
    let (report, _) = watch::channel(Arc::new(DatapathReport::default()));
    let settings = args.reconcile(fitness, args.source.lifeline(&args.source.config().await?, netlink.clone()));
    let reconciler = Reconciler::new(settings, netlink, config, facts, args.source.state.memory(), report);
    let report = reconciler.once().await;
    report.pending.iter().for_each(|op| warn!(change = %op, "not done"));
    let in_sync = report.in_sync();
    info!(in_sync, "one pass");
    Ok(snapshot::exit(&view, in_sync))
}

/// Source → view → { facts, reconciler, prober } → monitor: each a task, joined by channels that hold the latest value.
async fn start(args: &Args) -> anyhow::Result<http::Sources> {
    let (config_tx, config_rx) = watch::channel(None);
    let (facts, facts_rx) = watch::channel(None);
    let (datapath, datapath_rx) = watch::channel(Arc::new(DatapathReport::default()));
    let (probes, probes_rx) = watch::channel(Arc::new(ProbeReport::default()));
    let (diagnoses, diagnoses_rx) = watch::channel(Arc::default());
    let mut progress = Progress::new(Instant::now());

    let netlink = || netlink::connect().context("failed to open a netlink socket");
    let networks_changes = netlink::watch_changes().context("failed to watch this node's networks")?;
    let facts_changes = netlink::watch_changes().context("failed to watch this node's devices")?;
    let notices = Notices {
        routes: netlink::watch_changes().context("failed to watch this node's routes")?,
        pins: pins::watch(&args.source.node.bpffs),
    };

    let (updates, observed) = mpsc::channel(1);
    let source = args.source.config().await?;
    let events = args.events(&source).await;
    if args.node_condition {
        let client = source.client().await.context("--node-condition needs the API server")?;
        tokio::spawn(node_condition::keep(client, args.source.node_name.clone(), diagnoses_rx.clone()));
    }
    let (networks, networks_rx) = watch::channel(None);
    let (own_tables, beat) = (args.source.own_tables(), progress.register("networks"));
    tokio::spawn(networks::follow(netlink()?, own_tables, networks_changes, networks, beat));
    let lifeline = args.source.lifeline(&source, netlink()?);
    let needs = args.source.needs(&source, networks_rx);
    tokio::spawn(tasks::config::follow(source.to_string(), observed, needs, args.source.state.last_good(), config_tx));
    tokio::spawn(source.follow(updates));
    let node = &args.source.node;
    let (version, version_rx) = watch::channel(None);
    tokio::spawn(node.version().follow(version));
    tokio::spawn(facts::follow(
        netlink()?,
        node.cilium_run.clone(),
        version_rx,
        config_rx.clone(),
        facts_changes,
        facts,
        progress.register("node"),
    ));

    let fitness = Arc::new(node.fitness()?);
    let reconciler = Reconciler::new(
        args.reconcile(fitness.clone(), lifeline),
        netlink()?,
        config_rx.clone(),
        facts_rx.clone(),
        args.source.state.memory(),
        datapath,
    );
    tokio::spawn(reconciler.run(notices, progress.register("reconcile")));

    // The monitor says so.
    if !fitness.lacks(capabilities::NET_RAW) {
        let memory = Memory::load(args.source.state.learned());
        let prober = Prober::new(args.probing(), memory, config_rx.clone(), facts_rx.clone(), probes).await;
        let prober = prober.context("failed to open the probe socket")?;
        tokio::spawn(prober.run(progress.register("probe")));
    }

    let board = Board {
        identity: Arc::new(args.identity(fitness)),
        config: config_rx,
        facts: facts_rx,
        datapath: datapath_rx,
        probes: probes_rx,
        diagnoses: diagnoses_rx,
        events,
    };
    tokio::spawn(monitor::run(board.clone(), diagnoses, args.summary_interval, progress.register("monitor")));
    let (history, history_rx) = watch::channel(Arc::default());
    tokio::spawn(history::keep(board.clone(), history));
    Ok(http::Sources::new(board, progress, history_rx))
}

impl Args {
    fn reconcile(&self, fitness: Arc<Fitness>, lifeline: Lifeline) -> reconcile::Settings {
        let (mode, tick, survey) = (self.mode.into(), self.verify_interval, self.source.survey());
        reconcile::Settings { mode, fitness, tick, survey, lifeline }
    }

    fn probing(&self) -> prober::Settings {
        let thresholds = Thresholds { raise: self.probe_failures, clear: self.probe_successes };
        prober::Settings {
            // ARP's answers carry no number: an older one must be given up before the next is asked for.
            pace: Pace {
                interval: self.probe_interval,
                timeout: self.probe_timeout.min(self.probe_interval.mul_f64(0.8)),
                thresholds,
            },
            passive_first: self.passive_first,
            targets: self.probe_target.iter().copied().collect::<BTreeMap<_, _>>(),
        }
    }

    /// Without the API server, the log tells the same.
    async fn events(&self, source: &source::Config) -> events::Queue {
        if self.events == Switch::Off {
            return events::Queue::default();
        }
        match source.client().await {
            Ok(client) => {
                let (queue, waiting) = events::Queue::new();
                tokio::spawn(events::Writer::new(client, self.source.names()).run(waiting));
                queue
            }
            Err(error) => {
                info!(%error, "no Events: there is no way to the API server");
                events::Queue::default()
            }
        }
    }

    fn identity(&self, fitness: Arc<Fitness>) -> Identity {
        Identity {
            node: self.source.node_name.clone(),
            mode: self.mode.into(),
            started_at: Timestamp::now(),
            fitness,
            runbook: self.runbook_url.clone(),
        }
    }
}

/// As [`logging::init`] understands it.
fn log_level(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// A duration such as `100ms`, `1s` or `5m`.
fn interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(10), Duration::from_secs(24 * 60 * 60))
}

/// Longer than some seconds, the loop would look as if it hung.
fn verify_interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(10), Duration::from_secs(5))
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(interval) if (least..=most).contains(&interval) => Ok(interval),
        Ok(_) => Err(format!("must be {} to {}", humantime::format_duration(least), humantime::format_duration(most))),
        Err(error) => Err(format!("{error}; write e.g. 250ms, 1s or 5m")),
    }
}

/// `CIDR=IP`, the IP inside the CIDR.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn probe_target(text: &str) -> Result<(Ipv4Net, Ipv4Addr), String> {
    let (cidr, address) = text.split_once('=').ok_or("write CIDR=IP, e.g. 10.1.6.0/24=10.1.6.34")?;
    let cidr: Ipv4Net = cidr.trim().parse().map_err(|_| format!("{cidr:?} is not an IPv4 CIDR"))?;
    let address = address.trim().parse().map_err(|_| format!("{address:?} is not an IPv4 address"))?;
    if cidr.contains(&address) { Ok((cidr.trunc(), address)) } else { Err(format!("{address} is not inside {cidr}")) }
}
