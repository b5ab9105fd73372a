//! Metrics for Prometheus, made from the status at each scrape, so that they never tell another story.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    config::finding::Severity,
    diagnose::Cause,
    probe::lane::ProbeState,
    status::{EntryState, Probe, Status, VtepStatus},
};

/// OpenMetrics text, which is what the encoder writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which VTEP a series is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Vtep {
    cidr: String,
    endpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VtepProbe {
    cidr: String,
    endpoint: String,
    probe: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VtepCause {
    cidr: String,
    endpoint: String,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FindingSeverity {
    severity: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
}

/// Every series of the agent. Seconds are seconds, shares are 0 to 1.
#[derive(Default)]
struct Metrics {
    build_info: Family<Build, Gauge>,
    config_valid: Gauge,
    config_stale: Gauge,
    config_findings: Family<FindingSeverity, Gauge>,
    kernel_supported: Gauge,
    datapath_in_sync: Gauge,
    datapath_pending: Gauge,
    datapath_repairs: Counter,
    tap_loaded: Gauge,
    tap_overflows: Counter,
    healthy: Family<Vtep, Gauge>,
    entry_in_sync: Family<Vtep, Gauge>,
    entry_repairs: Family<Vtep, Counter>,
    cause: Family<VtepCause, Gauge>,
    probe_up: Family<VtepProbe, Gauge>,
    probe_rtt: Family<VtepProbe, Gauge<f64, std::sync::atomic::AtomicU64>>,
    probes_sent: Family<VtepProbe, Counter>,
    probes_received: Family<VtepProbe, Counter>,
    seen_packets: Family<Vtep, Counter>,
    seen_bytes: Family<Vtep, Counter>,
    events_written: Counter,
    events_dropped: Counter,
}

/// The metrics as text.
///
/// # Errors
///
/// When formatting fails, which text in memory does not.
pub fn encode(status: &Status) -> Result<String, fmt::Error> {
    let metrics = Metrics::of(status);
    let mut registry = Registry::with_prefix("vtep_agent");
    metrics.register(&mut registry);
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Metrics {
    fn of(status: &Status) -> Self {
        let metrics = Self::default();
        let flag = |gauge: &Gauge, value: bool| {
            gauge.set(i64::from(value));
        };
        flag(&metrics.build_info.get_or_create_owned(&Build { version: status.version.clone() }), true);
        flag(&metrics.config_valid, status.config.valid);
        flag(&metrics.config_stale, status.config.stale);
        for (severity, label) in [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "info")]
        {
            let count = status.config.findings.iter().filter(|finding| finding.severity == severity).count();
            let gauge = metrics.config_findings.get_or_create_owned(&FindingSeverity { severity: label });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        flag(&metrics.kernel_supported, status.kernel.supported);
        flag(&metrics.datapath_in_sync, status.datapath.in_sync);
        metrics.datapath_pending.set(i64::try_from(status.datapath.pending.len()).unwrap_or(i64::MAX));
        metrics.datapath_repairs.inc_by(status.datapath.repairs_total);
        flag(&metrics.tap_loaded, status.tap.loaded);
        metrics.tap_overflows.inc_by(status.tap.overflows);
        metrics.events_written.inc_by(status.events.written);
        metrics.events_dropped.inc_by(status.events.dropped);
        status.vteps.iter().for_each(|vtep| metrics.add_vtep(vtep));
        metrics
    }

    fn add_vtep(&self, status: &VtepStatus) {
        let vtep = Vtep { cidr: status.cidr.to_string(), endpoint: status.endpoint.to_string() };
        let healthy = status.verdict == crate::diagnose::Verdict::Healthy;
        self.healthy.get_or_create_owned(&vtep).set(i64::from(healthy));
        let in_sync = status.datapath.state == EntryState::InSync;
        self.entry_in_sync.get_or_create_owned(&vtep).set(i64::from(in_sync));
        self.entry_repairs.get_or_create_owned(&vtep).inc_by(status.datapath.repairs);
        // Every cause has a series, so that an alert on one never waits for it to appear.
        for &cause in Cause::ALL {
            let Vtep { cidr, endpoint } = vtep.clone();
            let holds = status.cause == Some(cause) || status.also.contains(&cause);
            self.cause.get_or_create_owned(&VtepCause { cidr, endpoint, cause: cause.id() }).set(i64::from(holds));
        }
        let probes = &status.probes;
        for (name, probe) in [("underlay", &probes.underlay), ("arp", &probes.arp), ("icmp", &probes.icmp)] {
            let Vtep { cidr, endpoint } = vtep.clone();
            self.add_probe(&VtepProbe { cidr, endpoint, probe: name }, probe);
        }
        self.seen_packets.get_or_create_owned(&vtep).inc_by(status.seen.packets);
        self.seen_bytes.get_or_create_owned(&vtep).inc_by(status.seen.bytes);
    }

    fn add_probe(&self, labels: &VtepProbe, probe: &Probe) {
        self.probe_up.get_or_create_owned(labels).set(i64::from(probe.state == ProbeState::Ok));
        self.probes_sent.get_or_create_owned(labels).inc_by(probe.sent);
        self.probes_received.get_or_create_owned(labels).inc_by(probe.received);
        if let Some(rtt_us) = probe.rtt_us {
            self.probe_rtt.get_or_create_owned(labels).set(rtt_us as f64 / 1e6);
        }
    }

    fn register(self, registry: &mut Registry) {
        let Self {
            build_info,
            config_valid,
            config_stale,
            config_findings,
            kernel_supported,
            datapath_in_sync,
            datapath_pending,
            datapath_repairs,
            tap_loaded,
            tap_overflows,
            healthy,
            entry_in_sync,
            entry_repairs,
            cause,
            probe_up,
            probe_rtt,
            probes_sent,
            probes_received,
            seen_packets,
            seen_bytes,
            events_written,
            events_dropped,
        } = self;
        registry.register("build_info", "The running version, always 1", build_info);
        registry.register("config_valid", "1 when the configuration has no error", config_valid);
        registry.register("config_stale", "1 when some of what is in force is an earlier value", config_stale);
        registry.register("config_findings", "Findings about the configuration", config_findings);
        registry.register("kernel_supported", "1 when the kernel fits", kernel_supported);
        registry.register("datapath_in_sync", "1 when the kernel holds what the configuration wants", datapath_in_sync);
        registry.register("datapath_pending_operations", "Changes to the kernel still to do", datapath_pending);
        registry.register("datapath_repairs", "Repairs of drift in the kernel", datapath_repairs);
        registry.register("tap_loaded", "1 when the eBPF tap is loaded", tap_loaded);
        registry.register("tap_overflows", "Frames of streams that did not fit into the tap's map", tap_overflows);
        registry.register("vtep_healthy", "1 when the VTEP's verdict is healthy", healthy);
        registry.register("vtep_entry_in_sync", "1 when the VTEP's map entry is as configured", entry_in_sync);
        registry.register("vtep_entry_repairs", "Repairs of the VTEP's map entry", entry_repairs);
        registry.register("vtep_cause", "1 for each cause that holds", cause);
        registry.register("probe_up", "1 when the probe is answered", probe_up);
        registry.register("probe_rtt_seconds", "Round-trip time of the last answered probe", probe_rtt);
        registry.register("probes_sent", "Probes sent", probes_sent);
        registry.register("probes_received", "Probes answered in time", probes_received);
        registry.register("seen_packets", "Tunnel packets from the VTEP's endpoint", seen_packets);
        registry.register("events_written", "Kubernetes Events written", events_written);
        registry.register("events_dropped", "Kubernetes Events not written: too many, or not taken", events_dropped);
        registry.register("seen_bytes", "Bytes of tunnel packets from the VTEP's endpoint", seen_bytes);
    }
}
