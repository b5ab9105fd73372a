//! `vtep-agent run`: reads the settings, connects the tasks, and stops on SIGTERM or SIGINT.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{info, warn};
use vtep_core::{
    config::view::View,
    datapath::report::DatapathReport,
    node::{capabilities, cilium_agent::CiliumAgent, facts::Facts, fitness::Fitness},
    tunnel::{mac_learning::LearnedMacs, report::ProbeReport},
};

use super::{
    args::{
        run::{Args, EventsMode},
        source,
    },
    snapshot::{self, NO_CONFIGURATION, Snapshot},
};
use crate::{
    http,
    k8s::{events, node_condition},
    kernel::{netlink, pins},
    liveness::Liveness,
    logging,
    tasks::{
        self, history,
        monitor::{self, AgentState},
        node::{facts, networks},
        prober::{self, Prober, learned::Memory},
        reconcile::{self, Notices, Reconciler, Watched},
    },
};

/// A stop takes at most this long.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// The latest configuration, and the latest facts of this node.
type Config = watch::Receiver<Option<Arc<View>>>;
type NodeFacts = watch::Receiver<Option<Arc<Facts>>>;

/// # Errors
///
/// The agent cannot start, for example because the HTTP address is in use or there are no credentials for the API server.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.check().unwrap_or_else(|error| error.exit());
    let log = logging::init(args.log_format, &args.log_level)?;
    if args.once {
        return once(&args).await;
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!("failed to listen on {}: is another agent running? choose another address with --listen", args.listen)
    })?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    info!(version = env!("CARGO_PKG_VERSION"), node = args.source.node_name, listen = %listener.local_addr()?, "started");

    let sources = start(&args, log).await?;
    let (stop, stopped) = watch::channel(false);
    let server = http::start(listener.into_std()?, sources, stopped).context("failed to start the HTTP server")?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping; kernel state remains in place"),
        _ = interrupt.recv() => info!("SIGINT: stopping; kernel state remains in place"),
    }
    stop.send_replace(true);
    // A client that keeps its connection open must not delay the stop beyond this timeout.
    let _ = tokio::time::timeout(STOP_WITHIN / 2, server.ended()).await;
    Ok(ExitCode::SUCCESS)
}

/// `--once`, for jobs and scripts: the loop's first pass, without probes and HTTP endpoints.
async fn once(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(Snapshot { view, facts, netlink }) = Snapshot::read(&args.source).await? else {
        return Ok(ExitCode::from(NO_CONFIGURATION));
    };
    let view = Arc::new(view);
    let fitness = Arc::new(args.source.node.fitness()?);
    fitness.kernel(facts.version).reasons.iter().for_each(|reason| warn!(reason, "node unsupported; writing nothing"));
    let (_config, config) = watch::channel(Some(Arc::clone(&view)));
    let (_facts, facts) = watch::channel(Some(Arc::new(facts)));
    let (report, _) = watch::channel(Arc::new(DatapathReport::default()));
    let (_macs, macs) = watch::channel(Arc::new(args.learned_macs()));
    let lifeline = args.source.lifeline(&args.source.config().await?, netlink.clone());
    let settings = args.reconcile(fitness, lifeline, watch::Sender::new(()));
    let watched = Watched { config, facts, macs };
    let reconciler = Reconciler::new(settings, netlink, watched, args.source.state.memory(), report);
    let report = reconciler.once().await;
    report.pending.iter().for_each(|op| warn!(change = %op, "change still pending"));
    let in_sync = report.in_sync();
    info!(in_sync, "pass complete");
    Ok(snapshot::exit(&view, in_sync))
}

/// Starts the tasks: source → view → { facts, reconciler, prober } → monitor. Channels with the latest value connect them.
async fn start(args: &Args, log: logging::Recent) -> anyhow::Result<http::Sources> {
    let mut liveness = Liveness::new(Instant::now());
    let (recheck, rechecks) = watch::channel(());
    let source = args.source.config_with(rechecks).await?;
    let events = start_events(args, &source).await;
    let (diagnoses, diagnoses_rx) = watch::channel(Arc::default());
    if args.node_condition {
        let client = source.client().await.context("--node-condition needs the API server")?;
        tokio::spawn(node_condition::keep(client, args.source.node_name.clone(), diagnoses_rx.clone()));
    }
    let lifeline = args.source.lifeline(&source, netlink_socket()?);
    let config = start_config(args, source, &mut liveness)?;
    let facts = start_facts(args, config.clone(), &mut liveness)?;
    let fitness = Arc::new(args.source.node.fitness()?);
    let settings = args.reconcile(fitness.clone(), lifeline, recheck);
    let (macs, macs_rx) = watch::channel(Arc::new(args.learned_macs()));
    let watched = Watched { config: config.clone(), facts: facts.clone(), macs: macs_rx };
    let datapath = start_reconciler(args, settings, watched, &mut liveness)?;
    let probes = start_prober(args, &fitness, config.clone(), facts.clone(), macs, &mut liveness).await?;
    let identity = Arc::new(args.identity(fitness));
    let state = AgentState { identity, config, facts, datapath, probes, diagnoses: diagnoses_rx, events };
    tokio::spawn(monitor::run(state.clone(), diagnoses, args.summary_interval, liveness.register("monitor")));
    let (history, history_rx) = watch::channel(Arc::default());
    tokio::spawn(history::keep(state.clone(), history));
    Ok(http::Sources::new(state, liveness, history_rx, log))
}

