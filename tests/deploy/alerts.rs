//! The alerts: promtool tests them with series that fire and series that do not, and they match the agent's causes and metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vtep_core::diagnosis::{Cause, RUNBOOK, Verdict};

use crate::{
    metrics::Series,
    names::release,
    tools::{CHART, EVERYTHING, read, render, run_well},
};

/// The file with the unit tests of the alerts.
const TESTS: &str = "tests/deploy/alerts.yaml";

fn rules() -> String {
    format!("{CHART}/rules/vtep-agent.yaml")
}

fn yaml(path: &str) -> Result<Value> {
    serde_saphyr::from_str(&read(path)?).with_context(|| path.to_owned())
}

/// Each rule with this field, by the field's value.
fn rules_with(field: &str) -> Result<BTreeMap<String, Value>> {
    let file = yaml(&rules())?;
    let groups = file["groups"].as_array().context("groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    Ok(rules.filter_map(|rule| Some((rule[field].as_str()?.to_owned(), rule.clone()))).collect())
}

/// Each alert by its name.
fn alerts() -> Result<BTreeMap<String, Value>> {
    rules_with("alert")
}

/// The query of each recording rule, by the name of its series.
fn recorded() -> Result<BTreeMap<String, String>> {
    rules_with("record")?.into_iter().map(|(name, rule)| Ok((name, text(&rule, "expr")?.to_owned()))).collect()
}

fn text<'a>(rule: &'a Value, field: &str) -> Result<&'a str> {
    rule[field].as_str().with_context(|| format!("no {field} in {rule}"))
}

#[test]
fn promtool_takes_them() -> Result<()> {
    run_well("promtool", &["check", "rules", "--lint-fatal", &rules()])?;
    Ok(())
}

