//! The alerts: promtool tests them with series that fire and series that do not, and they match the agent's causes and metrics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vtep_core::diagnosis::{Cause, RUNBOOK, Verdict};

use crate::{
    metrics::Series,
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

/// Each alert by its name.
fn alerts() -> Result<BTreeMap<String, Value>> {
    let file = yaml(&rules())?;
    let groups = file["groups"].as_array().context("groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
    rules.map(|rule| Ok((rule["alert"].as_str().context("a name")?.to_owned(), rule.clone()))).collect()
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

/// The severity of an alert follows the verdict, whatever the cause.
#[test]
fn every_verdict_but_health_has_an_alert_that_leads_to_its_cause() -> Result<()> {
    let alerts = alerts()?;
    for &verdict in Verdict::ALL {
        let severity = match verdict {
            Verdict::Healthy => continue,
            Verdict::Unreachable | Verdict::Misconfigured => "critical",
            Verdict::Degraded | Verdict::Unknown => "warning",
        };
        let alert = verdict.alert().with_context(|| format!("{verdict} has no alert"))?;
        let rule = alerts.get(alert).with_context(|| format!("no {alert}"))?;
        let wanted = format!("(vtep_agent_vtep_verdict{{verdict=\"{verdict}\"}} == 1)");
        ensure!(text(rule, "expr")?.contains(&wanted), "{alert} is not about {wanted}");
        ensure!(text(&rule["labels"], "severity")? == severity, "{alert} is not {severity}");
        let link = text(&rule["annotations"], "runbook_url")?;
        ensure!(
            link == format!("{RUNBOOK}#{{{{ $labels.cause }}}}"),
            "{alert} does not lead to the cause's section: {link}"
        );
    }
    Ok(())
}

#[test]
fn they_ask_for_series_that_exist_and_say_what_to_read() -> Result<()> {
    let series = Series::of_the_agent()?;
    for (name, rule) in alerts()? {
        let annotations = &rule["annotations"];
        for annotation in ["summary", "description", "runbook_url"] {
            series.check(text(&rule, "expr")?, text(annotations, annotation)?).with_context(|| name.clone())?;
        }
        let link = text(annotations, "runbook_url")?;
        ensure!(link.starts_with("docs/runbook.md#"), "{name}: {link}");
        let severity = text(&rule["labels"], "severity")?;
        ensure!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        text(&rule, "for")?;
    }
    Ok(())
}

#[test]
fn the_chart_carries_them_with_links_to_the_users_runbook() -> Result<()> {
    let values: Vec<_> = EVERYTHING.iter().copied().chain(["runbookUrl=https://wiki.example.com/vtep"]).collect();
    let objects = render(&values)?;
    let rendered = &objects.only("PrometheusRule")?["spec"]["groups"];
    let mut groups = yaml(&rules())?["groups"].take();
    for group in groups.as_array_mut().context("groups")? {
        for rule in group["rules"].as_array_mut().context("rules")? {
            let Some(Value::String(link)) = rule["annotations"].get_mut("runbook_url") else {
                bail!("no link in {rule}")
            };
            *link = link.replace("docs/runbook.md", "https://wiki.example.com/vtep");
        }
    }
    ensure!(*rendered == groups, "{rendered}");
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
        if section != "{{ $labels.cause }}" {
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
