//! The findings about one configuration, each with the place in the file that it is about.

use ipnet::Ipv4Net;
use serde::Serialize;

use super::{
    document::Document,
    finding::{Finding, Rule, Severity},
    parse::{Parsed, tokens},
    selector::Labels,
    shapes::{Configuration, NodeConfigObject, in_words_of_chart},
    surroundings::Surroundings,
    text::{Place, Spot},
    unknown::{decides, parse_known},
};

/// A finding, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub finding: Finding,
    /// How a person calls the place: the path as written, or the key.
    pub place: String,
    /// `None` if it is about no text.
    pub spot: Option<Spot>,
    /// If it is a difference between both ends of a tunnel.
    pub difference: Option<BothEnds>,
}

/// What a difference between both ends of a tunnel has besides its finding, which is about BIG-IP's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BothEnds {
    /// The VTEP that it concerns.
    pub vtep: Option<Ipv4Net>,
    /// The BIG-IP's hostname, or the file that describes it.
    pub bigip: Option<String>,
    /// Cilium's key and value.
    pub cilium: Option<String>,
    /// The tmsh commands that end the difference.
    pub commands: Vec<String>,
}

impl From<Finding> for Located {
    fn from(finding: Finding) -> Self {
        Self { place: finding.place(), finding, spot: None, difference: None }
    }
}

impl Located {
    /// The finding at the place of its value.
    #[must_use]
    pub fn at(finding: Finding, place: &Place, value: Option<&str>) -> Self {
        let part = match (finding.index, value) {
            (Some(index), Some(value)) => tokens(value).nth(index).map(|(start, token)| start..start + token.len()),
            (_, _) => None,
        };
        let spot = place.spot(value.unwrap_or_default(), part);
        // The path of a list's element already counts.
        let element = spot.path.strip_prefix(place.path()).filter(|suffix| !suffix.is_empty());
        let shown = match element {
            Some(suffix) if finding.index.is_some() => format!("{}{suffix}", place.name()),
            Some(_) | None => Finding { key: place.name().to_owned(), ..finding.clone() }.place(),
        };
        let finding = if shown == finding.place() { finding } else { finding.placed(&shown) };
        Self { finding, place: shown, spot: Some(spot), difference: None }
    }
}

/// What the lists of a configuration say for one node.
#[derive(Clone, Debug)]
pub struct Checked {
    pub document: Document,
    /// With the same findings.
    pub parsed: Parsed,
    pub findings: Vec<Located>,
    /// The VTEPs depend on a value that is a template.
    pub is_unknown: bool,
}

/// Checks a configuration, overridden by those of the objects that select a node with these labels. `more` are findings about the lists as a
/// whole.
#[must_use]
pub fn check(
    configuration: &Configuration,
    overrides: &[&NodeConfigObject],
    labels: &Labels,
    surroundings: &Surroundings,
    more: impl FnOnce(&Parsed) -> Vec<Finding>,
) -> Checked {
    let configs: Vec<_> = overrides.iter().map(|object| object.config.clone()).collect();
    let document = Document::effective(configuration.keys(), &configs, labels, surroundings.clone());
    let (mut parsed, unknown) = parse_known(&document.keys, surroundings);
    let more = more(&parsed);
    parsed.findings.extend(more);
    let findings = parsed.findings.into_iter().map(|finding| {
        let finding = of_chart(finding, configuration);
        let finding = document.with_origin(finding);
        let place = place(configuration, overrides, &document, &finding.key);
        let value = document.keys.get(&finding.key).map(String::as_str);
        Located::at(with_template(finding, &place), &place, value)
    });
    let mut findings: Vec<_> = findings.collect();
    // With VTEP off, too, the API server refuses what is no text.
    let counts = |finding: &Finding| parsed.enabled || finding.rule != Rule::VtepListSeparator;
    let problems = configuration.problems.iter().filter(|(finding, _)| counts(finding));
    findings.extend(problems.map(|(finding, place)| Located::at(finding.clone(), place, finding.value.as_deref())));
    findings.sort_by(|a, b| order(&a.finding).cmp(&order(&b.finding)));
    parsed.findings = findings.iter().map(|located| located.finding.clone()).collect();
    let is_unknown = parsed.enabled && decides(&unknown);
    Checked { document, parsed, findings, is_unknown }
}

fn order(finding: &Finding) -> (Rule, Option<usize>, &str) {
    (finding.rule, finding.index, &finding.key)
}

/// Where the value of the key in force stands: in the object that sets it last.
fn place(configuration: &Configuration, overrides: &[&NodeConfigObject], document: &Document, key: &str) -> Place {
    let origin = document.origins.get(key);
    let object = overrides.iter().find(|object| {
        Some(&format!("CiliumNodeConfig {}", object.config.name)) == origin && object.places.contains_key(key)
    });
    object.and_then(|object| object.places.get(key).cloned()).unwrap_or_else(|| configuration.place_of(key))
}

/// The value of a template as its author wrote it.
fn with_template(finding: Finding, place: &Place) -> Finding {
    match (finding.rule, place.written()) {
        (Rule::ValueUnknown, Some(written)) => Finding { value: Some(written.to_owned()), ..finding },
        (_, _) => finding,
    }
}

/// Findings about what the chart renders, for somebody who sees only the values.
fn of_chart(finding: Finding, configuration: &Configuration) -> Finding {
    let is_default = |key: &str| configuration.settings.get(key).is_some_and(|setting| setting.is_default);
    let Finding { rule, severity, scope, ref key, index, ref value, .. } = finding;
    let (problem, remedy, severity) = if rule == Rule::VtepMaskEmpty && configuration.root.is_chart {
        let problem = match is_default("vtep-mask") {
            true => "no mask is set: the chart renders an empty vtep-mask, and the Cilium agent does not start with it",
            false => &finding.problem,
        };
        // Without the value, too, the chart renders an empty mask.
        let mask = finding.remedy.trim_start_matches("write ").split([',', ' ']).next().unwrap_or_default();
        (problem.to_owned(), format!("set vtep.mask to {mask}"), severity)
    } else if rule == Rule::VtepCidrInPodPool && is_default("cluster-pool-ipv4-cidr") {
        // Other values may set the pool.
        (format!("{} (the chart's default pool)", finding.problem), finding.remedy.clone(), Severity::Info)
    } else {
        (finding.problem.clone(), finding.remedy.clone(), severity)
    };
    let remedy = if configuration.root.is_chart { in_words_of_chart(remedy) } else { remedy };
    Finding { severity, ..Finding::new(rule, key, index, value.as_deref(), problem, remedy).within(scope) }
}
