//! Makes the samples of a metric from the status: one for the node, or one for each VTEP, probe or cause.

use jiff::Timestamp;
use vtep_core::{
    diagnosis::Cause,
    report::status::{Probe, Status, VtepStatus},
};

use super::{Sample, Value};

pub(super) fn single(value: impl Into<u64>) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value: whole(value) }]
}

pub(super) fn labelled(label: &str, value: u64) -> Vec<Sample> {
    vec![Sample { labels: vec![label.to_owned()], value: whole(value) }]
}

/// A sample for each VTEP of which there is something to say.
pub(super) fn of_vteps(status: &Status, value: impl Fn(&VtepStatus) -> Option<Value>) -> Vec<Sample> {
    let sample = |vtep: &VtepStatus| Some(Sample { labels: labels(vtep).into(), value: value(vtep)? });
    status.vteps.iter().filter_map(sample).collect()
}

pub(super) fn of_probes(status: &Status, value: impl Fn(&Probe) -> Option<Value>) -> Vec<Sample> {
    let of = |vtep: &VtepStatus| {
        let probes = &vtep.probes;
        let tcp = probes.tcp.iter().map(|tcp| ("tcp", tcp));
        let probes =
            [("underlay", &probes.underlay), ("arp", &probes.arp), ("icmp", &probes.icmp)].into_iter().chain(tcp);
        let sample = |(name, probe)| Some(Sample { labels: labels_and(vtep, name), value: value(probe)? });
        probes.filter_map(sample).collect::<Vec<_>>()
    };
    status.vteps.iter().flat_map(of).collect()
}

/// What holds alone has a series: alerts on it have the severity that everything else shows.
pub(super) fn verdict(vtep: &VtepStatus) -> Sample {
    let mut labels = labels_and(vtep, &vtep.verdict.to_string());
    labels.push(vtep.cause.map(Cause::id).unwrap_or_default().to_owned());
    Sample { labels, value: whole(1_u64) }
}

/// Every cause has a series, so that an alert on one never waits for it to appear.
pub(super) fn causes(vtep: &VtepStatus) -> impl Iterator<Item = Sample> {
    Cause::ALL.iter().map(|cause| {
        let holds = vtep.cause == Some(*cause) || vtep.also.contains(cause);
        Sample { labels: labels_and(vtep, cause.id()), value: whole(holds) }
    })
}

pub(super) fn whole(value: impl Into<u64>) -> Value {
    Value::Whole(value.into())
}

pub(super) fn time(at: Timestamp) -> Value {
    Value::Real(at.as_millisecond() as f64 / 1e3)
}

fn labels(vtep: &VtepStatus) -> [String; 2] {
    [vtep.cidr.to_string(), vtep.endpoint.to_string()]
}

fn labels_and(vtep: &VtepStatus, third: &str) -> Vec<String> {
    labels(vtep).into_iter().chain([third.to_owned()]).collect()
}
