//! Agents that are slow, dead, older or newer, and the ways to them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vtep_apiserver::{Fault, Matcher, Resource, Times, objects};

use crate::cluster::{Agent, Cluster, NAMESPACE, healthy, pod_of};

#[test]
fn one_that_hangs_costs_only_its_deadline() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 1..=130 {
        let node = format!("worker-{number}");
        let agent = if number % 10 == 0 { Agent::Hangs } else { Agent::Answers(healthy(&node)) };
        cluster.add(&node, "a", agent)?;
    }
    let begun = Instant::now();
    let report = cluster.report(&["--timeout", "3s"])?;
    assert_eq!(report["summary"]["healthy"], 117);
    assert_eq!(report["unanswered"][0]["reason"], "no answer within 3s");
    // 13 deadlines one after the other would take 39 s.
    ensure!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn agents_of_all_kinds() -> Result<()> {
    let cluster = Cluster::start()?;
    let mut old = healthy("old");
    for field in ["verdict", "version", "config", "tap", "datapath", "events", "bigip", "started_at"] {
        old.as_object_mut().expect("a map").remove(field);
    }
    let mut new = healthy("new");
    new["weather"] = json!({ "rain": true });
    new["mode"] = json!("learn");
    new["version"] = json!("9.0.0");
    new["vteps"][0]["verdict"] = json!("paused");
    new["vteps"][0]["cause"] = json!("cause-of-tomorrow");
    cluster.add("old", "a", Agent::Answers(old))?;
    cluster.add("new", "a", Agent::Answers(new))?;
    cluster.add("slow", "a", Agent::Slow(Duration::from_millis(300), healthy("slow")))?;
    cluster.add("dead", "a", Agent::Dead)?;
    cluster.add("page", "a", Agent::Says("<html>not an agent</html>"))?;
    cluster.add("other", "a", Agent::Says("{}"))?;
    let mut pending = objects::pod(
        NAMESPACE,
        "vtep-agent-pending",
        "pending",
        "vtep-agent",
        [("app.kubernetes.io/name", "vtep-agent")],
    );
    pending["status"] = json!({ "phase": "Pending", "containerStatuses": [
        { "name": "vtep-agent", "state": { "waiting": { "reason": "ImagePullBackOff" } } }] });
    cluster.server.apply(Resource::Pods, pending)?;

    let report = cluster.report(&["--timeout", "20s"])?;
    let reason_of = |node: &str| {
        let all = report["unanswered"].as_array().into_iter().flatten();
        let of_node = all.into_iter().find(|one| one["nodes"] == json!([node])).cloned().unwrap_or_default();
        of_node["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason_of("page"), "the answer is not JSON");
    assert_eq!(reason_of("other"), "the answer is not the status of a vtep-agent: it has no list `vteps`");
    assert_eq!(reason_of("pending"), "its container is waiting: ImagePullBackOff");
    assert_eq!(reason_of("dead"), "a port-forward does not reach it: connection refused");
    let verdict_of = |node: &str| {
        let mut nodes = report["nodes"].as_array().into_iter().flatten();
        nodes.find(|row| row["node"] == node).map_or(Value::Null, |row| row["verdict"].clone())
    };
    assert_eq!((verdict_of("old"), verdict_of("slow")), (json!("healthy"), json!("healthy")));
    // Its own verdict about the node counts, and its VTEP has a cause that this version does not know.
    assert_eq!(verdict_of("new"), "healthy");
    assert_eq!(report["trouble"][0]["cause"], "cause-of-tomorrow");
    Ok(())
}

/// With `listen.scope: node`, the agent does not listen on loopback, where a port-forward leads.
#[test]
fn an_agent_at_the_nodes_address_is_asked_directly() -> Result<()> {
    let cluster = Cluster::start()?;
    let add = |node: &str, listen: &str, agent: Agent| -> Result<()> {
        let address = cluster.listen(node, agent)?;
        let mut pod =
            objects::pod(NAMESPACE, &pod_of(node), node, "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
        let listen = format!("{listen}:{}", address.port());
        pod["spec"]["containers"][0]["env"] = json!([{ "name": "VTEP_AGENT_LISTEN", "value": listen }]);
        cluster.server.apply(Resource::Pods, pod)?;
        cluster.server.run_pod(&pod_of(node), Some(address));
        Ok(())
    };
    add("direct", "$(NODE_IP)", Agent::Answers(healthy("direct")))?;
    add("everywhere", "0.0.0.0", Agent::Answers(healthy("everywhere")))?;
    let report = cluster.report(&[])?;
    assert_eq!(report["summary"]["healthy"], 2, "{report:#}");
    let mut streams: Vec<_> =
        cluster.server.requests().into_iter().filter(|request| !request.subresource.is_empty()).collect();
    let stream = streams.pop().map(|request| (request.rbac_resource(), request.name));
    assert_eq!(stream, Some(("pods/portforward".into(), pod_of("everywhere"))));
    assert!(streams.is_empty(), "{streams:?}");
    Ok(())
}

/// One dead agent does not close the way to the others.
#[test]
fn a_dead_agent_at_the_nodes_address_costs_only_itself() -> Result<()> {
    let cluster = Cluster::start()?;
    for node in ["alive-1", "alive-2", "dead"] {
        let port = if node == "dead" { 9 } else { cluster.listen(node, Agent::Answers(healthy(node)))?.port() };
        let mut pod =
            objects::pod(NAMESPACE, &pod_of(node), node, "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
        let listen = format!("$(NODE_IP):{port}");
        pod["spec"]["containers"][0]["env"] = json!([{ "name": "VTEP_AGENT_LISTEN", "value": listen }]);
        cluster.server.apply(Resource::Pods, pod)?;
    }
    // Nobody may exec.
    cluster.server.misbehave(Matcher::all().resource("pods/exec"), Fault::Forbidden, Times::Always);
    let report = cluster.report(&["--timeout", "20s"])?;
    assert_eq!(report["summary"]["healthy"], 2);
    let reason = "the node's address does not answer: connection refused";
    assert_eq!(report["unanswered"], json!([{ "reason": reason, "nodes": ["dead"], "folded": "dead" }]));
    Ok(())
}

/// One node behind a filter of its own does not close the way to the others, not even if it is the first that is asked.
#[test]
fn an_unreachable_node_costs_only_itself() -> Result<()> {
    let cluster = Cluster::start()?;
    for number in 0..=100 {
        let node = format!("worker-{number}");
        let port = cluster.listen(&node, Agent::Answers(healthy(&node)))?.port();
        let mut pod =
            objects::pod(NAMESPACE, &pod_of(&node), &node, "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
        pod["spec"]["containers"][0]["env"] =
            json!([{ "name": "VTEP_AGENT_LISTEN", "value": format!("$(NODE_IP):{port}") }]);
        if number == 0 {
            // The kernel refuses a TCP connection to a group at once.
            pod["status"]["hostIP"] = json!("224.0.0.1");
        }
        cluster.server.apply(Resource::Pods, pod)?;
    }
    cluster.server.misbehave(Matcher::all().resource("pods/exec"), Fault::Forbidden, Times::Always);
    let report = cluster.report(&["--timeout", "20s"])?;
    assert_eq!(report["summary"]["healthy"], 100, "{:#}", report["unanswered"]);
    assert_eq!(report["unanswered"][0]["nodes"], json!(["worker-0"]));
    Ok(())
}

/// From here, the nodes' addresses lead nowhere: the command in the pod knows where its agent listens.
#[test]
fn an_agent_at_an_address_that_cannot_be_reached_is_asked_by_exec() -> Result<()> {
    let cluster = Cluster::start()?;
    let address = cluster.listen("far", Agent::Answers(healthy("far")))?;
    let mut pod =
        objects::pod(NAMESPACE, &pod_of("far"), "far", "vtep-agent", [("app.kubernetes.io/name", "vtep-agent")]);
    // The discard port, where nothing listens.
    pod["spec"]["containers"][0]["env"] = json!([{ "name": "VTEP_AGENT_LISTEN", "value": "$(NODE_IP):9" }]);
    cluster.server.apply(Resource::Pods, pod)?;
    cluster.server.run_pod(&pod_of("far"), Some(address));
    assert_eq!(cluster.report(&["--timeout", "20s"])?["summary"]["healthy"], 1);
    Ok(())
}

/// A release with a `nameOverride` has another name on its pods, and an older release no component.
#[test]
fn agents_of_every_release_are_found() -> Result<()> {
    let cluster = Cluster::start()?;
    let table: [(&str, &[(&str, &str)]); 4] = [
        ("old", &[("app.kubernetes.io/name", "vtep-agent")]),
        ("renamed", &[("app.kubernetes.io/name", "bigip"), ("app.kubernetes.io/component", "vtep-agent")]),
        ("both", &[("app.kubernetes.io/name", "vtep-agent"), ("app.kubernetes.io/component", "vtep-agent")]),
        ("other", &[("app.kubernetes.io/name", "bigip"), ("app.kubernetes.io/component", "controller")]),
    ];
    for (node, labels) in table {
        let pod = objects::pod(NAMESPACE, &pod_of(node), node, "vtep-agent", labels.iter().copied());
        cluster.server.apply(Resource::Pods, pod)?;
        cluster.server.run_pod(&pod_of(node), Some(cluster.listen(node, Agent::Answers(healthy(node)))?));
    }
    let nodes = |args: &[&str]| -> Result<Vec<String>> {
        let report = cluster.report(args)?;
        let rows = report["nodes"].as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| row["node"].as_str().map(str::to_owned)).collect())
    };
    assert_eq!(nodes(&[])?, ["both", "old", "renamed"]);
    assert_eq!(nodes(&["-l", "app.kubernetes.io/component=controller"])?, ["other"]);
    let any =
        ["--selector", "app.kubernetes.io/component=controller", "--selector", "app.kubernetes.io/name=vtep-agent"];
    assert_eq!(nodes(&any)?, ["both", "old", "other"]);
    Ok(())
}
