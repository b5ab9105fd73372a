//! Every metric: its name, its meaning, and the source of its values. Times are in seconds, shares are between 0 and 1.
//!
//! Labels have a limited number of values: at most eight VTEPs, and the values of our own enums.

use vtep_core::{
    config::finding::Severity,
    datapath::report::Mode,
    diagnosis::Verdict,
    report::status::EntryState,
    tunnel::{frames::VTEP_VNI, vtep_probes::ProbeState},
};

use crate::build_info::BuildInfo;

use super::{
    Kind::{Counter, Gauge, Histogram},
    Metric, Sample, Value,
    samples::{causes, labelled, of_probes, of_vteps, single, time, verdict, whole},
};

const VTEP: &[&str] = &["cidr", "endpoint"];
const PROBE: &[&str] = &["cidr", "endpoint", "probe"];

/// In the order of `/metrics` and of docs/metrics.md.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "build_info",
        kind: Gauge,
        labels: &["version", "commit"],
        help: "The running version, and the commit that it was built from, which is empty in builds for development; always 1",
        samples: |status| {
            let commit = BuildInfo::this().commit.unwrap_or_default().to_owned();
            vec![Sample { labels: vec![status.version.clone(), commit], value: Value::Whole(1) }]
        },
    },
    Metric {
        name: "start_time_seconds",
        kind: Gauge,
        labels: &[],
        help: "When the agent started, in Unix time",
        samples: |status| vec![Sample { labels: Vec::new(), value: time(status.started_at) }],
    },
    Metric {
        name: "enforcing",
        kind: Gauge,
        labels: &[],
        help: "1 when the agent writes, 0 when it only looks (--mode observe)",
        samples: |status| single(status.mode == Mode::Enforce),
    },
    Metric {
        name: "kernel_supported",
        kind: Gauge,
        labels: &[],
        help: "1 when the kernel fits",
        samples: |status| single(status.kernel.supported),
    },
    // The configuration.
    Metric {
        name: "config_info",
        kind: Gauge,
        labels: &["hash"],
        help: "The document seen last, by the hash of its keys; always 1",
        samples: |status| status.config.hash.iter().flat_map(|hash| labelled(hash, 1)).collect(),
    },
    Metric {
        name: "config_source_up",
        kind: Gauge,
        labels: &[],
        help: "1 when the source of the configuration answers: the watch at the API server, or the directory",
        samples: |status| single(status.config.observed_at.is_some() && status.config.source_error.is_none()),
    },
    Metric {
        name: "config_truth",
        kind: Gauge,
        labels: &["truth"],
        help: "Where the VTEPs of this node are decided: configmap, crd (custom resources), or none where that is not known and nothing is written; always 1",
        samples: |status| labelled(&status.config.truth.to_string(), 1),
    },
    Metric {
        name: "config_valid",
        kind: Gauge,
        labels: &[],
        help: "1 when the configuration has no error",
        samples: |status| single(status.config.valid),
    },
    Metric {
        name: "config_stale",
        kind: Gauge,
        labels: &[],
        help: "1 when some of what is in force is an earlier value",
        samples: |status| single(status.config.stale),
    },
    Metric {
        name: "config_findings",
        kind: Gauge,
        labels: &["severity"],
        help: "Findings about the configuration",
        samples: |status| {
            let of = |severity: Severity| {
                status.config.findings.iter().filter(|finding| finding.severity == severity).count()
            };
            let severities = [("error", Severity::Error), ("warning", Severity::Warning), ("info", Severity::Info)];
            severities.into_iter().flat_map(|(label, severity)| labelled(label, of(severity) as u64)).collect()
        },
    },
    // Cilium.
    Metric {
        name: "cilium_running",
        kind: Gauge,
        labels: &[],
        help: "1 when Cilium's devices are there, and its agent is not known to be stopped",
        samples: |status| single(status.cilium.running),
    },
    Metric {
        name: "cilium_devices",
        kind: Gauge,
        labels: &[],
        help: "1 when Cilium's devices are there",
        samples: |status| single(status.cilium.devices),
    },
    Metric {
        name: "cilium_restart_required",
        kind: Gauge,
        labels: &[],
        help: "1 when Cilium was started with another configuration than the one in force",
        samples: |status| single(status.cilium.restart_required),
    },
    // The kernel's state.
    Metric {
        name: "datapath_in_sync",
        kind: Gauge,
        labels: &[],
        help: "1 when the kernel holds what the configuration wants",
        samples: |status| single(status.datapath.in_sync),
    },
    Metric {
        name: "datapath_pending_operations",
        kind: Gauge,
        labels: &[],
        help: "Changes to the kernel still to do",
        samples: |status| single(status.datapath.pending.len() as u64),
    },
    Metric {
        name: "datapath_repairs",
        kind: Counter,
        labels: &[],
        help: "Repairs of drift in the kernel",
        samples: |status| single(status.datapath.repairs_total),
    },
    Metric {
        name: "datapath_last_pass_seconds",
        kind: Gauge,
        labels: &[],
        help: "How long the last pass over the kernel's state took",
        samples: |status| {
            let took = status.datapath.last_pass.as_ref().map(|pass| pass.took_us as f64 / 1e6);
            took.map(|took| Sample { labels: Vec::new(), value: Value::Real(took) }).into_iter().collect()
        },
    },
    Metric {
        name: "datapath_last_pass_timestamp_seconds",
        kind: Gauge,
        labels: &[],
        help: "When that was, in Unix time",
        samples: |status| {
            let pass = status.datapath.last_pass.iter();
            pass.map(|pass| Sample { labels: Vec::new(), value: time(pass.at) }).collect()
        },
    },
    // The eBPF tap.
    Metric {
        name: "tap_loaded",
        kind: Gauge,
        labels: &[],
        help: "1 when the eBPF tap is loaded",
        samples: |status| single(status.tap.loaded),
    },
    Metric {
        name: "tap_overflows",
        kind: Counter,
        labels: &[],
        help: "Frames of flows that did not fit into the tap's map",
        samples: |status| single(status.tap.overflows),
    },
    Metric {
        name: "tap_fragments",
        kind: Counter,
        labels: &[],
        help: "Fragments from an endpoint, which are not looked into",
        samples: |status| single(status.tap.fragments),
    },
    Metric {
        name: "tap_malformed",
        kind: Counter,
        labels: &[],
        help: "Tunnel frames from an endpoint that could not be read",
        samples: |status| single(status.tap.malformed),
    },
    // Each VTEP.
    Metric {
        name: "vtep_healthy",
        kind: Gauge,
        labels: VTEP,
        help: "1 when the VTEP's verdict is healthy",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.verdict == Verdict::Healthy))),
    },
    Metric {
        name: "vtep_verdict",
        kind: Gauge,
        labels: &["cidr", "endpoint", "verdict", "cause"],
        help: "The VTEP's verdict and the cause of it, empty where there is none; always 1",
        samples: |status| status.vteps.iter().map(verdict).collect(),
    },
    Metric {
        name: "vtep_cause",
        kind: Gauge,
        labels: &["cidr", "endpoint", "cause"],
        help: "1 for each cause that holds, 0 for all others",
        samples: |status| status.vteps.iter().flat_map(causes).collect(),
    },
    Metric {
        name: "vtep_entry_in_sync",
        kind: Gauge,
        labels: VTEP,
        help: "1 when the VTEP's map entry is as configured",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.datapath.state == EntryState::InSync))),
    },
    Metric {
        name: "vtep_entry_repairs",
        kind: Counter,
        labels: VTEP,
        help: "Repairs of the VTEP's map entry",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.datapath.repairs))),
    },
    Metric {
        name: "vtep_contended",
        kind: Gauge,
        labels: VTEP,
        help: "1 when somebody keeps overwriting the VTEP's map entry",
        samples: |status| of_vteps(status, |vtep| Some(whole(status.datapath.contended.contains(&vtep.cidr)))),
    },
    // Probes.
    Metric {
        name: "probe_up",
        kind: Gauge,
        labels: PROBE,
        help: "1 when the probe is answered",
        samples: |status| of_probes(status, |probe| Some(whole(probe.state == ProbeState::Ok))),
    },
    Metric {
        name: "probe_rtt_seconds",
        kind: Gauge,
        labels: PROBE,
        help: "Round-trip time of the last answered probe",
        samples: |status| of_probes(status, |probe| probe.rtt_us.map(|rtt_us| Value::Real(rtt_us as f64 / 1e6))),
    },
    Metric {
        name: "probe_duration_seconds",
        kind: Histogram,
        labels: PROBE,
        help: "Round-trip times of all answered probes",
        samples: |status| of_probes(status, |probe| Some(Value::Times(probe.rtts))),
    },
    Metric {
        name: "probes_sent",
        kind: Counter,
        labels: PROBE,
        help: "Probes sent",
        samples: |status| of_probes(status, |probe| Some(whole(probe.sent))),
    },
    Metric {
        name: "probes_received",
        kind: Counter,
        labels: PROBE,
        help: "Probes answered in time",
        samples: |status| of_probes(status, |probe| Some(whole(probe.received))),
    },
    Metric {
        name: "probes_lost",
        kind: Counter,
        labels: PROBE,
        help: "Probes not answered in time, or not sent",
        samples: |status| of_probes(status, |probe| Some(whole(probe.lost))),
    },
    Metric {
        name: "probe_loss_ratio",
        kind: Gauge,
        labels: PROBE,
        help: "Share of the last hundred probes that were lost",
        samples: |status| of_probes(status, |probe| Some(Value::Real(probe.loss))),
    },
    Metric {
        name: "path_mtu_bytes",
        kind: Gauge,
        labels: VTEP,
        help: "The largest inner packet that passes the tunnel, once it is found",
        samples: |status| of_vteps(status, |vtep| vtep.probes.path_mtu.inner_mtu.map(whole)),
    },
    Metric {
        name: "observed_mac_matches",
        kind: Gauge,
        labels: VTEP,
        help: "1 when ARP through the tunnel is answered by the MAC of vtep-mac, once it is answered",
        samples: |status| {
            of_vteps(status, |vtep| vtep.probes.arp.observed_mac.map(|mac| whole(mac == vtep.mac_configured)))
        },
    },
    Metric {
        name: "mac_learned",
        kind: Gauge,
        labels: VTEP,
        help: "1 when the entry has the MAC that BIG-IP's tunnel answers with, instead of the one of vtep-mac",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.mac_learned.is_some()))),
    },
    Metric {
        name: "mac_made_good",
        kind: Counter,
        labels: VTEP,
        help: "How often the learned MAC was put back after somebody, such as Cilium's sync, had written the one of vtep-mac",
        samples: |status| of_vteps(status, |vtep| vtep.mac_learning.as_ref().map(|of| whole(of.made_good))),
    },
    Metric {
        name: "failovers",
        kind: Counter,
        labels: VTEP,
        help: "How often another unit has taken over the tunnel, the endpoint or the self IP",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.failovers_total))),
    },
    // What BIG-IP sends.
    Metric {
        name: "seen_packets",
        kind: Counter,
        labels: VTEP,
        help: "Tunnel packets from the VTEP's endpoint",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.seen.packets))),
    },
    Metric {
        name: "seen_bytes",
        kind: Counter,
        labels: VTEP,
        help: "Bytes of tunnel packets from the VTEP's endpoint",
        samples: |status| of_vteps(status, |vtep| Some(whole(vtep.seen.bytes))),
    },
    Metric {
        name: "last_seen_timestamp_seconds",
        kind: Gauge,
        labels: VTEP,
        help: "When the last of them came, in Unix time",
        samples: |status| of_vteps(status, |vtep| vtep.seen.last_seen_at.map(time)),
    },
    Metric {
        name: "seen_vni",
        kind: Gauge,
        labels: VTEP,
        help: "The VNI that they carry; one other than 2 if there is any, which is wrong",
        samples: |status| {
            of_vteps(status, |vtep| {
                let wrong = vtep.seen.vnis.iter().find(|vni| **vni != VTEP_VNI);
                wrong.or(vtep.seen.vnis.first()).copied().map(whole)
            })
        },
    },
    // Kubernetes Events.
    Metric {
        name: "events_written",
        kind: Counter,
        labels: &[],
        help: "Kubernetes Events written",
        samples: |status| single(status.events.written),
    },
    Metric {
        name: "events_dropped",
        kind: Counter,
        labels: &[],
        help: "Kubernetes Events not written: too many, or not taken",
        samples: |status| single(status.events.dropped),
    },
];
