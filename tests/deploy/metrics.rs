//! The agent's real series, and the series in a query of PromQL.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use vtep_agent::http::metrics::{self, Format};
use vtep_core::report::status::Status;

/// The labels that Prometheus adds to each series: of the scraped target (`endpoint` is the port, if somebody else's monitor leaves it), and
/// of the cluster where there are several. The chart's monitor adds the node's name.
const ADDED: [&str; 9] = ["cluster", "container", "endpoint", "instance", "job", "namespace", "node", "pod", "service"];
/// Series of others, with the labels of their own: every target has `up`, and kube-state-metrics the rest.
const FOREIGN: [(&str, &[&str]); 3] = [
    ("up", &[]),
    ("kube_daemonset_status_desired_number_scheduled", &["daemonset"]),
    ("kube_daemonset_status_number_ready", &["daemonset"]),
];

/// Every series of the agent: its labels by its name.
pub(crate) struct Series(BTreeMap<String, BTreeSet<String>>);

/// The series and labels in a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Names, with the labels that select among their series.
    selectors: Vec<(String, BTreeSet<String>)>,
    /// The remaining labels, if the query aggregates by them.
    by: Option<BTreeSet<String>>,
    /// The labels that some aggregation removes.
    without: BTreeSet<String>,
    /// The labels by which series are matched.
    on: BTreeSet<String>,
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
        series.extend(FOREIGN.map(|(name, own)| (name.to_owned(), set(own))));
        Ok(Self(series))
    }

    /// Adds the series of recording rules.
    pub(crate) fn record(&mut self, rules: &BTreeMap<String, String>) {
        for (name, query) in rules {
            let Query { selectors, without, .. } = Query::parse(query);
            let own = selectors.iter().filter_map(|(name, _)| self.0.get(name)).flatten();
            let left = own.filter(|label| !without.contains(*label)).cloned().collect();
            self.0.insert(name.clone(), left);
        }
    }

    /// Whether all series and labels of a query exist, and all labels in `shown`.
    pub(crate) fn check(&self, query: &str, shown: &str) -> Result<()> {
        let Query { selectors, by, without, on } = Query::parse(query);
        ensure!(!selectors.is_empty(), "{query}: it asks for nothing of the agent");
        let mut known = set(&ADDED);
        for (name, used) in selectors {
            let own = self.0.get(&name).with_context(|| format!("no {name}"))?;
            let own: BTreeSet<_> = own.iter().cloned().chain(set(&ADDED)).collect();
            ensure!(used.is_subset(&own), "{query}: {name} has {own:?}");
            known.extend(own);
        }
        for named in [&without, &on] {
            ensure!(named.is_subset(&known), "{query}: {named:?} of {known:?}");
        }
        let left = by.unwrap_or_else(|| known.difference(&without).cloned().collect());
        ensure!(left.is_subset(&known), "{query}: by {left:?} of {known:?}");
        let shown = placeholders(shown);
        ensure!(shown.is_subset(&left), "{query}: shows {shown:?} of {left:?}");
        Ok(())
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let starts = ["vtep_agent_", "node:vtep_agent_", "kube_daemonset_", "up{"];
        let mut selectors = Vec::new();
        for (at, _) in starts.iter().flat_map(|start| query.match_indices(start)) {
            if query[..at].ends_with(is_name) {
                continue;
            }
            let rest = &query[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            selectors.push((rest[..end].to_owned(), labels(&rest[end..])));
        }
        let lists = |keyword: &str| {
            let lists: Vec<_> = query.split(keyword).skip(1).filter_map(|rest| rest.split_once(')')).collect();
            let labels = |list: &str| list.split(',').map(|label| label.trim().to_owned()).collect::<BTreeSet<_>>();
            lists.into_iter().map(|(list, _)| labels(list)).collect::<Vec<_>>()
        };
        let without: BTreeSet<_> = lists(" without (").into_iter().flatten().collect();
        // The outermost aggregation decides. The alerts' queries have `by` only inside, for what they compare with.
        let by = lists(" by (").into_iter().next().filter(|_| without.is_empty());
        let on = lists(" on (").into_iter().flatten().filter(|label| !label.is_empty()).collect();
        Self { selectors, by, without, on }
    }
}

fn set(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// The labels in the braces at the beginning of the text. No value here contains a comma.
fn labels(text: &str) -> BTreeSet<String> {
    let inside = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    let pairs = inside.into_iter().flat_map(|(inside, _)| inside.split(','));
    pairs.filter_map(|pair| Some(pair.split_once(['=', '!'])?.0.trim().to_owned())).collect()
}

/// The labels that a text shows, in the form of Grafana (`{{node}}`) and of annotations in alerts (`$labels.node`).
fn placeholders(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let of_grafana = text.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()));
    let of_grafana = of_grafana.filter(|name| name.chars().all(is_name) && *name != "end");
    let of_alerts = text.split("$labels.").skip(1).filter_map(|rest| rest.split(|c| !is_name(c)).next());
    of_grafana.chain(of_alerts).map(str::to_owned).collect()
}

/// A status with a value for every metric.
fn status() -> Result<Status> {
    serde_json::from_str(include_str!("../fixtures/status.json")).context("no status")
}

#[test]
fn a_query_is_taken_apart() {
    let query = "count by (cidr, cause) (vtep_agent_vtep_cause{cause=~\"a|b\", node!=\"x\"} == 1) / on() up{job=\"y\"}";
    let expected = Query {
        selectors: vec![("vtep_agent_vtep_cause".into(), set(&["cause", "node"])), ("up".into(), set(&["job"]))],
        by: Some(set(&["cidr", "cause"])),
        ..Query::default()
    };
    assert_eq!(Query::parse(query), expected);
    let query = "count without (node) (max without (cause) (node:vtep_agent_x:max2m) unless on (cluster) vtep_agent_y)";
    let expected = Query {
        selectors: vec![("vtep_agent_y".into(), set(&[])), ("node:vtep_agent_x:max2m".into(), set(&[]))],
        by: None,
        without: set(&["node", "cause"]),
        on: set(&["cluster"]),
    };
    assert_eq!(Query::parse(query), expected);
    let shown = "{{ $labels.cidr }} on {{ $value }} {{node}}{{ with query (printf `x` $labels.cluster) }}{{ end }}";
    assert_eq!(placeholders(shown), set(&["cidr", "node", "cluster"]));
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
        ("count without (pods) (vtep_agent_vtep_healthy)", ""),
        ("count without (node) (vtep_agent_vtep_healthy)", "{{ $labels.node }}"),
        ("vtep_agent_vtep_healthy and on (clutser) vtep_agent_enforcing", ""),
        ("vector(0)", ""),
    ] {
        ensure!(series.check(query, shown).is_err(), "{query} passed");
    }
    series.check("count by (cidr) (vtep_agent_vtep_healthy{node=\"x\"})", "{{cidr}}")
}
