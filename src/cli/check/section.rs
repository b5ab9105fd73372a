//! One configuration, checked with what overrides it.

use std::sync::Arc;

use vtep_core::bigip::compare::CiliumEnd;
use vtep_core::config::{
    Keys,
    checked::{Checked, Located, check},
    effective::effective,
    finding::{Finding, Rule},
    parse::{Parsed, parse},
    possible::{on_other_nodes, without_switch},
    project::Group,
    selector::Labels,
    shapes::{NodeConfigObject, Shape},
    spec::Vtep,
    surroundings::Surroundings,
    truth::Truth,
};

use super::objects::Objects;
use crate::cli::input::{Applied, overrides};

pub(in crate::cli) struct Section {
    pub(in crate::cli) shape: Shape,
    /// The file that it is in.
    pub(in crate::cli) file: Arc<str>,
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) namespace: Option<String>,
    pub(in crate::cli) lists: Option<Checked>,
    pub(super) objects: Option<Objects>,
    pub(in crate::cli) node_configs: Vec<Applied>,
    /// Those of the lists first.
    pub(in crate::cli) findings: Vec<Located>,
    pub(in crate::cli) notes: Vec<String>,
}

impl Section {
    pub(in crate::cli) fn of(group: Group, labels: Option<&Labels>, surroundings: &Surroundings) -> Self {
        let (overrides, node_configs) = overrides(&group, labels);
        let has_objects = !group.vtep_configs.is_empty();
        let none = Labels::new();
        let lists = group.configuration.as_ref().map(|configuration| {
            check(configuration, &overrides, labels.unwrap_or(&none), surroundings, |parsed| both(parsed, has_objects))
        });
        let possible = possible(&group, &overrides, &node_configs, surroundings);
        let Group { configuration, vtep_configs, .. } = group;
        let file = match (&configuration, vtep_configs.first()) {
            (Some(configuration), _) => Arc::clone(configuration.file()),
            (None, Some(object)) => Arc::clone(&object.file),
            (None, None) => "-".into(),
        };
        let objects = has_objects.then(|| Objects::of(vtep_configs, labels, surroundings));
        let of_lists = lists.iter().flat_map(|lists| &lists.findings);
        let of_objects = objects.iter().flat_map(|objects| &objects.findings);
        let findings = of_lists.chain(of_objects).cloned().chain(possible).collect();
        let (shape, name, namespace, notes) = match configuration {
            Some(configuration) => {
                (configuration.shape, configuration.name, configuration.namespace, configuration.notes)
            }
            None => (Shape::VtepConfigs, None, None, Vec::new()),
        };
        Self { shape, file, name, namespace, lists, objects, node_configs, findings, notes }
    }

    /// A sentence for each object that is not applied.
    pub(in crate::cli) fn not_applied(&self) -> impl Iterator<Item = String> {
        let of_objects = self.objects.iter().flat_map(|objects| objects.unknown.iter().cloned());
        self.node_configs.iter().filter_map(Applied::note).chain(of_objects)
    }

    /// The keys of the lists' document; none if there are only custom resources.
    pub(in crate::cli) fn keys(&self) -> &Keys {
        static NONE: Keys = Keys::new();
        self.lists.as_ref().map_or(&NONE, |lists| &lists.document.keys)
    }

    /// What a BIG-IP is compared with.
    pub(in crate::cli) fn cilium_end(&self) -> CiliumEnd {
        let nothing = || CiliumEnd::of_lists(&Keys::new(), &parse(&Keys::new()));
        let end = self.lists.as_ref().map_or_else(nothing, |lists| CiliumEnd::of_lists(self.keys(), &lists.parsed));
        match &self.objects {
            Some(objects) if self.objects_decide() => end.with_objects(&objects.resolved.vteps),
            Some(_) | None => end,
        }
    }

    /// Whether the custom resources decide the VTEPs: there are no lists.
    pub(in crate::cli) fn objects_decide(&self) -> bool {
        self.objects.is_some() && self.lists.as_ref().is_none_or(|lists| lists.parsed.elsewhere)
    }

    /// The VTEPs in force, and what decides them. Nobody knows them while a value is a template.
    pub(in crate::cli) fn vteps(&self) -> (Vec<Vtep>, Truth) {
        if self.objects_decide() {
            let vteps = self.objects.iter().flat_map(|objects| &objects.resolved.vteps).map(|named| named.vtep);
            return (vteps.collect(), Truth::Crd);
        }
        let Some(lists) = &self.lists else { return (Vec::new(), Truth::Configmap) };
        let truth = if lists.parsed.elsewhere { Truth::None } else { Truth::Configmap };
        (if lists.is_unknown { Vec::new() } else { in_force(&lists.parsed) }, truth)
    }
}

/// What is wrong with values that are not in force here, and may be elsewhere.
fn possible(
    group: &Group,
    applied: &[&NodeConfigObject],
    node_configs: &[Applied],
    surroundings: &Surroundings,
) -> Vec<Located> {
    let Some(configuration) = &group.configuration else { return Vec::new() };
    let left = group.node_configs.iter().zip(node_configs).filter(|(_, applied)| applied.is_unknown());
    let elsewhere = left.flat_map(|(object, _)| on_other_nodes(configuration, applied, object, surroundings));
    without_switch(configuration, surroundings).into_iter().chain(elsewhere).collect()
}

/// The VTEPs that take effect on a node without an earlier configuration.
pub(in crate::cli) fn in_force(parsed: &Parsed) -> Vec<Vtep> {
    effective(parsed, None).map(|effective| effective.spec.vteps).unwrap_or_default()
}

/// Without the node's map, nothing shows which of the two Cilium uses. If the lists are absent, the objects decide the VTEPs.
fn both(parsed: &Parsed, has_objects: bool) -> Vec<Finding> {
    if !has_objects || parsed.elsewhere {
        return Vec::new();
    }
    let problem = "the input has VTEP lists and custom resources: the lists are in force here";
    let remedy =
        "a Cilium that serves CiliumVTEPConfig takes the objects, and ignores the lists: remove one of the two";
    vec![Finding::new(Rule::VtepSourcesBoth, "vtep-endpoint", None, None, problem, remedy)]
}
