//! Assembles the status from the latest values that the loops have published.

mod vtep;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

pub use self::vtep::failover;
use self::vtep::vtep_status;
use super::status::{Bigip, Cilium, Config, Datapath, Events, Identity, Intruder, LastPass, Status, Tap, VtepStatus};
use crate::{
    bigip::FdbRecord,
    config::{truth::Truth, view::View},
    datapath::{abi::IpcacheEntry, ipcache::Inside, plan::Op, report::DatapathReport},
    diagnosis::Diagnosis,
    node::{compatibility, facts::Facts, undisclosed::Traces},
    tunnel::report::ProbeReport,
};

/// The latest values that the loops have published.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    pub identity: &'a Identity,
    pub view: Option<Arc<View>>,
    pub facts: Option<Arc<Facts>>,
    pub datapath: Arc<DatapathReport>,
    pub probes: Arc<ProbeReport>,
    pub diagnoses: Arc<BTreeMap<Ipv4Net, Diagnosis>>,
    pub events: Events,
}

impl Status {
    /// Assembles the status at `now`, which is `at` on the wall clock.
    #[must_use]
    pub fn assemble(parts: &Parts<'_>, now: Instant, at: Timestamp) -> Self {
        let Parts { identity, view, facts, datapath, probes, diagnoses, events } = parts;
        let Identity { node, mode, started_at, fitness, runbook, in_pod: _ } = identity;
        let cilium_version = facts.as_ref().and_then(|facts| facts.version);
        let spec = view.as_ref().and_then(|view| view.effective.as_ref());
        let vteps = spec.iter().flat_map(|spec| &spec.vteps).map(|vtep| {
            // A diagnosis of another place belongs to an earlier configuration, like its probes.
            let diagnosis = diagnoses.get(&vtep.cidr).filter(|diagnosis| diagnosis.place == vtep.place());
            let cause = diagnosis.and_then(|diagnosis| diagnosis.cause);
            let runbook = cause.map(|cause| cause.section(runbook));
            let name = view.as_ref().and_then(|view| view.names.get(&vtep.cidr)).cloned();
            VtepStatus { runbook, name, ..vtep_status(vtep, diagnosis, probes.probes(vtep), datapath, now, at) }
        });
        let mut vteps: Vec<_> = vteps.collect();
        // Without an error, the lists have exactly these VTEPs, in this order.
        if view.as_ref().is_some_and(|view| view.valid() && view.truth == Truth::Configmap) {
            let line = vtep::config_line(&vteps);
            let learned = vteps.iter_mut().filter(|vtep| vtep.mac_learned.is_some());
            learned.filter_map(|vtep| vtep.mac_learning.as_mut()).for_each(|of| of.config_line = Some(line.clone()));
        }
        Self {
            node: node.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            mode: *mode,
            events: events.clone(),
            started_at: *started_at,
            verdict: Self::overall(spec.map(|spec| spec.enabled), &vteps),
            config: config(view.as_deref()),
            kernel: fitness.kernel(cilium_version),
            cilium: cilium(facts.as_deref(), view.as_deref(), datapath, now, at),
            datapath: self::datapath(datapath, view.as_deref()),
            tap: tap(probes),
            bigip: Bigip { fdb_record: fdb_record(facts.as_deref(), &vteps) },
            vteps,
        }
    }
}

fn config(view: Option<&View>) -> Config {
    let Some(view) = view else {
        return Config {
            source: String::new(),
            truth: Truth::default(),
            truth_reason: String::new(),
            objects: Vec::new(),
            hash: None,
            observed_at: None,
            source_error: None,
            valid: false,
            stale: false,
            enabled: None,
            overrides: BTreeMap::new(),
            findings: Vec::new(),
        };
    };
    Config {
        source: view.source.clone(),
        truth: view.truth,
        truth_reason: view.truth_reason.clone(),
        objects: view.objects.clone(),
        hash: (!view.hash.is_empty()).then(|| view.hash.clone()),
        observed_at: Some(view.observed_at),
        source_error: view.source_error.clone(),
        valid: view.valid(),
        stale: view.stale,
        enabled: view.effective.as_ref().map(|spec| spec.enabled),
        overrides: view.overrides.clone(),
        findings: view.findings.clone(),
    }
}

