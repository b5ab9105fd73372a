//! The Grafana dashboard: it is JSON, the chart has the same one as the file, and each query is for existing series.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    metrics::Series,
    tools::{CHART, EVERYTHING, read, render},
};

fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&read(&format!("{CHART}/dashboards/vtep-agent.json"))?)?)
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// All panels except rows: those that are always visible, and those in a row that is folded.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let inside = list(dashboard, "panels").flat_map(|row| list(row, "panels"));
    list(dashboard, "panels").filter(|panel| panel["type"] != "row").chain(inside)
}

/// Each query with its panel.
fn queries<'a>(dashboard: &'a Value) -> Result<Vec<(&'a Value, &'a str)>> {
    let targets = panels(dashboard).flat_map(|panel| list(panel, "targets").map(move |target| (panel, target)));
    let query = |panel, target: &'a Value| {
        let expr = target["expr"].as_str().with_context(|| format!("no query in {target}"))?;
        Ok((panel, expr))
    };
    targets.map(|(panel, target)| query(panel, target)).collect()
}

#[test]
fn the_chart_carries_it_for_grafanas_sidecar() -> Result<()> {
    let objects = render(EVERYTHING)?;
    let object = objects.only("ConfigMap")?;
    ensure!(object["metadata"]["labels"]["grafana_dashboard"] == "1", "{}", object["metadata"]);
    let text = object["data"]["vtep-agent.json"].as_str().context("no vtep-agent.json")?;
    ensure!(serde_json::from_str::<Value>(text)? == dashboard()?, "it is another one");
    Ok(())
}

#[test]
fn it_goes_from_the_fleet_to_the_node_to_the_vtep() -> Result<()> {
    let dashboard = dashboard()?;
    let rows = list(&dashboard, "panels").filter(|panel| panel["type"] == "row");
    let rows: Vec<_> = rows.filter_map(|row| row["title"].as_str()).collect();
    ensure!(rows == ["Fleet", "Node $node", "VTEP $cidr"], "{rows:?}");
    Ok(())
}

/// Grafana asks for nothing in a folded row, so a fleet's dashboard opens with the queries about the fleet only.
#[test]
fn only_the_fleet_is_unfolded() -> Result<()> {
    let dashboard = dashboard()?;
    let rows: Vec<_> = list(&dashboard, "panels").filter(|panel| panel["type"] == "row").collect();
    for row in &rows[1..] {
        ensure!(row["collapsed"] == true && list(row, "panels").count() >= 5, "{} is not folded", row["title"]);
    }
    let visible =
        list(&dashboard, "panels").flat_map(|panel| list(panel, "targets")).filter_map(|t| t["expr"].as_str());
    for query in visible {
        ensure!(!query.contains("$node"), "{query} is about a node, outside the folded rows");
    }
    Ok(())
}

#[test]
fn every_query_is_for_the_chosen_clusters() -> Result<()> {
    let dashboard = dashboard()?;
    let variables: Vec<_> =
        list(&dashboard["templating"], "list").filter_map(|variable| variable["name"].as_str()).collect();
    ensure!(variables == ["datasource", "cluster", "node", "cidr"], "{variables:?}");
    for variable in list(&dashboard["templating"], "list").skip(1) {
        // Without a label `cluster`, "All" has to select all series, too.
        ensure!(variable["allValue"] == ".*", "{variable}");
    }
    let of_variables =
        list(&dashboard["templating"], "list").skip(2).filter_map(|variable| variable["definition"].as_str());
    for query in queries(&dashboard)?.into_iter().map(|(_, query)| query).chain(of_variables) {
        let selectors = query.matches("vtep_agent_").count();
        let of_cluster = query.matches("cluster=~\"$cluster\"").count();
        ensure!(selectors == of_cluster, "{query} does not select by $cluster");
    }
    Ok(())
}

/// A fleet has thousands of nodes: a panel shows at most twenty of them, or how many there are, or a heat map.
#[test]
fn no_panel_has_a_line_for_each_node() -> Result<()> {
    let dashboard = dashboard()?;
    let is_limited = |query: &str| {
        query.starts_with("topk(10, ") || query.starts_with("bottomk(10, ") || query.starts_with("bottomk(20, ")
    };
    for (panel, query) in queries(&dashboard)? {
        let without_sort = query.trim_start_matches("sort_desc(");
        let by = without_sort.split_once(" by (").and_then(|(before, rest)| Some((before, rest.split_once(')')?.0)));
        let counts = match by {
            Some((before, labels)) if !before.contains('(') => !labels.split(", ").any(|label| label == "node"),
            _ => ["count(", "sum(", "max("].iter().any(|function| without_sort.starts_with(function)),
        };
        ensure!(is_limited(query) || counts, "{}: {query}", panel["title"]);
    }
    let heat_maps: Vec<_> = panels(&dashboard).filter(|panel| panel["type"] == "heatmap").collect();
    ensure!(heat_maps.len() == 1 && heat_maps[0]["targets"][0]["format"] == "heatmap", "{heat_maps:?}");
    Ok(())
}

#[test]
fn its_queries_are_for_series_that_exist() -> Result<()> {
    let series = Series::of_the_agent()?;
    let dashboard = dashboard()?;
    let mut queries = 0;
    for panel in panels(&dashboard) {
        for target in list(panel, "targets") {
            let query = target["expr"].as_str().with_context(|| format!("no query in {}", panel["title"]))?;
            series.check(query, target["legendFormat"].as_str().unwrap_or_default())?;
            queries += 1;
        }
    }
    ensure!(queries >= 20, "{queries} queries");
    for variable in list(&dashboard["templating"], "list").filter(|variable| variable["type"] == "query") {
        let query = variable["query"]["query"].as_str().context("no query")?;
        let inside = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).with_context(|| query.to_owned())?;
        series.check(metric, &format!("{{{{{label}}}}}"))?;
        ensure!(variable["name"] == label && variable["definition"] == query, "{variable}");
    }
    Ok(())
}

#[test]
fn its_panels_are_told_apart_and_do_not_overlap() -> Result<()> {
    let dashboard = dashboard()?;
    let mut ids = BTreeSet::new();
    let always = list(&dashboard, "panels").collect::<Vec<_>>();
    let folded = list(&dashboard, "panels").map(|row| list(row, "panels").collect());
    // A folded row takes no place beyond its own line.
    for together in folded.chain([always]) {
        do_not_overlap(&together)?;
        for panel in together {
            ensure!(ids.insert(panel["id"].to_string()), "two panels {}", panel["id"]);
        }
    }
    Ok(())
}

fn do_not_overlap(panels: &[&Value]) -> Result<()> {
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64());
        let ((x, y), (w, h)) = (x.zip(y).context("a place")?, w.zip(h).context("a size")?);
        ensure!(x + w <= 24, "{} is wider than the screen", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            ensure!(taken.insert(cell), "{} lies upon another panel", panel["title"]);
        }
    }
    Ok(())
}

/// Each panel takes its Prometheus from the variable of the dashboard.
#[test]
fn it_takes_any_prometheus() -> Result<()> {
    let dashboard = dashboard()?;
    for panel in panels(&dashboard) {
        let sources = list(panel, "targets").chain([panel]).map(|holder| &holder["datasource"]["uid"]);
        for source in sources {
            ensure!(source == "${datasource}", "{}: {source}", panel["title"]);
        }
    }
    Ok(())
}
