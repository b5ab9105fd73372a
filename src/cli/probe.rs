//! `vtep-agent probe`: one round of every probe now, without a running agent. Writes nothing.
//!
//! Prints a ladder from the node outwards: the first rung that does not hold is where to look.

use std::{
    collections::BTreeMap,
    io::Write,
    net::Ipv4Addr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{sync::watch, time};

use super::{Format, moment::Moment, run::probe_target, source};
use crate::{
    diagnose::{RUNBOOK, Verdict},
    events::Queue,
    monitor::{self, Board},
    node::capabilities,
    probe::{
        health::Thresholds,
        lane::{Lane, Pace, ProbeState},
        prober::{self, Prober},
    },
    progress::Progress,
    reconcile::{self, Mode, Reconciler},
    status::{EntryState, Identity, Probe, Status, VtepStatus},
};

/// A round is over when every probe has told, or after this.
const PATIENCE: Duration = Duration::from_secs(6);
/// Quick: a person waits.
const PACE: Pace = Pace {
    interval: Duration::from_millis(250),
    timeout: Duration::from_millis(200),
    thresholds: Thresholds { raise: 3, clear: 1 },
};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  vtep-agent probe --config-dir /etc/cilium-config --probe-target 10.1.6.0/24=10.1.6.34\n\nExit status: 0 all healthy, 1 not, 2 no usable configuration."
)]
pub struct Args {
    #[command(flatten)]
    source: source::Source,
    /// The tunnel self IP behind a VTEP CIDR; without it, it is learned from BIG-IP's own frames.
    #[arg(long, value_name = "CIDR=IP", value_parser = probe_target, value_delimiter = ',', env = "VTEP_AGENT_PROBE_TARGET")]
    probe_target: Vec<(Ipv4Net, Ipv4Addr)>,
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// # Errors
///
/// When the configuration or the kernel cannot be read, or the sockets cannot be opened.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(moment) = Moment::look(&args.source).await? else {
        return Ok(ExitCode::from(2));
    };
    let status = round(args, moment).await?;
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => status.vteps.iter().try_for_each(|vtep| ladder(&mut out, vtep))?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&status.vteps)?)?,
    }
    Ok(if status.healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The loops of `run`, observing, until each probe has told.
async fn round(args: &Args, moment: Moment) -> anyhow::Result<Status> {
    let Moment { view, facts, netlink } = moment;
    let fitness = Arc::new(args.source.node.fitness()?);
    let identity = Identity {
        node: args.source.node_name.clone(),
        mode: Mode::Observe,
        started_at: Timestamp::now(),
        fitness: Arc::clone(&fitness),
        runbook: RUNBOOK.to_owned(),
    };
    let (_config, config) = watch::channel(Some(Arc::new(view)));
    let (_facts, facts) = watch::channel(Some(Arc::new(facts)));
    let (datapath_tx, datapath) = watch::channel(reconcile::Report::default());
    let (probes_tx, mut probes) = watch::channel(Arc::new(prober::Report::default()));
    let (diagnoses_tx, diagnoses) = watch::channel(Arc::default());
    let settings = reconcile::Settings {
        mode: Mode::Observe,
        fitness: Arc::clone(&fitness),
        tick: PATIENCE,
        survey: args.source.survey(),
    };
    let ledger = args.source.state.ledger();
    Reconciler::new(settings, netlink, config.clone(), facts.clone(), ledger, datapath_tx).once().await;

    let mut progress = Progress::new(Instant::now());
    // Without it, the capability is the diagnosis.
    if !fitness.lacks(capabilities::NET_RAW) {
        let targets: BTreeMap<_, _> = args.probe_target.iter().copied().collect();
        let settings = prober::Settings { pace: PACE, passive_first: false, targets };
        let prober = Prober::new(settings, config.clone(), facts.clone(), probes_tx).await;
        tokio::spawn(prober.context("failed to open the probe socket")?.run(progress.register("probe")));
        let told = probes.wait_for(|report| !report.lanes.is_empty() && report.lanes.values().all(has_told));
        // What has not told by then is part of the answer.
        let _ = time::timeout(PATIENCE, told).await;
    }
    let board =
        Board { identity: Arc::new(identity), config, facts, datapath, probes, diagnoses, events: Queue::default() };
    diagnoses_tx.send_replace(Arc::new(monitor::diagnose_all(
        &board,
        &BTreeMap::new(),
        Instant::now(),
        Timestamp::now(),
    )));
    Ok(board.status())
}

fn has_told(lane: &Lane) -> bool {
    let decided = |state| state != ProbeState::Pending;
    let sized = lane.icmp_state() != ProbeState::Ok || lane.path_mtu.inner_mtu().is_some();
    // Without a target, BIG-IP's own frames may still bring one.
    decided(lane.underlay_state())
        && decided(lane.arp_state())
        && decided(lane.icmp_state())
        && sized
        && lane.target.is_some()
}

fn ladder(out: &mut impl Write, vtep: &VtepStatus) -> std::io::Result<()> {
    let VtepStatus { cidr, endpoint, mac, verdict, cause, hint, datapath, probes, seen, .. } = vtep;
    writeln!(out, "{cidr} at {endpoint}, {mac}")?;
    let mut rung = |ok: Option<bool>, name: &str, detail: String| {
        let mark = match ok {
            Some(true) => "✓",
            Some(false) => "✗",
            None => "·",
        };
        writeln!(out, "  {mark} {name:<9} {detail}")
    };
    let entry = match datapath.state {
        EntryState::InSync => Some(true),
        EntryState::Pending | EntryState::Contended => Some(false),
        EntryState::Unknown => None,
    };
    rung(entry, "map", datapath.error.clone().unwrap_or_else(|| datapath.state.to_string()))?;
    let probe = |probe: &Probe| (holds(probe.state), told(probe));
    let (ok, detail) = probe(&probes.underlay);
    rung(ok, "underlay", detail)?;
    let (ok, detail) = probe(&probes.arp);
    let answered = probes.arp.observed_mac.map(|mac| format!(", answered by {mac}")).unwrap_or_default();
    rung(ok, "arp", format!("{detail}{answered}"))?;
    let (ok, detail) = probe(&probes.icmp);
    rung(ok, "icmp", detail)?;
    let mtu = probes.path_mtu.inner_mtu.map_or_else(|| "not known".to_owned(), |mtu| format!("{mtu} bytes inside"));
    rung(holds(probes.path_mtu.state), "path mtu", mtu)?;
    let vnis: Vec<_> = seen.vnis.iter().map(ToString::to_string).collect();
    let frames = format!("{} frames, VNI {}", seen.packets, if vnis.is_empty() { "-".into() } else { vnis.join(", ") });
    rung((seen.packets > 0).then_some(true), "seen", frames)?;
    match (cause, hint) {
        (Some(cause), Some(hint)) => writeln!(out, "  {verdict}, {cause}: {hint}"),
        (None, _) | (_, None) if *verdict == Verdict::Unknown => writeln!(out, "  {verdict}: too early to tell"),
        (None, _) | (_, None) => writeln!(out, "  {verdict}"),
    }
}

fn holds(state: ProbeState) -> Option<bool> {
    match state {
        ProbeState::Ok => Some(true),
        ProbeState::Failed => Some(false),
        ProbeState::Pending | ProbeState::NoTarget | ProbeState::Unsupported => None,
    }
}

fn told(probe: &Probe) -> String {
    let target = probe.target.map(|target| format!("{target} ")).unwrap_or_default();
    match (probe.state, probe.rtt_us) {
        (ProbeState::Ok, Some(rtt_us)) => format!("{target}in {:.2}ms", rtt_us as f64 / 1e3),
        (ProbeState::Ok, None) => format!("{target}answers"),
        (ProbeState::Failed, _) => {
            let error = probe.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{target}does not answer{error}")
        }
        (ProbeState::NoTarget, _) => "no address to ask".to_owned(),
        (ProbeState::Pending, _) => format!("{target}has not answered yet"),
        (ProbeState::Unsupported, _) => "cannot be asked here".to_owned(),
    }
}
