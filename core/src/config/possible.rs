//! What would be wrong if what the input lacks were there: the switch of a part of a configuration, as a patch is one, or the labels of the
//! nodes for which an object is. Nothing of it is in force, so it is a warning.

use super::{
    checked::{Located, check},
    finding::{Finding, Rule, Severity},
    list_record::LIST_KEYS,
    selector::{Labels, Selector},
    shapes::{Configuration, NodeConfigObject, Setting},
    surroundings::Surroundings,
};

const SWITCH: &str = "enable-vtep";
/// The keys whose values can be judged without the switch.
const VALUES: [&str; 4] = ["vtep-endpoint", "vtep-cidr", "vtep-mask", "vtep-mac"];

/// The faults of values in a configuration that does not say whether VTEP is on. Lists that it lacks are no fault.
#[must_use]
pub fn without_switch(configuration: &Configuration, surroundings: &Surroundings) -> Vec<Located> {
    let is_set = |key: &str| {
        configuration.settings.get(key).is_some_and(|setting| !setting.is_default && !setting.value.trim().is_empty())
    };
    if configuration.settings.contains_key(SWITCH) || !VALUES.iter().any(|key| is_set(key)) {
        return Vec::new();
    }
    let mut on = configuration.clone();
    on.problems.clear();
    let switch = Setting { value: "true".to_owned(), place: configuration.root.place.clone(), is_default: false };
    on.settings.insert(SWITCH.to_owned(), switch);
    let is_whole = LIST_KEYS.iter().all(|key| is_set(key));
    let is_about_values = |finding: &Finding| {
        VALUES.iter().any(|key| *key == finding.key && is_set(key))
            && (is_whole || !matches!(finding.rule, Rule::VtepCountMismatch | Rule::VtepListEmpty))
    };
    let found = check(&on, &[], &Labels::new(), surroundings, |_| Vec::new()).findings.into_iter();
    found.filter(|located| is_about_values(&located.finding)).filter_map(possible).collect()
}

/// The faults of what an object sets, on the nodes that it selects.
#[must_use]
pub fn on_other_nodes(
    configuration: &Configuration,
    applied: &[&NodeConfigObject],
    object: &NodeConfigObject,
    surroundings: &Surroundings,
) -> Vec<Located> {
    // A copy that selects every node.
    let mut object = object.clone();
    object.config.selector = Some(Selector::default());
    let all: Vec<_> = applied.iter().copied().chain([&object]).collect();
    let of_object = |finding: &Finding| {
        finding.origin.as_deref() == Some(format!("CiliumNodeConfig {}", object.config.name).as_str())
    };
    let found = check(configuration, &all, &Labels::new(), surroundings, |_| Vec::new()).findings.into_iter();
    found.filter(|located| of_object(&located.finding)).filter_map(possible).collect()
}

/// As a warning. What is less is only of interest where it is in force.
fn possible(located: Located) -> Option<Located> {
    let Located { finding, .. } = &located;
    let finding = Finding { severity: Severity::Warning, ..finding.clone() };
    (located.finding.severity == Severity::Error).then_some(Located { finding, ..located })
}
