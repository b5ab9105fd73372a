//! The ValidatingAdmissionPolicy of `nodeCondition`, evaluated by a real API server.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, eventually, in_cluster},
    node::NODE,
};

const OTHER_NODE: &str = "worker-2";
const COMPILED_WITHIN: Duration = Duration::from_secs(60);
const POLICY: &str = "validatingadmissionpolicy/vtep-agent";

/// Applies a change to a Node's status with a token of the agent's ServiceAccount, as the agent does; returns what kubectl says if it is
/// refused.
fn apply(cluster: &Cluster, token: &str, node: &str, change: &Value) -> Result<Option<String>> {
    let mut object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } });
    for part in ["metadata", "status"] {
        for (key, value) in change[part].as_object().into_iter().flatten() {
            object[part][key] = value.clone();
        }
    }
    let path = cluster.control_plane.file("change.json");
    fs::write(&path, object.to_string())?;
    let mut kubectl = cluster.client("kubectl")?;
    kubectl.args(["--token", token, "apply", "--server-side", "--subresource=status", "--force-conflicts"]);
    let output = kubectl.args(["--field-manager=vtep-agent", "-f"]).arg(path).output()?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn condition(kind: &str, status: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    let condition = json!({
        "type": kind, "status": status, "reason": "Test", "message": "", "lastHeartbeatTime": at, "lastTransitionTime": at,
    });
    json!({ "status": { "conditions": [condition] } })
}

#[test]
fn it_lets_the_own_condition_through_and_nothing_else() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&["nodeCondition.enabled=true"])?;
        let policy = eventually("its expressions are compiled", COMPILED_WITHIN, || {
            let policy = cluster.get(POLICY)?;
            let observed = &policy["status"]["observedGeneration"];
            Ok((*observed == policy["metadata"]["generation"]).then_some(policy))
        })?;
        ensure!(policy["status"]["typeChecking"]["expressionWarnings"].is_null(), "{:#}", policy["status"]);
        eventually("the agent's own condition is there", COMPILED_WITHIN, || {
            let conditions = cluster.get(&format!("node {NODE}"))?["status"]["conditions"].clone();
            let conditions = conditions.as_array().context("conditions")?.clone();
            let ours = conditions.into_iter().find(|condition| condition["type"] == "VtepTunnelsHealthy");
            Ok(ours.filter(|condition| condition["status"] == "True"))
        })?;

        cluster.apply(&json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": OTHER_NODE } }))?;
        let pod = cluster.pod()?["metadata"]["name"].as_str().context("a name")?.to_owned();
        let create = "kubectl -n kube-system create token vtep-agent";
        let bound =
            cluster.run(&format!("{create} --bound-object-kind Pod --bound-object-name {pod}"))?.trim().to_owned();
        let unbound = cluster.run(create)?.trim().to_owned();

        let ours = condition("VtepTunnelsHealthy", "False");
        let own = apply(cluster, &bound, NODE, &ours)?;
        ensure!(own.is_none(), "its own condition is refused: {own:?}");
        let own_node = "may only touch the Node that it runs on";
        for (what, token, node, change, words) in [
            ("another node's condition", &bound, OTHER_NODE, ours.clone(), own_node),
            ("a token of no pod", &unbound, NODE, ours.clone(), own_node),
            (
                "another condition",
                &bound,
                NODE,
                condition("Ready", "False"),
                "only touch the condition VtepTunnelsHealthy",
            ),
            (
                "a new condition",
                &bound,
                NODE,
                condition("Other", "False"),
                "only touch the condition VtepTunnelsHealthy",
            ),
            (
                "the capacity",
                &bound,
                NODE,
                json!({ "status": { "capacity": { "cpu": "99" } } }),
                "nothing of a Node's status",
            ),
            (
                "a label",
                &bound,
                NODE,
                json!({ "metadata": { "labels": { "zone": "a" } } }),
                "nothing of a Node's metadata",
            ),
            (
                "an annotation",
                &bound,
                NODE,
                json!({ "metadata": { "annotations": { "a": "b" } } }),
                "nothing of a Node's metadata",
            ),
        ] {
            let refused = apply(cluster, token, node, &change)?.with_context(|| format!("{what} goes through"))?;
            ensure!(refused.contains(words), "{what}: {refused}");
        }
        Ok(())
    })
}
