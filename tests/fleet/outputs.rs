//! What a person and a script see.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use vtep_apiserver::{Fault, Matcher, Resource, Times, objects};

use crate::cluster::{Agent, Cluster, NAMESPACE, healthy, silent};

const BROKEN: &str = "10.1.5.0/24";

/// 20 nodes in two zones: those of zone b lack an FDB record, one has another configuration, one hangs, one has no agent.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    for number in 1..=20 {
        let node = format!("worker-{number}");
        let since = format!("2026-11-27T08:{number:02}:00Z");
        let (zone, agent) = match number {
            12.. => ("b", Agent::Answers(silent(&node, BROKEN, &since))),
            3 => ("a", Agent::Hangs),
            4 => {
                let mut status = healthy(&node);
                status["config"]["hash"] = json!("9f2c000000000000000000000000000000000000000000000000000000000000");
                ("a", Agent::Answers(status))
            }
            _ => ("a", Agent::Answers(healthy(&node))),
        };
        cluster.add(&node, zone, agent)?;
    }
    cluster.add_node("worker-21", "a")?;
    Ok(cluster)
}

const QUICK: [&str; 2] = ["--timeout", "2s"];

#[test]
fn the_report_as_a_person_sees_it() -> Result<()> {
    let outcome = cluster()?.fleet(&QUICK)?;
    ensure!(outcome.code == Some(1), "{outcome:?}");
    ensure!(outcome.err.is_empty(), "no bar without a terminal: {outcome:?}");
    let is_link = |line: &str| line.trim_start().starts_with("https://");
    ensure!(outcome.out.lines().all(|line| is_link(line) || line.chars().count() <= 80), "{}", outcome.out);
    insta::assert_snapshot!(outcome.out);
    Ok(())
}

/// Several verdicts, a VTEP with a name, names that do not fold, and a right that is missing.
#[test]
fn many_troubles_are_in_order_and_long_lists_are_cut() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 1..=320 {
        let node = format!("pool-{}-{:x}", number * 7, number * 7919);
        let mut status = healthy(&node);
        let vtep = &mut status["vteps"][0];
        let trouble = match number % 8 {
            0 => Some(("misconfigured", Some("wrong-vni"), Some("set `key 2` on the tunnel: its frames carry VNI 5"))),
            1 => Some(("degraded", Some("packet-loss"), None)),
            2 => Some(("unknown", None, None)),
            _ => None,
        };
        if let Some((verdict, cause, hint)) = trouble {
            (vtep["verdict"], vtep["cause"], vtep["hint"]) = (json!(verdict), json!(cause), json!(hint));
            status["verdict"] = json!(verdict);
        }
        status["vteps"][1]["name"] = json!("vpc-gateway");
        cluster.add(&node, "a", Agent::Answers(status))?;
    }
    cluster.server.misbehave(Matcher::all().resource("nodes"), Fault::Forbidden, Times::Always);
    let outcome = cluster.fleet(&[])?;
    ensure!(outcome.out.lines().all(|line| line.chars().count() <= 80), "{}", outcome.out);
    insta::assert_snapshot!(outcome.out);
    Ok(())
}

#[test]
fn a_fleet_without_trouble_is_three_lines() -> Result<()> {
    let cluster = Cluster::start()?;
    for node in ["alpha", "beta"] {
        cluster.add(node, "a", Agent::Answers(healthy(node)))?;
    }
    let outcome = cluster.command([""; 0]).env("NO_COLOR", "1").output()?;
    ensure!(outcome.status.success());
    insta::assert_snapshot!(String::from_utf8(outcome.stdout)?);
    Ok(())
}

/// docs/fleet.md shows what the command prints.
#[test]
fn the_example_in_the_document_is_what_it_prints() -> Result<()> {
    let document = include_str!("../../docs/fleet.md");
    let example = document.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).context("an example")?;
    let cluster = Cluster::start()?;
    let five_hours_ago = Timestamp::now().checked_sub(SignedDuration::from_hours(5))?;
    for number in 1..=500 {
        let node = format!("worker-{number}");
        let agent = match number {
            7 => Agent::Dead,
            489.. => Agent::Answers(silent(&node, BROKEN, "2026-11-27T08:00:00Z")),
            _ => Agent::Answers(healthy(&node)),
        };
        let zone = if number > 480 { "b" } else { "a" };
        cluster.add(&node, zone, agent)?;
        if number > 488 {
            cluster.server.backdate(Resource::Nodes, "", &node, five_hours_ago);
        }
    }
    let printed = cluster.fleet(&[])?.out;
    ensure!(printed == example, "docs/fleet.md has\n{example}\nand it prints\n{printed}");
    Ok(())
}

#[test]
fn wide_has_a_line_for_each_node() -> Result<()> {
    let outcome = cluster()?.fleet(&[&QUICK[..], &["-o", "wide"]].concat())?;
    insta::assert_snapshot!(outcome.out);
    Ok(())
}