/// The queue for Events; disabled without access to the API server, because the log reports the same changes.
async fn start_events(args: &Args, source: &source::Config) -> events::Queue {
    if args.events == EventsMode::Off {
        return events::Queue::default();
    }
    match source.client().await {
        Ok(client) => {
            let (queue, waiting) = events::Queue::new();
            tokio::spawn(events::Writer::new(client, args.source.names()).run(waiting));
            queue
        }
        Err(error) => {
            info!(%error, "Events disabled: no API server credentials");
            events::Queue::default()
        }
    }
}

/// The source of the configuration, the networks that this node needs, and the configuration that follows from both.
fn start_config(args: &Args, source: source::Config, liveness: &mut Liveness) -> anyhow::Result<Config> {
    let changes = netlink::watch_changes().context("failed to watch this node's networks")?;
    let (networks, networks_rx) = watch::channel(None);
    let heartbeat = liveness.register("networks");
    tokio::spawn(networks::follow(netlink_socket()?, args.source.own_tables(), changes, networks, heartbeat));
    let (updates, observed) = mpsc::channel(1);
    let (config, config_rx) = watch::channel(None);
    let (name, needs) = (source.to_string(), args.source.needs(&source, networks_rx));
    tokio::spawn(tasks::config::follow(name, observed, needs, args.source.state.last_good(), config));
    tokio::spawn(source.follow(updates));
    Ok(config_rx)
}

/// Cilium's agent, and the facts of this node.
fn start_facts(args: &Args, config: Config, liveness: &mut Liveness) -> anyhow::Result<NodeFacts> {
    let changes = netlink::watch_changes().context("failed to watch this node's devices")?;
    let node = &args.source.node;
    let (agent, agent_rx) = watch::channel(CiliumAgent::default());
    tokio::spawn(node.cilium_agent().follow(agent));
    let (facts, facts_rx) = watch::channel(None);
    let (cilium_run, heartbeat) = (node.cilium_run.clone(), liveness.register("node"));
    tokio::spawn(facts::follow(netlink_socket()?, cilium_run, agent_rx, config, changes, facts, heartbeat));
    Ok(facts_rx)
}

fn start_reconciler(
    args: &Args,
    settings: reconcile::Settings,
    watched: Watched,
    liveness: &mut Liveness,
) -> anyhow::Result<watch::Receiver<Arc<DatapathReport>>> {
    let notices = Notices {
        routes: netlink::watch_changes().context("failed to watch this node's routes")?,
        pins: pins::watch(&args.source.node.bpffs),
    };
    let (report, report_rx) = watch::channel(Arc::default());
    let memory = args.source.state.memory();
    let reconciler = Reconciler::new(settings, netlink_socket()?, watched, memory, report);
    tokio::spawn(reconciler.run(notices, liveness.register("reconcile")));
    Ok(report_rx)
}

/// Without the capability there are no probes, and the monitor says so.
async fn start_prober(
    args: &Args,
    fitness: &Fitness,
    config: Config,
    facts: NodeFacts,
    macs: watch::Sender<Arc<LearnedMacs>>,
    liveness: &mut Liveness,
) -> anyhow::Result<watch::Receiver<Arc<ProbeReport>>> {
    let (report, report_rx) = watch::channel(Arc::new(ProbeReport::default()));
    if !fitness.lacks(capabilities::NET_RAW) {
        let memory = Memory::load(args.source.state.learned());
        let outputs = prober::Outputs { report, macs };
        let prober = Prober::new(args.probing(), memory, config, facts, outputs).await;
        let prober = prober.context("failed to open the probe socket")?;
        tokio::spawn(prober.run(liveness.register("probe")));
    }
    Ok(report_rx)
}

fn netlink_socket() -> anyhow::Result<rtnetlink::Handle> {
    netlink::connect().context("failed to open a netlink socket")
}
