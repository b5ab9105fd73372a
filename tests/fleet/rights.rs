//! What a person may do, and what that person reads if a right is missing.

use anyhow::{Result, ensure};
use serde_json::json;
use vtep_apiserver::{Fault, Matcher, Times, Verb};

use crate::cluster::{Agent, Cluster, healthy};

const NODES: usize = 3;

fn cluster_without(rights: &[&str]) -> Result<Cluster> {
    let cluster = Cluster::start()?;
    for number in 1..=NODES {
        let node = format!("worker-{number}");
        cluster.add(&node, "a", Agent::Answers(healthy(&node)))?;
    }
    for right in rights {
        cluster.server.misbehave(Matcher::all().resource(right), Fault::Forbidden, Times::Always);
    }
    Ok(cluster)
}

fn streams(cluster: &Cluster, resource: &str) -> usize {
    cluster.server.requests().iter().filter(|request| request.rbac_resource() == resource).count()
}

#[test]
fn port_forward_alone_is_enough() -> Result<()> {
    let cluster = cluster_without(&["pods/exec"])?;
    let outcome = cluster.fleet(&[])?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    assert_eq!((streams(&cluster, "pods/portforward"), streams(&cluster, "pods/exec")), (NODES, 0));
    Ok(())
}

#[test]
fn exec_alone_is_enough() -> Result<()> {
    let cluster = cluster_without(&["pods/portforward"])?;
    let outcome = cluster.fleet(&[])?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    assert_eq!(streams(&cluster, "pods/exec"), NODES);
    Ok(())
}

/// The refusal of one is that of all: 3,000 agents must not cost 3,000 refusals.
#[test]
fn a_refused_way_is_not_tried_for_each_agent() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 1..=200 {
        let node = format!("worker-{number}");
        cluster.add(&node, "a", Agent::Answers(healthy(&node)))?;
    }
    cluster.server.misbehave(Matcher::all().resource("pods/portforward"), Fault::Forbidden, Times::Always);
    assert_eq!(cluster.report(&[])?["summary"]["healthy"], 200);
    let refused = streams(&cluster, "pods/portforward");
    ensure!(refused <= 64, "no more than are asked at a time: {refused}");
    Ok(())
}

#[test]
fn without_both_the_one_that_is_missing_is_named() -> Result<()> {
    let cluster = cluster_without(&["pods/portforward", "pods/exec"])?;
    let outcome = cluster.fleet(&[])?;
    assert_eq!(outcome.code, Some(2));
    let expected = "3 nodes without an answer\n  you lack the right to get pods/portforward in namespace kube-system\n  worker-[1-3]\n";
    ensure!(outcome.out.contains(expected), "{}", outcome.out);
    ensure!(!outcome.out.contains("exec"), "{}", outcome.out);
    Ok(())
}

#[test]
fn without_the_list_of_pods_nothing_else_is_asked() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster.server.misbehave(Matcher::all().resource("pods").verb(Verb::List), Fault::Forbidden, Times::Always);
    let outcome = cluster.fleet(&[])?;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""));
    assert_eq!(outcome.err, "error: you lack the right to list pods in namespace kube-system\n");
    assert_eq!(cluster.server.requests().len(), 1);
    Ok(())
}

/// Nodes, and pods of the whole cluster, are more than many people may list.
#[test]
fn without_a_right_in_the_whole_cluster_only_that_is_missing() -> Result<()> {
    let cluster = cluster_without(&["nodes"])?;
    cluster.server.misbehave(Matcher::all().path("/api/v1/pods"), Fault::Forbidden, Times::Always);
    cluster.add_node("worker-9", "a")?;
    let report = cluster.report(&[])?;
    assert_eq!(report["summary"]["healthy"], NODES);
    assert_eq!(report["without_agent"], json!(["worker-9"]), "from the pods of the namespace");
    let note = report["notes"][0].as_str().unwrap_or_default();
    ensure!(
        note.starts_with("zones and ages of nodes are not known: ") && note.contains("cannot list resource \"nodes\""),
        "{note}"
    );
    assert_eq!(report["nodes"][0]["zone"], serde_json::Value::Null);
    Ok(())
}
