//! A real Prometheus beside the agent: the dashboard's queries have results, and the alerts fire.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use vtep_core::diagnosis::Verdict;
use vtep_lab::Lab;

use crate::support::{Agent, LISTEN, NOTICED_WITHIN, eventually};

/// Each agent has a namespace of its own, so any port is free.
const SERVER: &str = "127.0.0.1:9090";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/vtep-agent");
/// Scrapes and evaluations are a second apart.
const SCRAPED_WITHIN: Duration = Duration::from_secs(30);

/// The process ends with the test.
struct Prometheus<'l> {
    lab: &'l Lab,
    child: Child,
    dir: TempDir,
}

impl<'l> Prometheus<'l> {
    fn start(lab: &'l Lab) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{CHART}/rules/vtep-agent.yaml]
scrape_configs:
  - job_name: vtep-agent
    static_configs: [{{targets: [\"{LISTEN}\"], labels: {{cluster: lab, node: worker-1}}}}]
  - job_name: prometheus
    static_configs: [{{targets: [\"{SERVER}\"]}}]
"
        );
        fs::write(dir.path().join("config.yaml"), config)?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = lab.node.command(tool("prometheus"));
        command.arg(format!("--config.file={}", dir.path().join("config.yaml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg(format!("--web.listen-address={SERVER}"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn();
        let child = child.context("failed to start prometheus of target/tools: `make setup` brings it")?;
        Ok(Self { lab, child, dir })
    }

    /// The labels of each series in the result.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let mut command = self.lab.node.command(tool("promtool"));
        let output =
            command.args(["query", "instant", "--format=json", &format!("http://{SERVER}"), query]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{query}: {said}");
        let series: Vec<Value> = serde_json::from_slice(&output.stdout).with_context(|| query.to_owned())?;
        Ok(series.into_iter().map(|mut series| series["metric"].take()).collect())
    }

    fn wait_for(&self, query: &str, within: Duration) -> Result<Vec<Value>> {
        let answer = eventually(query, within, || {
            // Prometheus does not answer until it listens.
            Ok(self.query(query).ok().filter(|series| !series.is_empty()))
        });
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        answer.with_context(|| format!("{:?}\n{}", self.query(query), log()))
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tool(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target/tools/bin", name].iter().collect()
}

/// Each query with the shown part of its result, and Grafana's variables as "all".
fn queries() -> Result<Vec<(String, String)>> {
    let dashboard = fs::read_to_string(format!("{CHART}/dashboards/vtep-agent.json"))?;
    let dashboard: Value = serde_json::from_str(&dashboard)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    // Folded rows have panels of their own.
    let panels = panels.iter().chain(panels.iter().filter_map(|row| row["panels"].as_array()).flatten());
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let text = |target: &Value, field: &str| target[field].as_str().unwrap_or_default().to_owned();
    let all = |query: String| query.replace("$cluster", ".*").replace("$node", ".*").replace("$cidr", ".*");
    Ok(targets.map(|target| (all(text(target, "expr")), text(target, "legendFormat"))).collect())
}

#[test]
fn the_dashboards_queries_have_answers_and_the_alerts_see_an_outage() -> Result<()> {
    let lab = Lab::start()?;
    let mut agent = Agent::healthy(&lab)?;
    let prometheus = Prometheus::start(&lab)?;
    prometheus.wait_for("count_over_time(vtep_agent_build_info{node=\"worker-1\"}[1m]) >= 3", SCRAPED_WITHIN)?;

    // The format for clients that do not request OpenMetrics, with names by Prometheus' rules.
    let (_, text) = agent.get("/metrics")?.context("an answer")?;
    let mut check = Command::new(tool("promtool")).args(["check", "metrics"]).stdin(Stdio::piped()).spawn()?;
    check.stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    ensure!(check.wait()?.success(), "promtool check metrics: {text}");
    prometheus.wait_for("histogram_quantile(0.99, vtep_agent_probe_duration_seconds_bucket) > 0", SCRAPED_WITHIN)?;

    let queries = queries()?;
    ensure!(queries.len() >= 20, "{queries:?}");
    for (query, legend) in queries {
        // Series that the dashboard shows only in trouble exist all the same.
        let series = query.replace(" == 0", "").replace(" == 1", "");
        // A VTEP has a series only for the verdict that holds.
        let series = Verdict::ALL.iter().fold(series, |series, verdict| {
            series.replace(&format!("vtep_verdict{{verdict=\"{verdict}\""), "vtep_verdict{verdict=~\".+\"")
        });
        let answers = prometheus.wait_for(&series, SCRAPED_WITHIN)?;
        prometheus.query(&query)?;
        let labels = legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()));
        for label in labels {
            ensure!(answers.iter().all(|answer| !answer[label].is_null()), "{query} has no {label}: {answers:?}");
        }
    }

    prometheus.wait_for("prometheus_rule_group_rules == 16", SCRAPED_WITHIN)?;
    prometheus.wait_for("sum(prometheus_rule_evaluation_failures_total) == 0", SCRAPED_WITHIN)?;
    let alerts = prometheus.query("ALERTS")?;
    ensure!(alerts.is_empty(), "on a healthy node: {alerts:?}");

    // Pending is enough: promtool tests how long each alert waits.
    lab.bigips[0].down()?;
    let outage =
        "ALERTS{alertname=\"VtepUnreachable\", cidr=\"10.1.6.0/24\", endpoint=\"10.169.72.34\", severity=\"critical\"}";
    prometheus.wait_for(outage, NOTICED_WITHIN)?;
    agent.terminate()?;
    prometheus.wait_for("ALERTS{alertname=\"VtepAgentDown\"}", SCRAPED_WITHIN)?;
    let absent = prometheus.query("ALERTS{alertname=\"VtepAgentAbsent\"}")?;
    ensure!(absent.is_empty(), "an agent that does not answer is one alert: {absent:?}");
    Ok(())
}
