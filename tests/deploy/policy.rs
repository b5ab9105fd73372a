//! The policy that restricts the right to write a Node's status: which requests it lets through.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cel::{Scope, evaluate},
    tools::{Objects, run_well, template},
};

const AGENT: &str = "system:serviceaccount:kube-system:vtep-agent";

fn policy() -> Result<Value> {
    let mut args = template(&["nodeCondition.enabled=true"]);
    args.extend(["--kube-version", "1.30.0"]);
    let objects = Objects::parse(&run_well("helm", &args)?)?;
    Ok(objects.only("ValidatingAdmissionPolicy")?["spec"].clone())
}

/// A Node as the API server has it, with all fields of a status up to Kubernetes 1.36 that a kubelet or a controller writes.
fn node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "worker-1", "uid": "1", "resourceVersion": "7", "labels": {"zone": "a"}, "annotations": {"a": "b"},
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.169.72.1"}],
            "allocatable": {"cpu": "4"},
            "capacity": {"cpu": "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "config": {"error": ""},
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "declaredFeatures": ["a"],
            "features": {"supplementalGroupsPolicy": true},
            "images": [{"names": ["x"], "sizeBytes": 1}],
            "nodeInfo": {"kernelVersion": "6.18.44"},
            "phase": "Running",
            "runtimeHandlers": [{"name": "runc"}],
            "volumesAttached": [],
            "volumesInUse": [],
        },
    })
}

/// The messages with which the policy refuses that this agent changes a Node.
fn refusals(policy: &Value, from: &str, before: &Value, after: &Value) -> Result<Vec<String>> {
    let extra = json!({"authentication.kubernetes.io/node-name": [from]});
    let mut scope: Scope = [
        ("request".to_owned(), json!({"userInfo": {"username": AGENT, "extra": extra}})),
        ("object".to_owned(), after.clone()),
        ("oldObject".to_owned(), before.clone()),
        ("variables".to_owned(), json!({})),
    ]
    .into();
    let list = |field: &str| policy[field].as_array().cloned().with_context(|| format!("no {field}"));
    let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned).context("no text");
    for condition in list("matchConditions")? {
        ensure!(evaluate(&text(&condition, "expression")?, &scope)? == true, "not about this agent: {condition}");
    }
    for variable in list("variables")? {
        let value = evaluate(&text(&variable, "expression")?, &scope)?;
        scope.get_mut("variables").context("variables")?[text(&variable, "name")?] = value;
    }
    let mut refusals = Vec::new();
    for validation in list("validations")? {
        if evaluate(&text(&validation, "expression")?, &scope)? != true {
            refusals.push(text(&validation, "message")?);
        }
    }
    Ok(refusals)
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut node = node();
    change(&mut node);
    node
}

#[test]
fn the_agent_may_write_its_own_condition() -> Result<()> {
    let policy = policy()?;
    let own = |status: &str| {
        with(|node| {
            let conditions = node["status"]["conditions"].as_array_mut().expect("conditions");
            conditions.push(json!({"type": "VtepTunnelsHealthy", "status": status}));
            // The API server's own bookkeeping of the request.
            node["metadata"]["managedFields"] = json!([{"manager": "kubelet"}, {"manager": "vtep-agent"}]);
            node["metadata"]["resourceVersion"] = json!("8");
        })
    };
    let without_conditions = with(|node| {
        node["status"].as_object_mut().expect("a status").remove("conditions");
    });
    let first = with(|node| node["status"]["conditions"] = json!([{"type": "VtepTunnelsHealthy", "status": "True"}]));
    for (name, before, after) in [
        ("first", &node(), &own("True")),
        ("change", &own("True"), &own("False")),
        ("nothing", &own("True"), &own("True")),
        ("the only one", &without_conditions, &first),
    ] {
        let refused = refusals(&policy, "worker-1", before, after)?;
        ensure!(refused.is_empty(), "{name}: {refused:?}");
    }
    Ok(())
}

/// Also fields that no Kubernetes has yet, and fields that appear or disappear.
#[test]
fn the_agent_may_write_nothing_else() -> Result<()> {
    let policy = policy()?;
    let before = node();
    let refused = refusals(&policy, "worker-2", &before, &before)?;
    ensure!(refused == ["vtep-agent may only touch the Node that it runs on"], "another node: {refused:?}");

    let ready = with(|node| node["status"]["conditions"][0]["status"] = json!("False"));
    let refused = refusals(&policy, "worker-1", &before, &ready)?;
    ensure!(refused == ["vtep-agent may only touch the condition VtepTunnelsHealthy"], "Ready: {refused:?}");

    let mut fields = Vec::new();
    for (part, spared) in [
        ("/status", &["conditions"][..]),
        ("/metadata", &["name", "managedFields", "resourceVersion"]),
        ("", &["metadata", "status"]),
    ] {
        let known = before.pointer(part).and_then(Value::as_object).context("a map")?.keys();
        let known = known.filter(|field| !spared.contains(&field.as_str())).cloned();
        fields.extend(known.chain(["fieldOfTomorrow".to_owned()]).map(|field| format!("{part}/{field}")));
    }
    ensure!(fields.len() >= 22, "{fields:?}");
    for path in fields {
        let (part, field) = path.rsplit_once('/').context("a path")?;
        let changed = with(|node| node.pointer_mut(part).expect("a part")[field] = json!("something else"));
        let removed = with(|node| {
            node.pointer_mut(part).and_then(Value::as_object_mut).expect("a map").remove(field);
        });
        for after in [changed, removed].iter().filter(|after| **after != before) {
            let refused = refusals(&policy, "worker-1", &before, after)?;
            ensure!(refused.len() == 1 && refused[0].contains("may touch nothing of"), "{path}: {refused:?}");
        }
    }
    Ok(())
}
