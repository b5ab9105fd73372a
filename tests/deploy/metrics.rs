//! The agent's real series, and the series in a query of PromQL.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use vtep_agent::http::metrics::{self, Format};
use vtep_core::report::status::Status;

/// The labels that Prometheus adds to each series: the scraped address, and through the chart's monitor the node's name.
const ADDED: [&str; 3] = ["instance", "job", "node"];

/// Every series of the agent: its labels by its name.
pub(crate) struct Series(BTreeMap<String, BTreeSet<String>>);

/// The series and labels in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Names, with the labels that select among their series.
    selectors: Vec<(String, BTreeSet<String>)>,
    /// The remaining labels, if the query aggregates.
    by: Option<BTreeSet<String>>,
}

impl Series {
    /// The series of the encoder of `/metrics`.
    pub(crate) fn of_the_agent() -> Result<Self> {
        let text = metrics::encode(status()?, Format::Prometheus)?;
        let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let end = line.find(['{', ' ']).with_context(|| format!("no name in {line}"))?;
            series.entry(line[..end].to_owned()).or_default().extend(labels(&line[end..]));
        }
        ensure!(series.len() >= 20, "{series:?}");
        Ok(Self(series))
    }

    /// Whether all series and labels of a query exist, and all labels in `shown`.
    pub(crate) fn check(&self, query: &str, shown: &str) -> Result<()> {
        let Query { selectors, by } = Query::parse(query);
        ensure!(!selectors.is_empty(), "{query}: it asks for nothing of the agent");
        let added = || ADDED.iter().map(|label| (*label).to_owned());
        let mut known: BTreeSet<String> = added().collect();
        for (name, used) in selectors {
            // Every target has this series.
            let own = if name == "up" {
                BTreeSet::new()
            } else {
                self.0.get(&name).cloned().with_context(|| format!("no {name}"))?
            };
            let own: BTreeSet<_> = own.into_iter().chain(added()).collect();
            ensure!(used.is_subset(&own), "{query}: {name} has {own:?}");
            known.extend(own);
        }
        let left = by.unwrap_or_else(|| known.clone());
        ensure!(left.is_subset(&known), "{query}: by {left:?} of {known:?}");
        let shown = placeholders(shown);
        ensure!(shown.is_subset(&left), "{query}: shows {shown:?} of {left:?}");
        Ok(())
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut found = Self::default();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (at, _) in query.match_indices("vtep_agent_").chain(query.match_indices("up{")) {
            if query[..at].ends_with(is_name) {
                continue;
            }
            let rest = &query[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            found.selectors.push((rest[..end].to_owned(), labels(&rest[end..])));
        }
        let by = query.split_once(" by (").and_then(|(_, rest)| rest.split_once(')'));
        found.by = by.map(|(labels, _)| labels.split(',').map(|label| label.trim().to_owned()).collect());
        found
    }
}

/// The labels in the braces at the beginning of the text. No value here contains a comma.
fn labels(text: &str) -> BTreeSet<String> {
    let inside = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    let pairs = inside.into_iter().flat_map(|(inside, _)| inside.split(','));
    pairs.filter_map(|pair| Some(pair.split_once(['=', '!'])?.0.trim().to_owned())).collect()
}

/// The labels between double braces, in the form of Grafana and of annotations in alerts.
fn placeholders(text: &str) -> BTreeSet<String> {
    let parts = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    let names = parts.map(|(name, _)| name.trim().trim_start_matches("$labels."));
    names.filter(|name| !name.starts_with('$')).map(str::to_owned).collect()
}

/// A status with a value for every metric.
fn status() -> Result<Status> {
    serde_json::from_str(include_str!("../fixtures/status.json")).context("no status")
}

#[test]
fn a_query_is_taken_apart() {
    let set = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let query = "count by (cidr, cause) (vtep_agent_vtep_cause{cause=~\"a|b\", node!=\"x\"} == 1) / on() up{job=\"y\"}";
    let expected = Query {
        selectors: vec![("vtep_agent_vtep_cause".into(), set(&["cause", "node"])), ("up".into(), set(&["job"]))],
        by: Some(set(&["cidr", "cause"])),
    };
    assert_eq!(Query::parse(query), expected);
    assert_eq!(placeholders("{{ $labels.cidr }} on {{ $value }} {{node}}"), set(&["cidr", "node"]));
}

#[test]
fn what_does_not_exist_is_found() -> Result<()> {
    let series = Series::of_the_agent()?;
    for (query, shown) in [
        ("vtep_agent_vtep_sick", ""),
        ("vtep_agent_datapath_repairs", ""),
        ("vtep_agent_vtep_healthy{vtep=\"x\"}", ""),
        ("count by (severity) (vtep_agent_vtep_healthy)", ""),
        ("count by (cidr) (vtep_agent_vtep_healthy)", "{{node}}"),
        ("vector(0)", ""),
    ] {
        ensure!(series.check(query, shown).is_err(), "{query} passed");
    }
    series.check("count by (cidr) (vtep_agent_vtep_healthy{node=\"x\"})", "{{cidr}}")
}
