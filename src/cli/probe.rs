//! `vtep-agent probe`: one round of every probe now, without a running agent. Writes nothing.
//!
//! It prints a ladder from the node outwards while the probes run: the first failed rung is the place to look.

mod ladder;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::Ipv4Addr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{sync::watch, time};
use vtep_core::{
    config::view::View,
    datapath::report::Mode,
    diagnosis::{Diagnosis, RUNBOOK, diagnose},
    node::{capabilities, facts::Facts, fitness::Fitness},
    report::status::{Identity, Status},
    tunnel::{report::ProbeReport, vtep_probes::ProbeTiming, window::Thresholds},
};

use self::ladder::Ladder;
use super::{
    Format,
    args::{run::probe_target, source},
    json,
    snapshot::{self, NO_CONFIGURATION, Snapshot},
};
use crate::{
    k8s::{self, events::Queue},
    liveness::Liveness,
    tasks::{
        monitor::{self, AgentState},
        prober::{self, Prober, learned::Memory},
        reconcile::{self, Lifeline, Reconciler, Watched},
    },
};

/// A round ends when every probe has a result, or after this time.
const TIMEOUT: Duration = Duration::from_secs(6);
/// Shorter than the defaults of `run`, because a person waits for the result.
const TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_millis(250),
    timeout: Duration::from_millis(200),
    thresholds: Thresholds { raise: 3, clear: 1 },
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent probe --config-dir /etc/cilium-config --probe-target 10.1.6.0/24=10.1.6.34\n\n\
                  Exit status: 0 all healthy, 1 not, 2 no usable configuration, or its source does not answer."
)]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// The tunnel self IP behind a VTEP CIDR, repeatable (the last one for a CIDR counts); without it, it is learned from BIG-IP's own frames.
    #[arg(long, value_name = "CIDR=IP", value_parser = probe_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TARGET")]
    probe_target: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// # Errors
///
/// The kernel cannot be read, or the sockets cannot be opened.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = Snapshot::read(&args.source).await? else {
        return Ok(ExitCode::from(NO_CONFIGURATION));
    };
    let view = snapshot.view.clone();
    let mut out = anstream::stdout().lock();
    let mut ladder = Ladder::default();
    let status = match args.output {
        // Print each rung as soon as it is decided, because a person waits.
        Format::Text => {
            let status =
                round(&args.source, &args.targets(), snapshot, |status| ladder.climb(&mut out, status)).await?;
            ladder.finish(&mut out, &status)?;
            status
        }
        Format::Json => {
            let status = round(&args.source, &args.targets(), snapshot, |_| Ok(())).await?;
            write!(out, "{}", json::pretty(&status.vteps)?)?;
            status
        }
    };
    Ok(snapshot::exit(&view, status.healthy()))
}

impl Args {
    fn targets(&self) -> BTreeMap<Ipv4Net, Ipv4Addr> {
        self.probe_target.iter().copied().collect()
    }
}

/// Runs the loops of `run` in observe mode until each probe has a result. `on_news` gets every intermediate status.
pub(super) async fn round(
    source: &source::Source,
    targets: &BTreeMap<Ipv4Net, Ipv4Addr>,
    snapshot: Snapshot,
    mut on_news: impl FnMut(&Status) -> io::Result<()>,
) -> anyhow::Result<Status> {
    let fitness = Arc::new(source.node.fitness()?);
    // Without CAP_NET_RAW no probe can run, and the missing capability is the diagnosis.
    let can_probe = !fitness.lacks(capabilities::NET_RAW);
    let Observers { state, diagnoses, _view, _facts } = observe(source, targets, snapshot, fitness, can_probe).await?;
    let mut news = state.probes.clone();
    let deadline = time::Instant::now() + TIMEOUT;
    loop {
        let (now, at) = (Instant::now(), Timestamp::now());
        let weighed = monitor::diagnose_each(&state, now, at, |evidence| diagnose(evidence, now, at));
        diagnoses.send_replace(Arc::new(weighed));
        let status = state.status();
        on_news(&status)?;
        let is_over = !can_probe || status.vteps.iter().all(ladder::has_told);
        // A probe without a result at the deadline is part of the answer.
        if is_over || !matches!(time::timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
            return Ok(status);
        }
    }
}

/// The running loops, and the reports that they publish.
struct Observers {
    state: AgentState,
    diagnoses: watch::Sender<Arc<BTreeMap<Ipv4Net, Diagnosis>>>,
    /// The tasks end with these.
    _view: watch::Sender<Option<Arc<View>>>,
    _facts: watch::Sender<Option<Arc<Facts>>>,
}

/// One pass over the datapath, and probes that run on.
async fn observe(
    source: &source::Source,
    targets: &BTreeMap<Ipv4Net, Ipv4Addr>,
    Snapshot { view, facts, netlink }: Snapshot,
    fitness: Arc<Fitness>,
    can_probe: bool,
) -> anyhow::Result<Observers> {
    let (view_tx, config) = watch::channel(Some(Arc::new(view)));
    let (facts_tx, facts) = watch::channel(Some(Arc::new(facts)));
    let (datapath_tx, datapath) = watch::channel(Arc::default());
    let (probes_tx, probes) = watch::channel(Arc::new(ProbeReport::default()));
    let (diagnoses_tx, diagnoses) = watch::channel(Arc::default());
    let (settings, lifeline) = (source.datapath(), Lifeline::None);
    let settings = reconcile::Settings {
        mode: Mode::Observe,
        fitness: Arc::clone(&fitness),
        look: TIMEOUT,
        datapath: settings,
        lifeline,
        recheck: watch::Sender::new(()),
    };
    let memory = source.state.memory();
    let (macs, macs_rx) = watch::channel(Arc::new(source.learned_macs()));
    let watched = Watched { config: config.clone(), facts: facts.clone(), macs: macs_rx };
    Reconciler::new(settings, netlink, watched, memory, datapath_tx).once().await;
    if can_probe {
        let (learn_macs, targets, tcp_targets) = (source.learn_macs(), targets.clone(), BTreeMap::new());
        let bpffs = source.node.bpffs.clone();
        let settings =
            prober::Settings { timing: TIMING, passive_first: false, bpffs, targets, tcp_targets, learn_macs };
        let memory = Memory::read_only(&source.state.learned());
        let outputs = prober::Outputs { report: probes_tx, macs };
        let prober = Prober::new(settings, memory, config.clone(), facts.clone(), outputs).await;
        let heartbeat = Liveness::new(Instant::now()).register("probe");
        tokio::spawn(prober.context("failed to open the probe socket")?.run(heartbeat));
    }
    let identity = Identity {
        node: source.node_name.clone(),
        mode: Mode::Observe,
        started_at: Timestamp::now(),
        fitness,
        runbook: RUNBOOK.to_owned(),
        in_pod: k8s::in_pod(),
    };
    let (identity, events) = (Arc::new(identity), Queue::default());
    let state = AgentState { identity, config, facts, datapath, probes, diagnoses, events };
    Ok(Observers { state, diagnoses: diagnoses_tx, _view: view_tx, _facts: facts_tx })
}
