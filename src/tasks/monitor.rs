//! The loop that diagnoses. It evaluates the evidence after each change, and passes changes of verdicts to the notifier. It observes
//! nothing itself, and never writes to the kernel.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tracing::info;
use vtep_core::{
    config::{spec::Vtep, view::View},
    datapath::report::DatapathReport,
    diagnosis::{Diagnosis, Evidence, HoldDown, Verdict, diagnose},
    node::{facts::Facts, undisclosed::Traces},
    report::{
        assembly::Parts,
        status::{Identity, Probe, Status},
    },
    tunnel::{report::ProbeReport, vtep_probes::ProbeState},
};

use super::notifier::Notifier;
use crate::{k8s::events, liveness::Heartbeat};

/// A VTEP that remains healthy appears only in every sixth summary. So a quiet node with eight VTEPs logs sixteen summary lines an hour.
const HEALTHY_SUMMARY_EVERY: u64 = 6;

/// The least time between two diagnoses. Evidence that comes sooner is judged together, so that the cost does not grow with it.
const TICK: Duration = Duration::from_millis(50);

/// The reports of all loops, including this one's diagnoses.
#[derive(Clone)]
pub struct AgentState {
    pub identity: Arc<Identity>,
    pub config: watch::Receiver<Option<Arc<View>>>,
    pub facts: watch::Receiver<Option<Arc<Facts>>>,
    pub datapath: watch::Receiver<Arc<DatapathReport>>,
    pub probes: watch::Receiver<Arc<ProbeReport>>,
    pub diagnoses: watch::Receiver<Arc<BTreeMap<Ipv4Net, Diagnosis>>>,
    pub events: events::Queue,
}

impl AgentState {
    /// Assembles the current status.
    #[must_use]
    pub fn status(&self) -> Status {
        let parts = Parts {
            identity: &self.identity,
            view: self.config.borrow().clone(),
            facts: self.facts.borrow().clone(),
            datapath: self.datapath.borrow().clone(),
            probes: self.probes.borrow().clone(),
            diagnoses: self.diagnoses.borrow().clone(),
            events: self.events.tally(),
        };
        Status::assemble(&parts, Instant::now(), Timestamp::now())
    }
}

/// Diagnoses until the configuration's sender is dropped.
pub async fn run(
    mut state: AgentState,
    diagnoses: watch::Sender<Arc<BTreeMap<Ipv4Net, Diagnosis>>>,
    summary_interval: Duration,
    heartbeat: Heartbeat,
) {
    let mut summary = time::interval(summary_interval);
    summary.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes immediately, before there is anything to summarize.
    summary.tick().await;
    let mut summaries = 0;
    let mut current = Arc::new(BTreeMap::new());
    let mut holds = BTreeMap::new();
    let mut notifier = Notifier::new(state.events.clone(), &state.identity.runbook);
    loop {
        heartbeat.beat();
        let now = Instant::now();
        take_news(&mut state, &mut notifier);
        let next = held_down(&state, &mut holds, now);
        let changed = notifier.changes(&current, &next, now);
        notifier.units(&state, &next, now);
        if *current != next {
            current = Arc::new(next);
            diagnoses.send_replace(Arc::clone(&current));
        }
        if !changed.is_empty() {
            log_summary(&state, |cidr| changed.contains(&cidr));
        }
        let settles = holds.values().filter_map(|hold| hold.deadline(now)).chain(notifier.deadline()).min();
        tokio::select! {
            biased;
            changed = news(&mut state, now + TICK) => if changed.is_none() { return },
            _ = summary.tick() => {
                summaries += 1;
                log_summary(&state, |cidr| sums_up(current.get(&cidr), summaries));
            }
            () = time::sleep_until(settles.unwrap_or(now).into()), if settles.is_some() => {}
        }
    }
}

/// Waits for a new report, and until `soonest`. Cancel-safe. `None` if there will be none.
async fn news(state: &mut AgentState, soonest: Instant) -> Option<()> {
    tokio::select! {
        biased;
        changed = state.config.changed() => changed.ok()?,
        Ok(()) = state.facts.changed() => {}
        Ok(()) = state.datapath.changed() => {}
        Ok(()) = state.probes.changed() => {}
    }
    time::sleep_until(soonest.into()).await;
    Some(())
}

/// Marks every report as seen, and hands the notifier what needs no diagnosis.
fn take_news(state: &mut AgentState, notifier: &mut Notifier) {
    {
        let view = state.config.borrow_and_update();
        notifier.source(view.as_deref());
        notifier.truth(view.as_deref());
        notifier.findings(view.as_deref());
    }
    let cilium_version = state.facts.borrow_and_update().as_ref().and_then(|facts| facts.version);
    notifier.fitness(state.identity.fitness.kernel(cilium_version).reasons);
    state.datapath.borrow_and_update();
    state.probes.borrow_and_update();
}

/// The diagnosis of each VTEP that is to be reported now.
fn held_down(
    state: &AgentState,
    holds: &mut BTreeMap<Ipv4Net, HoldDown>,
    now: Instant,
) -> BTreeMap<Ipv4Net, Diagnosis> {
    let at = Timestamp::now();
    let diagnoses = diagnose_each(state, now, at, |evidence| {
        let hold = holds.entry(evidence.vtep.cidr).or_default();
        let evidence = Evidence { recovered: hold.recovered(), ..*evidence };
        hold.next(diagnose(&evidence, now, at), &evidence, now)
    });
    holds.retain(|cidr, _| diagnoses.contains_key(cidr));
    diagnoses
}