#[test]
fn json_and_yaml_have_the_same() -> Result<()> {
    let cluster = cluster()?;
    let mut json = cluster.report(&QUICK)?;
    let yaml = cluster.fleet(&[&QUICK[..], &["-o", "yaml"]].concat())?;
    let mut yaml: Value = serde_saphyr::from_str(&yaml.out)?;
    for report in [&mut json, &mut yaml] {
        ensure!(report["at"].take().is_string());
    }
    assert_eq!(json, yaml);
    assert_eq!(json["summary"], json!({ "nodes": 20, "answered": 19, "healthy": 10, "trouble": 9, "unanswered": 1 }));
    assert_eq!(json["trouble"][0]["folded"], "worker-[12-20]");
    assert_eq!(json["trouble"][0]["common"], json!([{ "attribute": "zone", "value": "b", "others": 0 }]));
    assert_eq!(json["without_agent"], json!(["worker-21"]));
    assert_eq!(json["unanswered"][0]["nodes"], json!(["worker-3"]));
    assert_eq!(json["differences"][0]["values"][1]["nodes"], json!(["worker-4"]));
    Ok(())
}

#[test]
fn filters_narrow_the_report_and_its_verdict() -> Result<()> {
    let cluster = cluster()?;
    let sum = |args: &[&str]| -> Result<(Option<i32>, String)> {
        let outcome = cluster.fleet(&[&QUICK[..], args].concat())?;
        Ok((outcome.code, outcome.out.lines().next().unwrap_or_default().to_owned()))
    };
    assert_eq!(sum(&["--node", "worker-1", "--node", "worker-2"])?, (Some(0), "2 of 2 nodes healthy".into()));
    assert_eq!(sum(&["--node", "worker-1*", "--vtep", "10.1.6.0/24"])?, (Some(0), "11 of 11 nodes healthy".into()));
    assert_eq!(sum(&["--cause", "tunnel-silent"])?, (Some(1), "0 of 9 nodes healthy, 9 with trouble".into()));
    // That no node has the cause is good news, and that none has the VTEP is not; the one that hangs is not asked.
    let asked = ["--node", "worker-1*"];
    let no_cause = "no node has such a cause: 11 of 11 agents answered";
    assert_eq!(sum(&[&asked[..], &["--cause", "wrong-vni"]].concat())?, (Some(0), no_cause.into()));
    let no_vtep = "no node has such a VTEP: 11 of 11 agents answered";
    assert_eq!(sum(&[&asked[..], &["--vtep", "10.9.9.0/24"]].concat())?, (Some(1), no_vtep.into()));
    assert_eq!(sum(&["--node", "other"])?, (Some(2), "no node matches: 0 of 0 agents answered".into()));
    assert_eq!(sum(&["--node", "worker-3"])?, (Some(2), "0 of 0 nodes healthy, 1 without an answer".into()));
    // Agents that are not selected are not asked: the one that hangs costs nothing.
    cluster.server.clear_requests();
    sum(&["--node", "worker-1"])?;
    let asked: Vec<_> =
        cluster.server.requests().into_iter().filter(|request| !request.subresource.is_empty()).collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    Ok(())
}

#[test]
fn a_closed_pipe_is_no_error() -> Result<()> {
    let cluster = cluster()?;
    let mut child = cluster.command(["--node", "worker-1"]).stdout(std::process::Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    assert_eq!(child.wait()?.code(), Some(0));
    Ok(())
}

/// Values come from the cluster, and must not control the terminal.
#[test]
fn escape_sequences_of_a_value_are_not_printed() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut status = silent("worker-1", BROKEN, "2026-11-27T08:00:00Z");
    status["vteps"][0]["hint"] = json!("look \u{1b}[2J\u{1b}]0;owned\u{7} here");
    status["version"] = json!("\u{9b}31m");
    cluster.add("worker-1", "a", Agent::Answers(status))?;
    let is_clean = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    for output in ["text", "wide", "json", "yaml"] {
        let outcome = cluster.fleet(&["-o", output])?;
        ensure!(is_clean(&outcome.out), "{output}: {:?}", outcome.out);
    }
    // An error has words of others, too.
    let outcome = cluster.fleet(&["-l", "app=x\u{1b}[2J\u{9b}31m"])?;
    ensure!(outcome.code == Some(2) && outcome.err.contains("[2J") && is_clean(&outcome.err), "{outcome:?}");
    Ok(())
}

#[test]
fn nobody_is_said_with_the_reason() -> Result<()> {
    let cluster = Cluster::start()?;
    let outcome = cluster.fleet(&[])?;
    assert_eq!(outcome.code, Some(2));
    let expected = "error: no pod in namespace kube-system has the label app.kubernetes.io/name=vtep-agent or \
                    app.kubernetes.io/component=vtep-agent; is the agent in another one (--namespace)?\n";
    assert_eq!(outcome.err, expected);
    // A pod in another namespace.
    let pod =
        objects::pod("tunnels", "vtep-agent-x", "worker-1", "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
    cluster.server.apply(Resource::Pods, pod)?;
    assert_eq!(cluster.fleet(&["-n", NAMESPACE])?.code, Some(2));
    let outcome = cluster.fleet(&["-n", "tunnels"])?;
    ensure!(outcome.out.contains("1 node without an answer"), "{outcome:?}");
    cluster.server.stop()?;
    let outcome = cluster.fleet(&[])?;
    assert_eq!(
        (outcome.code, outcome.err.as_str()),
        (Some(2), "error: the API server cannot be reached: connection refused\n")
    );
    Ok(())
}
