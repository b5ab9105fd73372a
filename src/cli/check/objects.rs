//! What the custom resources with VTEPs say.

use std::collections::BTreeSet;

use vtep_core::config::{
    checked::Located,
    finding::{Finding, Severity},
    selector::{Labels, Selector},
    shapes::VtepObject,
    surroundings::{Around, Surroundings},
    vtep_config::{Kind, Resolved, VtepConfig, refusals, resolve},
};

pub(super) struct Objects {
    pub(super) resolved: Resolved,
    pub(super) findings: Vec<Located>,
    /// One sentence for each object that selects nodes by labels which are not known.
    pub(super) unknown: Vec<String>,
}

impl Objects {
    pub(super) fn of(read: Vec<VtepObject>, labels: Option<&Labels>, surroundings: &Surroundings) -> Self {
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        for object in &read {
            match &object.read {
                Ok(object) => objects.push(object.clone()),
                Err(finding) => unreadable.push((**finding).clone()),
            }
        }
        // The input is for one node: the one that an object of it is named after.
        let node = objects.iter().find(|object| object.kind == Kind::NodeConfig).map(|object| object.name.clone());
        let selects =
            |object: &VtepConfig| matches!(&object.selector, Ok(Some(selector)) if *selector != Selector::default());
        let (left, objects): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| labels.is_none() && selects(object));
        let unknown = left.iter().map(|object| {
            let path = object.path();
            format!("{path} is not applied: it selects nodes by their labels, which are not known: give --node-labels")
        });
        let unknown = unknown.collect();
        let none = Labels::new();
        let around = Around { surroundings, standing: &BTreeSet::new() };
        let mut resolved = resolve(&objects, &node.unwrap_or_default(), labels.unwrap_or(&none), around);
        resolved.findings.extend(unreadable);
        for object in objects.iter().chain(&left) {
            let refusals = refusals(object);
            resolved.vteps.retain(|vtep| refusals.is_empty() || vtep.object != object.path());
            resolved.findings.extend(refusals);
        }
        // Each alone: nobody knows which of them select the same nodes.
        let left = left.iter().map(|object| VtepConfig { selector: Ok(None), ..object.clone() });
        for object in left {
            let faults = resolve(&[object], "", &none, around).findings.into_iter();
            let faults = faults.filter(|finding| finding.severity == Severity::Error);
            resolved.findings.extend(faults.map(|finding| Finding { severity: Severity::Warning, ..finding }));
        }
        let located = resolved.findings.iter().map(|finding| {
            let place = read.iter().find_map(|object| object.place_of(&finding.key));
            match place {
                Some(place) => Located::at(finding.clone(), &place, finding.value.as_deref()),
                None => Located::from(finding.clone()),
            }
        });
        let findings = located.collect();
        Self { resolved, findings, unknown }
    }
}