fn cilium(
    facts: Option<&Facts>,
    view: Option<&View>,
    datapath: &DatapathReport,
    now: Instant,
    at: Timestamp,
) -> Cilium {
    let spec = view.and_then(|view| view.effective.as_ref());
    let tunnel = spec.map(|spec| spec.tunnel);
    let running = facts.and_then(|facts| facts.running.config());
    let traces = view.map(|view| Traces::new(view, datapath, now, at));
    let known = facts.zip(spec).zip(traces);
    let differences = known.map(|((facts, spec), traces)| facts.differences(spec, &traces)).unwrap_or_default();
    let reasons: Vec<_> = differences.iter().map(ToString::to_string).collect();
    let version = facts.and_then(|facts| facts.version);
    let devices = facts.map(|facts| &facts.cilium);
    let has_devices = devices.is_some_and(|devices| devices.tunnel.is_some() && devices.host.is_some());
    let agent_stopped_at = facts.and_then(|facts| facts.agent.stopped_at());
    Cilium {
        version,
        compatibility: version.map(compatibility::of),
        running: has_devices && agent_stopped_at.is_none(),
        devices: has_devices,
        agent_stopped_at,
        tunnel_protocol: tunnel.map(|tunnel| tunnel.protocol.to_string()),
        tunnel_port: tunnel.map(|tunnel| tunnel.port),
        vtep_mask: running.and_then(|running| running.vtep_mask),
        restart_required: !reasons.is_empty(),
        reasons,
        config_error: facts.and_then(|facts| facts.running_problem.clone()),
        router: devices.and_then(|devices| devices.router),
    }
}

/// The datapath counts as in sync only if the last pass used the current document, not an earlier one.
fn datapath(report: &DatapathReport, view: Option<&View>) -> Datapath {
    let pass = report.last_pass.as_ref();
    let is_current = pass.zip(view).is_some_and(|(pass, view)| pass.config_hash == view.hash);

    Datapath {
        model: report.model,
        ipcache: report.ipcache,
        intruders: report
            .ipcache_conflicts
            .iter()
            .flat_map(|(&vtep, inside)| inside.iter().map(move |i| intruder(vtep, i)))
            .collect(),
        in_sync: is_current && report.in_sync(),
        pending: report.pending.iter().map(Op::to_string).collect(),
        problems: report.problems().cloned().collect(),
        last_pass: pass.map(|pass| LastPass {
            at: pass.at,
            reason: pass.reason,
            took_us: micros(pass.took),
            applied: pass.applied,
            failed: pass.failed,
        }),
        repairs_total: report.repairs_total,
        contended: report.contended.keys().copied().collect(),
    }
}

fn intruder(vtep: Ipv4Net, inside: &Inside) -> Intruder {
    let Inside { prefix, entry: IpcacheEntry { identity, endpoint } } = *inside;
    Intruder { vtep, prefix, identity, endpoint }
}

fn tap(probes: &ProbeReport) -> Tap {
    let [overflows, fragments, malformed] = probes.tap_counters;
    Tap { loaded: probes.tap_loaded, error: probes.tap_error.clone(), overflows, fragments, malformed }
}

/// Only a BIG-IP needs the record, and a VTEP with a name may be none.
fn fdb_record(facts: Option<&Facts>, vteps: &[VtepStatus]) -> Option<FdbRecord> {
    let is_other = !vteps.is_empty() && vteps.iter().all(|vtep| vtep.name.is_some());
    node_address(facts).filter(|_| !is_other).map(FdbRecord::of_node)
}

/// The address at which BIG-IP reaches this node: the source address of packets to BIG-IP.
fn node_address(facts: Option<&Facts>) -> Option<Ipv4Addr> {
    facts?.underlay.values().find_map(|underlay| underlay.source)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
