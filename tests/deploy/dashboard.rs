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

#[test]
fn its_queries_are_for_series_that_exist() -> Result<()> {
    let series = Series::of_the_agent()?;
    let dashboard = dashboard()?;
    let mut queries = 0;
    for panel in list(&dashboard, "panels") {
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
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard, "panels") {
        ensure!(ids.insert(panel["id"].to_string()), "two panels {}", panel["id"]);
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
    for panel in list(&dashboard, "panels").filter(|panel| panel["type"] != "row") {
        let sources = list(panel, "targets").chain([panel]).map(|holder| &holder["datasource"]["uid"]);
        for source in sources {
            ensure!(source == "${datasource}", "{}: {source}", panel["title"]);
        }
    }
    Ok(())
}