/// What `diagnose` makes of the current reports about each VTEP.
#[must_use]
pub fn diagnose_each(
    state: &AgentState,
    now: Instant,
    at: Timestamp,
    mut diagnose: impl FnMut(&Evidence<'_>) -> Diagnosis,
) -> BTreeMap<Ipv4Net, Diagnosis> {
    let view = state.config.borrow().clone();
    let facts = state.facts.borrow().clone();
    let (Some(view), Some(facts)) = (view, facts) else { return BTreeMap::new() };
    let Some(spec) = &view.effective else { return BTreeMap::new() };
    let kernel = state.identity.fitness.kernel(facts.version);
    let datapath = state.datapath.borrow().clone();
    let differences = facts.differences(spec, &Traces::new(&view, &datapath, now, at));
    let probes = state.probes.borrow().clone();
    let of = |vtep: &Vtep| {
        let evidence = Evidence {
            vtep,
            name: view.names.get(&vtep.cidr).map(String::as_str),
            in_pod: state.identity.in_pod,
            tunnel: spec.tunnel,
            differences: &differences,
            kernel: &kernel,
            facts: &facts,
            datapath: &datapath,
            probes: probes.probes(vtep),
            recovered: None,
        };
        (vtep.cidr, diagnose(&evidence))
    };
    spec.vteps.iter().map(of).collect()
}

fn sums_up(diagnosis: Option<&Diagnosis>, summaries: u64) -> bool {
    summaries.is_multiple_of(HEALTHY_SUMMARY_EVERY)
        || diagnosis.is_none_or(|diagnosis| diagnosis.verdict != Verdict::Healthy)
}

/// Logs a summary line for each wanted VTEP, so that the log alone shows the current state.
fn log_summary(state: &AgentState, wanted: impl Fn(Ipv4Net) -> bool) {
    let status = state.status();
    for vtep in status.vteps.iter().filter(|vtep| wanted(vtep.cidr)) {
        let rtt = |probe: &Probe| match (probe.state, probe.rtt_us) {
            (ProbeState::Ok, Some(rtt_us)) => format!("{:.2}ms", rtt_us as f64 / 1e3),
            (_, _) => "-".to_owned(),
        };
        let (arp, icmp) = (rtt(&vtep.probes.arp), rtt(&vtep.probes.icmp));
        let inner_mtu = vtep.probes.path_mtu.inner_mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string());
        let cause = vtep.cause.map(|cause| format!(" cause={cause}")).unwrap_or_default();
        let name = vtep.name.as_ref().map(|name| format!(" name={name}")).unwrap_or_default();
        // The form of the line is an interface, because people search for its fields.
        info!(
            "vtep cidr={}{name} endpoint={} verdict={}{cause} arp={arp} icmp={icmp} inner_mtu={inner_mtu} loss={:.1}% datapath={}",
            vtep.cidr,
            vtep.endpoint,
            vtep.verdict,
            vtep.probes.icmp.loss * 100.0,
            vtep.datapath.state,
        );
    }
}

#[cfg(test)]
mod tests {
    use vtep_core::{datapath::report::Mode, node::fitness::Fitness};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sixty_four_reports_a_second_are_judged_as_twenty() {
        const REPORTS: u32 = 64;
        let (config, facts) = (watch::channel(None), watch::channel(None));
        let (datapath, diagnoses) = (watch::channel(Arc::default()), watch::channel(Arc::default()));
        let (probes, news_of_probes) = watch::channel(Arc::new(ProbeReport::default()));
        let identity = Identity {
            node: String::new(),
            mode: Mode::Observe,
            started_at: Timestamp::now(),
            fitness: Arc::new(Fitness::default()),
            runbook: String::new(),
            in_pod: false,
        };
        let mut state = AgentState {
            identity: Arc::new(identity),
            config: config.1,
            facts: facts.1,
            datapath: datapath.1,
            probes: news_of_probes,
            diagnoses: diagnoses.1,
            events: events::Queue::default(),
        };
        let reports = async {
            for _ in 0..REPORTS {
                time::sleep(Duration::from_secs(1) / REPORTS).await;
                probes.send_replace(Arc::default());
            }
            drop(config.0);
        };
        let judged = async {
            let mut judged = 0;
            while news(&mut state, time::Instant::now().into_std() + TICK).await.is_some() {
                state.probes.borrow_and_update();
                judged += 1;
            }
            judged
        };
        let ((), judged) = tokio::join!(reports, judged);
        assert!((10..=21).contains(&judged), "{judged}");
    }

    #[test]
    fn a_quiet_node_writes_few_lines_and_trouble_is_told_each_time() {
        let diagnosis = |verdict| Diagnosis::of(verdict, None);
        let lines = |verdict| (1..=12).filter(|n| sums_up(Some(&diagnosis(verdict)), *n)).count();
        assert!(lines(Verdict::Healthy) > 0 && lines(Verdict::Healthy) * 8 < 20);
        assert_eq!(lines(Verdict::Degraded), 12);
    }
}
