//! `vtep-agent fleet` at a real API server and two real kubelets: both ways to an agent, and each with the one right that it needs.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vtep_lab::Lab;

use crate::{
    agent::{HEALTHY_WITHIN, NAMESPACE},
    cluster::{Cluster, eventually, in_cluster_on},
    node::{NODE, OTHER_NODE},
};

/// A node that has Cilium, and no agent.
const WITHOUT_AGENT: &str = "worker-99";
const USER: &str = "jane";

/// Jane may list pods, and what is given here.
fn grant(cluster: &Cluster, resource: Option<&str>) -> Result<()> {
    let mut rules = vec![json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] })];
    rules.extend(
        resource.map(|resource| json!({ "apiGroups": [""], "resources": [resource], "verbs": ["get", "create"] })),
    );
    let metadata = json!({ "name": "fleet", "namespace": NAMESPACE });
    cluster.apply(
        &json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules }),
    )?;
    cluster.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fleet" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER }],
    }))
}

fn fleet(cluster: &Cluster, kubeconfig: &std::path::Path) -> Result<(Option<i32>, Value)> {
    let host = cluster.lab.api_host.as_ref().context("an API host")?;
    let mut command: Command = host.command(env!("CARGO_BIN_EXE_vtep-agent"));
    let output = command.args(["fleet", "--timeout", "30s", "-o", "json", "--kubeconfig"]).arg(kubeconfig).output()?;
    let text = String::from_utf8(output.stdout)?;
    let report =
        serde_json::from_str(&text).with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), report))
}

/// The exit status of `fleet bundle`, and the files in it.
fn bundle(cluster: &Cluster, kubeconfig: &std::path::Path) -> Result<(Option<i32>, Vec<String>)> {
    let host = cluster.lab.api_host.as_ref().context("an API host")?;
    let mut command: Command = host.command(env!("CARGO_BIN_EXE_vtep-agent"));
    command.args([
        "fleet",
        "bundle",
        "--timeout",
        "30s",
        "--seconds",
        "1",
        "--node",
        NODE,
        "--redact",
        "--output",
        "-",
    ]);
    let output = command.arg("--kubeconfig").arg(kubeconfig).output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&output.stdout[..]));
    let mut files = Vec::new();
    for entry in tar.entries().context(words)? {
        files.push(entry?.path()?.strip_prefix("vtep-bundle")?.to_string_lossy().into_owned());
    }
    Ok((output.status.code(), files))
}

#[test]
fn one_right_is_enough_and_none_is_named() -> Result<()> {
    in_cluster_on(Lab::builder().other_node(true), |cluster| {
        cluster.helm(&[])?;
        cluster.healthy()?;
        cluster.apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": WITHOUT_AGENT } }))?;
        cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "cilium-other", "namespace": NAMESPACE, "labels": { "k8s-app": "cilium" } },
            "spec": { "nodeName": WITHOUT_AGENT, "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "cilium-agent", "image": "vtep-agent.invalid/none" }] },
        }))?;
        let admin = cluster.control_plane.kubeconfig("admin");
        // No Cilium runs on the other node.
        let is_named = |group: &Value| group["cause"] == "cilium-not-running" && group["nodes"] == json!([OTHER_NODE]);
        let (code, report) = eventually("both agents have a verdict", HEALTHY_WITHIN, || {
            let (code, report) = fleet(cluster, &admin)?;
            let trouble = report["trouble"].as_array().context("trouble")?;
            let is_complete = report["summary"]["healthy"] == 1 && trouble.iter().any(is_named);
            Ok(is_complete.then_some((code, report)))
        })?;
        ensure!(code == Some(1), "{code:?}: {report:#}");
        ensure!(report["without_agent"] == json!([WITHOUT_AGENT]), "{report:#}");
        ensure!(report["trouble"].as_array().is_some_and(|groups| groups.iter().all(is_named)), "{report:#}");
        ensure!(
            report["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| node["node"] == NODE)),
            "{report:#}"
        );

        let mut config: Value = serde_json::from_str(&cluster.run("kubectl config view --raw --flatten -o json")?)?;
        config["users"][0]["user"]["as"] = json!(USER);
        let kubeconfig = cluster.control_plane.file("jane.json");
        std::fs::write(&kubeconfig, config.to_string())?;
        for right in ["pods/portforward", "pods/exec"] {
            grant(cluster, Some(right))?;
            let (_, report) = fleet(cluster, &kubeconfig)?;
            ensure!(report["summary"]["answered"] == 2, "with {right}: {report:#}");
        }
        // The last one of these is what a bundle needs.
        let (code, files) = bundle(cluster, &kubeconfig)?;
        ensure!(matches!(code, Some(0 | 1)), "{code:?}: {files:?}");
        for file in ["README.md", "fleet.json", "nodes/node-1/README.md", "nodes/node-1/status.json"] {
            ensure!(files.iter().any(|path| path == file), "{file} is not in {files:?}");
        }
        grant(cluster, None)?;
        let (code, report) = fleet(cluster, &kubeconfig)?;
        ensure!(code == Some(2), "{code:?}: {report:#}");
        let reason = report["unanswered"][0]["reason"].as_str().unwrap_or_default();
        ensure!(reason == format!("you lack the right to get pods/portforward in namespace {NAMESPACE}"), "{reason}");
        Ok(())
    })
}