#[test]
fn they_fire_when_they_should_and_only_then() -> Result<()> {
    run_well("promtool", &["test", "rules", TESTS])?;
    let tests = yaml(TESTS)?;
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in tests["tests"].as_array().context("tests")? {
        for expected in test["alert_rule_test"].as_array().context("alert_rule_test")? {
            let fires = expected["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            let of = if fires { &mut firing } else { &mut silent };
            of.insert(text(expected, "alertname")?.to_owned());
        }
    }
    let alerts: BTreeSet<_> = alerts()?.into_keys().collect();
    ensure!(firing == alerts, "{TESTS} lets fire {firing:?}");
    ensure!(silent == alerts, "{TESTS} keeps silent {silent:?}");
    Ok(())
}

/// A fleet of 500 nodes: one BIG-IP is down for all of them, and another one for twelve. Each is one alert, and not 500.
#[test]
fn a_big_ip_that_is_down_on_500_nodes_is_one_alert() -> Result<()> {
    let series = |node: usize, cidr: &str, endpoint: &str, verdict: &str, cause: &str| {
        let labels = format!("node=\"worker-{node:03}\", cidr=\"{cidr}\", endpoint=\"{endpoint}\"");
        json!({ "series": format!("vtep_agent_vtep_verdict{{{labels}, verdict=\"{verdict}\", cause=\"{cause}\"}}"), "values": "1x60" })
    };
    let down = (1..=500).map(|node| series(node, "10.1.6.0/24", "10.169.72.34", "unreachable", "endpoint-unreachable"));
    let some = (1..=500).map(|node| {
        let (verdict, cause) = if node > 488 { ("unreachable", "tunnel-silent") } else { ("healthy", "") };
        series(node, "10.1.5.0/24", "10.169.72.36", verdict, cause)
    });
    let expected = |alert: &str,
                    at: &str,
                    severity: &str,
                    (cidr, endpoint): (&str, &str),
                    [summary, description, cause]: [&str; 3]| {
        json!({ "eval_time": at, "alertname": alert, "exp_alerts": [{
            "exp_labels": { "severity": severity, "cidr": cidr, "endpoint": endpoint },
            "exp_annotations": { "summary": summary, "description": description, "runbook_url": format!("docs/runbook.md#{cause}") },
        }] })
    };
    let alerts = [
        expected(
            "VtepDown",
            "5m",
            "critical",
            ("10.1.6.0/24", "10.169.72.34"),
            [
                "BIG-IP 10.169.72.34 (10.1.6.0/24) is down on 100% of its nodes: endpoint-unreachable",
                "The BIG-IP or the network before it has failed, and not the nodes. `vtep-agent fleet` shows all nodes in one look. Nodes: \
             worker-001, worker-002, worker-003, worker-004, worker-005, …",
                "endpoint-unreachable",
            ],
        ),
        expected(
            "VtepNodesDegraded",
            "12m",
            "warning",
            ("10.1.5.0/24", "10.169.72.36"),
            [
                "BIG-IP 10.169.72.36 (10.1.5.0/24) is in trouble on 2.4% of its nodes: tunnel-silent",
                "The BIG-IP works on the other nodes. `vtep-agent fleet` shows what the nodes in trouble have in common. Nodes: worker-489, \
             worker-490, worker-491, worker-492, worker-493, …",
                "tunnel-silent",
            ],
        ),
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let test = json!({
        "rule_files": [root.join(rules())], "evaluation_interval": "15s",
        "tests": [{ "interval": "15s", "input_series": down.chain(some).collect::<Vec<_>>(), "alert_rule_test": alerts }],
    });
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(file.path(), test.to_string())?;
    run_well("promtool", &["test", "rules", &file.path().display().to_string()])?;
    Ok(())
}

/// The alert that counts only few nodes, and the one about the same causes on many.
const NODE_ALERTS: [&str; 2] = ["VtepNodeProblem", "VtepNodeProblemWidespread"];
/// The series that each of the two recording rules makes.
const VTEPS: &str = "node:vtep_agent_vtep_verdict:max2m";
const NODES: &str = "node:vtep_agent_node_problem:max2m";

/// Except for causes on a node itself, the severity of an alert follows the verdict.
#[test]
fn every_verdict_but_health_has_an_alert_that_leads_to_its_cause() -> Result<()> {
    let alerts = alerts()?;
    let leads_to_the_cause = |rule: &Value, series: &str| {
        let link = text(&rule["annotations"], "runbook_url")?;
        let asks = format!("{RUNBOOK}#{{{{ with query (printf `count by (cause) ({series}{{");
        ensure!(link.starts_with(&asks), "{} does not lead to the cause's section: {link}", rule["alert"]);
        Ok(())
    };
    for &verdict in Verdict::ALL {
        let severity = match verdict {
            Verdict::Healthy => continue,
            Verdict::Unreachable | Verdict::Misconfigured => "critical",
            Verdict::Degraded | Verdict::Unknown => "warning",
        };
        let alert = verdict.alert().with_context(|| format!("{verdict} has no alert"))?;
        let rule = alerts.get(alert).with_context(|| format!("no {alert}"))?;
        let wanted = format!("max without (cause, verdict) ({VTEPS}{{verdict=\"{verdict}\"}})");
        ensure!(text(rule, "expr")?.contains(&wanted), "{alert} is not about {wanted}");
        ensure!(text(&rule["labels"], "severity")? == severity, "{alert} is not {severity}");
        leads_to_the_cause(rule, VTEPS)?;
    }
    for (alert, severity) in NODE_ALERTS.into_iter().zip(["warning", "critical"]) {
        let rule = alerts.get(alert).with_context(|| format!("no {alert}"))?;
        ensure!(text(&rule["labels"], "severity")? == severity, "{alert} is not {severity}");
        leads_to_the_cause(rule, NODES)?;
    }
    Ok(())
}

/// The recording rules separate the causes on a node itself from all others, as `Cause::alert` does.
#[test]
fn the_causes_on_a_node_are_those_of_the_core() -> Result<()> {
    let recorded = recorded()?;
    let expr = |series: &str| recorded.get(series).with_context(|| format!("nothing records {series}"));
    let of_a_node = ["node-.+", "cilium-.+", "dropped-on-node", "datapath-missing"];
    let rest = format!("cause!~\"{}\"", of_a_node.join("|"));
    ensure!(expr(VTEPS)?.contains(&rest), "{VTEPS}: no {rest}");
    for part in [r#"cause=~"node-.+|cilium-.+|dropped-on-node""#, r#"cause="datapath-missing""#] {
        ensure!(expr(NODES)?.contains(part), "{NODES}: no {part}");
    }
    for cause in Cause::ALL.iter().filter(|cause| !cause.is_remark()) {
        let is_one = of_a_node.iter().any(|pattern| match pattern.strip_suffix(".+") {
            Some(prefix) => cause.id().starts_with(prefix),
            None => cause.id() == *pattern,
        });
        ensure!(is_one == (cause.alert() == Some(NODE_ALERTS[0])), "{cause}: {:?}", cause.alert());
    }
    Ok(())
}

#[test]
fn they_ask_for_series_that_exist_and_say_what_to_read() -> Result<()> {
    let recorded = recorded()?;
    let mut series = Series::of_the_agent()?;
    for (name, expr) in &recorded {
        series.check(expr, "").with_context(|| name.clone())?;
    }
    series.record(&recorded);
    for (name, rule) in alerts()? {
        let annotations = &rule["annotations"];
        let expr = text(&rule, "expr")?;
        for annotation in ["summary", "description", "runbook_url"] {
            let annotation = text(annotations, annotation)?;
            series.check(expr, annotation).with_context(|| name.clone())?;
            for query in queries(annotation) {
                series.check(query, "").with_context(|| name.clone())?;
            }
        }
        let link = text(annotations, "runbook_url")?;
        ensure!(link.starts_with("docs/runbook.md#"), "{name}: {link}");
        let severity = text(&rule["labels"], "severity")?;
        ensure!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        text(&rule, "for")?;
    }
    Ok(())
}

/// What an annotation asks Prometheus.
fn queries(annotation: &str) -> impl Iterator<Item = &str> {
    annotation.split("printf `").skip(1).filter_map(|rest| Some(rest.split_once('`')?.0))
}

/// `by` would lose the labels of clusters, and one alert would stand for all of them.
#[test]
fn no_alert_loses_the_labels_of_a_cluster() -> Result<()> {
    for (name, rule) in alerts()? {
        let expr = text(&rule, "expr")?;
        ensure!(expr.contains(" without ("), "{name}: {expr}");
        let by = expr.split(" by (").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        ensure!(by.clone().all(|labels| labels == "cluster"), "{name} keeps only {:?}", by.collect::<Vec<_>>());
    }
    Ok(())
}

/// The example for Prometheus without the operator: it is one of Prometheus, and the alerts know its job.
#[test]
fn the_example_of_a_scrape_is_for_these_alerts() -> Result<()> {
    let readme = read("deploy/README.md")?;
    let example = readme.split("```yaml\n# prometheus.yml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut example: Value = serde_saphyr::from_str(example.context("no example")?)?;
    // The promtool of `make setup` has no discovery: the rest is checked with fixed targets.
    let discovery = example["scrape_configs"][0].as_object_mut().and_then(|job| job.remove("kubernetes_sd_configs"));
    ensure!(discovery.context("no discovery")?[0]["role"] == "pod");
    example["scrape_configs"][0]["static_configs"] = json!([{ "targets": ["10.169.72.239:9808"] }]);
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, example.to_string())?;
    run_well("promtool", &["check", "config", "--syntax-only", &file.path().display().to_string()])?;
    let scrape = &example["scrape_configs"][0];
    let job = scrape["job_name"].as_str().context("no job")?;
    let down = alerts()?;
    let expr = text(down.get("VtepAgentDown").context("no VtepAgentDown")?, "expr")?;
    ensure!(expr.contains(&format!("(.+/)?[^/]*{job}[^/]*\"")), "{job} is not in {expr}");
    let labels = scrape["relabel_configs"].as_array().context("no relabelings")?;
    // This label of the pods is the same in each release.
    ensure!(labels[0]["source_labels"][0] == "__meta_kubernetes_pod_label_app_kubernetes_io_component", "{labels:?}");
    ensure!(labels[0]["regex"] == "vtep-agent;http", "{labels:?}");
    ensure!(labels.iter().any(|label| label["target_label"] == "node"), "{labels:?}");
    Ok(())
}

/// The example for Alertmanager in the document: alerts that exist, by labels that both sides have.
#[test]
fn the_example_of_inhibition_is_about_these_alerts() -> Result<()> {
    let readme = read("deploy/README.md")?;
    let example = readme.split("```yaml\n# alertmanager.yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let example: Value = serde_saphyr::from_str(example.context("no example")?)?;
    let tests = yaml(TESTS)?;
    let inhibitions = example["inhibit_rules"].as_array().context("inhibit_rules")?;
    ensure!(inhibitions.len() >= 3, "{inhibitions:?}");
    for rule in inhibitions {
        let equal: Vec<_> = rule["equal"].as_array().context("equal")?.iter().filter_map(Value::as_str).collect();
        ensure!(equal.contains(&"cluster"), "one cluster would silence another: {rule}");
        let names = |field: &str| {
            let matcher = rule[field][0].as_str().with_context(|| format!("no {field} in {rule}"))?;
            let names = matcher.split('"').nth(1).with_context(|| matcher.to_owned())?;
            Ok::<Vec<_>, anyhow::Error>(names.split('|').map(str::to_owned).collect())
        };
        let (source, target) = (names("source_matchers")?, names("target_matchers")?);
        ensure!(source.iter().all(|name| !target.contains(name)), "{rule} silences itself");
        for name in source.iter().chain(&target) {
            let labels = expected_labels(&tests, name).with_context(|| format!("no case fires {name}"))?;
            let missing: Vec<_> = equal.iter().filter(|label| !labels.contains(**label)).collect();
            ensure!(missing.is_empty(), "{name} has no {missing:?}");
        }
    }
    let names: BTreeSet<_> = alerts()?.into_keys().collect();
    let table: BTreeSet<_> = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).collect();
    let table: BTreeSet<_> =
        table.into_iter().filter(|(name, _)| name.starts_with("Vtep")).map(|(name, _)| name.to_owned()).collect();
    ensure!(table == names, "the table in deploy/README.md has {table:?}");
    Ok(())
}

/// Every label that this alert has in some case.
fn expected_labels(tests: &Value, alert: &str) -> Option<BTreeSet<String>> {
    let list = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let cases = list(tests, "tests").into_iter().flat_map(|test| list(&test, "alert_rule_test"));
    let fired = cases.filter(|case| case["alertname"] == alert).flat_map(|case| list(&case, "exp_alerts"));
    let labels: BTreeSet<_> = fired
        .filter_map(|fired| fired["exp_labels"].as_object().cloned())
        .flat_map(|labels| labels.into_iter().map(|(name, _)| name))
        .collect();
    (!labels.is_empty()).then_some(labels)
}

#[test]
fn the_chart_carries_them_with_links_to_the_users_runbook() -> Result<()> {
    let values: Vec<_> = EVERYTHING.iter().copied().chain(["runbookUrl=https://wiki.example.com/vtep"]).collect();
    let objects = render(&values)?;
    let rendered = &objects.only("PrometheusRule")?["spec"]["groups"];
    let mut groups = yaml(&rules())?["groups"].take();
    for group in groups.as_array_mut().context("groups")? {
        for rule in group["rules"].as_array_mut().context("rules")? {
            if rule["record"].is_string() {
                continue;
            }
            let Some(Value::String(link)) = rule["annotations"].get_mut("runbook_url") else {
                bail!("no link in {rule}")
            };
            *link = link.replace("docs/runbook.md", "https://wiki.example.com/vtep");
        }
    }
    ensure!(*rendered == groups, "{rendered}");
    Ok(())
}

/// The alerts about agents know them by the names of a job and a DaemonSet, and the release gives both a name.
#[test]
fn a_release_with_another_name_has_the_alerts_about_its_agents() -> Result<()> {
    for (release_name, values, name) in [
        ("dmz", &[][..], "dmz-vtep-agent"),
        ("vtep-agent-dmz", &[], "vtep-agent-dmz"),
        ("dmz", &["fullnameOverride=tunnels"], "tunnels"),
        ("dmz", &["nameOverride=bigip"], "dmz-bigip"),
    ] {
        let values: Vec<_> = values.iter().copied().chain(["prometheusRule.enabled=true"]).collect();
        let objects = release(release_name, "net", &values)?;
        let daemon_set = objects.only("DaemonSet")?;
        ensure!(daemon_set["metadata"]["name"] == name, "{release_name} {values:?}");
        let pods = &daemon_set["spec"]["template"]["metadata"]["labels"];
        ensure!(pods["app.kubernetes.io/component"] == "vtep-agent", "a description names the pods by it: {pods}");
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("rules.yaml"), objects.only("PrometheusRule")?["spec"].to_string())?;
        // The cases about agents, with the names of this release. They are kept as text: a YAML parser takes the series 0x60 for a number.
        let tests = read(TESTS)?
            .replace(&format!("../../{}", rules()), "rules.yaml")
            .replace("job=\"kube-system/vtep-agent\"", &format!("job=\"net/{name}\""))
            .replace("job=\"vtep-agent\"", &format!("job=\"{name}\""))
            .replace("daemonset=\"vtep-agent\"", &format!("daemonset=\"{name}\""));
        let (head, cases) = tests.split_once("\n  - name: ").context("no case")?;
        let about = |alert: &str| {
            let fires = format!("alertname: {alert}\n        exp_alerts:");
            let cases: Vec<_> = cases.split("\n  - name: ").filter(|case| case.contains(&fires)).collect();
            ensure!(!cases.is_empty(), "no case fires {alert}");
            Ok(cases)
        };
        let about = ["VtepAgentDown", "VtepAgentNotReady", "VtepAgentAbsent"].map(about);
        let cases: BTreeSet<_> = about.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let file = dir.path().join("tests.yaml");
        fs::write(&file, cases.iter().fold(head.to_owned(), |file, case| file + "\n  - name: " + case))?;
        run_well("promtool", &["test", "rules", &file.display().to_string()])
            .with_context(|| format!("{release_name} {values:?}"))?;
    }
    Ok(())
}

/// The anchors of the runbook's headings, as browsers use them.
#[test]
fn every_link_leads_to_a_section_of_the_runbook() -> Result<()> {
    let runbook = read("docs/runbook.md")?;
    let headings = runbook.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchors: BTreeSet<_> = headings.map(anchor).collect();
    let mut wanted: BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.id().to_owned()).collect();
    for rule in alerts()?.values() {
        let link = text(&rule["annotations"], "runbook_url")?;
        let section = link.split_once('#').with_context(|| link.to_owned())?.1;
        if !section.starts_with("{{") {
            wanted.insert(section.to_owned());
        }
    }
    let missing: Vec<_> = wanted.difference(&anchors).collect();
    ensure!(missing.is_empty(), "docs/runbook.md has no section for {missing:?}");
    Ok(())
}

/// Lower case, hyphens in place of blanks, and no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
